"""Fitted linear estimators as arrays, which can be saved where the estimator itself could only be pickled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.new_rows import with_new_rows
from fgen.classifiers.storage import StoredHead
from fgen.errors import InputError
from fgen.features.rows import Features

Link = Literal["none", "softmax", "sigmoids"]
#: Link -> the scores of decisions ``W x + b``, and the factors that make two columns of two classes' single one.
LINKS: dict[Link, tuple[Callable[[Tensor], Tensor], tuple[int, int]]] = {
    "none": (lambda decisions: decisions, (-1, 1)),
    "softmax": (lambda decisions: decisions.log_softmax(dim=1), (0, 1)),
    "sigmoids": (lambda decisions: F.logsigmoid(decisions).log_softmax(dim=1), (-1, 1)),
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
    link: Link = "none"


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
        for link in LINKS:
            try:
                form = cls.linked(estimator, replace(config, link=link))
            except (AttributeError, TypeError, ValueError):
                return None
            if form.weight.shape != (scores.shape[1], rows.shape[1]):
                return None
            least = -np.inf if link == "none" else -10.0  # of smaller probabilities float32 may keep no digit
            own, expected = np.maximum(form.block_scores(rows), least), np.maximum(scores, least)
            if np.abs(own - expected).max() <= 1e-3 * max(1, np.abs(expected).max()):
                return form
        return None

    @classmethod
    def linked(cls, estimator: Any, config: LinearScoresConfig) -> Self:
        """Return ``coef_`` and ``intercept_`` of a fitted estimator under the config's link.

        The single row that an estimator has for two classes becomes two rows.

        Raises:
            AttributeError, TypeError, ValueError: it has no such numbers.
        """
        weight = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
        bias = np.broadcast_to(np.asarray(estimator.intercept_, np.float64), len(weight))
        rows, form = np.column_stack([weight, bias]), cls(config)
        rows = np.outer(LINKS[config.link][1], rows) if len(rows) == 1 else rows
        form.weight, form.bias = torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, -1])
        return form

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Raise an InputError: only the estimator can be fitted."""
        found = f"{self.config.estimator} is kept as its weights, without what fits them"
        raise InputError(found, "the estimator itself as classifier")

    @staticmethod
    def formula(head: Any, scaled: Tensor) -> Tensor:
        """Return scores ``(n, K)`` of scaled rows ``(n, D)``."""
        decisions = torch.addmm(head.bias, scaled.to(head.weight.dtype), head.weight.T)
        return LINKS[head.config.link][0](decisions)

    def extended_tensors(self, features: Features, targets: np.ndarray) -> dict[str, Tensor]:
        """Return weights and biases to which rows of the new classes are appended, trained on decisions as logits.

        Raises:
            InputError: scores of one classifier for each class against the others.
        """
        if self.config.link == "sigmoids":
            found = f"{self.config.estimator or 'the head'} has a classifier for each class against the others"
            raise InputError(found, "a head whose scores are a softmax of W x + b, or decisions")
        rows = with_new_rows(self.weight, self.bias, self.scaler, features, targets)
        return dict(zip(("weight", "bias"), rows, strict=True))

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """``(K, D)`` and ``(K,)``."""
        return {"weight": (len(self.classes_), self.scaler.dim), "bias": (len(self.classes_),)}
