"""Class prototypes compared by angle: no training, no seed, and no norms or biases that could favour a seen class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.base import HeadConfig, checked_labels, fitted_scaler, seen_mask
from fgen.classifiers.storage import StoredHead
from fgen.config import build, to_mapping
from fgen.errors import InputError
from fgen.features.rows import Features, as_rows
from fgen.features.scaling import Kind
from fgen.features.statistics import class_means, within_class_scatter


@dataclass(frozen=True, kw_only=True)
class CosineConfig(HeadConfig):
    """Settings of the cosine head.

    Attributes:
        scaling: of the features, fitted on the real seen rows in an experiment, whether or not they are learned from;
            standard, so that no column rules the angle by its range alone.
        whitening: turn the angle into Fisher's (1936): features are first made round within classes, by the pooled
            within-class covariance of the real seen rows plus this share of its mean variance; None leaves them.
        temperature: log-probabilities are those of ``softmax(cosine / temperature)``; .04 as in Chen et al. (2022),
            equation 16. It changes no ranking, only the unit of a gamma.
    """

    name: ClassVar[str] = "cosine"

    scaling: Kind = "standard"
    whitening: float | None = None
    temperature: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whitening is not None and not 1e-6 <= self.whitening < np.inf:
            raise InputError(
                f"whitening is {self.whitening}", "a share of at least 1e-6, or none", "1.0 is a good start"
            )
        if not 1e-6 <= self.temperature < np.inf:
            raise InputError(f"temperature is {self.temperature}", "a number of at least 1e-6")

    @property
    def needs_seen_rows(self) -> bool:
        """With whitening: their spread is what it whitens by."""
        return self.whitening is not None

    def build(self) -> CosineClassifier:
        """A head without prototypes yet."""
        return CosineClassifier(self)


class CosineClassifier(StoredHead):
    """``P(y | x) = softmax(cos(x - m, p_y - m) / temperature)`` on scaled features; scores are log-probabilities.

    ``p_y`` is the mean of the class's rows, real or synthetic, and ``m`` the mean of all ``p_y``: the centre is the
    candidates' own, however many rows each has. With ``whitening`` both sides are multiplied by W, where
    ``W W' = (S + whitening * mean(diag S) I)^-1`` and S is the covariance of rows about the mean of their class: the
    head of linear discriminant analysis, compared by angle.

    Args:
        config: the settings.
        overrides: fields of :class:`CosineConfig` to change.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: how many ids there are in the caller's numbering.
        centre: ``(D,)`` float32, m.
        prototypes: ``(K, D)`` float32, ``p_y - m`` at length 1, or 0 where ``p_y`` is the centre itself.
        whitening: ``(D, D)`` float32, W; with no rows where there is no whitening.
        scaler: the scaling of the features.
    """

    format: ClassVar[str] = "fgen-cosine"
    config_class: ClassVar[type[HeadConfig]] = CosineConfig
    stored: ClassVar[dict[str, str]] = {"centre": "centre", "directions": "prototypes", "roundness": "whitening"}

    def __init__(self, config: CosineConfig | None = None, **overrides: Any) -> None:
        super().__init__(build(CosineConfig, to_mapping(config or CosineConfig()) | overrides, "classifier"))

    def fit(
        self,
        features: Features,
        labels: Any,
        *,
        classes: Any | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        seen: Any | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> CosineClassifier:
        """Take the class means of raw features ``(N, D)`` with class ids ``(N,)`` in one pass, block by block.

        Arguments and errors as in :meth:`fgen.classifiers.softmax.SoftmaxClassifier.fit`, but for two: a class of
        ``classes`` without a row has no prototype, and is scored as no candidate; ``seed``, ``device`` and ``progress``
        make no difference. ``seen`` names the classes whose rows show the spread within classes (by default all do):
        rows that were generated spread as their generator does.
        """
        features = as_rows(features)
        labels, _, n_classes = checked_labels(labels, len(features), classes, n_classes)
        scaler = fitted_scaler(self.config.scaling, features, scaling_rows)
        present, means = class_means(scaler.blocks(features), labels)
        of_classes = torch.from_numpy(means)
        centre = of_classes.mean(dim=0)
        self.whitening, prototypes = torch.zeros(0, scaler.dim), of_classes - centre
        if self.config.whitening is not None:
            spread = np.ones(len(present), bool) if seen is None else seen_mask(present, seen)
            positions = np.searchsorted(present, labels)
            chosen = spread[positions] if spread.any() else np.ones(len(positions), bool)
            scatter = within_class_scatter(scaler.blocks(features), positions, means, chosen)
            whitening = whitening_matrix(torch.from_numpy(scatter / chosen.sum()), self.config.whitening)
            self.whitening, prototypes = whitening.float(), prototypes @ whitening
        self.prototypes, self.centre = l2_normalise(prototypes).float(), centre.float()
        self.scaler, self.classes_, self.n_classes_ = scaler, present, n_classes
        return self

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Log-probabilities ``(n, K)`` of scaled rows ``(n, D)``."""
        rows = torch.from_numpy(scaled) - self.centre
        cosines = l2_normalise(rows @ self.whitening if len(self.whitening) else rows) @ self.prototypes.T
        return (cosines / self.config.temperature).log_softmax(dim=1).numpy()

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
    """Rows ``(n, D)`` divided by their lengths; a row of zeros has no direction, and stays."""
    # The largest entry goes first: the squares of a long row would leave the finite numbers.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
