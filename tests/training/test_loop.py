"""The training loop: what it is given, the rates that its optimisers step at, and what a signal leaves of it."""

import os
import signal
from itertools import count

import numpy as np
import pytest
import torch

from fgen.errors import InputError, Interrupted, TrainingDiverged
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.models.registry import make_model
from fgen.training import loop
from fgen.training.loop import TrainConfig
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def test_every_step_is_taken_at_the_rate_of_its_role_and_epoch(world, monkeypatch):
    rates, step = [], loop.train_step

    def recorded(model, data, optimisers, *key):
        rates.append({role: optimiser.param_groups[0]["lr"] for role, optimiser in optimisers.items()})
        return step(model, data, optimisers, *key)

    monkeypatch.setattr(loop, "train_step", recorded)
    settings = {"lr": 1e-3, "critic_lr": 1e-2, "lr_decay": 0.5, "lr_decay_epochs": 1, "critic_steps": 1}
    model = make_model("cegzsl", **(TINY | settings))
    features, labels = world.dataset.split("trainval")
    model.fit(features, labels, world.dataset.class_embeddings, seed=0)
    per_epoch = model.config.steps_per_epoch(len(labels))
    assert len(rates) == 2 * per_epoch
    for index, found in enumerate(rates):
        decayed = 1.0 if index < per_epoch else 0.5
        assert found == {role: decayed * (1e-2 if role == "critic" else 1e-3) for role in model.trained}, index


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_checkpoint_of_its_step_however_long_until_the_next_is_due(
    world, tmp_path, monkeypatch, number
):
    data, step, config = world.dataset, loop.train_step, TrainConfig(checkpoint_every=1e9)

    def fitted(path):
        model = make_model("clswgan", **(TINY | {"steps": 5, "cls_epochs": 1}))
        features, labels = data.split("trainval")
        return model.fit(features, labels, data.class_embeddings, seed=0, train_config=config, checkpoint=path)

    def signalled(*key):
        if key[-1] == 2:
            os.kill(os.getpid(), number)
        return step(*key)

    unbroken = fitted(tmp_path / "unbroken")
    monkeypatch.setattr(loop, "train_step", signalled)
    with pytest.raises(Interrupted) as stopped:
        fitted(tmp_path / "broken")
    assert stopped.value.signal_number == number
    begun = []
    monkeypatch.setattr(loop, "train_step", lambda *key: (begun.append(key[-1]), step(*key))[1])
    resumed = fitted(tmp_path / "broken")
    assert begun == [3, 4]
    for key, value in unbroken.networks.state_dict().items():
        assert torch.equal(value, resumed.networks.state_dict()[key]), key


def test_a_hangup_that_the_program_was_told_to_ignore_stays_ignored(world, tmp_path, monkeypatch):
    """As under ``nohup``, whose point it is."""
    before, step = signal.signal(signal.SIGHUP, signal.SIG_IGN), loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *key: (os.kill(os.getpid(), signal.SIGHUP), step(*key))[1])
    try:
        model = make_model("clswgan", **(TINY | {"steps": 2, "cls_epochs": 1}))
        features, labels = world.dataset.split("trainval")
        model.fit(features, labels, world.dataset.class_embeddings, seed=0, checkpoint=tmp_path / "checkpoint")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(model.history) == 1


def test_a_training_that_was_stopped_in_its_first_epoch_has_the_columns_of_an_unbroken_one(
    world, tmp_path, monkeypatch
):
    data, step, config = world.dataset, loop.train_step, TrainConfig(checkpoint_every=0.0)

    def fitted(path):
        model = make_model("clswgan", **(TINY | {"epochs": 1, "cls_epochs": 1, "mmd_weight": 1.0}))
        features, labels = data.split("trainval")
        return model.fit(features, labels, data.class_embeddings, seed=0, train_config=config, checkpoint=path)

    def stopped(*key):
        if key[-1] == 2:
            raise KeyboardInterrupt
        return step(*key)

    unbroken = fitted(tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "broken")
    resumed = fitted(tmp_path / "broken")
    assert [list(row.items()) for row in resumed.history] == [list(row.items()) for row in unbroken.history]
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "unbroken").read_bytes()


def test_a_long_training_tells_after_three_steps_how_long_it_takes_and_a_short_one_does_not(world, monkeypatch, caplog):
    def said(seconds):
        caplog.clear()
        monkeypatch.setattr(loop.time, "perf_counter", count(step=seconds).__next__)
        with caplog.at_level("INFO", "fgen"):
            make_model("clswgan", **(TINY | {"steps": 5, "cls_epochs": 1})).fit(
                *world.dataset.split("trainval"), world.dataset.class_embeddings, seed=0
            )
        return [record.getMessage() for record in caplog.records]

    (long,) = said(60)
    assert long.startswith(
        "5 training steps take about 7 minutes, pre-training included; networks, gradients and optimisers 0.0 GB"
    )
    assert said(1) == []


# What fit and generate are given.


def trained(world, **changes):
    features, labels = world.dataset.split("trainval")
    given = {"features": features, "labels": labels, "class_embeddings": world.dataset.class_embeddings, "seed": 0}
    return make_model("clswgan", **(TINY | {"steps": 2, "cls_epochs": 1})).fit(**(given | changes))


