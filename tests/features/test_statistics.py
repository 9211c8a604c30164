"""The moments that closed forms stand on: against NumPy, far from zero, in blocks, and remembered where equal."""

import numpy as np
import pytest

from fgen.errors import InputError
from fgen.features import statistics as room
from fgen.features.rows import numbered_blocks
from fgen.features.statistics import class_means, moments, within_class_scatter, within_class_squares


def rows(n=60, dim=5, offset=0.0, seed=0):
    draw = np.random.default_rng(seed)
    features = (offset + draw.normal(size=(n, dim)) @ draw.normal(size=(dim, dim))).astype(np.float32)
    return features, draw.permutation(np.arange(n) % 7) * 2


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 4 * 5 * 7)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.usefixtures("small_blocks")
def test_moments_in_blocks_are_numpys(offset):
    features, labels = rows(offset=offset)
    known, exact = moments(features, labels), features.astype(np.float64)
    np.testing.assert_array_equal(known.classes, np.arange(0, 14, 2))
    np.testing.assert_array_equal(known.counts, [(labels == label).sum() for label in known.classes])
    np.testing.assert_allclose(known.mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    means = [exact[labels == label].mean(axis=0) for label in known.classes]
    np.testing.assert_allclose(known.offsets + known.mean, means, rtol=1e-12, atol=1e-12)
    covariance = known.directions * known.variances @ known.directions.T
    np.testing.assert_allclose(covariance, np.cov(exact.T, bias=True), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_class_means_in_blocks_are_the_means_of_each_class():
    features, labels = rows()
    classes, means = class_means(numbered_blocks(features), labels)
    np.testing.assert_array_equal(classes, np.arange(0, 14, 2))
    expected = [features[labels == label].mean(axis=0, dtype=np.float64) for label in classes]
    np.testing.assert_allclose(means, expected, atol=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_the_scatter_in_blocks_is_that_of_the_chosen_rows_about_their_class_means():
    features, labels = rows()
    classes, means = class_means(numbered_blocks(features), labels)
    positions, chosen = np.searchsorted(classes, labels), labels < 8
    offsets = features - means[positions]
    expected = offsets[chosen].T @ offsets[chosen]
    blocks = numbered_blocks(features)
    np.testing.assert_allclose(within_class_scatter(blocks, positions, means, chosen), expected, atol=1e-9)
    squares = within_class_squares(numbered_blocks(features), positions, means)
    np.testing.assert_allclose(squares, np.square(offsets).sum(axis=0), rtol=1e-12)


def test_equal_questions_share_an_answer_and_no_others_do(monkeypatch):
    features, labels = rows()
    first = moments(features, labels)
    monkeypatch.setattr(room, "_moments", lambda *given: pytest.fail("calculated again"))
    assert moments(features.copy(), labels.copy()) is first
    monkeypatch.undo()
    features[-1, -1] += 1
    changed = moments(features, labels)
    assert changed.mean[-1] > first.mean[-1]
    assert moments(features, np.roll(labels, 1)).offsets[0] != pytest.approx(changed.offsets[0])
    with pytest.raises(ValueError, match="read-only"):
        changed.offsets[0] = 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_its_class(value):
    features, labels = rows()
    features[labels.tolist().index(6), 2] = value
    with pytest.raises(InputError, match="class 6"):
        moments(features, labels)
    with pytest.raises(InputError, match="class 6"):
        class_means(numbered_blocks(features), labels)
