"""The training loop: the rates that its optimisers step at, and what a signal leaves between two checkpoints."""

import os
import signal

import pytest
import torch

from fgen.errors import Interrupted
from fgen.models import engine, make_model
from fgen.models.engine import TrainConfig
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def test_every_step_is_taken_at_the_rate_of_its_role_and_epoch(world, monkeypatch):
    rates, step = [], engine.train_step

    def recorded(model, data, optimisers, *key):
        rates.append({role: optimiser.param_groups[0]["lr"] for role, optimiser in optimisers.items()})
        return step(model, data, optimisers, *key)

    monkeypatch.setattr(engine, "train_step", recorded)
    settings = {"lr": 1e-3, "critic_lr": 1e-2, "lr_decay": 0.5, "lr_decay_epochs": 1, "critic_steps": 1}
    model = make_model("cegzsl", **(TINY | settings))
    features, labels = world.dataset.split("trainval")
    model.fit(features, labels, world.dataset.class_embeddings, seed=0)
    per_epoch = model.config.steps_per_epoch(len(labels))
    assert len(rates) == 2 * per_epoch
    for index, found in enumerate(rates):
        decayed = 1.0 if index < per_epoch else 0.5
        assert found == {role: decayed * (1e-2 if role == "critic" else 1e-3) for role in model.trained}, index


def test_a_signal_leaves_a_checkpoint_of_its_step_however_long_until_the_next_is_due(world, tmp_path, monkeypatch):
    data, step, config = world.dataset, engine.train_step, TrainConfig(checkpoint_every=1e9)

    def fitted(path):
        model = make_model("clswgan", **(TINY | {"steps": 5, "cls_epochs": 1}))
        features, labels = data.split("trainval")
        return model.fit(features, labels, data.class_embeddings, seed=0, train_config=config, checkpoint=path)

    def signalled(*key):
        if key[-1] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*key)

    unbroken = fitted(tmp_path / "unbroken")
    monkeypatch.setattr(engine, "train_step", signalled)
    with pytest.raises(Interrupted):
        fitted(tmp_path / "broken")
    begun = []
    monkeypatch.setattr(engine, "train_step", lambda *key: (begun.append(key[-1]), step(*key))[1])
    resumed = fitted(tmp_path / "broken")
    assert begun == [3, 4]
    for key, value in unbroken.networks.state_dict().items():
        assert torch.equal(value, resumed.networks.state_dict()[key]), key
