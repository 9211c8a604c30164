"""Views of rows that stay where they are: some rows of a matrix, or several matrices one under the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgen.data.dataset import Features, read_rows


class SelectedRows:
    """Rows ``indices`` of ``features``, read only when they are asked for; slices and index arrays work."""

    dtype = np.dtype(np.float32)

    def __init__(self, features: Features, indices: np.ndarray) -> None:
        self._features = features
        self._indices = indices
        self.shape = (len(indices), int(features.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        return read_rows(self._features, self._indices[key])


class StackedRows:
    """Matrices with the same columns one under the other, without a copy; slices and index arrays work."""

    dtype = np.dtype(np.float32)

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self))[key] if isinstance(key, slice) else np.asarray(key)
        result = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for index, part in enumerate(self._parts):
            mine = np.flatnonzero(owner == index)
            if mine.size:
                result[mine] = read_rows(part, rows[mine] - self._starts[index])
        return result
