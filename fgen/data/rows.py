"""Rows that stay where they are: some of a matrix, changed ones, matrices one under the other; means by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from fgen.data.access import Features, RowsView, expect_rows, read_rows
from fgen.data.dataset import iter_blocks
from fgen.errors import InputError


class SelectedRows(RowsView):
    """Rows ``indices`` of ``features``, read only when they are asked for; slices and index arrays work."""

    def __init__(self, features: Features, indices: np.ndarray) -> None:
        self._features = features
        self._indices = indices
        self.shape = (len(indices), int(features.shape[1]))

    def __getitem__(self, key: Any) -> np.ndarray:
        return read_rows(self._features, self._indices[key])

    def expect(self, rows: np.ndarray) -> None:
        """See :func:`fgen.data.access.expect_rows`."""
        expect_rows(self._features, self._indices[rows])


class MappedRows(RowsView):
    """What a function makes of rows ``features (N, D)``, worked out whenever they are asked for.

    Args:
        change: rows ``(n, D)`` to ``(n, D')``, each by itself; n may be 0.
    """

    def __init__(self, features: Features, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._features, self._change = features, change
        self.shape = (len(features), self[:0].shape[1])

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self._features))[key] if isinstance(key, slice) else np.asarray(key)
        blocks = [self._change(block) for block in iter_blocks(SelectedRows(self._features, rows))]
        return np.concatenate(blocks or [self._change(read_rows(self._features, rows))])

    def expect(self, rows: np.ndarray) -> None:
        """See :func:`fgen.data.access.expect_rows`."""
        expect_rows(self._features, rows)


class StackedRows(RowsView):
    """Matrices with the same columns one under the other, without a copy; slices and index arrays work."""

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self))[key] if isinstance(key, slice) else np.asarray(key)
        result = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for part, mine, of_part in self._by_part(rows):
            result[mine] = read_rows(part, of_part)
        return result

    def expect(self, rows: np.ndarray) -> None:
        """See :func:`fgen.data.access.expect_rows`."""
        for part, _, of_part in self._by_part(rows):
            expect_rows(part, of_part)

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[Features, np.ndarray, np.ndarray]]:
        """Each part with the positions in ``rows`` that fall to it, and their row numbers within it."""
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for index, part in enumerate(self._parts):
            mine = np.flatnonzero(owner == index)
            if mine.size:
                yield part, mine, rows[mine] - self._starts[index]


def class_means(features: Features, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids ``(S,)`` of the classes that have rows, and their mean features ``(S, D)`` float64, in one pass.

    Raises:
        InputError: a feature of a class isn't finite.
    """
    classes, positions = np.unique(labels, return_inverse=True)
    sums, start = np.zeros((len(classes), features.shape[1])), 0
    for block in iter_blocks(features):
        sums += class_sums(block, positions[start : start + len(block)], len(classes))
        start += len(block)
    refuse_non_finite(sums, classes)
    return classes, sums / np.bincount(positions)[:, None]


def class_sums(rows: np.ndarray, positions: np.ndarray, n_classes: int) -> np.ndarray:
    """``(n_classes, D)`` float64 sums of rows ``(n, D)`` by class."""
    # A one-hot matrix times the rows adds in float64, in a third of the time of numpy.add.at.
    one_hot = scipy.sparse.csr_array((np.ones(len(rows)), (positions, np.arange(len(rows)))), (n_classes, len(rows)))
    return one_hot @ rows


def refuse_non_finite(sums: np.ndarray, classes: np.ndarray) -> None:
    """Name the class whose rows don't add up to finite numbers."""
    finite = np.isfinite(sums).all(axis=1)
    if not finite.all():
        raise InputError(f"features of class {classes[~finite][0]} hold NaN or infinities", "finite numbers")
