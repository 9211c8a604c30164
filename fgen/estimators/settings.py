"""What the estimators share: constructor arguments that are dicts of settings, such as ``model``, and ``repr``."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any, Self

from fgen.classifiers.any_estimator import EstimatorConfig
from fgen.classifiers.registry import CLASSIFIERS
from fgen.errors import InputError, did_you_mean
from fgen.estimators.base import Size
from fgen.estimators.recipe import METHODS, SECTIONS, default_solver, estimator_settings, expect_settings, recipe_of
from fgen.experiment.config import Recipe
from fgen.models.registry import MODELS
from fgen.training.loop import TrainConfig


class SettingsMixin:
    """Mixin of an estimator: ``ARGUMENT__SETTING`` names a setting in an argument that is a dict of settings or None.

    An argument that is itself an estimator has that estimator's parameters, as everywhere in scikit-learn.
    """

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return what scikit-learn prints of an estimator, with the number of embeddings and labels in their place."""
        parameters = self.get_params(deep=False)
        shown = {
            name: Size(parameters[name]) for name in ("class_embeddings", "classes") if parameters[name] is not None
        }
        return super(SettingsMixin, type(self)(**(parameters | shown))).__repr__(N_CHAR_MAX)  # type: ignore[call-arg]

    def _recipe(self) -> Recipe:
        """Return the settings as a recipe."""
        return recipe_of(dict.fromkeys(("classifier", "fusion")) | self.get_params(deep=False))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name, and if ``deep`` the settings in them, set or by default."""
        parameters: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]
        for argument in SECTIONS if deep else ():
            if argument in parameters and isinstance(given := parameters[argument] or {}, Mapping):
                settings = _defaults(argument, parameters, given) | dict(given)
                parameters |= {f"{argument}__{name}": value for name, value in settings.items()}
        return parameters

    def set_params(self, **parameters: Any) -> Self:
        """Set arguments of the constructor, or settings in them: ``set_params(n_per_class=50, model__epochs=3)``.

        A dict of settings is replaced by a changed copy.

        Raises:
            InputError: no such argument, or the method or the head has no such setting; the nearest is named.
        """
        own = self.get_params(deep=False)
        nested: dict[str, dict[str, Any]] = {}
        for name, value in parameters.items():
            argument, delimiter, setting = name.partition("__")
            if argument not in own:
                raise InputError(f"parameter {name!r} is unknown", f"one of {', '.join(own)}", _nearest(argument, own))
            if delimiter:
                nested.setdefault(argument, {})[setting] = value
            else:
                setattr(self, argument, value)
        for argument, changes in nested.items():
            setattr(self, argument, _changed(argument, self.get_params(deep=False), changes))
        return self

    def _get_params_html(self, deep: bool = True, **options: Any) -> Any:
        """Return scikit-learn's table of the arguments for notebooks, without the settings' defaults."""
        return super()._get_params_html(False, **options)  # type: ignore[misc]


def _changed(argument: str, parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """Return an argument with some settings changed.

    Raises:
        InputError: it has none, or not these.
    """
    given = parameters[argument]
    if hasattr(given, "set_params"):
        return given.set_params(**changes)
    if argument not in SECTIONS:
        found = f"parameter {argument}__{next(iter(changes))} is set, and {argument} has no settings"
        raise InputError(found, f"one of {', '.join(SECTIONS)} before the two underscores")
    expect_settings(argument, given)
    result = dict(given or {})
    known = _defaults(argument, parameters, result | dict(changes))
    for name, value in changes.items():
        setting, delimiter, inner = name.partition("__")
        old: Any = result.get(setting)
        if (known and setting not in known) or (delimiter and not hasattr(old, "set_params")):
            found, expected = f"parameter {argument}__{name} is unknown", f"a setting, one of {', '.join(known)}"
            raise InputError(found, expected, _nearest(setting, known, f"{argument}__"))
        result[setting] = deepcopy(old).set_params(**{inner: value}) if delimiter else value
    return result


def _defaults(argument: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an argument may have, with their defaults; none where ``method`` or head is unknown."""
    method, name = str(parameters["method"]), str(given.get("name", "softmax"))
    if argument == "train":
        return _fields(TrainConfig)
    if argument == "model":
        return _fields(METHODS[method]) if method in METHODS else {}
    if estimator_settings(given) is not None:
        return _fields(EstimatorConfig)
    known = method in MODELS and name in CLASSIFIERS
    return {"name": name} | _fields(CLASSIFIERS[name]) | default_solver(given) if known else {}


def _fields(config: type) -> dict[str, Any]:
    """Return the fields of a config by name, with their defaults."""
    return {field.name: field.default for field in fields(config) if field.init}


def _nearest(name: str, known: Mapping[str, Any], prefix: str = "") -> str:
    """Return a remedy that names the most similar parameter."""
    return did_you_mean(name, known, show=lambda near: repr(prefix + near))
