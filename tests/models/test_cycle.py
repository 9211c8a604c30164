"""cycle-CLSWGAN: its regressor, Xavier's start, interpolates element by element, and its switches."""

import numpy as np
import pytest
import torch

from fgen.models.registry import make_model
from fgen.nn import losses
from fgen.nn.networks import initialise
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    """A model before its first step, and its training set."""
    features, labels = world.dataset.split("trainval")
    model = make_model("cycle", **(TINY | {"cls_epochs": 1, "regressor_epochs": 1} | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def last_terms(model, data):
    return list(model.updates(data, Draws(0, 0, data.device)))[-1].terms()


def test_the_regressor_comes_near_the_least_squares_that_it_descends_to(world):
    model, data = started(world, regressor_epochs=100, regressor_lr=2e-2)
    model.pretrain(data, 0)
    x, a = (t.double() for t in (data.batch(np.arange(len(data))).features, data.batch(np.arange(len(data))).condition))
    design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    best = (design @ torch.linalg.lstsq(design, a).solution - a).square().mean()
    with torch.no_grad():
        ours = (model.networks["regressor"](x.float()).double() - a).square().mean()
    assert best < 0.5 * a.square().mean()
    assert ours < 1.3 * best


def test_preparing_twice_gives_the_same_regressor_so_that_a_resumed_run_agrees(world):
    first, again = started(world), started(world)
    for model, data in (first, again):
        model.pretrain(data, 0)
    assert torch.equal(first[0].networks["regressor"].weight, again[0].networks["regressor"].weight)
    assert first[0].networks["regressor"].weight.grad is None


def test_xavier_fills_its_bounds_evenly():
    layer = torch.nn.Linear(300, 100)
    initialise(layer, 0, "generator", xavier_gain=1.0)
    bound = (6 / 400) ** 0.5
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert layer.weight.mean().abs() < 0.01 * bound
    assert not layer.bias.any()


def test_interpolates_mix_column_by_column(world):
    """The penalty is that of a share for each element, not that of one for each row."""
    model, data = started(world)
    torch.manual_seed(0)
    critic = model.networks["critic"]
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    draws, batch = Draws(0, 0, data.device), data.batches(Draws(0, 0, data.device), 1, 6)
    fake = torch.rand_like(batch.features)
    (update,) = model.critic_updates(batch, fake, draws, 0)
    alpha = draws.uniform("mixing 0", tuple(fake.shape))
    rows = []
    for k in range(6):
        mixed = (alpha[k] * batch.features[k] + (1 - alpha[k]) * fake[k]).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed[None], batch.condition[k : k + 1]).sum(), mixed)
        rows.append((slope.norm() - 1) ** 2)
    penalty = update.terms()["gradient_penalty"].item()
    assert penalty == pytest.approx(10 * torch.stack(rows).mean().item(), rel=1e-4)
    by_row = losses.gradient_penalty(critic, batch.features, fake, batch.condition, alpha[:, :1])
    assert abs(penalty - 10 * by_row.item()) > 1e-3


def test_the_cycle_term_is_read_out_by_the_trained_regressor_and_counted_once(world):
    model, data = started(world, cycle_weight=2.0)
    model.pretrain(data, 0)
    assert "cycle" not in model.matching.weights, "the linear map of other methods' cycle term stays out"
    draws, batch = Draws(0, 0, data.device), data.batches(Draws(0, 0, data.device), 1, 8)
    regressor, fake = model.networks["regressor"], model.generator_fakes(batch, draws)
    squares = [
        (regressor.weight @ f + regressor.bias - a).square().mean() for f, a in zip(fake, batch.condition, strict=True)
    ]
    term = model.generator_terms(batch, draws)["cycle"]
    assert term.item() == pytest.approx(2 * torch.stack(squares).mean().item(), rel=1e-5)


def test_the_classification_term_counts_by_its_weight(world):
    model, data = started(world, cls_weight=0.3)
    model.pretrain(data, 0)
    draws, batch = Draws(0, 0, data.device), data.batches(Draws(0, 0, data.device), 1, 8)
    logits = model.networks["classifier"](model.generator_fakes(batch, draws))
    term = model.generator_terms(batch, draws)["classification"]
    assert term.item() == pytest.approx(0.3 * losses.classification(logits, batch.labels).item(), rel=1e-5)


def test_weights_of_zero_leave_terms_out_and_their_networks_untrained(world):
    model, data = started(world, cls_weight=0.0, cycle_weight=0.0)
    before = {key: value.clone() for key, value in model.networks.state_dict().items()}
    model.pretrain(data, 0)
    assert all(torch.equal(value, before[key]) for key, value in model.networks.state_dict().items())
    assert set(last_terms(model, data)) == {"adversarial"}


def test_unseen_descriptions_are_looked_at_only_where_the_config_declares_it(world):
    """cycle-(U)WGAN."""
    inductive, data = started(world)
    assert not inductive.config.uses_unseen_embeddings
    assert "unseen_cycle" not in last_terms(inductive, data)
    model, data = started(world, unseen_cycle_weight=0.5)
    assert model.config.uses_unseen_embeddings
    drawn = model.unseen_batch(Draws(0, 0, data.device), 200).condition
    unseen = {tuple(row) for row in data.unseen_embeddings.tolist()}
    assert {tuple(row) for row in drawn.tolist()} == unseen
    term = last_terms(model, data)["unseen_cycle"]
    model.config.__dict__["unseen_cycle_weight"] = 1.0
    assert last_terms(model, data)["unseen_cycle"].item() == pytest.approx(2 * term.item())


def test_without_unseen_classes_the_unseen_term_is_left_out(world):
    features, labels = world.dataset.split("trainval")
    model = make_model("cycle", **TINY, unseen_cycle_weight=0.5)
    data = model.begin(features, labels, world.dataset.class_embeddings[: labels.max() + 1], device="cpu")
    model.initialise(0)
    assert "unseen_cycle" not in last_terms(model, data)
