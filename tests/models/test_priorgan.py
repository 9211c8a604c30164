"""priorgan: the closed-form prior against loops, the odd generator, and what training and generation are told."""

import numpy as np
import pytest
import torch

from fgen.models.registry import load_model, make_model
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


def slow_kernel(rows, seen, widths=WIDTHS, width=0.4):
    """The centred kernel of any rows, themselves among them, one pair at a time."""
    total = np.zeros((len(rows), len(rows)))
    for block in (slice(0, widths[0]), slice(widths[0], sum(widths))):
        short, known = (part[:, block] / np.linalg.norm(part[:, block], axis=1)[:, None] for part in (rows, seen))
        scale = 2 * width * torch.from_numpy(np.square(known[:, None] - known).sum(2)).median().item()

        def k(a, b, scale=scale):
            return np.exp(-np.square(a - b).sum() / scale)

        def centred(a, b, known=known, k=k):
            return (
                k(a, b)
                - np.mean([k(a, s) for s in known])
                - np.mean([k(s, b) for s in known])
                + np.mean([k(s, t) for s in known for t in known])
            )

        total += np.array([[centred(a, b) for b in short] for a in short]) / np.mean([centred(s, s) for s in known])
    return total


def test_the_priors_variance_is_that_of_a_gaussian_process_with_the_penalty_as_noise():
    """Of its joint normal with the seen means, and left-out seen classes set the unit."""
    embeddings, means, asked = problem()
    kernel = slow_kernel(np.concatenate([embeddings, asked]), embeddings)
    noisy = kernel + 0.7 * np.trace(kernel[:9, :9]) / 9 * np.eye(len(kernel))

    def variance(target, given):
        cross = noisy[np.ix_([target], given)]
        return (noisy[target, target] - cross @ np.linalg.solve(noisy[np.ix_(given, given)], cross.T)).item()

    prior, seen = fitted(embeddings, means), list(range(9))
    errors = means - prior.leave_one_out.double().numpy()
    unit = np.mean([np.square(errors[k]).mean() / variance(k, [s for s in seen if s != k]) for k in seen])
    expected = [unit * variance(9 + k, seen) for k in range(len(asked))]
    np.testing.assert_allclose(prior.predictive_variance(torch.from_numpy(asked)), expected, rtol=1e-3)
    far = prior.predictive_variance(torch.from_numpy(np.concatenate([embeddings, asked])))
    assert far[:9].max() < far[9:].max(), "a class unlike all seen ones is the least certain"


def spread(model):
    """Move the generator's weights off their start, so that each has a part in the rows."""
    with torch.no_grad():
        for parameter in model.networks["generator"].parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) - 0.5)


def test_the_noises_linear_part_is_what_a_regression_of_rows_on_noise_finds(world):
    model, data = started(world, output="linear", noise_dim=3, hidden_dim=8)
    spread(model)
    generator, noise = model.networks["generator"], torch.randn(40_000, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rows = [generator(noise, one.expand(len(noise), -1), torch.zeros(())) for one in data.embeddings]
        found = generator.linear_factor(data.embeddings)
    fitted_by_class = [torch.linalg.lstsq(noise, one).solution for one in rows]
    torch.testing.assert_close(found, torch.stack(fitted_by_class).mean(dim=0), rtol=0.02, atol=0.03)


def test_a_distribution_is_read_without_a_row_and_is_that_of_the_rows(world, tmp_path):
    model, _ = started(world, output="linear", truncation=1.0)
    model.save(tmp_path / "model")
    generated, labels = model.generate([13, 14], 8000, seed=0)
    known = model.distribution([13, 14])
    scaled = model.scaler.apply(generated).astype(np.float64)
    for k, one in enumerate((13, 14)):
        rows = scaled[labels == one]
        np.testing.assert_allclose(rows.mean(axis=0), known.mean[k], atol=1e-4)
        np.testing.assert_allclose(np.cov(rows.T), known.covariance, atol=0.1 * known.covariance.diagonal().max())
    loaded = load_model(tmp_path / "model").distribution(world.dataset.class_embeddings[[13, 14]])
    for name in ("mean", "covariance", "uncertainty"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(known, name))
    assert (known.uncertainty > 0).all()


def test_gaussians_tell_unseen_classes_apart_without_a_row(world):
    model, _ = started(world, output="linear")
    features, labels = world.dataset.split("test_unseen")
    unseen = world.dataset.unseen
    scores = model.distribution(unseen).log_density(features)
    assert np.mean(unseen[scores.argmax(axis=1)] == labels) > 0.6, "chance is 1/4"


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
    spread(model)
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
