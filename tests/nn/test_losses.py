"""Every loss against a slow obvious twin, and its gradient in the network it should train."""

import pytest
import torch

from fgen.nn import losses
from fgen.nn.networks import Critic, Generator, initialise

pytestmark = pytest.mark.numeric

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


def test_gradient_penalty_is_the_textbook_formula_row_by_row(batch, critic):
    rows = []
    for k in range(B):
        mixed = batch["alpha"][k] * batch["real"][k] + (1 - batch["alpha"][k]) * batch["fake"][k].detach()
        mixed.requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed[None], batch["condition"][k : k + 1]).sum(), mixed)
        rows.append((slope.norm() - 1) ** 2)
    value = losses.gradient_penalty(critic, batch["real"], batch["fake"], batch["condition"], batch["alpha"])
    assert value.item() == pytest.approx(torch.stack(rows).mean().item())


def test_the_divergence_from_the_standard_normal_is_torchs(batch):
    mean, log_variance = torch.randn(B, 3, dtype=torch.float64), torch.randn(B, 3, dtype=torch.float64)
    ours = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    twin = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert losses.gaussian_divergence(mean, log_variance).item() == pytest.approx(twin.item())


def test_reconstruction_is_bernoullis_likelihood_and_takes_rows_beyond_the_training_range(batch):
    rebuilt, real = batch["fake"].detach(), batch["real"]
    twin = -(real * rebuilt.log() + (1 - real) * (1 - rebuilt).log()).sum(1).mean()
    assert losses.reconstruction(rebuilt, real).item() == pytest.approx(twin.item())
    assert torch.isfinite(losses.reconstruction(rebuilt, real * 3 - 1))
    squared = ((rebuilt - real) ** 2).sum(1).mean() / 2
    assert losses.reconstruction(rebuilt, real, "linear").item() == pytest.approx(squared.item())


def test_classification_is_the_mean_negative_log_likelihood(batch):
    logits = torch.randn(B, 5, dtype=torch.float64)
    twin = -torch.stack([logits[k].log_softmax(0)[batch["labels"][k]] for k in range(B)]).mean()
    assert losses.classification(logits, batch["labels"]).item() == pytest.approx(twin.item())


@pytest.mark.parametrize("term", ["reconstruction", "classification", "adversarial"])
def test_every_generator_term_has_a_gradient_that_reaches_the_whole_generator(term, batch, critic):
    generator = Generator(2, A, H, D, "sigmoid").double()
    initialise(generator, 0, "generator")
    fake = generator(torch.randn(B, 2, dtype=torch.float64), batch["condition"])
    value = {
        "reconstruction": lambda: losses.reconstruction(fake, batch["real"]),
        "classification": lambda: losses.classification(fake @ torch.randn(D, 5, dtype=torch.float64), batch["labels"]),
        "adversarial": lambda: -critic(fake, batch["condition"]).mean(),
    }[term]()
    reached = gradients(value, generator)
    assert len(reached) == 4
    assert all(gradient.abs().max() > 0 for gradient in reached)
