"""ZSML: disjoint episodes, true fast weights, first and second order, and the traps of the published code."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from fgen.errors import InputError
from fgen.models.registry import make_model
from fgen.models.zsml import WassersteinLoss
from fgen.nn import losses
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

SMALL = {"n_way": 3, "n_support": 4, "n_query": 2, "inner_steps": 2, "inner_lr": 0.1, "batch_size": 12}


def started(world, **overrides):
    """A model with lively weights, before its first step, and its training set."""
    features, labels = world.dataset.split("trainval")
    model = make_model("zsml", **(TINY | SMALL | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model, data


def parameters(model, role):
    return dict(model.networks[role].named_parameters())


def outer_gradients(model, data, draws):
    model.networks.zero_grad(set_to_none=True)
    sum(model.query_terms(model.episodes(data, draws), draws).values()).backward()
    return {key: parameter.grad.clone() for key, parameter in model.networks.named_parameters()}


def test_no_class_of_a_tasks_support_is_in_its_query(world):
    model, data = started(world)
    assert model.config.n_tasks == 2
    seen = set()
    for step in range(20):
        support, query = model.episodes(data, Draws(0, step, data.device))
        assert (len(support), len(query)) == (2 * 3 * 4, 2 * 3 * 2)
        for of_support, of_query in zip(support.labels.view(2, 3, 4), query.labels.view(2, 3, 2), strict=True):
            assert (of_support == of_support[:, :1]).all(), "class by class"
            classes = of_support[:, 0].tolist() + of_query[:, 0].tolist()
            assert len(set(classes)) == 6
            seen |= set(classes)
        everything = data.batch(np.arange(len(data)))
        for row, label in zip(support.features, support.labels, strict=True):
            assert (everything.features[everything.labels == label] == row).all(dim=1).any(), "rows are of their class"
    assert seen == set(range(12))


def test_ways_are_clamped_to_half_of_the_classes(world):
    model, data = started(world, n_way=50)
    support, query = model.episodes(data, Draws(0, 0, data.device))
    assert len(torch.unique(support.labels)) == len(torch.unique(query.labels)) == 6


def test_the_wasserstein_loss_with_its_written_gradient_is_the_double_backwards(world):
    model, data = started(world)
    critic, batch = model.networks["critic"].double(), data.batches(Draws(0, 0, data.device), 1, 9)
    real, condition = batch.features.double(), batch.condition.double()
    fake, alpha = torch.rand_like(real), torch.rand(9, 1, dtype=torch.float64)
    ours = WassersteinLoss(critic)(real, fake, condition, alpha)
    theirs = losses.critic_terms(critic, real, fake, condition, alpha)
    torch.testing.assert_close(ours, theirs)
    weights = [p for name, p in critic.named_parameters() if name != "out.bias"]
    for a, b in zip(torch.autograd.grad(sum(ours), weights), torch.autograd.grad(sum(theirs), weights), strict=True):
        torch.testing.assert_close(a, b)


def losses_by_hand(model, fast, batch, draws, task):
    """Each network's loss on one task's rows, at one task's weights."""
    config, n_rows = model.config, len(batch) // model.config.n_tasks
    rows = slice(task * n_rows, (task + 1) * n_rows)
    real, condition, labels = batch.features[rows], batch.condition[rows], batch.labels[rows]
    noise = config.noise_scale * draws.normal("noise", (len(batch), model.noise_dim))[rows]
    alpha = draws.uniform("mixing", (len(batch), 1))[rows]

    def run(role, *inputs, constant=False):
        weights = {name: w.detach() if constant else w for name, w in fast[role].items()}
        return functional_call(model.networks[role], weights, inputs)

    fake = run("generator", noise, condition)
    distance, penalty = losses.critic_terms(lambda x, a: run("critic", x, a), real, fake.detach(), condition, alpha)
    deceived = -run("critic", fake, condition, constant=True).mean()
    recognised = torch.nn.functional.cross_entropy(run("classifier", fake, constant=True), labels)
    return {
        "critic": distance + config.gp_weight * penalty,
        "generator": deceived + config.cls_weight * recognised,
        "classifier": torch.nn.functional.cross_entropy(run("classifier", real), labels),
    }


