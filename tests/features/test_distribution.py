"""Gaussians of classes: their density against SciPy's, and their rows against their moments."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fgen.errors import InputError
from fgen.features.distribution import FeatureDistribution
from fgen.features.scaling import FeatureScaler


def gaussians(kind="none", rank=4, dim=4, offset=0.0):
    draw = np.random.default_rng(0)
    factor = draw.normal(size=(rank, dim))
    rows = (5 + draw.normal(size=(50, dim))).astype(np.float32)
    return FeatureDistribution(
        mean=offset + draw.normal(size=(3, dim)),
        covariance=factor.T @ factor,
        uncertainty=np.array([0.0, 0.5, 2.0]),
        scaler=FeatureScaler.fit(kind, rows),
    )


@pytest.mark.parametrize("kind", ["none", "standard", "sqrt"])
@pytest.mark.parametrize("rank", [4, 2])
def test_the_density_is_that_of_the_textbook_in_the_scaled_space(kind, rank):
    known, shrinkage = gaussians(kind, rank), 0.3
    rows = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    floor = shrinkage * np.trace(known.covariance) / 4 * np.eye(4)
    scaled = known.scaler.apply(rows)
    for k, found in enumerate(known.log_density(rows, shrinkage=shrinkage).T):
        twin = multivariate_normal(known.mean[k], (1 + known.uncertainty[k]) * known.covariance + floor)
        np.testing.assert_allclose(found, twin.logpdf(scaled), rtol=1e-9)


def test_far_from_zero_the_density_keeps_its_digits():
    far, near = gaussians(offset=1e3), gaussians()
    rows = np.float32([[0.25, -0.5, 1, 2]])
    np.testing.assert_allclose(far.log_density(rows + 1000), near.log_density(rows), rtol=1e-6)


def test_rows_have_the_gaussians_moments():
    known = gaussians()
    rows = known.sample(20_000, seed=0).reshape(3, -1, 4)
    for k in range(3):
        covariance = (1 + known.uncertainty[k]) * known.covariance
        np.testing.assert_allclose(rows[k].mean(axis=0), known.mean[k], atol=0.1)
        np.testing.assert_allclose(np.cov(rows[k].T), covariance, atol=0.05 * covariance.max())


def test_rows_are_repeated_by_their_seed_and_extended_by_a_larger_number():
    known = gaussians("sqrt")
    few, many, other = known.sample(2, seed=3), known.sample(5, seed=3), known.sample(2, seed=4)
    assert few.dtype == np.float32
    np.testing.assert_allclose(many.reshape(3, 5, 4)[:, :2].reshape(6, 4), few, rtol=1e-5)
    assert known.sample(2, seed=3).tobytes() == few.tobytes() != other.tobytes()


def test_rows_are_raw():
    known = gaussians("standard")
    np.testing.assert_allclose(
        known.sample(4000, seed=0).mean(axis=0), known.scaler.invert(known.mean.mean(0)), atol=0.2
    )


def test_what_does_not_fit_is_refused():
    known = gaussians()
    with pytest.raises(InputError, match="3 columns; expected 4"):
        known.log_density(np.zeros((2, 3)))
    with pytest.raises(InputError, match="row 1"):
        known.log_density(np.float32([[0] * 4, [0, np.nan, 0, 0]]))
    with pytest.raises(InputError, match="n_per_class is 0"):
        known.sample(0, seed=0)
    assert known.log_density(np.zeros((0, 4))).shape == (0, 3)
