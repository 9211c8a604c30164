"""``model__epochs`` and the like: nested parameters of the estimators, in searches too."""

import numpy as np
import pytest

from fgen import FeatureSynthesizer, ZeroShotClassifier
from fgen.baselines import BASELINES
from fgen.data.toy import make_toy
from fgen.errors import InputError

SMALL = {"method": "flow", "model": {"hidden_dim": 8}, "classifier": {"solver": "lbfgs"}, "n_per_class": 5}


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=6, n_unseen=2, rows_per_class=8)


def small(data, **changes):
    return ZeroShotClassifier(data.class_embeddings, **(SMALL | {"calibrate": False} | changes))


def test_settings_are_listed_with_their_defaults_and_set_one_by_one(data):
    model = small(data, train={"threads": 1})
    listed = model.get_params()
    for name, value in {
        "model__hidden_dim": 8,
        "model__epochs": 50,
        "classifier__solver": "lbfgs",
        "classifier__l2": 1e-4,
        "train__threads": 1,
    }.items():
        assert listed[name] == value, name
    assert not [name for name in model.get_params(deep=False) if "__" in name]
    assert model.set_params(model__epochs=3, classifier__l2=0.1, train__precision="highest", n_per_class=7) is model
    assert (model.model, model.n_per_class) == ({"hidden_dim": 8, "epochs": 3}, 7)
    assert model.classifier == {"solver": "lbfgs", "l2": 0.1}
    assert model.train == {"threads": 1, "precision": "highest"}
    assert SMALL["model"] == {"hidden_dim": 8}, "the dict that was given is left alone"
    assert ZeroShotClassifier(data.class_embeddings).set_params(model__epochs=3).model == {"epochs": 3}


def test_settings_belong_to_the_method_and_the_head_that_are_set_in_the_same_call(data):
    model = small(data, model=None, classifier=None)
    model.set_params(model__alpha=0.5, method="ridge")
    assert model.model == {"alpha": 0.5}
    model.set_params(method="flow", model=None, classifier__whitening=1.0, classifier__name="cosine")
    assert model.classifier == {"name": "cosine", "whitening": 1.0}
    assert model.get_params()["classifier__temperature"] == 0.04
    assert not [name for name in ZeroShotClassifier(method="recommended").get_params() if name.startswith("model__")]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            "model__epoch",
            r"model__epoch is unknown; expected a setting, one of ep.* Did you mean 'model__epochs'\?",
        ),
        ("modle__epochs", r"'modle__epochs' is unknown; expected one of .* Did you mean 'model'\?"),
        ("classifier__solvr", r"Did you mean 'classifier__solver'\?"),
        ("train__thread", r"Did you mean 'train__threads'\?"),
        ("model__epochs__x", "model__epochs__x is unknown"),
        ("classes__x", "classes__x is set, and classes has no settings; expected one of model, classifier, train"),
        ("n_per_clas", r"'n_per_clas' is unknown; .* Did you mean 'n_per_class'\?"),
    ],
)
def test_a_name_that_is_unknown_is_answered_with_the_nearest(data, parameter, message):
    model = small(data)
    with pytest.raises(InputError, match=message):
        model.set_params(**{parameter: 1})
    assert model.model == SMALL["model"]
    with pytest.raises(InputError, match="model is 'flow'; expected a dict of settings"):
        small(data, model="flow").set_params(model__epochs=1)


def test_an_estimator_as_head_has_its_own_parameters_also_in_a_dict(data):
    linear_model = pytest.importorskip("sklearn.linear_model")
    given = linear_model.LogisticRegression()
    model = small(data, classifier={"estimator": given})
    assert model.get_params()["classifier__scaling"] == "minmax"
    model.set_params(classifier__estimator__C=3.0, classifier__scaling="standard")
    assert (model.classifier["estimator"].C, model.classifier["scaling"], given.C) == (3.0, "standard", 1.0)
    model.set_params(classifier=given, classifier__C=2.0)
    assert model.get_params()["classifier__C"] == 2.0
    with pytest.raises(ValueError, match="'CC'"):
        model.set_params(classifier__CC=1)


def test_a_clone_has_the_same_settings_and_its_own_dicts(data):
    base = pytest.importorskip("sklearn.base")
    for model in (small(data), FeatureSynthesizer(data.class_embeddings, model={"epochs": 1})):
        copy = base.clone(model).set_params(model__epochs=9)
        assert copy.model["epochs"] == 9
        assert model.model.get("epochs") != 9


@pytest.mark.parametrize("search", ["grid", "halving"])
def test_a_search_goes_over_epochs_and_a_penalty_and_fits_what_it_chose(data, search):
    pytest.importorskip("sklearn")
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

    X, y = data.split("trainval")
    grid = {"classifier__l2": [100.0, 1e-3]}
    if search == "grid":
        found = GridSearchCV(small(data), grid | {"model__epochs": [1, 2]}, cv=2, error_score="raise").fit(X, y)
        assert len(found.cv_results_["params"]) == 4
    else:
        found = HalvingGridSearchCV(
            small(data), grid, resource="model__epochs", min_resources=1, max_resources=2, cv=2, error_score="raise"
        ).fit(X, y)
    best = found.best_estimator_
    assert found.best_params_["classifier__l2"] == 1e-3 == best.predictor_.head.config.l2
    assert len(best.generator_.history) == found.best_params_["model__epochs"]
    assert set(best.predict(X)) <= set(range(8))


def test_every_method_lists_its_settings(data):
    for method in BASELINES:
        listed = ZeroShotClassifier(method=method).get_params()
        assert {name for name in listed if name.startswith("model__")}, method
        assert "classifier__name" not in listed


def test_a_notebooks_table_shows_arguments_and_no_defaults_of_settings(data):
    pytest.importorskip("sklearn", minversion="1.7")
    page = small(data)._repr_html_()
    assert "n_per_class" in page
    assert "model__lr" not in page


def test_recommended_with_a_head_of_ones_own_is_refused(data):
    linear_model = pytest.importorskip("sklearn.linear_model")
    model = ZeroShotClassifier(
        data.class_embeddings, method="recommended", classifier=linear_model.LogisticRegression()
    )
    with pytest.raises(InputError, match="method is 'recommended', and classifier is set"):
        model.fit(*data.split("trainval"))


def test_what_is_in_force_after_a_change_is_trained(data):
    X, y = data.split("trainval")
    model = small(data).set_params(model__steps=1)
    assert len(model.fit(X, y).generator_.history) == 1
    again = small(data, model=SMALL["model"] | {"steps": 1}).fit(X, y)
    assert np.array_equal(model.decision_function(X), again.decision_function(X))
