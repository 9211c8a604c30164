"""Seen-only baseline: softmax on the seen classes, as a deployed classifier that knows no unseen class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fgen.baselines.base import BaselineConfig
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.features.rows import Features


@dataclass(frozen=True, kw_only=True)
class SeenOnlyConfig(BaselineConfig):
    """Settings of the head's training; ``batch_size`` as in the head."""

    name: ClassVar[str] = "seen_only"
    epochs: int = 25
    batch_size: int = 64


class SeenOnly:
    """Never predicts an unseen class: U and H are 0, and T1 is a guess."""

    def __init__(self, config: SeenOnlyConfig) -> None:
        self.config = config

    def fit(self, features: Features, labels: np.ndarray, class_embeddings: np.ndarray, *, seed: int = 0) -> SeenOnly:
        """Train on features ``(N, D)`` with labels ``(N,)``; of the embeddings only their number is used."""
        self.n_classes = len(class_embeddings)
        self.head = SoftmaxClassifier(epochs=self.config.epochs, batch_size=self.config.batch_size)
        self.head.fit(features, labels, seed=seed)
        return self

    def scores(self, features: Features) -> np.ndarray:
        """Return log-probabilities ``(N, C)``; unseen classes share one score below all others."""
        return self.head.scores(features, self.n_classes)


SeenOnlyConfig.baseline = SeenOnly
