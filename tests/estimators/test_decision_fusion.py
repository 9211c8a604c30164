"""Decision-level fusion of ZeroShotClassifiers: over kinds of embedding, methods and image networks."""

import numpy as np
import pytest

import fgen
from fgen.errors import InputError


@pytest.fixture(scope="module")
def data():
    return fgen.load_dataset("toy")


def halves(X):
    """The same rows as two networks would describe them."""
    return [X[:, :8], X[:, 8:]]


def ridges(data, n=2, **settings):
    return [fgen.ZeroShotClassifier(data.class_embeddings, method="ridge", **settings) for _ in range(n)]


def accuracy(classifier, X, y):
    return np.mean(classifier.predict(X) == y)


def test_two_networks_together_are_better_than_each_alone(data):
    X, y = data.split("trainval")
    parts = [data.split(name) for name in ("test_seen", "test_unseen")]
    asked, right = np.concatenate([rows for rows, _ in parts]), np.concatenate([own for _, own in parts])
    alone = [
        accuracy(one.fit(own, y), asked_own, right)
        for one, own, asked_own in zip(ridges(data), halves(X), halves(asked), strict=True)
    ]
    for rule in ("mean", "weighted", "product", "stacked"):
        fused = fgen.DecisionFusion(ridges(data), rule=rule).fit(halves(X), y)
        assert accuracy(fused, halves(asked), right) > max(alone) + 0.03
        probabilities = fused.predict_proba(halves(asked))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        assert (fused.classes_[probabilities.argmax(axis=1)] == fused.predict(halves(asked))).mean() > 0.99


def test_a_generator_and_a_baseline_over_kinds_are_fused_of_one_matrix(data):
    X, y = data.split("trainval")
    first, second = data.class_embeddings[:, :4], data.class_embeddings[:, 4:]
    settings = {"model": {"epochs": 1, "hidden_dim": 16}, "classifier": {"solver": "lbfgs"}, "n_per_class": 10}
    members = [
        fgen.ZeroShotClassifier(first, method="flow", **settings),
        fgen.ZeroShotClassifier(second, method="eszsl", random_state=3),
    ]
    fused = fgen.DecisionFusion(members, rule="weighted", weights=[1, 3]).fit(X, y)
    assert fused.fusion_.weights == (0.25, 0.75)
    assert fused.predict_proba(X[:5]).shape == (5, 25)
    assert not hasattr(members[0], "predictor_"), "copies are fitted"


def test_of_few_classes_probabilities_are_fused_as_they_are_and_a_warning_says_so(data):
    X, y = data.split("trainval")
    few = np.isin(y, data.seen[:2])
    with pytest.warns(UserWarning, match="too few to calibrate on.*fused as they are"):
        fused = fgen.DecisionFusion(ridges(data)).fit(X[few], y[few])
    assert fused.gamma_ == 0.0
    with pytest.raises(InputError, match="stacked"):
        fgen.DecisionFusion(ridges(data), rule="stacked").fit(X[few], y[few])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"n": 1}, "two or more"),
        ({"rule": "vote"}, "one of mean, weighted"),
        ({"rule": "mean", "weights": [1, 2]}, "'weighted'"),
        ({"rule": "weighted", "weights": [1, 2, 3]}, "2, one for each member"),
    ],
)
def test_what_can_not_be_fused_is_refused(data, arguments, told):
    X, y = data.split("trainval")
    members = ridges(data, arguments.get("n", 2))
    with pytest.raises(InputError, match=told):
        fgen.DecisionFusion(members, **{k: v for k, v in arguments.items() if k != "n"}).fit(X, y)


def test_members_and_matrices_that_do_not_belong_together_are_refused(data):
    X, y = data.split("trainval")
    other = fgen.ZeroShotClassifier(dict(enumerate(data.class_embeddings[::-1], start=-24)), method="ridge")
    with pytest.raises(InputError):
        fgen.DecisionFusion([*ridges(data, 1), other]).fit(X, y)
    with pytest.raises(InputError, match="3 matrices"):
        fgen.DecisionFusion(ridges(data)).fit([X, X, X], y)
    fused = fgen.DecisionFusion(ridges(data)).fit(halves(X), y)
    with pytest.raises(InputError, match="the same rows"):
        fused.predict([X[:3, :8], X[:2, 8:]])
