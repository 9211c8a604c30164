"""Rows of a matrix wherever it lies, asked for before they are needed, so that the disk works while the processor does.

A row of a memory map is fetched when it is first touched: one after the other, and with all that lies around it, for
the operating system expects a file to be read from front to back. 320 random rows of 8 KB took 30 to 2,000 ms from a
cold disk in that way, and 8 to 21 ms when all of them were asked for first; asked for half a second ahead, 2 ms.
"""

from __future__ import annotations

import mmap
from typing import Any

import h5py
import numpy as np

from fgen.data.checks import as_array, as_numbers
from fgen.errors import InputError
from fgen.io import hdf5

#: What features may be: an array, a memory map, or an open HDF5 dataset; anything that slices by rows.
Features = Any

PAGE = mmap.ALLOCATIONGRANULARITY
#: Linux cuts a longer request to the disk's readahead window, which is 128 KiB unless someone raised it.
PIECE_BYTES = 128 << 10
#: Rows of a memory map are copied in pieces of so many bytes, for each passes through memory twice.
COPY_BYTES = 8 << 20


class RowsView:
    """The base of views whose rows stay where they are: any order and repeats will do, and rows can be expected."""

    dtype = np.dtype(np.float32)
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Rows by a slice or by numbers ``(n,)``, as float32 ``(n, D)``."""
        raise NotImplementedError

    def expect(self, rows: np.ndarray) -> None:
        """See :func:`expect_rows`."""
        raise NotImplementedError


def as_rows(features: Any) -> Features:
    """Features ``(N, D)`` that slice by rows: tensors, lists and tables as arrays; what lies on disk as it is.

    Raises:
        InputError: no dense matrix of numbers, or one with a mask that hides some.
    """
    sliced = isinstance(getattr(features, "dtype", None), np.dtype) and hasattr(features, "shape")
    odd = isinstance(features, np.ma.MaskedArray | np.matrix) or hasattr(features, "toarray")
    if not sliced or odd:
        features = as_array("features", features)
    if isinstance(features, np.ndarray) and features.dtype.kind == "O":  # what lies in a file is never read for this
        features = as_numbers("features", features)
    if len(features.shape) != 2 or not features.shape[1] or features.dtype.kind not in "fiu":
        found = f"features has shape {tuple(features.shape)} and type {features.dtype}"
        remedy = "Take their real part, or their magnitude by numpy.abs" if features.dtype.kind == "c" else ""
        raise InputError(found, "a matrix (N, D) of numbers", remedy)
    return features


def read_rows(features: Features, indices: np.ndarray) -> np.ndarray:
    """Rows ``indices`` of a matrix as float32 ``(n, D)``; what lies on disk is read in its own order."""
    indices = np.asarray(indices, dtype=np.int64)
    if isinstance(features, np.ndarray) and _mapping(features) is not None:
        return _mapped_rows(features, indices)
    if isinstance(features, np.ndarray | RowsView):
        return np.asarray(features[indices], dtype=np.float32)
    unique, inverse = np.unique(indices, return_inverse=True)
    if isinstance(features, h5py.Dataset):
        return hdf5.read_rows(features, unique)[inverse]
    return np.asarray(features[unique], dtype=np.float32)[inverse]


def expect_rows(features: Features, rows: np.ndarray) -> None:
    """Have rows read into the page cache in the background; returns at once and allocates nothing.

    A hint, on which only speed depends, to whoever reads the rows next. It reaches memory maps, also through views; for
    anything else it does nothing.

    Args:
        features: ``(N, D)``.
        rows: ``(n,)`` row numbers, in any order and with repeats.

    Raises:
        InputError: the mapped file has become shorter, so that the system would end a process that reads on.
    """
    if isinstance(features, RowsView):
        features.expect(rows)
    elif isinstance(features, np.ndarray):
        mapping = _mapping(features)
        if mapping is not None and len(rows):
            _refuse_cut(mapping, features)
            _advise(mapping, features, rows)


def _mapped_rows(features: np.ndarray, indices: np.ndarray) -> np.ndarray:
    result = np.empty((len(indices), features.shape[1]), dtype=np.float32)
    step = max(1, COPY_BYTES // (features.shape[1] * features.itemsize))
    for start in range(0, len(indices), step):
        part = indices[start : start + step]
        expect_rows(features, part)
        result[start : start + step] = features[part]
    return result


def _mapping(features: np.ndarray) -> mmap.mmap | None:
    """The memory map that an array lies in; None where there is none, or where the system takes no advice."""
    base: Any = features
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED") else None


def _refuse_cut(mapping: mmap.mmap, features: np.ndarray) -> None:
    """Refuse to read a file that another program has cut; between this look and the reading it still may."""
    offset = getattr(features, "offset", 0)
    if mapping.size() < offset // PAGE * PAGE + len(mapping):
        name = getattr(features, "filename", None) or "the file of the features"
        raise InputError(f"{name} has become shorter while it was read", "a file that nothing changes")


def _advise(mapping: mmap.mmap, features: np.ndarray, rows: np.ndarray) -> None:
    width, stride = features.shape[1] * features.itemsize, features.strides[0]
    if features.strides[1] != features.itemsize or stride < width:
        return  # a row is no piece of the file
    origin = features.ctypes.data - np.frombuffer(mapping, np.uint8, count=1).ctypes.data
    ascending = rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)  # which hashes them, a hundred times as slow
    first = origin + ascending * stride
    begin, end = first // PAGE * PAGE, first + width
    apart = np.flatnonzero(begin[1:] > end[:-1]) + 1  # neighbours are asked for together
    for start, stop in zip(begin[np.append(0, apart)].tolist(), end[np.append(apart - 1, -1)].tolist(), strict=True):
        for piece in range(start, stop, PIECE_BYTES):
            mapping.madvise(mmap.MADV_WILLNEED, piece, min(PIECE_BYTES, stop - piece))