@pytest.mark.parametrize("kind", ["gradient", "lists", "objects"])
def test_tensors_lists_and_objects_train_and_generate_the_same(world, kind):
    change = {
        "gradient": lambda array: torch.tensor(array).requires_grad_(array.dtype.kind == "f"),
        "lists": lambda array: array.tolist(),
        "objects": lambda array: array.astype(object),
    }[kind]
    features, labels = world.dataset.split("trainval")
    embeddings = world.dataset.class_embeddings
    usual = trained(world)
    model = trained(
        world, features=change(features), labels=change(labels), class_embeddings=change(embeddings), class_names=None
    )
    for asked in (embeddings[:2], np.arange(2)):
        expected, _ = usual.generate(asked, 3, seed=0)
        assert model.generate(change(asked), 3, seed=0)[0].tobytes() == expected.tobytes()


def test_names_as_bytes_are_text_and_labels_may_be_names(world, tmp_path):
    names, (_, labels) = world.dataset.class_names, world.dataset.split("trainval")
    usual = trained(world, class_names=names)
    encoded = np.array([name.encode() for name in names])
    model = trained(world, labels=encoded[labels], class_names=encoded)
    assert model.class_names == names
    model.save(tmp_path / "model")
    assert model.generate([1], 3, seed=0)[0].tobytes() == usual.generate([1], 3, seed=0)[0].tobytes()
    by_name = [model.generate([name], 3, seed=0)[0].tobytes() for name in (names[1], encoded[1])]
    assert by_name == [usual.generate([1], 3, seed=0)[0].tobytes()] * 2
    with pytest.raises(InputError, match=f"classes holds the label 'clas 01'.* Did you mean '{names[1]}'"):
        model.generate(["clas 01"], 3, seed=0)
    row = world.dataset.class_embeddings[:1]
    named = [usual.generate(row, 3, seed=0, class_names=[name])[0].tobytes() for name in ("new", b"new")]
    assert named[0] == named[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": range(16)}, r"class_names\[0\] is 0, no text"),
        ({"class_names": [None] * 16}, r"class_names\[0\] is None, no text"),
        ({"class_names": ["a"] * 16}, "class_names has 'a' twice"),
        ({"class_names": ["a\0", *"bcdefghijklmnop"]}, "without NUL"),
        ({"class_names": ["\ud800", *"bcdefghijklmnop"]}, "lone surrogates"),
        ({"class_embeddings": np.ones(16)}, r"class_embeddings has shape \(16,\)"),
        ({"class_embeddings": [["a"]] * 16}, "class_embeddings holds the text 'a'.* `fgen embed`"),
        ({"class_embeddings": [[1.0], [1.0, 2.0]] * 8}, "class_embeddings is no array of numbers"),
        ({"class_embeddings": {"a": [1.0]}}, "class_embeddings is {'a'"),
        ({"class_embeddings": np.ones((16, 2)) * 1j}, "class_embeddings holds complex numbers"),
        ({"class_embeddings": np.ma.array(np.ones((16, 2)), mask=np.eye(16, 2))}, "masked array that hides 2"),
        ({"class_embeddings": np.full((16, 2), np.nan)}, "class_embeddings holds nan in row 0"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(world, monkeypatch, changes, words):
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("it is told before the training"))
    with pytest.raises(InputError, match=words):
        trained(world, **changes)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([["a", "b", "c"]], "classes holds the text 'a'"),
        ([[1.0], [1.0, 2.0]], "classes is no array of numbers"),
        (np.full((2, 8), np.inf), "classes holds inf in row 0"),
        (np.ones((2, 8)) * 1j, "classes holds complex"),
        (["class 01"], "classes holds the text 'class 01'.* fitted without class_names: give ids"),
        (np.arange(9) < 4, "Of a mask take numpy.flatnonzero"),
    ],
)
def test_generate_refuses_what_is_no_class(world, asked, words):
    with pytest.raises(InputError, match=words):
        trained(world).generate(asked, 3, seed=0)


def test_a_training_that_large_embeddings_broke_is_told_so_and_the_remedy_helps(world):
    features, labels = world.dataset.split("trainval")
    embeddings = 1e5 * world.dataset.class_embeddings
    words = r"Class embeddings of up to \d.* are too large: .* embedding=EmbeddingConfig\(norm='l2'\)"
    with pytest.raises(TrainingDiverged, match=words):
        make_model("cadavae", **TINY).fit(features, labels, embeddings, seed=0)
    make_model("cadavae", embedding=EmbeddingConfig(norm="l2"), **TINY).fit(features, labels, embeddings, seed=0)


@pytest.mark.parametrize(("name", "words"), [("clswgn", r"Did you mean 'clswgan'\?"), ("ridge", "fgen.BASELINES")])
def test_a_method_that_is_mistyped_has_a_neighbour(name, words):
    with pytest.raises(InputError, match=words):
        make_model(name)
    with pytest.raises(InputError, match="is unknown"):
        make_model([name])
