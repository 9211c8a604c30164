"""The Gaussian baseline against Bayes' rule written out, and what its settings mean."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from fgen.baselines.gaussian import GaussianConfig
from fgen.errors import InputError
from fgen.nn.kernel_ridge import SemanticPrior


def task(dim=5, n_rows=60, seed=0):
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(11, 6))
    labels = np.concatenate([np.arange(8), draw.integers(8, size=n_rows - 8)])
    features = 4 + embeddings[labels] @ draw.normal(size=(6, dim)) + draw.normal(size=(n_rows, dim))
    return features.astype(np.float32), labels, embeddings


@pytest.mark.parametrize("dim", [5, 80])
def test_scores_are_the_log_densities_of_the_textbook(dim):
    features, labels, embeddings = task(dim)
    settings = {"feature_scaling": "none", "shrinkage": 0.5, "uncertainty": 0.7, "prior_alpha": 2.0, "prior_width": 0.6}
    found = GaussianConfig(**settings).build().fit(features, labels, embeddings, widths=(2, 4)).scores(features)
    exact = features.astype(np.float64)
    means = np.stack([exact[labels == k].mean(axis=0) for k in range(8)])
    deviations = exact - means[labels]
    covariance = deviations.T @ deviations / len(exact)
    prior = SemanticPrior(8, 6, dim, (2, 4), alpha=2.0, width=0.6).double()
    prior.fit(torch.from_numpy(embeddings[:8]), torch.from_numpy(means))
    predicted = prior(torch.from_numpy(embeddings)).numpy()
    variance = prior.predictive_variance(torch.from_numpy(embeddings)).numpy()
    mean_variance = np.trace(covariance) / dim
    for k in range(11):
        spread = 1 / np.sum(labels == k) if k < 8 else 0.7 * variance[k] / mean_variance
        twin = multivariate_normal(
            means[k] if k < 8 else predicted[k], (1 + spread) * covariance + 0.5 * mean_variance * np.eye(dim)
        )
        np.testing.assert_allclose(found[:, k], twin.logpdf(exact), rtol=1e-5, atol=1e-3)


def test_a_class_of_few_rows_is_wider_than_one_of_many():
    features, labels, embeddings = task()
    known = GaussianConfig().build().fit(features, labels, embeddings).distribution
    counts = np.bincount(labels)
    np.testing.assert_allclose(known.uncertainty[:8], 1 / counts)
    assert (known.uncertainty[8:] > 0).all()


def test_kinds_of_embeddings_weigh_the_same_where_their_widths_are_given():
    features, labels, embeddings = task()
    longer = embeddings * ([1] * 2 + [50] * 4)
    as_two = [
        GaussianConfig().build().fit(features, labels, rows, widths=(2, 4)).scores(features)
        for rows in (embeddings, longer)
    ]
    np.testing.assert_allclose(*as_two, rtol=1e-4)
    as_one = GaussianConfig().build().fit(features, labels, longer).scores(features)
    assert np.abs(as_one - as_two[1]).max() > 0.1


def test_candidates_are_the_shrinkages_unless_one_is_given():
    assert [c.shrinkage for c in GaussianConfig().candidates()] == [0.1, 0.3, 1.0, 3.0]
    assert [c.shrinkage for c in GaussianConfig(shrinkage=2.0).candidates()] == [2.0]


@pytest.mark.parametrize("bad", [{"shrinkage": 0.0}, {"uncertainty": -1.0}, {"prior_alpha": 0.0}, {"prior_width": 0.0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        GaussianConfig(**bad)
    assert GaussianConfig(uncertainty=0.0).uncertainty == 0
