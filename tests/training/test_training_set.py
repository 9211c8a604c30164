"""What terms are told of the real rows, against obvious twins: the covariance, the map back, the unlabelled rows."""

import numpy as np
import pytest
import torch

from fgen.features.scaling import FeatureScaler
from fgen.training.draws import Draws
from fgen.training.training_set import TrainingSet

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")


@pytest.fixture
def data(world, monkeypatch):
    """The world's training rows, read in blocks of 50, with its test rows of unseen classes as the unlabelled ones."""
    features, labels = world.dataset.split("trainval")
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 50 * 4 * features.shape[1])
    scaler, unlabelled = FeatureScaler.fit("minmax", features), world.dataset.split("test_unseen")[0]
    return TrainingSet(features, labels, world.dataset.class_embeddings, scaler, CPU, unlabelled=unlabelled)


def scaled_rows(data):
    return data.scaler.apply(np.asarray(data.features)).astype(np.float64)


def test_means_and_covariance_are_those_of_each_class(data):
    rows, labels = scaled_rows(data), data.labels
    means = np.stack([rows[labels == c].mean(0) for c in range(data.n_classes)])
    np.testing.assert_allclose(data.class_means(), means, atol=1e-6)
    within = rows - means[labels]
    expected = within.T @ within / (len(rows) - data.n_classes)
    np.testing.assert_allclose(data.within_class_covariance(), expected, atol=1e-6)
    assert np.abs(expected - np.cov(rows, rowvar=False)).max() > 0.01


def test_the_map_back_is_the_ridge_regression_with_an_intercept(data):
    rows, targets = scaled_rows(data), data.embeddings.double().numpy()[data.labels]
    x, y = rows - rows.mean(0), targets - targets.mean(0)
    penalty = 1e-3 * np.square(x).sum() / x.shape[1]
    slope = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    ours = [part.numpy() for part in data.regression()]
    np.testing.assert_allclose(ours[0], slope, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rows @ ours[0] + ours[1], x @ slope + targets.mean(0), atol=1e-3)


def test_unlabelled_rows_are_those_that_were_given(world, data):
    given = data.scaler.apply(world.dataset.split("test_unseen")[0])
    drawn = data.unlabelled(Draws(0, 0, CPU), 200)
    assert {row.tobytes() for row in drawn.numpy()} <= {row.tobytes() for row in given}
