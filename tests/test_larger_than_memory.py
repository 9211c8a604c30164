"""Data larger than memory: the same results from disk as from memory, and in a process that may not hold them."""

import json
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
import torch

from fgen.classifiers import adam
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from fgen.data.toy import toy_world
from fgen.experiment.heads import HeadRecipe, train_heads
from fgen.features import scaled_rows
from fgen.features.rows import RowsView, SelectedRows
from fgen.features.scaling import FeatureScaler
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import make_model
from fgen.training.draws import Draws
from fgen.training.loop import TrainConfig
from fgen.training.training_set import TrainingSet
from tests.conftest import THREADS, TINY
from tests.tolerances import of_a_minimum

numeric = pytest.mark.numeric

#: A child process: it opens the file, then may allocate so much more, and does all that a run does with the rows.
CHILD = """
    import json, resource, sys
    import numpy as np, torch
    import fgen
    from fgen.features import scaled_rows
    from fgen.features.rows import SelectedRows
    from fgen.models.registry import make_model
    from fgen.training.loop import TrainConfig, make_optimisers, train_step

    def status(key):
        with open("/proc/self/status") as lines:
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))

    scaled_rows.IN_MEMORY = 0
    path, allowed = sys.argv[1], int(sys.argv[2])
    warm = make_model("clswgan", hidden_dim=32, noise_dim=4, batch_size=64, steps=2, cls_epochs=1)
    tiny = np.random.default_rng(0).random((200, 1024), dtype=np.float32)
    warm.fit(tiny, np.arange(200) % 4, np.eye(4), seed=0, train_config=TrainConfig(device="cpu"))
    limit = status("VmData") + allowed
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = fgen.load_dataset(path)
    rows = data.splits["trainval"]
    features, labels = SelectedRows(data.features, rows), data.labels[rows]
    model = make_model("clswgan", hidden_dim=32, noise_dim=4, batch_size=64, steps=20, cls_epochs=1, cls_batch_size=500)
    config = TrainConfig(device="cpu")
    model.fit(features, labels, data.class_embeddings, seed=0, train_config=config)
    head = fgen.SoftmaxClassifier(epochs=1, batch_size=512).fit(features, labels)
    try:
        np.array(data.features)
        whole = True
    except MemoryError:
        whole = False
    print(json.dumps({
        "fingerprint": data.fingerprint,
        "offset": model.scaler.offset[:9].tolist(),
        "scale": model.scaler.scale[:9].tolist(),
        "finite": bool(torch.isfinite(head.weight).all()) and np.isfinite(model.history[-1]["critic"]).item(),
        "whole": whole,
    }))
"""


def fit(features, labels, monkeypatch, in_memory, **settings):
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", in_memory)
    model = make_model("clswgan", **TINY | {"cls_epochs": 1} | settings)
    return model.fit(features, labels, np.eye(4), seed=0, train_config=TrainConfig(device="cpu", threads=THREADS))


def weights(model):
    return {name: value.numpy().tobytes() for name, value in model.networks.state_dict().items()}


@pytest.fixture
def mapped(tmp_path):
    """A matrix that is sorted by class, as a memory map, with its labels."""
    labels = np.repeat(np.arange(4), 50)
    features = (np.random.default_rng(0).random((200, 24)) + labels[:, None]).astype(np.float32)
    np.save(tmp_path / "x.npy", features)
    return np.load(tmp_path / "x.npy", mmap_mode="r"), labels


@numeric
@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_training_from_disk_gives_the_same_bytes_as_from_memory(mapped, monkeypatch, tmp_path, scaling):
    features, labels = mapped
    settings = {"feature_scaling": scaling, "soul_weight": 0.1, "cycle_weight": 0.1}
    expected = weights(fit(np.array(features), labels, monkeypatch, 1 << 30, **settings))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        chunked = file.create_dataset("x", data=features, chunks=(8, 24), compression="gzip")
        for place in (features, SelectedRows(features, np.arange(200)), chunked):
            assert weights(fit(place, labels, monkeypatch, 0, **settings)) == expected


@numeric
def test_a_step_asks_for_exactly_the_rows_of_the_next(mapped, monkeypatch):
    """Whatever was asked for, a step's rows are drawn anew over all rows and depend on its number alone."""
    features, labels = mapped
    asked = []

    class Recorder(RowsView):
        shape = features.shape

        def __getitem__(self, key):
            return np.asarray(features[key])

        def prefetch(self, rows):
            asked.append(rows)

    scaler = FeatureScaler.fit("none", features)
    cpu = torch.device("cpu")
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    data = TrainingSet(Recorder(), labels, np.eye(4, dtype=np.float32), scaler, cpu, unlabelled=Recorder())
    asked.clear()
    steps = [data.batches(Draws(7, step, data.device), 3, 40) for step in range(20)]
    for rows, batch in zip(asked[:-1], steps[1:], strict=True):
        assert np.array_equal(features[rows], batch.features)
        assert np.array_equal(labels[rows], batch.labels)
    resumed = data.batches(Draws(7, 19, data.device), 3, 40)
    assert torch.equal(resumed.features, steps[19].features)
    for batch in steps:
        assert all(len(np.unique(part.features[:, 0])) == 40 for part in batch.split(40)), "without replacement"
        assert (torch.bincount(batch.labels, minlength=4) > 10).all(), "from every class, though the file is sorted"
    asked.clear()
    draws = [Draws(7, step, cpu).part(1) for step in range(3)]
    drawn = [data.unlabelled(each, 16) for each in draws]
    for rows, found in zip(asked[:-1], drawn[1:], strict=True):
        assert np.array_equal(features[rows], found)


