"""``ZeroShotClassifier.fit(X, y, sample_weight=...)``."""

import numpy as np
import pytest

from fgen import ZeroShotClassifier
from fgen.data.toy import make_toy
from fgen.errors import InputError

SMALL = {"method": "flow", "model": {"hidden_dim": 8, "steps": 2}, "classifier": {"solver": "lbfgs"}, "n_per_class": 5}


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=6, n_unseen=2, rows_per_class=8, sigma=1.5)


def fitted(data, weights, X=None, y=None, **changes):
    rows, labels = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, **(SMALL | {"calibrate": False} | changes))
    return model.fit(rows if X is None else X, labels if y is None else y, sample_weight=weights)


def test_a_heavy_class_is_answered_more_often_and_the_generator_is_the_same(data):
    X, y = data.split("trainval")
    plain, heavy = fitted(data, None), fitted(data, np.where(y == 2, 50.0, 1.0))
    assert np.sum(heavy.predict(X) == 2) > np.sum(plain.predict(X) == 2)
    made = [model.generator_.generate([7], 3, seed=0)[0] for model in (plain, heavy)]
    assert np.array_equal(*made)
    ones = fitted(data, np.ones(len(y)))
    np.testing.assert_allclose(ones.decision_function(X), plain.decision_function(X), atol=1e-5)


def test_rows_of_weight_0_are_left_out_altogether(data):
    X, y = data.split("trainval")
    kept = (np.arange(len(y)) % 3 > 0) & (y != 4)
    without, weighted = fitted(data, None, X[kept], y[kept]), fitted(data, kept.astype(float))
    assert weighted.unseen_.tolist() == without.unseen_.tolist() == [4, 6, 7]
    np.testing.assert_allclose(weighted.decision_function(X), without.decision_function(X), atol=1e-4)


def test_calibration_weighs_the_rows_of_its_folds_too(data):
    X, y = (rows[:24] for rows in data.split("trainval"))
    assert len(np.unique(y)) >= 3
    weights = np.where(y == y[0], 1.0, 40.0)
    calibrated = [fitted(data, given, X, y, calibrate=True) for given in (None, weights)]
    assert calibrated[0].calibration_["uncalibrated"] != calibrated[1].calibration_["uncalibrated"]


def test_an_estimator_gets_them_where_its_fit_takes_them(data):
    linear_model = pytest.importorskip("sklearn.linear_model")
    from sklearn.neighbors import KNeighborsClassifier

    X, y = data.split("trainval")
    plain, heavy = (fitted(data, w, classifier=linear_model.LogisticRegression()) for w in (None, 1.0 + 50 * (y == 2)))
    assert np.sum(heavy.predict(X) == 2) > np.sum(plain.predict(X) == 2)
    with pytest.raises(InputError, match=r"fit\(\) of KNeighborsClassifier\(\) takes no weights of rows"):
        fitted(data, np.ones(len(y)), classifier=KNeighborsClassifier())


@pytest.mark.parametrize("method", ["ridge", "recommended"])
def test_a_method_that_takes_none_refuses_them_before_it_is_trained(data, method):
    n_rows = len(data.split("trainval")[0])
    with pytest.raises(InputError, match=f"sample_weight is given, and method '{method}' takes no weights"):
        fitted(data, np.ones(n_rows), method=method, model=None, classifier=None)
