"""DAP against one SciPy minimisation for each attribute and the paper's product of probabilities."""

import numpy as np
import pytest
import scipy.optimize
import torch
from scipy.special import expit

from fgen.baselines import dap
from fgen.baselines.dap import DapConfig, binarise, fit_logistic
from fgen.errors import InputError
from fgen.features.statistics import moments


def task(seed=0):
    draw = np.random.default_rng(seed)
    embeddings = draw.normal(size=(14, 5))
    labels = draw.permutation(np.arange(200) % 10)
    features = 2 + embeddings[labels] @ draw.normal(size=(5, 6)) + draw.normal(size=(200, 6))
    return features.astype(np.float32), labels, embeddings


def slow_logistic(x, y, l2):
    """One regression by itself, in float64."""

    def objective(parameters):
        z = x @ parameters[:-1] + parameters[-1]
        slope = (expit(z) - y) / len(y)
        loss = np.mean(np.logaddexp(0, z) - y * z) + l2 / 2 * parameters[:-1] @ parameters[:-1]
        return loss, np.append(x.T @ slope + l2 * parameters[:-1], slope.sum())

    return scipy.optimize.minimize(objective, np.zeros(x.shape[1] + 1), jac=True, tol=1e-12).x


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(dap, "GRADIENT", 1e-6)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_all_attributes_at_once_are_the_regressions_one_by_one(l2, monkeypatch):
    monkeypatch.setattr(dap, "BLOCK_ROWS", 64)
    features, labels, embeddings = task()
    has = binarise(embeddings, np.arange(10))[labels]
    known = moments(features, labels)
    weights, biases = fit_logistic(features, torch.from_numpy(has.astype(np.float32)), known, 2.0, l2)
    x = (features - features.mean(axis=0, dtype=np.float64)) / 2.0
    for attribute in range(has.shape[1]):
        expected = slow_logistic(x, has[:, attribute].astype(float), l2)
        np.testing.assert_allclose(weights[:, attribute], expected[:-1], atol=2e-3)
        assert biases[attribute] == pytest.approx(expected[-1], abs=2e-3)


def test_posteriors_are_the_papers_product():
    features, labels, embeddings = task()
    model = DapConfig(l2=0.1).build().fit(features, labels, embeddings)
    attributes = embeddings > embeddings[:10].mean(axis=0)
    p = expit((features - model.mean).astype(np.float64) @ model.weights + model.biases)
    prior = attributes[:10].mean(axis=0)
    expected = np.ones((len(features), 14))
    for label, row in enumerate(attributes):
        for m, present in enumerate(row):
            expected[:, label] *= p[:, m] / prior[m] if present else (1 - p[:, m]) / (1 - prior[m])
    np.testing.assert_allclose(model.scores(features), np.log(expected), atol=1e-4)


def test_hundreds_of_sure_attributes_do_not_underflow():
    features, labels, embeddings = task()
    many = np.tile(embeddings, 200)
    scores = DapConfig(l2=1e-3).build().fit(features, labels, many).scores(features * 10)
    assert np.isfinite(scores).all()
    assert scores.min() < -1000, "a probability would be 0 in float64"


def test_attributes_are_columns_above_the_seen_mean_and_those_that_vary_over_the_seen():
    embeddings = np.array([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0], [6.0, 5.0, 1.0], [9.0, 7.0, 9.0]])
    expected = [[False, False], [False, False], [True, True], [True, True]]
    np.testing.assert_array_equal(binarise(embeddings, np.arange(3)), expected)


def test_embeddings_all_alike_are_refused():
    features, labels, _ = task()
    with pytest.raises(InputError, match="all alike"):
        DapConfig().build().fit(features, labels, np.full((14, 3), 0.1))
