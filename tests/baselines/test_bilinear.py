"""ALE and DeViSE: their losses against loops and autograd, and what their training promises."""

import numpy as np
import pytest
import torch

from fgen import rng
from fgen.baselines.bilinear import AleConfig, DeviseConfig, ranking_gradient, ranking_loss
from fgen.errors import InputError, TrainingDiverged


def slow_loss(scores, label, margin, by_rank):
    """One row, one class at a time."""
    total, rank = 0.0, 0
    for other, score in enumerate(scores):
        hinge = margin + score - scores[label]
        if other != label and hinge > 0:
            total, rank = total + hinge, rank + 1
    if not by_rank or not rank:
        return total
    return sum(1 / k for k in range(1, rank + 1)) / rank * total


def draw(n_rows=40, n_classes=9, spread=2.0, seed=0):
    numbers = np.random.default_rng(seed)
    scores = torch.from_numpy(spread * numbers.normal(size=(n_rows, n_classes)))
    return scores, torch.from_numpy(numbers.integers(n_classes, size=n_rows))


@pytest.mark.parametrize("by_rank", [True, False])
@pytest.mark.parametrize("margin", [0.1, 1.0, 50.0])
def test_the_loss_is_that_of_the_loop(by_rank, margin):
    scores, labels = draw()
    scores[0, labels[0]] = 100.0
    found = ranking_loss(scores, labels, margin, by_rank)
    expected = [slow_loss(s, y, margin, by_rank) for s, y in zip(scores.tolist(), labels.tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("by_rank", [True, False])
def test_the_written_slope_is_autograds(by_rank):
    scores, labels = draw()
    scores[0, labels[0]] = 100.0
    scores.requires_grad_()
    ranking_loss(scores, labels, 1.0, by_rank).sum().backward()
    np.testing.assert_allclose(ranking_gradient(scores.detach(), labels, 1.0, by_rank), scores.grad, atol=1e-12)
    assert (scores.grad[0] == 0).all(), "a row whose class wins teaches nothing"


def test_ale_cares_less_for_each_violation_the_more_there_are():
    scores = torch.zeros(1, 101)
    slopes = {by_rank: ranking_gradient(scores, torch.tensor([0]), 1.0, by_rank)[0, 1] for by_rank in (True, False)}
    assert slopes[False] == 1
    assert slopes[True] == pytest.approx(sum(1 / k for k in range(1, 101)) / 100)


def slow_training(features, labels, embeddings, config, seed):
    """SGD by autograd on prepared data, in float64."""
    x = (features - features.mean(axis=0)) / features.std(axis=0) / np.sqrt(features.shape[1])
    phi = torch.from_numpy(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))
    weight = torch.zeros(x.shape[1], phi.shape[1], dtype=torch.float64, requires_grad=True)
    n_seen = labels.max() + 1
    orders = [rng.stream(seed, "ranking batches", epoch).permutation(len(x)) for epoch in range(config.epochs)]
    for rows in (o[i : i + config.batch_size] for o in orders for i in range(0, len(x), config.batch_size)):
        scores = torch.from_numpy(x[rows]) @ weight @ phi[:n_seen].T
        ranking_loss(scores, torch.from_numpy(labels[rows]), config.margin, config.by_rank).mean().backward()
        with torch.no_grad():
            weight -= config.lr * config.margin * weight.grad
        weight.grad = None
    return (torch.from_numpy(x) @ weight @ phi.T).detach().numpy()


def task(seed=0):
    numbers = np.random.default_rng(seed)
    embeddings = numbers.normal(size=(12, 5))
    labels = numbers.permutation(np.arange(90) % 9)
    features = 4 + embeddings[labels] @ numbers.normal(size=(5, 7)) + numbers.normal(size=(90, 7))
    return features.astype(np.float32), labels, embeddings


@pytest.mark.parametrize("config", [AleConfig(lr=1.0, epochs=2), DeviseConfig(lr=0.1, epochs=2, batch_size=13)])
def test_training_is_sgd_on_the_loss(config):
    features, labels, embeddings = task()
    found = config.build().fit(features, labels, embeddings, seed=4).scores(features)
    expected = slow_training(features.astype(np.float64), labels, embeddings, config, 4)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_margin_only_scales_the_scores_so_that_a_rate_transfers():
    features, labels, embeddings = task()
    small, large = (
        AleConfig(lr=2.0, margin=margin).build().fit(features, labels, embeddings).scores(features)
        for margin in (0.25, 4.0)
    )
    np.testing.assert_allclose(large, 16 * small, rtol=1e-4, atol=1e-4)


def test_the_seed_names_the_order_of_the_rows():
    features, labels, embeddings = task()
    first, again, other = (
        DeviseConfig(lr=1.0).build().fit(features, labels, embeddings, seed=seed).scores(features) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_a_rate_that_explodes_is_a_message():
    features, labels, embeddings = task()
    with pytest.raises(TrainingDiverged, match=r"Lower model\.lr"):
        AleConfig(lr=3e38, margin=10.0).build().fit(features, labels, embeddings)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"epochs": 0}, {"batch_size": 0}, {"margin": -1.0}, {"lrs": ()}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        AleConfig(**bad)
