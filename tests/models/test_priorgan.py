"""priorgan: the closed-form prior against loops, the odd generator, and what training and generation are told."""

import numpy as np
import pytest
import torch

from fgen.models.registry import make_model
from fgen.nn.kernel_ridge import SemanticPrior
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

WIDTHS = (3, 4)


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("priorgan", **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    model.pretrain(data, 0)
    return model, data


def problem():
    draw = np.random.default_rng(0)
    return draw.normal(size=(9, 7)) * ([1] * 3 + [50] * 4), draw.normal(size=(9, 5)) + 2, draw.normal(size=(4, 7))


def fitted(embeddings, means, **settings):
    prior = SemanticPrior(len(means), 7, 5, WIDTHS, **({"alpha": 0.7, "width": 0.4} | settings))
    prior.fit(torch.from_numpy(embeddings).float(), torch.from_numpy(means).float())
    return prior


def slow_prediction(embeddings, means, asked, kept=None, alpha=0.7, width=0.4):
    """Kernel ridge with a bias, kernel by kernel; of the rows ``kept``, with constants of all."""
    kept = np.arange(len(means)) if kept is None else kept
    kernel, cross = np.zeros((len(means), len(means))), np.zeros((len(asked), len(means)))
    for block in (slice(0, 3), slice(3, 7)):
        seen, new = (rows[:, block] / np.linalg.norm(rows[:, block], axis=1)[:, None] for rows in (embeddings, asked))
        gaps = np.square(seen[:, None] - seen).sum(2)
        scale = 2 * width * torch.from_numpy(gaps).median().item()
        gram, other = np.exp(-gaps / scale), np.exp(-np.square(new[:, None] - seen).sum(2) / scale)
        middle = np.eye(len(seen)) - 1 / len(seen)
        centred = middle @ gram @ middle
        kernel += centred / np.trace(centred) * len(seen)
        cross += (other - gram.mean(0)) @ middle / np.trace(centred) * len(seen)
    penalty = alpha * np.trace(kernel) / len(kernel)
    centre = means.mean(0)
    inner = kernel[np.ix_(kept, kept)] + penalty * np.eye(len(kept))
    return cross[:, kept] @ np.linalg.solve(inner, means[kept] - centre) + centre


@pytest.mark.parametrize("alpha", [0.7, 5.0])
def test_the_prior_is_kernel_ridge_in_which_each_kind_weighs_the_same(alpha):
    embeddings, means, asked = problem()
    ours = fitted(embeddings, means, alpha=alpha)(torch.from_numpy(asked).float())
    np.testing.assert_allclose(ours, slow_prediction(embeddings, means, asked, alpha=alpha), rtol=1e-3, atol=1e-3)


def test_a_left_out_class_is_predicted_from_all_others():
    embeddings, means, _ = problem()
    left_out = fitted(embeddings, means).leave_one_out
    for k in range(len(means)):
        others = np.delete(np.arange(len(means)), k)
        twin = slow_prediction(embeddings, means, embeddings[[k]], kept=others)
        np.testing.assert_allclose(left_out[[k]], twin, rtol=1e-3, atol=1e-3)


def test_in_training_a_class_wears_the_mean_that_was_predicted_without_it(world):
    model, data = started(world)
    batch, draws = data.batch(np.arange(0, len(data), 9)), Draws(0, 0, data.device)
    mean = model.networks["prior"].leave_one_out[batch.labels]
    for purpose, fake in (("critic", model.critic_fakes), ("generator", model.generator_fakes)):
        noise = draws.normal(f"{purpose} noise", (len(batch), model.noise_dim))
        twin = model.networks["generator"](noise, batch.condition, mean)
        torch.testing.assert_close(fake(batch, draws), twin)


def test_over_a_pair_of_noises_a_generated_class_has_the_predicted_mean(world):
    model, data = started(world, output="linear")
    with torch.no_grad():
        for parameter in model.networks["generator"].parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    noise = torch.from_numpy(model.chunk_noise(np.random.default_rng(0)))
    assert torch.equal(noise[::2], -noise[1::2])
    condition = data.embeddings[:1].expand(len(noise), -1)
    with torch.no_grad():
        rows, mean = model.synthesise(noise, condition), model.networks["prior"](condition)
    assert (rows[0] - mean[0]).abs().max() > 0.1
    torch.testing.assert_close((rows[::2] + rows[1::2]) / 2, mean[::2], rtol=1e-4, atol=1e-4)


def test_the_noises_part_starts_as_the_leading_spread_within_classes_and_is_truncated_in_generation(world):
    model, data = started(world, output="linear", noise_dim=5, truncation=0.25)
    factor = model.networks["generator"].factor.detach().double()
    values, vectors = torch.linalg.eigh(data.within_class_covariance().double())
    leading = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    torch.testing.assert_close(factor.T @ factor, leading, rtol=1e-3, atol=1e-5)
    noise, condition = torch.randn(4, 5), data.embeddings[:4]
    twin = model.networks["generator"](0.25 * noise, condition, model.networks["prior"](condition))
    torch.testing.assert_close(model.synthesise(noise, condition), twin)
