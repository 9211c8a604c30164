"""Access to the rows of a matrix in memory, in a memory map or in an HDF5 file, with prefetching.

A row of a memory map is read when it is first accessed: one row after the other, each with its surroundings, because
the operating system expects a file to be read from front to back. 320 random rows of 8 KB took 30 to 2,000 ms from a
cold disk in that way, and 8 to 21 ms when all of them were asked for first; asked for half a second ahead, 2 ms.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from fgen.errors import wrong_array
from fgen.features.checks import REAL_PART, as_array, as_numbers, expect_finite
from fgen.features.prefetch import check_not_cut, mapping_of, prefetch_pages
from fgen.io import hdf5

#: What features may be: an array, a memory map, or an open HDF5 dataset; anything that slices by rows.
Features = Any

#: Rows of a memory map are copied in pieces of this size, because each piece passes through memory twice.
COPY_BYTES = 8 << 20


class RowsView:
    """Base class of views of rows. Rows may be read in any order and repeatedly, and can be prefetched."""

    dtype = np.dtype(np.float32)
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return rows, given by a slice or by numbers ``(n,)``, as float32 ``(n, D)``."""
        return self.read(np.arange(len(self))[key] if isinstance(key, slice) else np.asarray(key))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by their numbers ``(n,)``, as float32 ``(n, D)``."""
        raise NotImplementedError

    def prefetch(self, rows: np.ndarray) -> None:
        """See :func:`prefetch_rows`."""
        raise NotImplementedError


def as_rows(features: Any) -> Features:
    """Return features ``(N, D)`` that slice by rows: tensors, lists and tables become arrays; data on disk stay there.

    Raises:
        InputError: no dense matrix of numbers, or one with a mask that hides some.
    """
    sliced = isinstance(getattr(features, "dtype", None), np.dtype) and hasattr(features, "shape")
    odd = isinstance(features, np.ma.MaskedArray | np.matrix) or hasattr(features, "toarray")
    if not sliced or odd:
        features = as_array("features", features)
    if isinstance(features, np.ndarray) and features.dtype.kind == "O":  # data in a file are never read for this
        features = as_numbers("features", features)
    if len(features.shape) != 2 or not features.shape[1] or features.dtype.kind not in "fiu":
        remedy = REAL_PART if features.dtype.kind == "c" else ""
        raise wrong_array("features", features, "a matrix (N, D) of numbers", remedy)
    return features


def read_rows(features: Features, indices: np.ndarray) -> np.ndarray:
    """Read rows ``indices`` of a matrix as float32 ``(n, D)``. Data on disk are read in ascending order."""
    indices = np.asarray(indices, dtype=np.int64)
    if isinstance(features, np.ndarray) and mapping_of(features) is not None:
        return _mapped_rows(features, indices)
    if isinstance(features, np.ndarray | RowsView):
        return np.asarray(features[indices], dtype=np.float32)
    unique, inverse = np.unique(indices, return_inverse=True)
    if isinstance(features, h5py.Dataset):
        return hdf5.read_rows(features, unique)[inverse]
    return np.asarray(features[unique], dtype=np.float32)[inverse]


def read_row(features: Features, index: int) -> np.ndarray:
    """Read one row of a matrix as float32 ``(D,)``, without prefetching, which would take longer than the row.

    Raises:
        InputError: as :func:`prefetch_rows`.
    """
    if isinstance(features, np.ndarray) and (mapping := mapping_of(features)) is not None:
        check_not_cut(mapping, features)
    return np.array(features[index], dtype=np.float32)


def prefetch_rows(features: Features, rows: np.ndarray) -> None:
    """Ask the system to read rows into the page cache in the background; return at once.

    A hint, on which only speed depends, to whoever reads the rows next. It reaches memory maps, also through views; for
    anything else it does nothing.

    Args:
        features: ``(N, D)``.
        rows: ``(n,)`` row numbers, in any order and with repeats.

    Raises:
        InputError: the mapped file has become shorter, so that the system would end a process that reads on.
    """
    if isinstance(features, RowsView):
        features.prefetch(rows)
    elif isinstance(features, np.ndarray):
        mapping = mapping_of(features)
        if mapping is not None and len(rows):
            check_not_cut(mapping, features)
            prefetch_pages(mapping, features, rows)


def _mapped_rows(features: np.ndarray, indices: np.ndarray) -> np.ndarray:
    result = np.empty((len(indices), features.shape[1]), dtype=np.float32)
    step = max(1, COPY_BYTES // (features.shape[1] * features.itemsize))
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        prefetch_rows(features, part)
        result[start : start + step] = features[part]
    return result


#: Small enough for several copies of a block, as scaled rows or in float64, to go unnoticed.
BLOCK_BYTES = 16 << 20


def block_rows(dim: int) -> int:
    """Return how many rows of ``dim`` columns a block of :func:`iter_blocks` has."""
    return max(1, BLOCK_BYTES // max(1, 4 * dim))


def numbered_blocks(features: Features) -> Iterator[tuple[int, np.ndarray]]:
    """Yield consecutive blocks of rows of about 16 MB as float32, each with the number of its first row.

    The next block of a memory map is read ahead in the background.
    """
    n_rows, dim = features.shape
    step = block_rows(dim)
    for start in range(0, n_rows, step):
        not_yet_expected = start + step if start else 0
        prefetch_rows(features, np.arange(not_yet_expected, min(start + 2 * step, n_rows)))
        yield start, np.asarray(features[start : start + step], dtype=np.float32)


def iter_blocks(features: Features) -> Iterator[np.ndarray]:
    """Yield the blocks of :func:`numbered_blocks` without their numbers."""
    return (block for _, block in numbered_blocks(features))


@np.errstate(over="ignore", invalid="ignore")
def refuse_non_finite(features: Features) -> None:
    """Read features ``(N, D)`` once, and name the first that isn't finite."""
    for start, block in numbered_blocks(features):
        if not np.isfinite(block.sum(dtype=np.float64)):
            expected = "finite numbers, within float32's range"
            expect_finite("features hold", block, expected, "Remove or mend such rows", first=start)


