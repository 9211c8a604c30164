"""Seen-only baseline: softmax on the seen classes, as a deployed classifier that knows no unseen class."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fgen.baselines.base import BaselineConfig, EmbeddingBaseline
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.features.rows import Features


@dataclass(frozen=True, kw_only=True)
class SeenOnlyConfig(BaselineConfig):
    """Settings of the head's training.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows of a step.
    """

    name: ClassVar[str] = "seen_only"
    epochs: int = 25
    batch_size: int = 64


class SeenOnly(EmbeddingBaseline, config=SeenOnlyConfig):
    """Never predicts an unseen class: U and H are 0, and T1 is a guess. Of the embeddings only the number is used."""

    config: SeenOnlyConfig

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Train the head."""
        self.head = SoftmaxClassifier(epochs=self.config.epochs, batch_size=self.config.batch_size)
        self.head.fit(features, labels, seed=seed)

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return log-probabilities ``(n, C)``; unseen classes share one score below all others."""
        return self.head.scores(block, self.n_classes)
