"""What every embedding baseline shares: checked inputs, and scores block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_matrix
from fgen.features.frames import rows_by_name
from fgen.features.labels import labels_of_rows
from fgen.features.rows import Features, as_rows, numbered_blocks

Self = TypeVar("Self", bound="EmbeddingBaseline")


class EmbeddingBaseline(ABC):
    """A method that scores seen and unseen classes alike, by their embeddings.

    A method overrides :meth:`learn` and :meth:`score_block`.
    """

    feature_dim: int | None = None
    n_classes: int

    def fit(self: Self, features: Features, labels: Any, class_embeddings: np.ndarray, *, seed: int = 0) -> Self:
        """Fit to the classes that have rows.

        Args:
            features: ``(N, D)`` raw, read block by block and never copied whole.
            labels: ``(N,)`` rows of ``class_embeddings``.
            class_embeddings: ``(C, A)`` prepared, of seen and unseen classes; only those with rows are learnt from.
            seed: names the randomness of a method that has some; a closed form has none.

        Raises:
            InputError: inputs that don't match or aren't finite, or fewer than 2 classes with rows.
        """
        class_embeddings, _ = rows_by_name(class_embeddings, None)
        features, embeddings = as_rows(features), as_matrix("class_embeddings", class_embeddings, dtype=np.float64)
        labels = labels_of_rows(labels, len(features), len(embeddings), least_classes=2)
        self.learn(features, labels, embeddings, seed)
        self.feature_dim, self.n_classes = int(features.shape[1]), len(embeddings)
        return self

    def scores(self, features: Features) -> np.ndarray:
        """Scores ``(N, C)`` float32 of raw features ``(N, D)``, the larger the likelier; what they are, the class says.

        Raises:
            InputError: the baseline isn't fitted, or the features don't fit it or aren't finite.
        """
        if self.feature_dim is None:
            raise InputError("the baseline hasn't been fitted", "fit() first")
        features = as_rows(features)
        if features.shape[1] != self.feature_dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.feature_dim}, as in training")
        result = np.empty((len(features), self.n_classes), dtype=np.float32)
        # Infinite features make NaN scores, which are refused below; NumPy's warning would come before the message.
        with np.errstate(over="ignore", invalid="ignore"):
            for start, block in numbered_blocks(features):
                result[start : start + len(block)] = self.score_block(block)
        if not np.isfinite(result).all():
            row = int(np.argmin(np.isfinite(result).all(axis=1)))
            raise InputError(f"features hold NaN or infinities in row {row}", "finite numbers")
        return result

    @abstractmethod
    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Fit to checked inputs; embeddings ``(C, A)`` are float64."""

    @abstractmethod
    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Scores ``(n, C)`` of raw float32 rows ``(n, D)``."""


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows ``(n, D)`` at length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def check_choice(config: Any, one: str, several: str) -> None:
    """A setting that is given, or left as None and chosen from several: all numbers above 0, and at least one.

    Raises:
        InputError: the message names the field.
    """
    given: Mapping[str, Sequence[float]] = {several: getattr(config, several), one: choices(config, one, several)}
    for key, values in given.items():
        if not all(0 < value < np.inf for value in values):
            raise InputError(f"{key} is {getattr(config, key)}", "numbers above 0")
    if not given[one]:
        raise InputError(f"{several} is empty and {one} is None", "something to choose from", f"Give {one}")


def choices(config: Any, one: str, several: str) -> tuple[float, ...]:
    """The values that the protocol may choose from for the field ``one``."""
    value = getattr(config, one)
    return getattr(config, several) if value is None else (value,)
