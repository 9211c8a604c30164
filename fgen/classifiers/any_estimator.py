"""Head over any estimator with ``fit``, and ``predict_proba`` or ``decision_function``, as scikit-learn names them."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.linear_scores import LinearScores, LinearScoresConfig
from fgen.config import build
from fgen.errors import InputError, did_you_mean, first_line, require
from fgen.features.checks import as_array

#: The score of a class whose probability is 0: below the logarithm of every float64 above 0.
LOG_ZERO = -750.0
#: Training rows on which an estimator's linear form is compared with it.
COMPARED_ROWS = 100
CONTRACT = "an object with fit(X, y), and predict_proba(X) or decision_function(X)"


@dataclass(frozen=True, kw_only=True)
class EstimatorConfig(HeadConfig):
    """Settings of a head over an estimator. No file can give them: the estimator is an object.

    Attributes:
        scaling: of the features, which the estimator gets scaled; fitted on the real rows in an experiment.
        estimator: unfitted. Each head fits a copy of it: ``sklearn.base.clone`` of an object with ``get_params``, else
            a deep copy. A text stands for an estimator that a file doesn't keep, and can't be built.
    """

    name: ClassVar[str] = "estimator"

    estimator: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.estimator
        if isinstance(given, type):
            raise InputError(f"the classifier is the class {given.__name__}", f"an object, as {given.__name__}() is")
        names = {name for name in ("fit", "predict_proba", "decision_function") if _has(given, name)}
        if not isinstance(given, str) and not ("fit" in names and len(names) > 1):
            lacking = "predict_proba or decision_function" if "fit" in names else "fit"
            raise InputError(f"the classifier {described(given)} has no {lacking}", CONTRACT)

    @property
    def takes_sample_weight(self) -> bool:
        """True if the estimator's ``fit`` has an argument of that name, as most of scikit-learn's have."""
        return "sample_weight" in inspect.signature(self.estimator.fit).parameters

    def expect_weights_allowed(self) -> None:
        """Refuse weights of rows where the estimator's ``fit`` takes none."""
        if not self.takes_sample_weight:
            found = f"sample_weight is given, and fit() of {described(self.estimator)} takes no weights of rows"
            raise InputError(found, "an estimator whose fit has an argument sample_weight")

    def build(self) -> EstimatorHead:
        """Return an untrained head.

        Raises:
            InputError: a text in the estimator's place. MissingExtra: scikit-learn isn't installed, and has to copy it.
        """
        if isinstance(self.estimator, str):
            found = f"the classifier's estimator is the text {self.estimator!r}, as files keep it"
            raise InputError(found, CONTRACT, "To fit again, pass the estimator itself as classifier")
        fresh(self.estimator, seed=0)
        return EstimatorHead(self)


class EstimatorHead(Head):
    """Head over a fitted estimator, which sees float32 rows and the labels 0 to K - 1.

    A score is a log-probability where the estimator has ``predict_proba``, else its decision.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: number of ids in the caller's numbering.
        scaler: the scaling of the features.
        estimator: the fitted object.
        linear: its linear form, which gives the scores and can be saved; None where it has none.
    """

    config: EstimatorConfig
    estimator: Any
    linear: LinearScores | None

    def __init__(self, config: EstimatorConfig) -> None:
        self.config = config

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Fit a copy of the estimator; a scaled copy of the rows is held in memory."""
        scaled = np.concatenate([block for _, block in problem.scaler.blocks(problem.features)])
        classes, targets = np.unique(problem.labels, return_inverse=True)
        name = described(self.config.estimator)
        with torch_seed(problem.seed):
            self.estimator = fresh(self.config.estimator, problem.seed)
            try:
                self.estimator.fit(scaled, targets.astype(np.int64), **problem.weights)
            except ValueError as error:
                raise InputError(f"{name} can't be fitted ({first_line(error)})") from error
        rows = scaled[:: -(-len(scaled) // COMPARED_ROWS)]
        centre = scaled.mean(axis=0)
        rows = np.concatenate([rows, centre + (rows - centre) / 10])  # where no probability is 0 or 1 by rounding
        scores = estimator_scores(self.estimator, rows, len(classes))
        config = LinearScoresConfig(scaling=self.config.scaling, estimator=name)
        self.linear = LinearScores.of(self.estimator, config, rows, scores)
        return classes

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return scores ``(n, K)``, higher for likelier classes."""
        if self.linear is not None:
            return self.linear.block_scores(scaled)
        return estimator_scores(self.estimator, scaled, len(self.classes_))

    def save(self, path: str | Path) -> None:
        """Write the linear form to a folder, as :meth:`fgen.classifiers.storage.StoredHead.save` does.

        Raises:
            InputError: as :meth:`stored_form` has it, or a folder with other files.
        """
        self.stored_form().save(path)

    def stored_form(self) -> LinearScores:
        """Return the linear form.

        Raises:
            InputError: no training yet, or an estimator without a linear form.
        """
        self.require_trained()
        if self.linear is None:
            found = f"{described(self.config.estimator)} has no linear form, and could only be pickled"
            expected = "an estimator with coef_ and intercept_, or 'softmax' or 'cosine' as classifier's name"
            raise InputError(found, expected, "skops.io.dump writes the fitted estimator itself to a file of its own")
        form = copy(self.linear)
        form.classes_, form.n_classes_, form.scaler = self.classes_, self.n_classes_, self.scaler
        return form


