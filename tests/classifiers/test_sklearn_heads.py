"""scikit-learn's classifiers behind the head's interface."""

import subprocess
import sys

import numpy as np
import pytest

from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.registry import CLASSIFIERS
from fgen.errors import InputError, MissingExtra

CLASSES = np.array([3, 7, 8, 20])
#: The field's recipe takes too few steps for so few rows; L-BFGS goes to the optimum.
HEADS = CLASSIFIERS | {"softmax": lambda: CLASSIFIERS["softmax"](solver="lbfgs")}
BORROWED = [name for name in CLASSIFIERS if name not in ("softmax", "cosine")]


def blobs(n_classes=4, n_rows=120, seed=0):
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(0, 3, (n_classes, 6))
    positions = np.arange(n_rows) % n_classes
    return (means[positions] + draw.normal(size=(n_rows, 6))).astype(np.float32), CLASSES[positions]


@pytest.fixture(autouse=True)
def _scikit_learn():
    pytest.importorskip("sklearn")


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_head_recognises_new_rows_and_keeps_the_callers_class_ids(name, n_classes):
    features, labels = blobs(n_classes)
    head = HEADS[name]().build().fit(features, labels, seed=1)
    fresh, truth = blobs(n_classes, seed=1)
    assert (head.predict(fresh) == truth).mean() > 0.9
    assert (head.classes_ == CLASSES[:n_classes]).all()
    assert head.decision_function(fresh).shape == (120, n_classes)
    assert (head.classes_[head.decision_function(fresh).argmax(1)] == head.predict(fresh)).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_scores_of_every_head_are_finite_and_those_of_no_candidate_the_lowest(name):
    features, labels = blobs()
    head = CLASSIFIERS[name]().build().fit(features, labels, n_classes=22)
    scores = head.scores(1000 * features)
    assert scores.shape == (120, 22)
    assert np.isfinite(scores).all()
    assert (scores[:, 0] == np.float32(NO_CANDIDATE)).all()
    assert scores[:, CLASSES].min() > NO_CANDIDATE


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_large_gamma_leaves_only_unseen_classes_in_every_head(name):
    features, labels = blobs()
    head = CLASSIFIERS[name]().build().fit(features, labels)
    assert set(head.predict(features, gamma=1e6, seen=[3, 8])) <= {7, 20}


@pytest.mark.parametrize("name", BORROWED)
def test_a_candidate_without_rows_is_scored_as_none(name):
    features, labels = blobs()
    head = CLASSIFIERS[name]().build().fit(features, labels, classes=[*CLASSES, 30])
    assert (head.scores(features)[:, 30] == np.float32(NO_CANDIDATE)).all()


def test_the_estimator_sees_scaled_features():
    features, labels = blobs()
    stretched = features * np.float32([1, 1e4, 1, 1, 1, 1])
    predictions = [CLASSIFIERS["knn"]().build().fit(x, labels).predict(x) for x in (features, stretched)]
    assert (predictions[0] == predictions[1]).all()


def test_scaling_rows_fit_the_scaling_alone():
    features, labels = blobs()
    head = CLASSIFIERS["knn"]().build().fit(features, labels, scaling_rows=features[:5])
    np.testing.assert_array_equal(head.scaler.offset, features[:5].min(0))


def test_fewer_rows_than_neighbours_are_all_asked():
    features, labels = blobs(2, n_rows=6)
    assert (CLASSIFIERS["knn"](n_neighbors=50).build().fit(features, labels).predict(features) == labels).all()


@pytest.mark.parametrize("C", [1.0, 0.1])
def test_logistic_and_softmax_solve_the_same_problem(C):
    features, labels = blobs()
    logistic = CLASSIFIERS["logistic"](C=C).build().fit(features, labels)
    softmax = CLASSIFIERS["softmax"](solver="lbfgs", l2=1 / (C * len(features))).build().fit(features, labels)
    np.testing.assert_allclose(logistic.decision_function(features), softmax.decision_function(features), atol=2e-2)


def test_a_strong_penalty_leaves_a_linear_svm_small_margins():
    features, labels = blobs()
    strong, weak = (CLASSIFIERS["linear_svm"](C=c).build().fit(features, labels) for c in (1e-4, 1.0))
    spreads = [np.ptp(head.decision_function(features), axis=0).max() for head in (strong, weak)]
    assert spreads[0] < 0.1 * spreads[1]


@pytest.mark.parametrize("name", BORROWED)
def test_saving_is_refused_and_the_way_out_is_named(name, tmp_path):
    with pytest.raises(InputError, match="softmax"):
        CLASSIFIERS[name]().build().save(tmp_path / "head")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", BORROWED)
def test_without_scikit_learn_the_line_that_installs_it_is_shown(name, monkeypatch):
    monkeypatch.setitem(sys.modules, CLASSIFIERS[name].module, None)
    with pytest.raises(MissingExtra, match=rf"(?s){name}.*pip install \"fgen\[sklearn\]\""):
        CLASSIFIERS[name]().build()


def test_naming_the_heads_imports_no_scikit_learn():
    code = "import sys; from fgen.classifiers.registry import CLASSIFIERS; [c() for c in CLASSIFIERS.values()]; "
    code += "assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", BORROWED)
@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        ([[0.0, 1], [np.nan, 2], [3, 4]], [0, 1, 0], "features hold"),
        ([[0.0, 1], [1, 2], [3, 4]], [0, 1], "2 labels"),
        ([[0.0, 1], [1, 2], [3, 4]], [5, 5, 5], "class 5"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(name, features, labels, words):
    with pytest.raises(InputError, match=words):
        CLASSIFIERS[name](scaling="none").build().fit(features, labels)


@pytest.mark.parametrize("name", BORROWED)
def test_prediction_refuses_other_columns_and_untrained_heads(name):
    features, labels = blobs()
    with pytest.raises(InputError, match="trained"):
        CLASSIFIERS[name]().build().predict(features)
    with pytest.raises(InputError, match="5 columns"):
        CLASSIFIERS[name]().build().fit(features, labels).predict(features[:, :5])


@pytest.mark.parametrize(
    ("name", "bad"),
    [("logistic", {"C": 0.0}), ("linear_svm", {"C": -1.0}), ("knn", {"n_neighbors": 0}), ("knn", {"scaling": "l2"})],
)
def test_settings_out_of_range_are_refused(name, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        CLASSIFIERS[name](**bad)
