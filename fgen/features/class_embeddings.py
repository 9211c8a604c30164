"""Scaling of class embeddings for a generator.

A unit-norm embedding has small entries compared with unit-normal noise; the scale sets its weight in the input.
What is fitted here on the seen classes is saved with the model and applied alike to classes given later.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_matrix

Norm = Literal["none", "l2", "standardise"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """How raw class embeddings are prepared.

    Attributes:
        norm: ``"none"``; ``"l2"``, each kind of each class to length 1; ``"standardise"``, each column to mean 0
            and deviation 1 over the seen classes.
        scale: the result is multiplied by this.
        widths: columns of each kind, where several stand side by side; None means one kind.
    """

    norm: Norm = "none"
    scale: float = 1.0
    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.norm not in ("none", "l2", "standardise"):
            raise InputError(f"embedding_norm is {self.norm!r}", "'none', 'l2' or 'standardise'")
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise InputError(f"embedding_scale is {self.scale}", "a number above 0")


@dataclass(frozen=True)
class EmbeddingPreprocessor:
    """A fitted preparation: raw ``(C, A)`` to prepared ``(C, A)``.

    Attributes:
        offset, scale: ``(A,)``; zeros and ones unless standardised.
    """

    config: EmbeddingConfig
    offset: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)

    @classmethod
    def fit(cls, config: EmbeddingConfig, embeddings: np.ndarray) -> Self:
        """Fit on the raw embeddings ``(S, A)`` of the seen classes."""
        embeddings = as_matrix("embeddings", embeddings)
        dim = embeddings.shape[1]
        if config.widths is not None and sum(config.widths) != dim:
            raise InputError(f"embedding kinds have {config.widths} columns", f"them to add up to {dim}")
        offset, scale = np.zeros(dim, np.float32), np.ones(dim, np.float32)
        if config.norm == "standardise":
            offset = embeddings.mean(0, dtype=np.float64).astype(np.float32)
            deviation = embeddings.std(0, dtype=np.float64).astype(np.float32)
            # A column that never varies over the seen classes taught the generator nothing; it stays silent.
            scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
        return cls(config, offset, scale)

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Prepare raw embeddings ``(C, A)``.

        Raises:
            InputError: another number of columns than in training, or numbers that aren't finite.
        """
        embeddings = as_matrix("embeddings", embeddings, least=0)
        if embeddings.shape[1] != len(self.offset):
            found, expected = f"embeddings have shape {embeddings.shape}", f"(C, {len(self.offset)}), as in training"
            raise InputError(found, expected, "Describe new classes with the same kind of embedding")
        prepared = (embeddings - self.offset) * self.scale
        if self.config.norm == "l2":
            edges = np.cumsum(self.config.widths or (len(self.offset),))[:-1]
            for kind in np.split(prepared, edges, axis=1):  # views of it
                lengths = np.linalg.norm(kind, axis=1, keepdims=True)
                kind /= np.where(lengths > 0, lengths, 1)
        return (prepared * self.config.scale).astype(np.float32)
