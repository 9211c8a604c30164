"""scikit-learn's base classes, or without scikit-learn what of them fgen's estimators need."""

import inspect
from typing import Any

import numpy as np

from fgen.errors import InputError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import NotFittedError
except ImportError:

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """Raised where an estimator isn't fitted."""

    class BaseEstimator:  # type: ignore[no-redef]
        """An estimator whose parameters are the arguments of its constructor."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the constructor's arguments by name."""
            return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

        def __repr__(self, N_CHAR_MAX: int = 700) -> str:
            """Return the class and the arguments that are set."""
            given = (f"{name}={value!r}" for name, value in self.get_params(deep=False).items() if value is not None)
            return f"{type(self).__name__}({', '.join(given)})"

    class ClassifierMixin:  # type: ignore[no-redef]
        """The default score of a classifier."""

        def score(self, X: Any, y: Any) -> float:
            """Return the share of rows ``X`` that are predicted as ``y``."""
            return float(np.mean(self.predict(X) == np.asarray(y)))  # type: ignore[attr-defined]


class NotFitted(InputError, NotFittedError):
    """The error of an estimator that isn't fitted; with scikit-learn also its ``NotFittedError``."""


class Size:
    """Short ``repr`` of an argument that is too long to print: its type and shape or length."""

    def __init__(self, argument: Any) -> None:
        self.argument = argument

    def __repr__(self) -> str:
        kind, argument = type(self.argument).__name__, self.argument
        if hasattr(argument, "parameters"):  # a module of torch
            return f"<{kind} of {sum(one.numel() for one in argument.parameters()):,} parameters>"
        if hasattr(argument, "shape"):
            return f"<{kind} {tuple(argument.shape)}>"
        return f"<{kind} of {len(argument)}>" if hasattr(argument, "__len__") else repr(argument)
