"""Weights of rows in the training of heads."""

import numpy as np
import pytest
import torch

from fgen.classifiers.registry import CLASSIFIERS
from fgen.errors import InputError

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 20)
ROWS = (RNG.normal(size=(60, 4)) + 0.8 * np.eye(3, 4)[LABELS]).astype(np.float32)
TIMES = RNG.integers(1, 4, 60)


def fitted(name, rows, labels, weights=None, **settings):
    head = CLASSIFIERS[name](scaling="none", **settings).build()
    return head.fit(rows, labels, sample_weight=weights)


@pytest.mark.parametrize("name", ["softmax", "logistic", "linear_svm"])
def test_a_row_of_weight_2_counts_as_two_rows(name):
    if name != "softmax":
        pytest.importorskip("sklearn")
    settings = {"solver": "lbfgs", "l2": 0.01} if name == "softmax" else {"max_iter": 20_000}
    weighted = fitted(name, ROWS, LABELS, TIMES, **settings).decision_function(ROWS)
    repeated = fitted(name, np.repeat(ROWS, TIMES, axis=0), np.repeat(LABELS, TIMES), **settings)
    np.testing.assert_allclose(weighted, repeated.decision_function(ROWS), atol=0.01)
    assert np.abs(weighted - fitted(name, ROWS, LABELS, **settings).decision_function(ROWS)).max() > 0.05


def test_weights_multiply_those_of_classes_and_their_unit_does_not_count():
    for settings in ({"solver": "lbfgs"}, {"solver": "adam", "epochs": 2}):
        settings = settings | {"class_weight": "balanced"}
        plain = fitted("softmax", ROWS, LABELS, **settings).weight
        ones = fitted("softmax", ROWS, LABELS, np.full(60, 5.0), **settings).weight
        torch.testing.assert_close(ones, plain)
        assert not torch.allclose(fitted("softmax", ROWS, LABELS, TIMES, **settings).weight, plain)


@pytest.mark.parametrize("name", ["cosine", "knn"])
def test_a_head_that_takes_none_refuses_them_by_name(name):
    if name == "knn":
        pytest.importorskip("sklearn")
    with pytest.raises(InputError, match=f"sample_weight is given, and '{name}' takes no weights of rows"):
        fitted(name, ROWS, LABELS, TIMES)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(59), r"sample_weight has shape \(59,\); expected \(60,\)"),
        (np.ones((60, 1)), r"sample_weight has shape \(60, 1\)"),
        (np.arange(60) - 1, "sample_weight holds -1.0 in row 0; expected finite numbers of at least 0"),
        (np.full(60, np.nan), "sample_weight holds nan in row 0"),
        (np.zeros(60), "sample_weight holds nothing but zeros"),
        (["heavy"] * 60, "sample_weight holds the text 'heavy'"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        fitted("softmax", ROWS, LABELS, weights)
