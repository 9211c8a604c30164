"""Writing of HDF5 files whose features are preallocated on the disk.

HDF5 answers a full disk with broken handles and even a crash, so it writes nothing before the room is taken.
"""

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from fgen.io.atomic import fsync_path, preallocate

#: More than HDF5 needs to describe the features.
HEADER_ROOM = 1 << 16

Libver = tuple[str, str] | None


def allocate(
    path: Path, fill: Callable[[h5py.File], None], shape: tuple[int, int], dtype: np.dtype, libver: Libver = None
) -> None:
    """Make a file of what ``fill`` writes, all but the features, and room for a contiguous dataset ``features``.

    Raises:
        OSError: the disk has no room for it; what there is of the file is the caller's to remove.
    """
    with h5py.File("image", "w", driver="core", backing_store=False, libver=libver) as file:
        fill(file)
        file.flush()
        rest = bytes(file.id.get_file_image())
    path.unlink(missing_ok=True)
    with path.open("xb") as partial:
        preallocate(partial.fileno(), len(rest) + math.prod(shape) * dtype.itemsize + HEADER_ROOM)
        write_at(partial.fileno(), rest, 0)
    with h5py.File(path, "r+", libver=libver) as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)  # a time of day would make every file's bytes its own
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"features", h5py.h5t.py_create(dtype), space, dcpl=layout)
    fsync_path(path)


def features_offset(path: Path) -> int:
    """Return the position in the file at which the features begin."""
    with h5py.File(path, "r", locking=False) as file:
        return int(file["features"].id.get_offset() or 0)


def write_at(file: int, data: bytes | memoryview, position: int) -> None:
    """Write all of ``data``, however little the system takes at a time, or raise OSError."""
    written = 0
    while written < len(data):
        step = os.pwrite(file, data[written:], position + written)
        if step == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += step
