"""Fitted linear estimators as arrays, which can be saved where the estimator itself could only be pickled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from scipy.special import log_expit, log_softmax, logsumexp
from torch import Tensor

from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.storage import StoredHead
from fgen.errors import InputError


def _log_sigmoids(decisions: np.ndarray) -> np.ndarray:
    """Return the logarithms of the sigmoids of decisions ``(n, K)``, whose rows add up to 1 as probabilities."""
    sigmoids = log_expit(decisions)
    return sigmoids - logsumexp(sigmoids, axis=1, keepdims=True)


#: Link -> the scores of decisions ``W x + b``, and the factors that make two columns of two classes' single one.
LINKS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[int, int]]] = {
    "none": (lambda decisions: decisions, (-1, 1)),
    "softmax": (lambda decisions: log_softmax(decisions, axis=1), (0, 1)),
    "sigmoids": (_log_sigmoids, (-1, 1)),
}


@dataclass(frozen=True, kw_only=True)
class LinearScoresConfig(HeadConfig):
    """Description of a fitted linear estimator.

    Attributes:
        estimator: the estimator as it is printed; nothing imports or evaluates this text.
        link: what makes scores of ``W x + b``: ``"none"`` leaves decisions, ``"softmax"`` gives log-probabilities, and
            ``"sigmoids"`` those of one classifier for each class against the others.
    """

    name: ClassVar[str] = "linear_scores"

    estimator: str = ""
    link: Literal["none", "softmax", "sigmoids"] = "none"


class LinearScores(StoredHead):
    """Scores ``link(W x + b)`` on scaled features: a fitted linear estimator without the estimator.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: number of ids in the caller's numbering.
        weight, bias: ``(K, D)`` and ``(K,)`` float64, on scaled features.
        scaler: the scaling of the features.
    """

    config_class: ClassVar[type[HeadConfig]] = LinearScoresConfig
    format: ClassVar[str] = "fgen-linear-scores"
    stored: ClassVar[dict[str, str]] = {"weight": "weight", "bias": "bias"}
    stored_type: ClassVar[torch.dtype] = torch.float64

    config: LinearScoresConfig
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, estimator: Any, config: LinearScoresConfig, rows: np.ndarray, scores: np.ndarray) -> Self | None:
        """Return a fitted estimator's linear form, or None where no link makes its scores of ``coef_``, ``intercept_``.

        Args:
            estimator: fitted.
            config: its name and scaling; the link is looked for.
            rows: ``(n, D)`` scaled, on which the forms are compared.
            scores: ``(n, K)`` of the estimator.
        """
        n_classes, dim = scores.shape[1], rows.shape[1]
        try:
            weight = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
            bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64), len(weight))
        except (AttributeError, TypeError, ValueError):
            return None
        if weight.shape not in {(n_classes, dim), (1, dim)} or len(weight) < n_classes != 2:
            return None
        rows_of_weights = np.column_stack([weight, bias])
        for link, (_, factors) in LINKS.items():
            form, single = cls(config, link=link), len(weight) == 1
            both = torch.from_numpy(np.outer(factors, rows_of_weights) if single else rows_of_weights)
            form.weight, form.bias = both[:, :-1], both[:, -1]
            least = -np.inf if link == "none" else -10.0  # of smaller probabilities float32 may keep no digit
            own, expected = np.maximum(form.block_scores(rows), least), np.maximum(scores, least)
            if np.abs(own - expected).max() <= 1e-3 * max(1, np.abs(expected).max()):
                return form
        return None

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Raise an InputError: only the estimator can be fitted."""
        found = f"{self.config.estimator} is kept as its weights, without what fits them"
        raise InputError(found, "the estimator itself as classifier")

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return scores ``(n, K)`` of scaled rows ``(n, D)``."""
        decisions = torch.addmm(self.bias, torch.from_numpy(scaled).double(), self.weight.T)
        return LINKS[self.config.link][0](decisions.numpy())

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """``(K, D)`` and ``(K,)``."""
        return {"weight": (len(self.classes_), self.scaler.dim), "bias": (len(self.classes_),)}
