"""Base classes of the embedding baselines: settings to choose from, checked inputs, scores block by block."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np

from fgen.config import Limit, check_limits
from fgen.errors import InputError
from fgen.features.checks import as_matrix
from fgen.features.frames import rows_by_name
from fgen.features.labels import labels_of_rows
from fgen.features.rows import Features, as_rows, numbered_blocks

#: Limits of the settings of all baselines, but for the numbers that may be left open.
LIMITS = {
    "epochs|batch_size|joint_dim": Limit(lambda n: n >= 1, "a whole number of at least 1"),
    "epoch_choices": Limit(lambda choices: choices and min(choices) >= 1, "whole numbers of at least 1"),
    "lr|margin|factor|prior_alpha|prior_width": Limit(lambda x: 0 < x < np.inf, "a number above 0"),
    "uncertainty|encoder_lr|weight_decay|(contrastive|classification)_weight": Limit(
        lambda x: 0 <= x < np.inf, "a number of at least 0"
    ),
    "seen_prototypes": Limit(lambda kind: kind in ("predicted", "mean"), "'predicted', 'mean' or None"),
}


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Settings of a baseline.

    Attributes:
        open_fields: names of settings that may be None. The protocol then chooses one of the values of the setting of
            the same name in the plural, on validation classes. All values are numbers above 0.
    """

    name: ClassVar[str]
    baseline: ClassVar[Any]
    open_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        for one in self.open_fields:
            for key, values in ((f"{one}s", getattr(self, f"{one}s")), (one, self._values(one))):
                if not all(0 < value < np.inf for value in values):
                    raise InputError(f"{key} is {getattr(self, key)}", "numbers above 0")
            if not self._values(one):
                raise InputError(f"{one}s is empty and {one} is None", "something to choose from", f"Give {one}")

    def _values(self, one: str) -> tuple[float, ...]:
        value = getattr(self, one)
        return getattr(self, f"{one}s") if value is None else (value,)

    def candidates(self) -> list[Self]:
        """Return the settings that the protocol chooses from; none of their values is left open."""
        combinations = product(*map(self._values, self.open_fields))
        return [replace(self, **dict(zip(self.open_fields, values, strict=True))) for values in combinations]

    def build(self) -> Any:
        """Return an unfitted baseline; a setting left open takes the value that its class names."""
        return self.baseline(self)


class EmbeddingBaseline(ABC):
    """A method that scores seen and unseen classes alike, by their embeddings.

    A method overrides :meth:`learn` and :meth:`score_block`, and is a subclass with its settings:
    ``class Eszsl(EmbeddingBaseline, config=EszslConfig)``.
    """

    feature_dim: int | None = None
    n_classes: int
    widths: tuple[int, ...]
    kind_weights: tuple[float, ...] | None

    def __init_subclass__(cls, config: type[BaselineConfig]) -> None:
        config.baseline = cls

    def __init__(self, config: Any) -> None:
        self.config = config

    def __repr__(self) -> str:
        name = type(self).__name__
        if self.feature_dim is None:
            return f"<{name}, not fitted>"
        return f"<{name} of {self.n_classes:,} classes over {self.feature_dim:,} features>"

    def fit(
        self,
        features: Features,
        labels: Any,
        class_embeddings: np.ndarray,
        *,
        seed: int = 0,
        widths: tuple[int, ...] | None = None,
        kind_weights: tuple[float, ...] | None = None,
    ) -> Self:
        """Fit to the classes that have rows.

        Args:
            features: ``(N, D)`` raw, read block by block and never copied whole.
            labels: ``(N,)`` rows of ``class_embeddings``.
            class_embeddings: ``(C, A)`` prepared, of seen and unseen classes; only those with rows are learnt from.
            seed: names the randomness of a method that has some; a closed form has none.
            widths: columns of each kind of embedding, for a method that tells them apart; None means one kind.
            kind_weights: of each kind in a sum of kernels; None weighs all alike.

        Raises:
            InputError: inputs that don't match or aren't finite, or fewer than 2 classes with rows.
        """
        class_embeddings, _ = rows_by_name(class_embeddings, None)
        features, embeddings = as_rows(features), as_matrix("class_embeddings", class_embeddings, dtype=np.float64)
        labels = labels_of_rows(labels, len(features), len(embeddings), least_classes=2)
        self.widths, self.kind_weights = widths or (embeddings.shape[1],), kind_weights
        self.learn(features, labels, embeddings, seed)
        self.feature_dim, self.n_classes = int(features.shape[1]), len(embeddings)
        return self

    def scores(self, features: Features) -> np.ndarray:
        """Return scores ``(N, C)`` float32 of raw features ``(N, D)``, higher for likelier classes.

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
        """Return scores ``(n, C)`` of raw float32 rows ``(n, D)``."""


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows ``(n, D)`` divided by their lengths; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
