"""What TensorBoard shows of a training."""

import sys

import pytest

import fgen
from fgen.errors import InputError, MissingExtra


def shown(folder):
    """The numbers that TensorBoard reads from a folder, ``{name: {epoch: value}}``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}


def test_each_phase_of_a_run_is_shown_by_the_names_of_metrics_csv(tmp_path):
    pytest.importorskip("tensorboard")
    settings = {
        "dataset": {"name": "toy"},
        "model": {"name": "flow", "hidden_dim": 16, "noise_dim": 4, "batch_size": 300, "epochs": 2},
        "bank": {"n_per_class": 5},
        "classifier": {"name": "cosine"},
        "protocol": {"seeds": [3], "evaluations": 1},
    }
    told = {}

    def both(epoch, scores, phase):
        told.setdefault(phase, []).append(scores)
        hook(epoch, scores, phase)

    with fgen.TensorBoard(tmp_path / "events") as hook:
        fgen.run(settings, on_epoch=both)
    assert set(told) == {"seed-3/selection", "seed-3/training"}
    for phase, rows in told.items():
        expected = {
            name: {epoch: pytest.approx(row[name]) for epoch, row in enumerate(rows, 1) if name in row}
            for name in dict.fromkeys(name for row in rows for name in row)
        }
        assert shown(tmp_path / "events" / phase) == expected
    assert "val_H" in shown(tmp_path / "events/seed-3/selection")


def test_a_training_that_goes_on_replaces_the_epochs_that_it_repeats(tmp_path):
    pytest.importorskip("tensorboard")
    for epochs, loss in ((range(1, 6), 0.0), (range(3, 5), 1.0)):
        hook = fgen.TensorBoard(tmp_path)
        for epoch in epochs:
            hook(epoch, {"loss": loss}, "training")  # on disk without close(), as after a kill
    assert shown(tmp_path / "training") == {"loss": {1: 0, 2: 0, 3: 1, 4: 1}}


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"fgen\.TensorBoard needs tensorboard"):
        fgen.TensorBoard(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be made"):
        fgen.TensorBoard(tmp_path / "file")
