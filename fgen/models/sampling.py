"""What a training step sees: a batch of real features with their classes, and named random draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fgen import rng
from fgen.data.dataset import Features, iter_blocks, read_rows
from fgen.data.scaling import FeatureScaler


@dataclass(frozen=True)
class Batch:
    """Real rows: scaled ``features (B, D)``, prepared ``condition (B, A)``, ``labels (B,)`` in [0, S)."""

    features: Tensor
    condition: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, size: int) -> list[Batch]:
        """Consecutive batches of ``size`` rows."""
        columns = zip(self.features.split(size), self.condition.split(size), self.labels.split(size), strict=True)
        return [Batch(*column) for column in columns]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one training step, each stream named by its purpose.

    Counter-based: keyed by (seed, purpose, step), so a resumed run draws what an unbroken one would have.
    """

    seed: int
    step: int
    device: torch.device

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 numbers."""
        numbers = rng.stream(self.seed, purpose, self.step).standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(numbers).to(self.device)

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Float32 numbers uniform in [0, 1)."""
        numbers = rng.stream(self.seed, purpose, self.step).random(shape, dtype=np.float32)
        return torch.from_numpy(numbers).to(self.device)


class TrainingSet:
    """The seen classes' rows, scaled batch by batch, so that the features are never copied whole.

    Args:
        features: ``(N, D)`` raw; an array, a memory map or an HDF5 dataset.
        labels: ``(N,)`` rows of ``embeddings``.
        embeddings: ``(C, A)`` prepared class embeddings.
        scaler: fitted on ``features``.

    Attributes:
        classes: ``(S,)`` ids of the classes that have rows; a batch's labels index it.
    """

    def __init__(
        self,
        features: Features,
        labels: np.ndarray,
        embeddings: np.ndarray,
        scaler: FeatureScaler,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.features = features
        self.scaler = scaler
        self.device = device
        self.dtype = dtype
        self.classes, self.labels = np.unique(labels, return_inverse=True)
        self.embeddings = torch.from_numpy(embeddings[self.classes]).to(device, dtype)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_classes(self) -> int:
        """S, the number of seen classes."""
        return len(self.classes)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def batches(self, seed: int, step: int, n_batches: int, batch_size: int) -> Batch:
        """The real rows of one step: ``n_batches`` draws without replacement, stacked.

        Every batch is a fresh draw from all rows, as in the published loop (RECIPES 2.1).
        """
        stream = rng.stream(seed, "batch", step)
        size = min(batch_size, len(self))
        rows = np.concatenate([stream.choice(len(self), size, replace=False) for _ in range(n_batches)])
        features = self.scaler.apply(torch.from_numpy(read_rows(self.features, rows)).to(self.device))
        labels = torch.from_numpy(self.labels[rows]).to(self.device)
        return Batch(features.to(self.dtype), self.embeddings[labels], labels)

    def class_means(self) -> Tensor:
        """``(S, D)`` mean of each seen class's scaled features, in one pass over the rows."""
        sums = np.zeros((self.n_classes, self.feature_dim))
        start = 0
        for block in iter_blocks(self.features):
            np.add.at(sums, self.labels[start : start + len(block)], block)
            start += len(block)
        means = sums / np.bincount(self.labels, minlength=self.n_classes)[:, None]
        return self.scaler.apply(torch.from_numpy(means.astype(np.float32)).to(self.device)).to(self.dtype)