def by_hand(model, support, draws, task):
    """One task's fast weights, network by network, by double backward and without vmap."""
    fast = {role: parameters(model, role) for role in ("critic", "generator", "classifier")}
    for step in range(model.config.inner_steps):
        loss, moved = losses_by_hand(model, fast, support, draws.part(step), task), {}
        for role, weights in fast.items():
            slopes = torch.autograd.grad(
                loss[role], list(weights.values()), retain_graph=True, create_graph=model.config.second_order
            )
            pairs = zip(weights.items(), slopes, strict=True)
            moved[role] = {name: value - model.config.inner_lr * slope for (name, value), slope in pairs}
        fast = moved
    return fast


def test_fast_weights_are_gradient_descent_on_each_tasks_own_support(world):
    """And go on from where the last step led; the released code starts each step from the slow weights."""
    model, data = started(world)
    draws = Draws(0, 0, data.device)
    support, _ = model.episodes(data, draws)
    fast = model.fast_weights(support, draws)
    for task in range(2):
        for role, weights in by_hand(model, support, draws, task).items():
            for name, value in weights.items():
                torch.testing.assert_close(fast[f"{role}.{name}"][task], value, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fast["generator.out.weight"][0], fast["generator.out.weight"][1])


@pytest.mark.parametrize("second_order", [False, True])
def test_the_outer_gradient_is_that_of_the_tasks_one_by_one(second_order, world):
    model, data = started(world, second_order=second_order)
    draws = Draws(0, 0, data.device)
    ours = outer_gradients(model, data, draws)
    support, query = model.episodes(data, draws)
    for role in ("critic", "generator", "classifier"):
        loss = 0.0
        for task in range(2):
            loss += losses_by_hand(model, by_hand(model, support, draws, task), query, draws, task)[role] / 2
        names = [name for name in parameters(model, role) if (role, name) != ("critic", "out.bias")]
        slopes = torch.autograd.grad(loss, [parameters(model, role)[name] for name in names])
        for name, slope in zip(names, slopes, strict=True):
            torch.testing.assert_close(ours[f"{role}.{name}"], slope, rtol=2e-3, atol=1e-4 * slope.abs().max().item())


def test_first_and_second_order_differ(world):
    first, data = started(world)
    second, _ = started(world, second_order=True)
    one, two = (outer_gradients(model, data, Draws(0, 0, data.device)) for model in (first, second))
    for role in ("critic", "generator", "classifier"):
        gaps = [
            (one[key] - two[key]).norm() / one[key].norm() for key in one if key.startswith(role) and "weight" in key
        ]
        assert max(gaps) > 0.01, role


def test_the_slow_weights_are_not_overwritten_by_the_fast_ones(world):
    """The released code writes the fast weights into the networks' own parameters."""
    model, data = started(world)
    before = {key: value.clone() for key, value in model.networks.state_dict().items()}
    draws = Draws(0, 0, data.device)
    model.query_terms(model.episodes(data, draws), draws)
    assert all(torch.equal(value, before[key]) for key, value in model.networks.state_dict().items())


def test_no_loss_trains_another_network_than_its_own(world):
    model, data = started(world, second_order=True)
    draws = Draws(0, 0, data.device)
    terms = model.query_terms(model.episodes(data, draws), draws)
    owner = {
        "critic": "critic",
        "gradient_penalty": "critic",
        "adversarial": "generator",
        "classification": "generator",
        "classifier": "classifier",
    }
    assert set(terms) == set(owner)
    for name, term in terms.items():
        for role in ("critic", "generator", "classifier"):
            slopes = torch.autograd.grad(
                term, list(model.networks[role].parameters()), retain_graph=True, allow_unused=True
            )
            assert any(s is not None and s.abs().max() > 0 for s in slopes) == (role == owner[name]), (
                f"{name} in {role}"
            )


def test_ordinary_critic_steps_come_first_and_generation_has_its_own_noise(world):
    model, data = started(world, critic_steps=3, noise_scale=0.5, generation_scale=0.25)
    updates = list(model.updates(data, Draws(0, 0, data.device)))
    assert [update.roles for update in updates] == [("critic",)] * 2 + [("critic", "generator", "classifier")]
    noise, condition = torch.randn(3, model.noise_dim), data.embeddings[:3]
    torch.testing.assert_close(model.synthesise(noise, condition), model.networks["generator"](0.25 * noise, condition))
    lone, _ = started(world, critic_steps=1)
    assert len(list(lone.updates(data, Draws(0, 0, data.device)))) == 1


@pytest.mark.parametrize("wrong", [{"n_way": 0}, {"n_query": 0}, {"inner_steps": -1}, {"noise_scale": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_model("zsml", **wrong)
