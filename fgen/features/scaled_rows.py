"""Scaled rows of a raw matrix: by number, or centred in blocks; in memory or read from disk."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fgen.compute.matmul import matmul_operand
from fgen.features.rows import Features, prefetch_rows, read_rows
from fgen.features.scaling import CACHED_ROWS, FeatureScaler

#: A scaled copy is kept if it takes at most this many bytes.
IN_MEMORY = 2 << 30
CPU = torch.device("cpu")


class ScaledRows:
    """Scaled rows of a raw matrix, by number.

    They come from a copy in memory where that is small; else each is read and scaled again, to the same values.

    Args:
        features: ``(N, D)`` raw.
        scaler: their scaling.
        device: of the scaled rows.
        dtype: of the scaled rows.

    Attributes:
        shape: ``(N, D)``.

    Raises:
        InputError: a feature isn't finite; a matrix that isn't copied is not read yet.
    """

    def __init__(
        self, features: Features, scaler: FeatureScaler, device: torch.device = CPU, dtype: torch.dtype = torch.float32
    ) -> None:
        self._features, self._scaler, self._device, self._dtype = features, scaler, device, dtype
        self.shape = (int(features.shape[0]), int(features.shape[1]))
        self._scaled = empty_if_small(self.shape, device, dtype)
        if self._scaled is not None:
            for start, block in scaler.tensors(features, device):
                self._scaled[start : start + len(block)] = block

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by number ``(n,)`` as an array ``(n, D)`` float32."""
        return self.take(rows).float().cpu().numpy()

    @property
    def in_memory(self) -> bool:
        """True if rows are in memory."""
        return self._scaled is not None

    def prefetch(self, rows: np.ndarray) -> None:
        """Start to read rows ``(n,)``, which will be taken soon, in the background."""
        if self._scaled is None:
            prefetch_rows(self._features, rows)

    def take(self, rows: np.ndarray | Tensor, out: Tensor | None = None) -> Tensor:
        """Return rows ``(n, D)`` by number ``(n,)``.

        Args:
            rows: an array, or for rows in memory a tensor on their device.
            out: ``(n, D)`` to write the rows to.
        """
        if self._scaled is not None:
            return torch.index_select(self._scaled, 0, torch.as_tensor(rows, device=self._device), out=out)
        scaled = torch.from_numpy(self._scaler.apply(read_rows(self._features, np.asarray(rows))))
        return scaled.to(self._device, self._dtype) if out is None else out.copy_(scaled)


def empty_if_small(shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Return an uninitialised matrix, or None if it would take more than :data:`IN_MEMORY` bytes."""
    return torch.empty(shape, dtype=dtype, device=device) if fits_memory(shape, dtype) else None


def fits_memory(shape: tuple[int, int], dtype: torch.dtype) -> bool:
    """Return whether a matrix of that shape takes at most :data:`IN_MEMORY` bytes."""
    return shape[0] * shape[1] * dtype.itemsize <= IN_MEMORY


#: Number of rows in a block of a matrix product.
BLOCK_ROWS = 8192


#: Number of evenly spaced rows whose mean is subtracted from all.
MEAN_ROWS = 2048


class CentredRows:
    """Scaled rows minus a vector near their weighted mean, in the dtype of matrix products.

    They are kept in memory where they are small; else each pass reads them again.

    Args:
        features: ``(N, D)`` raw.
        scaler: their scaling.
        row_weights: ``(N, 1)``, on the device that the rows go to.
        dtype: of the scaled rows.

    Attributes:
        row_weights: as given.
        mean: ``(D,)`` subtracted from the scaled rows: the weighted mean of :data:`MEAN_ROWS` of them.

    Raises:
        InputError: a feature isn't finite.
    """

    def __init__(
        self, features: Features, scaler: FeatureScaler, row_weights: Tensor, dtype: torch.dtype = torch.float32
    ) -> None:
        self._features, self._scaler, self.row_weights, device = features, scaler, row_weights, row_weights.device
        some = np.unique(np.linspace(0, len(features) - 1, MEAN_ROWS).astype(np.int64))
        with np.errstate(over="ignore", invalid="ignore"):  # a feature that isn't finite is named below
            x = torch.from_numpy(scaler.apply(read_rows(features, some))).to(device, dtype)
        weights = row_weights[some].to(dtype)
        self.mean = (x * weights).sum(dim=0) / weights.sum()
        self._centred = centred = empty_if_small(features.shape, device, matmul_operand(self.mean).dtype)
        if centred is None:
            return
        for start, x in self._scaled_blocks():
            for i, part in enumerate(x.split(CACHED_ROWS)):
                first = start + i * CACHED_ROWS
                torch.sub(part, self.mean, out=centred[first : first + len(part)])

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield consecutive blocks of rows, each with the number of its first row."""
        if self._centred is not None:
            parts = self._centred.split(BLOCK_ROWS)
            yield from zip(range(0, len(self._centred), BLOCK_ROWS), parts, strict=True)
            return
        for first, scaled in self._scaled_blocks():
            for i, x in enumerate(scaled.split(BLOCK_ROWS)):
                yield first + i * BLOCK_ROWS, matmul_operand(x - self.mean)

    def _scaled_blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start, scaled in self._scaler.tensors(self._features, self.mean.device):
            yield start, scaled.to(self.mean.dtype)
