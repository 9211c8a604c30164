"""Reading of HDF5 files from unknown sources: only data within the file are read, and never more than it holds."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from fgen.errors import InputError, shortened, wrong_array
from fgen.io.hdf5_look import MAX_NAME_BYTES, look_at
from fgen.io.reading import guarded_read, most_unpacked

MAX_CHUNK_BYTES = 1 << 30
#: Rows are read together with the bytes between them, up to this size.
MAX_SPAN_BYTES = 1 << 26


def member(group: h5py.Group, name: str) -> Any:
    """Return the dataset or group called ``name``, or None.

    Raises:
        InputError: a soft or external link; following one could open any file of the machine.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{name!r} is a link to elsewhere ({type(link).__name__})", "data inside the file itself")
    return group[name]


def dataset(group: h5py.Group, name: str, *, ndim: int | None = None) -> h5py.Dataset:
    """Return the dataset called ``name``, checked by :func:`check_storage`.

    Raises:
        InputError: it is missing, no dataset, of another number of dimensions, or not safely in the file.
    """
    found = member(group, name)
    if found is None:
        names = ", ".join(islice(group, 20)) or "nothing"
        raise InputError(f"There is no {name!r}", f"a dataset {name!r}", f"The file has: {names}")
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{name!r} is a {type(found).__name__.lower()}", "a dataset")
    check_storage(found, name)
    if ndim is not None and found.ndim != ndim:
        raise InputError(f"{name!r} has shape {found.shape}", f"{ndim} dimension{'s' if ndim > 1 else ''}")
    return found


def check_storage(found: h5py.Dataset, name: str) -> None:
    """Refuse data outside the file, and shapes larger than the stored data, before anything is allocated.

    The layout is looked at first: to tell the shape of a virtual dataset, HDF5 may open the files that it names.
    """
    plan = found.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(f"{name!r} is a virtual dataset, made of other files", "data inside the file itself")
    if plan.get_external_count():
        where = found.external[0][0]
        raise InputError(f"{name!r} keeps its data in another file ({where})", "data inside the file itself")
    if found.shape is None:
        raise InputError(f"{name!r} holds nothing", "numbers or text")
    item_bytes = found.id.get_type().get_size()  # in the file, where a number may be shorter than NumPy's
    claimed = math.prod(found.shape) * item_bytes
    if found.chunks is not None:
        chunk_bytes = math.prod(found.chunks) * item_bytes
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise InputError(f"{name!r} has chunks of {chunk_bytes:,} bytes", f"at most {MAX_CHUNK_BYTES:,}")
        held = most_unpacked(found.id.get_storage_size())
    elif plan.get_layout() == h5py.h5d.COMPACT:
        held = found.id.get_storage_size()
    else:
        offset = found.id.get_offset()
        held = 0 if offset is None else os.path.getsize(found.file.filename) - offset
    if claimed > held:
        told = f"{name!r} claims a shape of {found.shape} and the file doesn't hold that much data"
        raise InputError(told, remedy="The file may be truncated: write or download it again")


def numbers(group: h5py.Group, name: str, *, ndim: int, kinds: str = "biuf") -> np.ndarray:
    """Read a whole dataset of numbers, of types of some of NumPy's ``kinds``.

    Raises:
        InputError: as :func:`dataset` has it, or it holds anything else.
    """
    found = dataset(group, name, ndim=ndim)
    if found.dtype.kind not in kinds:  # of a text or a reference HDF5 would follow what it points at
        raise InputError(f"{name!r} is of type {found.dtype}", "numbers" if "f" in kinds else "integers")
    return found[...]


def matrix(found: h5py.Dataset) -> np.memmap | h5py.Dataset:
    """Return a checked dataset without copying it: a read-only memory map if it is contiguous, else the dataset
    itself.

    A map shows the bytes as they are, so the type in the file must be NumPy's own: h5py makes float32 of bfloat16 too,
    and int32 of 12 bits in 32. A file that is open for writing may hold rows that aren't on disk yet, and one in memory
    has no name to map.
    """
    offset = found.id.get_offset()
    on_disk = found.file.mode == "r" and found.file.driver == "sec2"
    as_it_is = found.dtype.kind in "fiu" and found.id.get_type() == h5py.h5t.py_create(found.dtype)
    if on_disk and as_it_is and found.chunks is None and offset is not None and found.size:
        return np.memmap(found.file.filename, dtype=found.dtype, mode="r", offset=offset, shape=found.shape)
    return found