def estimator_scores(estimator: Any, scaled: np.ndarray, n_classes: int) -> np.ndarray:
    """Return a fitted estimator's scores ``(n, K)`` of scaled rows ``(n, D)``.

    Raises:
        InputError: it can't score, or its scores have another shape or are NaN.
    """
    method = next((name for name in METHODS if hasattr(estimator, name)), None)
    if method is None:
        raise InputError(f"the fitted {described(estimator)} has no predict_proba or decision_function", CONTRACT)
    with np.errstate(divide="ignore"):
        scores = as_array(method, getattr(estimator, method)(scaled))
        scores = np.log(scores) if method == "predict_proba" else scores
    if scores.shape == (len(scaled),) and n_classes == 2:
        scores = np.stack([-scores, scores], axis=1)  # a single column is positive for the second class
    if scores.shape != (len(scaled), n_classes) or np.isnan(scores).any():
        found = "NaN" if scores.shape == (len(scaled), n_classes) else f"the shape {scores.shape}"
        expected = f"({len(scaled)}, {n_classes}), a number for each row and class"
        raise InputError(f"{method} of {described(estimator)} gives {found}", expected)
    return np.where(np.isneginf(scores), LOG_ZERO, scores)


#: Methods that give scores; the first that an estimator has is asked. The first is exact where probabilities are tiny.
METHODS = ("predict_log_proba", "predict_proba", "decision_function")


def fresh(estimator: Any, seed: int) -> Any:
    """Return an unfitted copy of an estimator, in which each ``random_state`` that is None is the seed.

    Raises:
        MissingExtra: scikit-learn isn't installed, and has to copy it.
    """
    if not hasattr(estimator, "get_params"):
        return deepcopy(estimator)
    copy = require("sklearn.base", "sklearn", described(estimator)).clone(estimator)
    states = {key: value for key, value in copy.get_params().items() if key.split("__")[-1] == "random_state"}
    return copy.set_params(**{key: seed % 2**31 for key, value in states.items() if value is None})


def described(estimator: Any) -> str:
    """Return an estimator as one line of text: with its settings where it prints them, as scikit-learn's do."""
    if isinstance(estimator, str):
        return estimator
    return " ".join(repr(estimator).split()) if hasattr(estimator, "get_params") else type(estimator).__name__


def estimator_config(settings: Mapping[str, Any]) -> EstimatorConfig:
    """Return the config of ``{"estimator": ..., "scaling": ...}``.

    Raises:
        InputError: no estimator, or another setting.
    """
    return build(EstimatorConfig, settings, "classifier")


def is_import_path(classifier: str) -> bool:
    """Return whether the name of a classifier is a path for :func:`imported_config`, as no head's name is."""
    return "." in classifier or ":" in classifier


def imported_config(path: str, settings: Mapping[str, Any], seed: int) -> EstimatorConfig:
    """Import a class or function, call it with settings, and return the config of the estimator that it makes.

    Importing runs code: give it a path of the command line alone, never one that a file names.

    Args:
        path: ``"package.module.Class"`` or ``"module:function"``; modules are also looked for in the working directory.
        settings: keyword arguments; ``scaling`` is the head's.
        seed: torch's, while the call draws from it.

    Raises:
        InputError: no such module or name, one that can't be called with the settings, or that makes no estimator.
    """
    make, arguments = _imported(path), {key: value for key, value in settings.items() if key != "scaling"}
    try:
        inspect.signature(make).bind(**arguments)
    except ValueError:
        pass  # functions in C may have no signature
    except TypeError as error:
        remedy = "Give arguments by --set classifier.NAME=VALUE, or name a function that needs none"
        raise InputError(f"{path} can't be called ({first_line(error)})", "a class or function", remedy) from None
    with torch_seed(seed):
        estimator = make(**arguments)
    return estimator_config({"estimator": estimator} | {key: settings[key] for key in settings.keys() - arguments})


def _imported(path: str) -> Any:
    """Return the object that a path names."""
    module = path.partition(":")[0]
    top, expected = module.partition(".")[0], "package.module.Class or module:function, which can be imported"
    if top == "sklearn":
        require(top, "sklearn", path)
    try:
        if importlib.util.find_spec(top) is None:
            sys.path.append(os.getcwd())
        return pkgutil.resolve_name(path)
    except ModuleNotFoundError as error:
        found = f"the classifier is {path!r}, and there is no module {error.name}"
        raise InputError(found, expected, "Install the package that has it, or run where its file is") from None
    except AttributeError as error:
        near = did_you_mean(error.name or "", dir(error.obj))
        raise InputError(f"the classifier is {path!r} ({error})", expected, near) from None
    except Exception as error:  # whatever a module raises when it is imported
        found = f"the classifier is {path!r}, which can't be imported ({type(error).__name__}: {first_line(error)})"
        raise InputError(found, expected) from error


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's own random numbers within the block, for estimators that draw from them."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _has(estimator: Any, method: str) -> bool:
    """Return whether an estimator has a method now, or may have it when it is fitted."""
    return hasattr(estimator, method) or hasattr(type(estimator), method)
