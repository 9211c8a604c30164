"""Scaling and early fusion of class embeddings for a generator.

A unit-norm embedding has small entries compared with unit-normal noise; the scale sets its weight in the input.
What is fitted here on the seen classes is saved with the model and applied alike to classes given later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_matrix

Norm = Literal["none", "l2", "standardise"]
#: Weights of kinds by name; "auto" are those that a choice on held-out classes finds.
Weights = dict[str, float] | Literal["auto"]
EarlyFusion = Literal["concat", "average"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """How raw class embeddings are prepared.

    Attributes:
        norm: ``"none"``; ``"l2"``, each kind of each class to length 1; ``"standardise"``, each column to mean 0
            and deviation 1 over the seen classes.
        scale: the result is multiplied by this.
        widths: columns of each kind, where several stand side by side; None means one kind.
        kinds: names of the kinds in the order of ``widths``, where ``weights`` or ``fusion`` need them.
        weights: of each kind by name, which multiply it after its norm. Only their ratios count: their mean square is
            brought to 1, so that equal weights change nothing. None weighs all alike; "auto" has to be chosen yet.
        fusion: ``"concat"``, kinds side by side, which None is too; ``"average"``, the weighted mean of kinds that have
            equally many columns.
    """

    norm: Norm = "none"
    scale: float = 1.0
    widths: tuple[int, ...] | None = None
    kinds: tuple[str, ...] | None = None
    weights: Weights | None = None
    fusion: EarlyFusion | None = None

    def __post_init__(self) -> None:
        if self.norm not in ("none", "l2", "standardise"):
            raise InputError(f"embedding_norm is {self.norm!r}", "'none', 'l2' or 'standardise'")
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise InputError(f"embedding_scale is {self.scale}", "a number above 0")
        if self.fusion not in (None, "concat", "average"):
            raise InputError(f"fusion is {self.fusion!r}", "'concat' or 'average'")
        if self.weights not in (None, "auto"):
            expect_weights("embedding_weights", self.weights)
        if self.kinds is not None and isinstance(self.weights, dict) and sorted(self.weights) != sorted(self.kinds):
            found = f"embedding_weights are of {', '.join(self.weights)}"
            raise InputError(found, f"of each kind in use: {', '.join(self.kinds)}")

    @property
    def averages(self) -> bool:
        """Return whether the prepared embedding is the mean of kinds, in place of kinds side by side."""
        return self.fusion == "average"

    @property
    def factors(self) -> tuple[float, ...] | None:
        """Return what each kind is multiplied by after its norm; None where kinds are left as they are.

        Raises:
            InputError: the weights have to be chosen yet.
        """
        if self.weights == "auto":
            remedy = "fgen.run chooses them, and what calibrates with classes to hold out; or give {kind: weight}"
            raise InputError("embedding_weights is 'auto', and nothing chose them", "weights", remedy)
        if self.weights is None and not self.averages:
            return None
        kinds = self.kinds or ("",) * len(self.widths or (0,))
        weights = np.array([1.0 if self.weights is None else self.weights[kind] for kind in kinds])
        total = weights.sum() if self.averages else np.sqrt(np.mean(weights**2))
        return tuple((weights / total).tolist())

    @property
    def prepared_widths(self) -> tuple[int, ...] | None:
        """Return the columns of each kind that stand side by side after preparation; None means one kind."""
        return self.widths[:1] if self.widths and self.averages else self.widths

    @property
    def prior_weights(self) -> tuple[float, ...] | None:
        """Return the weight of each of these kinds in a sum of kernels; None weighs all alike.

        A linear kernel of kinds side by side weighs each by the square of its factor.
        """
        return None if self.averages or self.factors is None else tuple(factor**2 for factor in self.factors)

    def split(self, embeddings: np.ndarray) -> dict[str, np.ndarray]:
        """Return raw ``(C, A)`` as a dict by kind."""
        parts = np.split(embeddings, np.cumsum(self.widths or ())[:-1], axis=1)
        return dict(zip(self.kinds or (), parts, strict=True))

    def side_by_side(self, embeddings: Mapping[str, Any]) -> np.ndarray:
        """Return raw embeddings ``{kind: (C, A_kind)}`` as a matrix ``(C, A)``, in the order of training.

        Raises:
            InputError: other kinds than in training, or other sizes.
        """
        if sorted(embeddings) != sorted(self.kinds or ()):
            expected = f"the kinds {', '.join(self.kinds)}" if self.kinds else "a matrix, of the only kind in training"
            raise InputError(f"embeddings are of the kinds {', '.join(map(str, embeddings))}", expected)
        parts = [as_matrix(f"embeddings[{kind!r}]", embeddings[kind]) for kind in self.kinds or ()]
        sizes = [part.shape[1] for part in parts]
        if tuple(sizes) != self.widths or len({len(part) for part in parts}) > 1:
            raise InputError(
                f"embeddings have shapes {', '.join(str(part.shape) for part in parts)}", f"columns {self.widths}"
            )
        return np.concatenate(parts, axis=1)


def expect_weights(name: str, weights: Any) -> None:
    """Refuse anything but ``{kind: weight}`` with finite weights of at least 0, of which one is above 0."""
    numbers = list(weights.values()) if isinstance(weights, dict) else []
    if not numbers or not np.isfinite(numbers).all() or min(numbers) < 0 or max(numbers) <= 0:
        raise InputError(f"{name} is {weights}", "{kind: weight} with numbers of at least 0, one of them above 0")


@dataclass(frozen=True)
class EmbeddingPreprocessor:
    """A fitted preparation: raw ``(C, A)`` to prepared ``(C, A)``.

    Attributes:
        offset, scale: ``(A,)`` of the raw columns; zeros and ones unless standardised.
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
        if config.averages and len(set(config.widths or ())) > 1:
            named = zip(config.kinds or range(len(config.widths or ())), config.widths or (), strict=True)
            found = (
                f"fusion is 'average', of kinds with {', '.join(f'{width} ({kind})' for kind, width in named)} columns"
            )
            raise InputError(found, "equally many columns", "Use fusion = 'concat', or kinds of one width")
        offset, scale = np.zeros(dim, np.float32), np.ones(dim, np.float32)
        if config.norm == "standardise":
            offset = embeddings.mean(0, dtype=np.float64).astype(np.float32)
            deviation = embeddings.std(0, dtype=np.float64).astype(np.float32)
            # A column that never varies over the seen classes taught the generator nothing; it stays silent.
            scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6)
        return cls(config, offset, scale)

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Prepare raw embeddings ``(C, A)``; return ``(C, A')``, A' being :attr:`dim`.

        Raises:
            InputError: another number of columns than in training, or numbers that aren't finite.
        """
        embeddings = as_matrix("embeddings", embeddings, least=0)
        if embeddings.shape[1] != len(self.offset):
            found, expected = f"embeddings have shape {embeddings.shape}", f"(C, {len(self.offset)}), as in training"
            raise InputError(found, expected, "Describe new classes with the same kind of embedding")
        prepared = (embeddings - self.offset) * self.scale
        kinds = np.split(prepared, np.cumsum(self.config.widths or (len(self.offset),))[:-1], axis=1)  # views of it
        if self.config.norm == "l2":
            for kind in kinds:
                lengths = np.linalg.norm(kind, axis=1, keepdims=True)
                kind /= np.where(lengths > 0, lengths, 1)
        if self.config.factors is not None:
            for kind, factor in zip(kinds, self.config.factors, strict=True):
                kind *= np.float32(factor)
        if self.config.averages:
            prepared = np.sum(kinds, axis=0)
        return (prepared * self.config.scale).astype(np.float32)

    @property
    def dim(self) -> int:
        """Return the number of columns of prepared embeddings."""
        return sum(self.config.prepared_widths or (len(self.offset),))