def read_rows(found: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Read rows ``(n,)``, ascending and distinct, of a matrix as float32 ``(n, D)``.

    The rows of one chunk are read together, so that it is unpacked once; where the file is chunked that took a third
    of the time of h5py's own lists of rows. Packed chunks stay slow, whoever reads: ``fgen convert`` writes none.
    """
    depth = 0 if found.chunks is None else int(found.chunks[0])
    if not 0 < depth * found.shape[1] * found.dtype.itemsize <= MAX_SPAN_BYTES:
        return np.asarray(found[rows], dtype=np.float32)
    result = np.empty((len(rows), found.shape[1]), dtype=np.float32)
    start = 0
    for part in np.split(rows, np.flatnonzero(np.diff(rows // depth)) + 1) if len(rows) else ():
        result[start : start + len(part)] = found[part[0] : part[-1] + 1][part - part[0]]
        start += len(part)
    return result


def texts(found: h5py.Dataset) -> list[str]:
    """Return the strings of a checked one-dimensional dataset, of fixed or variable length.

    Raises:
        InputError: it holds no strings, or one of more than 16 KiB.
    """
    if h5py.check_string_dtype(found.dtype) is None or found.ndim != 1:
        raise wrong_array(repr(found.name), found, "one-dimensional text")
    if found.dtype.itemsize > MAX_NAME_BYTES:
        raise InputError(f"{found.name!r} has strings of {found.dtype.itemsize:,} bytes", f"at most {MAX_NAME_BYTES:,}")
    return [text(value, f"{found.name}[{index}]") for index, value in enumerate(found[...].tolist())]


def text(value: Any, name: str) -> str:
    """Return one string that h5py returned as text or bytes.

    Raises:
        InputError: it is no string, too long, or no UTF-8.
    """
    if not isinstance(value, str | bytes) or len(value) > MAX_NAME_BYTES:
        raise InputError(f"{name} is no text of at most {MAX_NAME_BYTES:,} bytes")
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        raise InputError(f"{name} is {value[:40]!r}", "UTF-8 text") from None


def expect_short(names: Iterable[str], what: str) -> None:
    """Refuse to write a text that :func:`text` wouldn't read.

    Raises:
        InputError: one of the names takes more than 16 KiB.
    """
    for name in names:
        size = len(name.encode(errors="replace"))
        if size > MAX_NAME_BYTES:
            raise InputError(f"{what} {shortened(name)} takes {size:,} bytes", f"at most {MAX_NAME_BYTES:,}")


def open_read(path: Path) -> h5py.File:
    """Open a file for reading, without a lock: a read-only disk or a second reader is no obstacle.

    Raises:
        InputError: as :func:`fgen.io.hdf5_look.look_at` has it.
    """
    look_at(path)
    return h5py.File(path, "r", locking=False)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Yield the file of :func:`open_read`; it stays open after the block, unless the block raises an error."""
    file = open_read(path)
    try:
        yield file
    except BaseException:
        file.close()
        raise


@dataclass(frozen=True)
class Place:
    """The path of an open file, with size and time of change to recognise it. It can be pickled; the file can't."""

    path: str
    size: int
    changed: int

    @classmethod
    def of(cls, file: h5py.File) -> Self | None:
        """Return the place of a file that is open for reading; None for one in memory, or one that may still change."""
        if file.driver != "sec2" or file.mode != "r":
            return None
        about = os.fstat(file.id.get_vfd_handle())
        return cls(os.path.abspath(file.filename), about.st_size, about.st_mtime_ns)

    def open(self) -> h5py.File:
        """Open the file again.

        Raises:
            InputError: it has gone, or was changed or replaced since.
        """
        path = Path(self.path)
        with guarded_read(path, ".h5"), opened(path) as file:
            if Place.of(file) != self:
                raise InputError(f"{self.path} was changed since it was opened", "the file as it was", "Open it anew")
            return file