class SelectedRows(RowsView):
    """A view of the rows ``indices`` of ``features``, which are read at each access; slices and index arrays work."""

    def __init__(self, features: Features, indices: np.ndarray) -> None:
        self._features = features
        self._indices = indices
        self.shape = (len(indices), int(features.shape[1]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        return read_rows(self._features, self._indices[rows])

    def prefetch(self, rows: np.ndarray) -> None:
        """See :func:`fgen.features.rows.prefetch_rows`."""
        prefetch_rows(self._features, self._indices[rows])


class MappedRows(RowsView):
    """A view of ``features (N, D)`` through a function of rows, which is applied at each access.

    Args:
        change: rows ``(n, D)`` to ``(n, D')``, each by itself; n may be 0.
    """

    def __init__(self, features: Features, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._features, self._change = features, change
        self.shape = (len(features), self.read(np.arange(0)).shape[1])

    def read(self, rows: np.ndarray) -> np.ndarray:
        blocks = [self._change(block) for block in iter_blocks(SelectedRows(self._features, rows))]
        return np.concatenate(blocks or [self._change(read_rows(self._features, rows))])

    def prefetch(self, rows: np.ndarray) -> None:
        """See :func:`fgen.features.rows.prefetch_rows`."""
        prefetch_rows(self._features, rows)


class ConcatRows(RowsView):
    """A view of matrices with the same columns, concatenated by rows without a copy; slices and index arrays work."""

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))

    def read(self, rows: np.ndarray) -> np.ndarray:
        result = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for part, mine, of_part in self._by_part(rows):
            result[mine] = read_rows(part, of_part)
        return result

    def prefetch(self, rows: np.ndarray) -> None:
        """See :func:`fgen.features.rows.prefetch_rows`."""
        for part, _, of_part in self._by_part(rows):
            prefetch_rows(part, of_part)

    def _by_part(self, rows: np.ndarray) -> Iterator[tuple[Features, np.ndarray, np.ndarray]]:
        """Yield each part that has some of the ``rows``, their positions in ``rows``, and their row numbers within the
        part.
        """
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for index, part in enumerate(self._parts):
            mine = np.flatnonzero(owner == index)
            if mine.size:
                yield part, mine, rows[mine] - self._starts[index]
