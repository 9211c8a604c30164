"""``ZeroShotClassifier`` with an estimator of the user's: fitted and calibrated as fgen's own heads, and kept."""

import importlib
import json
import sys

import numpy as np
import pytest

from fgen import ZeroShotClassifier
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.reports.inspection import inspect

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

#: The flow's features of the toy data are good after a second.
QUICK = {"method": "flow", "model": {"epochs": 4, "hidden_dim": 32}, "n_per_class": 20, "embedding_norm": "none"}
QUICK |= {"embedding_scale": 1.0}


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=12, n_unseen=3, rows_per_class=16, sigma=0.4)


def fitted(data, classifier, **settings):
    return ZeroShotClassifier(data.class_embeddings, classifier=classifier, **(QUICK | settings)).fit(
        *data.split("trainval")
    )


def harmonic(data, model):
    """U, S and their harmonic mean."""
    unseen, seen = (np.mean(model.predict(X) == y) for X, y in map(data.split, ("test_unseen", "test_seen")))
    return unseen, seen, 2 * unseen * seen / max(unseen + seen, 1e-9)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "classifier", [LogisticRegression(max_iter=1000), LinearSVC(), LinearDiscriminantAnalysis()], ids=repr
)
def test_an_estimator_is_fitted_on_the_bank_and_calibrated_as_the_heads_are(data, classifier):
    model = fitted(data, classifier)
    assert not hasattr(classifier, "coef_"), "what was given is left alone"
    calibrated = harmonic(data, model)[2]
    gamma, model.gamma_ = model.gamma_, 0.0
    plain = harmonic(data, model)[2]
    assert calibrated > max(0.25, plain - 0.05), f"gamma {gamma}: H {plain} to {calibrated}"
    X, _ = data.split("test_unseen")
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_scikit_learn_sees_its_parameters_clones_it_and_prints_it(data):
    model = ZeroShotClassifier(data.class_embeddings, classifier=LogisticRegression(C=0.5))
    assert model.get_params()["classifier__C"] == 0.5
    copy = clone(model).set_params(classifier__C=2)
    assert (copy.classifier.C, model.classifier.C) == (2, 0.5)
    assert repr(model).endswith("classifier=LogisticRegression(C=0.5))")


def test_the_penalty_and_the_scaling_that_are_given_count(data):
    X, _ = data.split("test_unseen")
    scores = {
        str(classifier): fitted(data, classifier, calibrate=False).decision_function(X)
        for classifier in (
            LogisticRegression(),
            LogisticRegression(C=1e-4),
            {"estimator": LogisticRegression(), "scaling": "standard"},
        )
    }
    plain, penalised, standard = scores.values()
    assert np.ptp(penalised, axis=1).max() < 0.1 * np.ptp(plain, axis=1).max()
    assert np.abs(plain - standard).max() > 0.1


# On disk.


@pytest.mark.parametrize(
    "classifier",
    [LogisticRegression(C=0.5), {"estimator": LinearSVC(), "scaling": "standard"}, LinearDiscriminantAnalysis()],
    ids=str,
)
def test_a_linear_one_is_saved_and_predicts_the_same_bytes(data, tmp_path, classifier):
    model = fitted(data, classifier)
    model.save(tmp_path / "it")
    loaded = ZeroShotClassifier.load(tmp_path / "it")
    X, _ = data.split("test_unseen")
    for method in ("predict", "predict_proba", "decision_function"):
        assert getattr(loaded, method)(X).tobytes() == getattr(model, method)(X).tobytes()
    loaded.save(tmp_path / "again")
    for file in ("classifier.json", "head/head.json", "head/head.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "it" / file).read_bytes()
    before = loaded.decision_function(X).tobytes()
    with pytest.raises(InputError, match=r"the text '\w+\(.*, as files keep it.* pass the estimator itself"):
        loaded.fit(*data.split("trainval"))
    assert loaded.decision_function(X).tobytes() == before
    again = loaded.set_params(classifier=classifier, model=QUICK["model"]).fit(*data.split("trainval"))
    assert again.decision_function(X).tobytes() == before


def test_saving_another_one_is_refused_by_name(data, tmp_path):
    model = fitted(data, RandomForestClassifier(5), calibrate=False)
    with pytest.raises(InputError, match=r"RandomForestClassifier\(n_estimators=5\) has no linear form.*skops\.io"):
        model.save(tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_no_text_in_a_saved_one_is_imported(data, tmp_path, monkeypatch):
    (tmp_path / "trace_of_import.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\nmake = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "it" / "classifier.json"
    fitted(data, LogisticRegression(), calibrate=False).save(file.parent)
    description = json.loads(file.read_text())
    for name in ("trace_of_import:make", "trace_of_import.make"):
        for head in (name, {"name": name}, {"estimator": {"name": name}}, {"estimator": name}):
            changed = description | {"parameters": description["parameters"] | {"classifier": head}}
            file.write_text(json.dumps(changed))
            assert inspect(str(file.parent))["kind"]
            if head == {"estimator": name}:  # a text stands for an estimator that isn't there
                loaded = ZeroShotClassifier.load(file.parent)
                with pytest.raises(InputError, match=f"the text '{name}'"):
                    loaded.fit(*data.split("trainval"))
            else:
                with pytest.raises(InputError, match="classifier"):
                    ZeroShotClassifier.load(file.parent)
    assert not (tmp_path / "imported").exists()
    importlib.import_module("trace_of_import")
    assert (tmp_path / "imported").exists(), "the trap is set"
    del sys.modules["trace_of_import"]
