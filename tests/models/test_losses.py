"""Every loss against a slow obvious twin, and its gradient in the network it should train."""

import pytest
import torch

from fgen.models import losses
from fgen.models.nets import Critic, Generator, initialise

B, D, A, H = 7, 5, 3, 11


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.tensor([0, 2, 2, 1, 0, 2, 4])
    return {
        "real": torch.rand(B, D, dtype=torch.float64),
        "fake": torch.rand(B, D, dtype=torch.float64, requires_grad=True),
        "condition": torch.randn(B, A, dtype=torch.float64),
        "alpha": torch.rand(B, 1, dtype=torch.float64),
        "labels": labels,
    }


@pytest.fixture
def critic():
    network = Critic(D, A, H).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return network


def gradients(value, network):
    network.zero_grad()
    value.backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def test_closed_form_critic_terms_equal_the_double_backward(batch, critic):
    real, fake, condition, alpha = batch["real"], batch["fake"].detach(), batch["condition"], batch["alpha"]
    distance, penalty = losses.critic_terms(critic, real, fake, condition, alpha)
    twin = critic(fake, condition).mean() - critic(real, condition).mean()
    twin_penalty = losses.gradient_penalty(critic, real, fake, condition, alpha)
    assert distance.item() == pytest.approx(twin.item(), abs=1e-12)
    assert penalty.item() == pytest.approx(twin_penalty.item(), rel=1e-9)
    fast = gradients(distance + 10 * penalty, critic)
    slow = gradients(twin + 10 * twin_penalty, critic)
    # autograd.grad in the penalty leaves the last bias out, whose gradient in the distance cancels anyway
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_gradient_penalty_is_the_textbook_formula_row_by_row(batch, critic):
    rows = []
    for k in range(B):
        mixed = batch["alpha"][k] * batch["real"][k] + (1 - batch["alpha"][k]) * batch["fake"][k].detach()
        mixed.requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed[None], batch["condition"][k : k + 1]).sum(), mixed)
        rows.append((slope.norm() - 1) ** 2)
    value = losses.gradient_penalty(critic, batch["real"], batch["fake"], batch["condition"], batch["alpha"])
    assert value.item() == pytest.approx(torch.stack(rows).mean().item())


def test_a_critic_blind_to_its_features_has_a_finite_penalty(batch, critic):
    with torch.no_grad():
        critic.hidden.weight.zero_()
    _, penalty = losses.critic_terms(critic, batch["real"], batch["fake"].detach(), batch["condition"], batch["alpha"])
    assert all(torch.isfinite(g).all() for g in gradients(penalty, critic))


def test_class_mean_matching_equals_a_loop_over_classes(batch):
    means = torch.rand(5, D, dtype=torch.float64)
    total = 0.0
    for label in batch["labels"].unique():
        mine = batch["labels"] == label
        gap = batch["fake"][mine].mean(0) - means[label]
        total += mine.sum() * (gap**2).mean()
    value = losses.class_mean_matching(batch["fake"], batch["labels"], means)
    assert value.item() == pytest.approx((total / B).item())


def test_moment_matching_is_zero_only_where_both_moments_agree(batch):
    fake, real = batch["fake"], batch["real"]
    assert losses.moment_matching(fake, fake.detach()).item() == pytest.approx(0, abs=1e-12)
    shuffled = fake.detach()[torch.randperm(B)]
    assert losses.moment_matching(fake, shuffled).item() == pytest.approx(0, abs=1e-12)
    wider = (fake - fake.mean(0)) * 2 + fake.mean(0)
    expected = (fake.std(0) ** 2).mean()
    assert losses.moment_matching(wider, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.moment_matching(fake, real) > 0


def test_classification_is_the_mean_negative_log_likelihood(batch):
    logits = torch.randn(B, 5, dtype=torch.float64)
    twin = -torch.stack([logits[k].log_softmax(0)[batch["labels"][k]] for k in range(B)]).mean()
    assert losses.classification(logits, batch["labels"]).item() == pytest.approx(twin.item())


@pytest.mark.parametrize("term", ["class_mean", "moment", "classification", "adversarial"])
def test_every_generator_term_has_a_gradient_that_reaches_the_whole_generator(term, batch, critic):
    generator = Generator(2, A, H, D, "sigmoid").double()
    initialise(generator, 0, "generator")
    fake = generator(torch.randn(B, 2, dtype=torch.float64), batch["condition"])
    value = {
        "class_mean": lambda: losses.class_mean_matching(fake, batch["labels"], torch.rand(5, D, dtype=torch.float64)),
        "moment": lambda: losses.moment_matching(fake, batch["real"]),
        "classification": lambda: losses.classification(fake @ torch.randn(D, 5, dtype=torch.float64), batch["labels"]),
        "adversarial": lambda: -critic(fake, batch["condition"]).mean(),
    }[term]()
    reached = gradients(value, generator)
    assert len(reached) == 4
    assert all(gradient.abs().max() > 0 for gradient in reached)
