"""What is called after each epoch: with as much as it takes, from every door, and not again for finished epochs."""

import csv
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fgen
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.experiment.runner import train_only
from fgen.training import loop
from fgen.training.hooks import EpochHook
from fgen.training.loop import TrainConfig
from tests.conftest import TINY

EXAMPLES = Path(__file__).parents[2] / "experiments" / "examples"
SETTINGS = {
    "dataset": {"name": "toy"},
    "model": {"name": "flow", "hidden_dim": 16, "noise_dim": 4, "batch_size": 300, "epochs": 2},
    "train": {"device": "cpu", "threads": 1, "checkpoint_every": 0.0},
    "bank": {"n_per_class": 20},
    "classifier": {"solver": "lbfgs"},
    "protocol": {"evaluations": 2, "calibrate": True, "seeds": [0], "folds": 1},
}


class Told:
    """A hook that keeps what it was told."""

    def __init__(self):
        self.epochs = []

    def __call__(self, epoch, scores, phase):
        self.epochs.append((phase, epoch, scores))
        return {"ignored": 1.0}


def fitted(world, **options):
    features, labels = world.dataset.split("trainval")
    return fgen.make_model("flow", **TINY).fit(features, labels, world.dataset.class_embeddings, seed=0, **options)


def test_a_function_gets_as_many_arguments_as_it_takes(world):
    told = []
    one, two, three = (
        lambda epoch: told.append((epoch,)),
        lambda epoch, scores: told.append((epoch, scores)),
        lambda epoch, scores, phase: told.append((epoch, scores, phase)),
    )
    histories = [fitted(world, on_epoch=hook).history for hook in (one, two, three)]
    assert histories[0] == histories[1] == histories[2]
    losses = [{name: value for name, value in row.items() if name != "epoch"} for row in histories[0]]
    assert losses[0], "there are some"
    assert told[:2] == [(1,), (2,)]
    assert told[2:4] == [(1, losses[0]), (2, losses[1])]
    assert told[4:] == [(1, losses[0], "training"), (2, losses[1], "training")]


def test_what_it_returns_joins_the_history_of_a_model(world):
    model = fitted(world, on_epoch=lambda epoch, scores: {"twice": 2.0 * epoch})
    assert [row["twice"] for row in model.history] == [2, 4]


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (lambda epoch, kept=(): (epoch, kept), (5, ())),
        (lambda *arguments: arguments, (5,)),
        (partial(lambda model, epoch, scores: (model, epoch, scores), "model"), ("model", 5, {"loss": 1.0})),
        (lambda epoch, scores, *rest: (epoch, scores, rest), (5, {"loss": 1.0}, ())),
    ],
)
def test_parameters_with_a_default_keep_it(hook, expected):
    """A function that was called with the epoch alone is called so for ever."""
    found = []

    def kept(function):
        def call(*arguments):
            found.append(function(*arguments))

        call.__wrapped__ = function  # its signature is the function's
        return call

    EpochHook(kept(hook), "phase")(5, {"epoch": 5.0, "loss": np.float64(1)})
    assert found == [expected]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda: None, "on_epoch takes 0 arguments"),
        (lambda a, b, c, d: None, "on_epoch takes 4 arguments"),
        (lambda epoch, *, model: None, "takes 1 arguments and model="),
        ("print", "on_epoch is 'print'"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_any_work(world, hook, message):
    with pytest.raises(InputError, match=message):
        fitted(world, on_epoch=hook)
    with pytest.raises(InputError, match=message):
        fgen.run("no such file.toml", on_epoch=hook)


def test_a_run_tells_of_selection_and_training_what_metrics_csv_holds(tmp_path):
    told = Told()
    fgen.run(SETTINGS, out=tmp_path / "run", on_epoch=told)
    phases = {"selection": "seed-0/selection", "final": "seed-0/training"}
    with (tmp_path / "run/seeds/0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        (
            phases[row.pop("phase")],
            float(row.pop("epoch")),
            {name: float(value) for name, value in row.items() if value},
        )
        for row in rows
    ]
    assert told.epochs == expected
    assert {"val_H", "val_gamma"} <= told.epochs[0][2].keys()
    assert not any("ignored" in row for row in rows)


def test_a_training_without_a_test_tells_of_its_epochs(tmp_path):
    told, config = Told(), SETTINGS | {"protocol": {"calibrate": False, "seeds": [4]}}
    train_only(fgen.ExperimentConfig.from_mapping(config), out=tmp_path / "run", on_epoch=told)
    assert [(phase, epoch) for phase, epoch, _ in told.epochs] == [("seed-4/training", 1), ("seed-4/training", 2)]


def test_folds_of_a_selection_have_a_phase_and_scores_each_and_change_nothing():
    data = toy_world(n_seen=4, n_unseen=2, rows_per_class=10, seed=3).dataset
    features, labels = data.split("trainval")
    settings = {"epochs": 1, "hidden_dim": 16, "noise_dim": 4, "batch_size": 100}

    def classifier(told=None):
        model = fgen.ZeroShotClassifier(
            data.class_embeddings, method="flow", model=settings, classifier={"name": "cosine"}, n_per_class=5
        )
        return model.fit(features, labels, on_epoch=told)

    told = Told()
    watched, alone = classifier(told), classifier()
    phases = [phase for phase, _, _ in told.epochs]
    assert list(dict.fromkeys(phases)) == [*(f"selection/fold-{k}" for k in range(1, 5)), "training"]
    assert all("val_H" in scores for phase, _, scores in told.epochs if phase != "training")
    assert watched.predict_proba(features).tobytes() == alone.predict_proba(features).tobytes()


def test_epochs_of_a_checkpoint_are_not_told_again(tmp_path, monkeypatch, world):
    told, step = Told(), loop.train_step
    stop_at = TINY["epochs"] * -(-len(world.dataset.splits["trainval"]) // TINY["batch_size"]) - 1

    def stopped(*key):
        if key[-1] == stop_at:
            raise KeyboardInterrupt
        return step(*key)

    options = {"checkpoint": tmp_path / "checkpoint", "train_config": TrainConfig(checkpoint_every=0.0)}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            fitted(world, on_epoch=told, **options)
    assert [epoch for _, epoch, _ in told.epochs] == [1]
    fitted(world, on_epoch=told, **options)
    assert [epoch for _, epoch, _ in told.epochs] == [1, 2]


def test_the_example_prints_a_line_for_each_epoch_and_keeps_events(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    example = runpy.run_path(str(EXAMPLES / "watch_training.py"))
    example["main"](tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("seed-0/selection, epoch ")]) == 10
    assert lines[-1].startswith("seed-0/training, epoch ")
    assert sorted(path.name for path in (tmp_path / "seed-0").iterdir()) == ["selection", "training"]