@numeric
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", ["cegzsl", "tfvaegan", "cadavae", "free"])
def test_heads_in_a_space_of_their_own_never_hold_the_rows_whole(name, solver, monkeypatch):
    """They take pieces through the model as they are read, and end with the same scores."""
    world = toy_world(n_seen=8, n_unseen=3, rows_per_class=60, embedding_dim=6).dataset
    rows = world.splits["trainval"]
    model = make_model(name, **TINY, steps=2)
    threads = TrainConfig(threads=THREADS)
    model.fit(world.rows(rows), world.labels[rows], world.class_embeddings, seed=0, train_config=threads)
    bank = model.generate(world.unseen, 20, seed=0, represented=model.bank_space != "raw")
    config = SoftmaxConfig(solver=solver, epochs=5, l2=0.1)
    largest = []

    piece = FeatureGenerator._computed
    monkeypatch.setattr(
        FeatureGenerator, "_computed", lambda self, formula, x: largest.append(len(x)) or piece(self, formula, x)
    )
    represent = model.represent

    def outcome():
        (heads,) = train_heads(
            HeadRecipe(config, precision="highest"), world, *bank, represent=represent, space=model.bank_space
        )
        result, _ = heads.score(world, represent).at(0.0)
        return heads.gzsl.weight.numpy(), [result.T1, result.S, result.AUSUC]

    weight, scores = outcome()
    assert max(largest) == len(rows)
    largest.clear()
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 50 * 4 * world.feature_dim)
    streamed_weight, streamed_scores = outcome()
    if solver == "adam":
        np.testing.assert_allclose(streamed_weight, weight, rtol=1e-4, atol=1e-5)
    else:
        n_parameters = weight.size + len(weight)  # with the biases
        assert np.linalg.norm(streamed_weight - weight) < of_a_minimum(n_parameters, config.l2)
    assert streamed_scores == pytest.approx(scores, abs=0.02)
    assert max(largest) == 50


@numeric
def test_a_head_is_the_same_and_each_row_is_asked_for_once_before_its_turn(mapped, monkeypatch):
    features, labels = mapped
    expected = SoftmaxClassifier(epochs=3, batch_size=32).fit(features, labels)
    events = []

    class Recorder(RowsView):
        shape = features.shape

        def __getitem__(self, key):
            events.extend(("read", int(row)) for row in np.atleast_1d(key)) if isinstance(key, np.ndarray) else None
            return np.asarray(features[key])

        def prefetch(self, rows):
            events.extend(("ask", int(row)) for row in rows)

    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    monkeypatch.setattr(adam, "ROWS_AHEAD", 50)
    head = SoftmaxClassifier(epochs=3, batch_size=32).fit(Recorder(), labels)
    assert head.weight.numpy().tobytes() == expected.weight.numpy().tobytes()
    reads = [index for index, (what, _) in enumerate(events) if what == "read"]
    first_read = reads[len(labels)]  # before, the rows were read whose lengths the scaling notes
    events = events[next(i for i in range(first_read, -1, -1) if len({e[1] for e in events[i:first_read]}) == 82) :]
    for epoch in range(3):
        own = [event for event in events if event[0] == "ask"][200 * epoch : 200 * (epoch + 1)]
        assert len({row for _, row in own}) == 200
    turn = {"ask": 0, "read": 0}
    for what, _ in events:
        turn[what] += 1
        assert turn["read"] <= turn["ask"]
    assert [row for what, row in events if what == "ask"] == [row for what, row in events if what == "read"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_DATA")
def test_a_run_in_a_process_that_may_not_hold_the_file(tmp_path):
    n_rows, dim, n_classes, allowed = 150_000, 1024, 10, 160 << 20
    block = np.random.default_rng(0).random((5000, dim), dtype=np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.update({"format": "fgen-dataset", "format_version": 1, "name": "large"})
        features = file.create_dataset("features", (n_rows, dim), "<f4")
        for start in range(0, n_rows, len(block)):
            block[:, 0] = start  # or every block would be the same
            features[start : start + len(block)] = block
        file["labels"] = np.repeat(np.arange(n_classes, dtype="<i4"), n_rows // n_classes)
        file["class_embeddings/att"] = np.eye(n_classes, dtype="<f4")
        is_test = np.arange(n_rows) % 8 == 0
        unseen = np.arange(n_rows) >= 0.8 * n_rows
        file["splits/trainval"] = np.flatnonzero(~is_test & ~unseen)
        file["splits/test_seen"] = np.flatnonzero(is_test & ~unseen)
        file["splits/test_unseen"] = np.flatnonzero(unseen)
    assert (tmp_path / "x.h5").stat().st_size > 3.5 * allowed
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "x.h5"), str(allowed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    (tmp_path / "x.h5").unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["whole"] is False, "the limit bites"
    assert found["finite"] is True
    rows = np.concatenate([block[:, 1:9]] * (n_rows // len(block)))[np.flatnonzero(~is_test & ~unseen)]
    assert found["offset"] == [0.0, *rows.min(axis=0).tolist()]
    assert found["scale"] == [115_000.0, *np.ptp(rows.astype(np.float64), axis=0).astype(np.float32).tolist()]
