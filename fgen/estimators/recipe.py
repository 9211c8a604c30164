"""Recipes from the arguments of an estimator's constructor."""

import numbers
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from fgen.baselines import BASELINES
from fgen.classifiers.adam import AdamConfig
from fgen.classifiers.any_estimator import CONTRACT, described, estimator_config
from fgen.errors import InputError, did_you_mean
from fgen.experiment.config import NAMED, Recipe
from fgen.models.registry import MODELS

#: The method that stands for a choice on held-out classes.
RECOMMENDED = "recommended"
#: Configs of the generators and baselines by name. A package's is imported when its method is asked for.
METHODS = NAMED["model"]
#: Arguments that are a section of a recipe.
SECTIONS = ("model", "classifier", "train")


def recipe_of(parameters: Mapping[str, Any]) -> Recipe:
    """Return the recipe that an estimator trains by.

    Args:
        parameters: the constructor's arguments by name.

    Raises:
        InputError: one that is wrong, a baseline with a head, or a method that needs rows of unseen classes.
    """
    method, seed = parameters["method"], parameters["random_state"]
    if method == RECOMMENDED:
        chosen = ("model", "classifier", "embedding_weights", "fusion")
        if set_too := [name for name in chosen if parameters[name] is not None]:
            found = f"method is {RECOMMENDED!r}, and {set_too[0]} is set"
            raise InputError(found, "it to be chosen", f"Leave {set_too[0]} out, or name a method")
        method = "priorgan"
    if isinstance(method, str) and method in BASELINES and parameters["classifier"] is not None:
        expected = f"none with {method!r}, a baseline, which scores classes itself"
        raise InputError("classifier is set", expected, "Leave classifier out, or name a generator")
    if (head := estimator_settings(parameters["classifier"])) is not None:
        parameters = {**parameters, "classifier": None}
    for name in SECTIONS:
        expect_settings(name, parameters[name])
    sections = {name: dict(parameters[name] or {}) for name in SECTIONS}
    sections["classifier"] = default_solver(sections["classifier"]) | sections["classifier"]
    _expect_method(method, sections["model"].get("name", method))
    if not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**63:
        expected, remedy = "a whole number from 0 to 2**63 - 1", "The same number gives the same classifier"
        raise InputError(f"random_state is {seed!r}", expected, remedy)
    sections["model"] |= {"name": method}
    sections["embedding"] = {name: parameters[f"embedding_{name}"] for name in ("norm", "scale", "weights")}
    if parameters["fusion"] == "decision":
        remedy = "fgen.DecisionFusion takes a classifier for each kind"
        raise InputError("fusion is 'decision'", "'concat' or 'average'", remedy)
    sections["embedding"]["fusion"] = parameters["fusion"]
    sections["bank"] = {"n_per_class": parameters["n_per_class"]}
    recipe = Recipe.from_mapping(sections | {"protocol": {"calibrate": True}})
    if head is not None:
        recipe = replace(recipe, classifier=estimator_config(head))
    if method in MODELS and recipe.model.sees_test_rows:
        raise InputError(
            f"{method} is set to the transductive setting, and there are no unlabelled rows here",
            "the inductive setting",
            "Leave transductive out, or use fgen.run or make_model",
        )
    return recipe


def default_solver(classifier: Mapping[str, Any]) -> dict[str, Any]:
    """Return the solver of a softmax head whose settings name none, and none of Adam's settings: lbfgs.

    Its loss is convex: of the many classes and few rows of a generated bank it finds the minimum in less time than
    Adam's epochs take, and without a seed.
    """
    adams = {field.name for field in fields(AdamConfig)} | {"solver"}
    is_open = classifier.get("name", "softmax") == "softmax" and not adams & classifier.keys()
    return {"solver": "lbfgs"} if is_open else {}


def storable_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments as JSON can hold them, without embeddings and labels.

    Raises:
        InputError: as :func:`recipe_of` has it.
    """
    if (head := estimator_settings(parameters["classifier"])) is not None:
        parameters = {**parameters, "classifier": head | {"estimator": described(head["estimator"])}}
    plain = recipe_of(parameters).to_mapping()
    sections = {
        name: None if given is None else {key: plain[name][key] for key in given if key in plain[name]}
        for name in SECTIONS
        for given in (parameters[name],)
    }
    embedding = plain["embedding"]
    sections |= {
        name: value
        for name, value in (("embedding_weights", embedding.get("weights")), ("fusion", embedding.get("fusion")))
        if value is not None
    }
    return sections | {
        "method": parameters["method"],
        "embedding_norm": embedding["norm"],
        "embedding_scale": embedding["scale"],
        "n_per_class": plain["bank"]["n_per_class"],
        "calibrate": bool(parameters["calibrate"]),
        "random_state": int(parameters["random_state"]),
        "verbose": bool(parameters["verbose"]),
    }


def estimator_settings(classifier: Any) -> dict[str, Any] | None:
    """Return the settings of a head over an estimator, or None where the classifier is a head of fgen's own."""
    if isinstance(classifier, Mapping):
        return dict(classifier) if "estimator" in classifier else None
    return {"estimator": classifier} if hasattr(classifier, "fit") else None


def expect_settings(name: str, settings: Any) -> None:
    """Refuse an argument that is no mapping of settings."""
    if name == "model" and isinstance(settings, str):
        expected = "a dict of settings, such as {'epochs': 30}, the name being the method"
        raise InputError(f"model is {settings!r}", expected, _method_remedy(settings))
    if settings is not None and not isinstance(settings, Mapping):
        expected = "a dict of settings, such as {'name': 'knn'} of a classifier"
        raise InputError(f"{name} is {settings!r}", f"{expected}, or {CONTRACT}" if name == "classifier" else expected)


def _expect_method(method: Any, named: Any) -> None:
    """Refuse a method that is no generator's or baseline's name, or other than the name in the model's settings."""
    for where, name in (("method", method), ("model['name']", named)):
        if not isinstance(name, str) or name not in METHODS:
            expected = f"one of the generators {', '.join(MODELS)}, of the baselines {', '.join(BASELINES)}"
            raise InputError(f"{where} is {name!r}", f"{expected}, or {RECOMMENDED!r}", _method_remedy(name))
    if named != method:
        found = f"model['name'] is {named!r}, and method {method!r}"
        raise InputError(found, "the name as method", _method_remedy(named))


def _method_remedy(name: Any) -> str:
    """Return what to do about a name that isn't given as ``method``, or is no method's."""
    if not isinstance(name, str):
        return ""
    if name in METHODS:
        return f"Pass method={name!r}"
    return did_you_mean(name, METHODS, show=lambda near: f"method={near!r}")
