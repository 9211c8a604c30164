"""The training loop: the rates that its optimisers step at."""

from fgen.models import engine, make_model
from tests.conftest import TINY


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
