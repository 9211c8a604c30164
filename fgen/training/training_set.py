"""Data of training steps: batches of real features with their classes."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from fgen.features.rows import Features
from fgen.features.scaled_rows import ScaledRows
from fgen.features.scaling import FeatureScaler
from fgen.features.statistics import class_means, within_class_scatter
from fgen.nn.kmeans import soul_prototypes
from fgen.training.draws import Choice, Draws


@dataclass(frozen=True)
class Batch:
    """Rows, real or generated: scaled ``features (B, D)``, prepared ``condition (B, A)``, ``labels (B,)`` in [0, S)."""

    features: Tensor
    condition: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, size: int | list[int]) -> list[Self]:
        """Return consecutive batches of ``size`` rows, or of such sizes."""
        columns = zip(self.features.split(size), self.condition.split(size), self.labels.split(size), strict=True)
        return [type(self)(*column) for column in columns]


class TrainingSet:
    """Scaled rows of the seen classes; they are scaled once if that fits into memory, else batch by batch.

    Args:
        features: ``(N, D)`` raw; an array, a memory map or an HDF5 dataset.
        labels: ``(N,)`` rows of ``embeddings``.
        embeddings: ``(C, A)`` prepared class embeddings.
        scaler: fitted on ``features``.
        unlabelled: ``(M, D)`` raw features of unseen classes, for the transductive setting.

    Attributes:
        classes: ``(S,)`` ids of the classes that have rows; a batch's labels index it.
        n_classes, feature_dim: S and D.
        embeddings: ``(S, A)`` prepared, of the classes with rows.
        unseen_embeddings: ``(U, A)`` prepared, of the classes without; for methods that declare it.
    """

    def __init__(
        self,
        features: Features,
        labels: np.ndarray,
        embeddings: np.ndarray,
        scaler: FeatureScaler,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        unlabelled: Features | None = None,
    ) -> None:
        self.features = features
        self.scaler = scaler
        self.device = device
        self.dtype = dtype
        self.classes, self.labels = np.unique(labels, return_inverse=True)
        self.n_classes, self.feature_dim = len(self.classes), int(features.shape[1])
        self.embeddings = torch.from_numpy(embeddings[self.classes]).to(device, dtype)
        without_rows = np.setdiff1d(np.arange(len(embeddings)), self.classes)
        self.unseen_embeddings = torch.from_numpy(embeddings[without_rows]).to(device, dtype)
        self._labels = torch.from_numpy(self.labels).to(device)
        self._rows = ScaledRows(features, scaler, device, dtype)
        self._unlabelled = None if unlabelled is None else ScaledRows(unlabelled, scaler, device, dtype)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Return whether steps read nothing from disk."""
        return self._rows.in_memory and (self._unlabelled is None or self._unlabelled.in_memory)

    def batches(self, draws: Draws, n_batches: int, batch_size: int) -> Batch:
        """Return the real rows of one step: ``n_batches`` draws without replacement, stacked.

        Every batch is a fresh draw from all rows, as in f-CLSWGAN's released code, so files may be sorted by class.
        """
        size = min(batch_size, len(self))

        def choose(stream: np.random.Generator) -> np.ndarray:
            return np.concatenate([stream.choice(len(self), size, replace=False) for _ in range(n_batches)])

        return self.drawn(draws, "batch", choose)

    def drawn(self, draws: Draws, purpose: str, choose: Choice) -> Batch:
        """Return the batch of the rows ``(B,)`` that ``choose`` draws from the purpose's stream."""
        return self._batch(*_chosen_rows(self._rows, draws, purpose, choose))

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the batch of rows ``(B,)``."""
        return self._batch(self._rows.take(rows), torch.from_numpy(rows).to(self.device))

    def _batch(self, features: Tensor, rows: Tensor) -> Batch:
        labels = self._labels[rows]
        return Batch(features, self.embeddings[labels], labels)

    def unlabelled(self, draws: Draws, size: int) -> Tensor:
        """Draw scaled features ``(size, D)`` of unseen classes with replacement; transductive methods only."""
        assert self._unlabelled is not None, "fit() refuses a transductive method without unlabelled features"
        n_rows = len(self._unlabelled)
        return _chosen_rows(self._unlabelled, draws, "unlabelled", lambda stream: stream.integers(n_rows, size=size))[0]

    def class_means(self) -> Tensor:
        """Return the mean ``(S, D)`` of each seen class's scaled features, from one pass over the rows."""
        _, means = class_means(self.scaler.blocks(self.features), self.labels)
        return torch.from_numpy(means).to(self.device, self.dtype)

    def within_class_covariance(self) -> Tensor:
        """Return the pooled covariance ``(D, D)`` of scaled features about the mean of their class, from two passes."""
        means = self.class_means().cpu().numpy()
        scatter = within_class_scatter(self.scaler.blocks(self.features), self.labels, means)
        return torch.from_numpy(scatter / max(1, len(self) - self.n_classes)).to(self.device, self.dtype)

    def soul_samples(self, n_souls: int, seed: int) -> Tensor:
        """Return prototypes ``(S, K, D)`` of each seen class's scaled features (LisGAN)."""
        souls = soul_prototypes(self._rows, self.labels, n_souls, seed)
        return torch.from_numpy(souls).to(self.device, self.dtype)

    def regression(self) -> tuple[Tensor, Tensor]:
        """Return ``slope (D, A)`` and ``offset (A,)`` of the ridge regression from scaled features to embeddings.

        What cycle-CLSWGAN's regressor minimises, in closed form; the penalty is 1e-3 of the features' mean variance.
        """
        targets = self.embeddings.double().cpu().numpy()
        gram, cross, total = 0.0, 0.0, 0.0
        shares = np.bincount(self.labels) / len(self)
        centre, expected = shares @ self.class_means().double().cpu().numpy(), shares @ targets
        for start, scaled in self.scaler.blocks(self.features):
            x, y = scaled - centre, targets[self.labels[start : start + len(scaled)]] - expected
            gram, cross, total = gram + x.T @ x, cross + x.T @ y, total + np.square(x).sum()
        penalty = 1e-3 * total / self.feature_dim
        slope = scipy.linalg.solve(gram + penalty * np.eye(self.feature_dim), cross, assume_a="pos")
        offset = expected - centre @ slope
        return tuple(torch.from_numpy(a).to(self.device, self.dtype) for a in (slope, offset))  # type: ignore[return-value]


def _chosen_rows(rows: ScaledRows, draws: Draws, purpose: str, choose: Choice) -> tuple[Tensor, Tensor]:
    """Return scaled rows ``(B, D)`` and their numbers ``(B,)``, on the device.

    They depend only on the step's number, so rows on disk are prefetched for the next step.
    """
    if rows.in_memory:
        numbers = draws.chosen(purpose, choose)
        return rows.take(numbers), numbers
    chosen = choose(draws.stream(purpose))
    features = rows.take(chosen)
    rows.prefetch(choose(draws.stream(purpose, draws.step + 1)))
    return features, torch.from_numpy(chosen).to(features.device)
