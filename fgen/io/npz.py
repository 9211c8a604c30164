"""Reading of ``.npz`` archives from unknown sources: nothing is unpickled, and no array is larger than its data."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from fgen.errors import InputError
from fgen.io.reading import most_unpacked


class Archive(zipfile.ZipFile):
    """An open ``.npz`` file: each array is checked against what the archive holds before it is read.

    Attributes:
        members: what the archive says of each array, by name.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if sum(info.compress_size for info in self.infolist()) > path.stat().st_size:
            raise InputError(f"{path} has arrays that share their bytes", "what numpy.savez writes")
        self.members = {info.filename.removesuffix(".npy"): info for info in self.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        """Read one array.

        Raises:
            InputError: no such array, one of Python objects, an odd compression, or a header that claims more than is
                there.
        """
        if name not in self.members:
            others = ", ".join(list(self.members)[:20]) or "nothing"
            raise InputError(f"{self.filename} has no array {name!r}", f"it beside {others}")
        info = self.members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name!r} is packed by method {info.compress_type}", "what numpy.savez writes")
        if info.file_size > most_unpacked(info.compress_size):  # the header is read whole, however long it says it is
            found = f"{name!r} claims {info.file_size:,} bytes and is packed in {info.compress_size:,}"
            raise InputError(found, "less", "Write it with numpy.savez, which packs nothing")
        with self.open(info) as stream:
            shape, dtype, header_size = _header(stream)
            _refuse_objects(repr(name), dtype)
            if math.prod(shape) * dtype.itemsize > info.file_size - header_size:
                raise InputError(f"{name!r} claims a shape of {shape} and the archive doesn't hold that much data")
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(size < 0 for size in shape):
        raise InputError(f"The archive has an array of shape {shape}")
    return shape, dtype, stream.tell()


def map_array(path: Path) -> np.memmap:
    """Return the array of an ``.npy`` file, which stays on disk.

    Raises:
        InputError: an array of Python objects. Damage raises anything; call this within ``guarded_read``.
    """
    with path.open("rb") as stream:
        _, dtype, _ = _header(stream)
    _refuse_objects("the array", dtype)
    return np.lib.format.open_memmap(path, mode="r")


def _refuse_objects(what: str, dtype: np.dtype) -> None:
    """Refuse objects: to unpickle them would run whatever the file says."""
    if dtype.hasobject:
        remedy = "Objects would be run, not read: save numpy.asarray(numbers, dtype=float), "
        remedy += "of names numpy.asarray(names, dtype=str)"
        raise InputError(f"{what} holds Python objects", "numbers or text", remedy)


def write_matrix(archive: zipfile.ZipFile, name: str, shape: tuple[int, int], blocks: Iterator[np.ndarray]) -> None:
    """Add a float32 matrix to an archive block by block, so that it is never in memory as a whole."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype="<f4").data)
