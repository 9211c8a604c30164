"""Ridge regression from class embedding to class mean: the simplest map from words to features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from fgen.data.dataset import Features, iter_blocks
from fgen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RidgeConfig:
    """Settings of the ridge baseline.

    Attributes:
        alpha: the penalty, relative to the mean squared length of the centred embeddings; None lets the protocol
            choose one of ``alphas`` on validation classes.
        seen_prototypes: a seen class is represented by its ``"predicted"`` mean, like an unseen one, or by the
            ``"mean"`` of its real rows, which is better for S and worse for U; None lets the protocol choose.
    """

    name: ClassVar[str] = "ridge"
    alpha: float | None = None
    alphas: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
    seen_prototypes: Literal["predicted", "mean"] | None = None

    def __post_init__(self) -> None:
        for alpha in (*self.alphas, self.alpha or 1.0):
            if not (alpha > 0 and np.isfinite(alpha)):
                raise InputError(f"alpha is {alpha}", "a number above 0")

    def candidates(self) -> list[RidgeConfig]:
        """The settings that the protocol chooses from."""
        alphas = self.alphas if self.alpha is None else (self.alpha,)
        prototypes = ("predicted", "mean") if self.seen_prototypes is None else (self.seen_prototypes,)
        return [replace(self, alpha=alpha, seen_prototypes=kind) for kind in prototypes for alpha in alphas]  # type: ignore[arg-type]

    def build(self) -> RidgeBaseline:
        """An untrained baseline."""
        return RidgeBaseline(self)


class RidgeBaseline:
    """Class prototypes ``mu(a) = mean + W (a - mean_a)``, compared by cosine about the mean of the class means.

    ``W`` minimises the squared distance to the seen classes' real means plus ``alpha`` times its squared length; the
    cosine of centred features is what transfers between splits of different spread, so that a handicap of the seen
    classes chosen on one split fits the other.
    """

    def __init__(self, config: RidgeConfig) -> None:
        self.config = config if config.alpha is not None else replace(config, alpha=1.0)

    def fit(
        self, features: Features, labels: np.ndarray, class_embeddings: np.ndarray, *, seed: int = 0
    ) -> RidgeBaseline:
        """Fit on features ``(N, D)`` with labels ``(N,)``, rows of the prepared ``class_embeddings (C, A)``.

        Closed form, so ``seed`` changes nothing.
        """
        seen, means = class_means(features, np.asarray(labels))
        embeddings = class_embeddings.astype(np.float64)
        self.centre = means.mean(axis=0)
        offset = embeddings[seen].mean(axis=0)
        known = embeddings[seen] - offset
        weights = ridge(known, means - self.centre, float(self.config.alpha or 1.0) * np.square(known).sum(1).mean())
        self.prototypes = (embeddings - offset) @ weights
        if self.config.seen_prototypes == "mean":
            self.prototypes[seen] = means - self.centre
        return self

    def scores(self, features: Features) -> np.ndarray:
        """Cosine ``(N, C)`` in [-1, 1] between centred features and each class's centred prototype."""
        prototypes = _unit(self.prototypes)
        blocks = [_unit(block - self.centre) @ prototypes.T for block in iter_blocks(features)]
        return np.concatenate(blocks).astype(np.float32)


def class_means(features: Features, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids ``(S,)`` of the classes that have rows, and their mean features ``(S, D)``, in one pass."""
    seen, positions = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(seen), features.shape[1]))
    start = 0
    for block in iter_blocks(features):
        np.add.at(sums, positions[start : start + len(block)], block)
        start += len(block)
    return seen, sums / np.bincount(positions)[:, None]


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """``argmin_W |x W - y|^2 + penalty |W|^2`` for ``x (n, A)`` and ``y (n, D)``; solved in the smaller of n and A."""
    n, dim = x.shape
    if dim <= n:
        return np.linalg.solve(x.T @ x + penalty * np.eye(dim), x.T @ y)
    return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(n), y)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
