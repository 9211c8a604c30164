"""Cosine head: class prototypes compared by angle, without training, seed, norms or biases.

Norms and biases could favour seen classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.storage import StoredHead
from fgen.features.rows import Features, SelectedRows
from fgen.features.scaling import Kind
from fgen.features.statistics import class_means, within_class_scatter


@dataclass(frozen=True, kw_only=True)
class CosineConfig(HeadConfig):
    """Settings of the cosine head.

    Attributes:
        scaling: of the features, fitted on the real seen rows in an experiment, whether or not they are learned from;
            standard, so that a column with a wide range doesn't dominate the angle.
        whitening: compare by Fisher's (1936) angle: features are first whitened by the pooled within-class covariance
            of the real seen rows plus this share of its mean variance; None doesn't whiten.
        temperature: log-probabilities are those of ``softmax(cosine / temperature)``; .04 as in Chen et al. (2022),
            equation 16. It changes no ranking, only the unit of a gamma.
    """

    name: ClassVar[str] = "cosine"

    scaling: Kind = "standard"
    whitening: float | None = None
    temperature: float = 0.04

    @property
    def needs_seen_rows(self) -> bool:
        """True with whitening, which takes the covariance from their rows."""
        return self.whitening is not None

    def build(self) -> CosineClassifier:
        """Return an untrained head."""
        return CosineClassifier(self)


class CosineClassifier(StoredHead):
    """``P(y | x) = softmax(cos(x - m, p_y - m) / temperature)`` on scaled features; scores are log-probabilities.

    ``p_y`` is the mean of the class's rows, real or synthetic. ``m`` is the mean of all ``p_y``, whatever their numbers
    of rows. With ``whitening`` both sides are multiplied by W, where
    ``W W' = (S + whitening * mean(diag S) I)^-1`` and S is the covariance of rows about the mean of their class: the
    head of linear discriminant analysis, compared by angle.

    Args:
        config: the settings.
        overrides: fields of :class:`CosineConfig` to change.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: number of ids in the caller's numbering.
        centre: ``(D,)`` float32, m.
        prototypes: ``(K, D)`` float32, ``p_y - m`` at length 1, or 0 where ``p_y`` is the centre itself.
        whitening: ``(D, D)`` float32, W; with no rows where there is no whitening.
        scaler: the scaling of the features.
    """

    config_class: ClassVar[type[HeadConfig]] = CosineConfig
    format: ClassVar[str] = "fgen-cosine"
    stored: ClassVar[dict[str, str]] = {"centre": "centre", "directions": "prototypes", "roundness": "whitening"}

    config: CosineConfig
    centre: Tensor
    prototypes: Tensor
    whitening: Tensor

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Take the class means in one pass over the rows, and with whitening their spread in a second one."""
        scaler, features = problem.scaler, problem.features
        present, means = class_means(scaler.blocks(features), problem.labels)
        of_classes = torch.from_numpy(means)
        centre = of_classes.mean(dim=0)
        self.whitening, prototypes = torch.zeros(0, scaler.dim), of_classes - centre
        if self.config.whitening is not None:
            chosen = np.isin(problem.labels, problem.classes[problem.is_seen.numpy()])
            chosen = chosen if chosen.any() else np.ones(len(chosen), bool)
            positions = np.searchsorted(present, problem.labels)
            scatter = within_class_scatter(scaler.blocks(features), positions, means, chosen)
            whitening = whitening_matrix(torch.from_numpy(scatter / chosen.sum()), self.config.whitening)
            self.whitening, prototypes = whitening.float(), prototypes @ whitening
        self.prototypes, self.centre = l2_normalise(prototypes).float(), centre.float()
        return present

    @staticmethod
    def formula(head: Any, scaled: Tensor) -> Tensor:
        """Return log-probabilities ``(n, K)`` of scaled rows ``(n, D)``."""
        rows = scaled - head.centre
        cosines = l2_normalise(rows @ head.whitening if len(head.whitening) else rows) @ head.prototypes.T
        return (cosines / head.config.temperature).log_softmax(dim=1)

    def extended_tensors(self, features: Features, targets: np.ndarray) -> dict[str, Tensor]:
        """Return the prototypes to which the new classes' are appended; centre and whitening stay."""
        new = np.flatnonzero(targets)
        _, means = class_means(self.scaler.blocks(SelectedRows(features, new)), targets[new])
        prototypes = torch.from_numpy(means) - self.centre.double()
        if len(self.whitening):
            prototypes = prototypes @ self.whitening.double()
        return {"prototypes": torch.cat([self.prototypes, l2_normalise(prototypes).float()])}

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """``(D,)``, ``(K, D)`` and ``(D, D)``, or ``(0, D)`` without whitening."""
        dim = self.scaler.dim
        size = 0 if self.config.whitening is None else dim
        return {"centre": (dim,), "directions": (len(self.classes_), dim), "roundness": (size, dim)}


def whitening_matrix(covariance: Tensor, shrinkage: float) -> Tensor:
    """Return ``(D, D)`` float64 W with ``W W' = (S + shrinkage * mean(diag S) I)^-1`` for a covariance S."""
    dim = len(covariance)
    mean_variance = covariance.diagonal().mean().clamp(min=1e-12)  # rows that are all their class's mean have none
    shrunk = covariance + shrinkage * mean_variance * torch.eye(dim, dtype=torch.float64)
    inverse = torch.linalg.solve_triangular(
        torch.linalg.cholesky(shrunk), torch.eye(dim, dtype=torch.float64), upper=False
    )
    return inverse.T.contiguous()


def l2_normalise(rows: Tensor) -> Tensor:
    """Return rows ``(n, D)`` divided by their lengths; a row of zeros stays."""
    # Divide by the largest entry first: the squares of a long row would overflow.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
