"""Prefetching of rows of a memory map into the page cache."""

import mmap
from typing import Any

import numpy as np

from fgen.errors import InputError

PAGE = mmap.ALLOCATIONGRANULARITY


#: Linux cuts a longer request to the disk's readahead window, which is 128 KiB unless someone raised it.
PIECE_BYTES = 128 << 10


def mapping_of(features: np.ndarray) -> mmap.mmap | None:
    """Return the memory map that holds an array; None if there is none, or if the system has no ``madvise``."""
    base: Any = features
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED") else None


def check_not_cut(mapping: mmap.mmap, features: np.ndarray) -> None:
    """Refuse to read a file that another program has shortened. It can still be shortened after this check."""
    offset = getattr(features, "offset", 0)
    if mapping.size() < offset // PAGE * PAGE + len(mapping):
        name = getattr(features, "filename", None) or "the file of the features"
        raise InputError(f"{name} has become shorter while it was read", "a file that nothing changes")


def prefetch_pages(mapping: mmap.mmap, features: np.ndarray, rows: np.ndarray) -> None:
    """Ask the system to read the pages of some rows in the background."""
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
