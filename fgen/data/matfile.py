"""MATLAB files: version 5 (read here, byte by byte) and 7.3 (HDF5), numbers and lists of names only.

Version 5 has a reader of its own because a general one trusts the file: nested cells, claimed shapes and
object arrays are followed to whatever memory or stack they ask for. Here a variable is a matrix of numbers
or a cell array of texts, its claims are checked against the bytes that are there, and the numbers of an
uncompressed file stay on disk. Format: "MAT-File Format", MathWorks, R2019b, chapter 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from fgen.data import hdf5
from fgen.data.access import Features
from fgen.data.disk import MAX_COMPRESSION
from fgen.errors import InputError

MATRIX, COMPRESSED = 14, 15
NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXT_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL_CLASS, CHAR_CLASS, NUMBER_CLASSES = 1, 4, range(6, 16)
COMPLEX_FLAG = 0x0800
PREFIX_BYTES = 4096


class MatVariable(Protocol):
    """A variable of a .mat file, seen with its axes reversed: what MATLAB calls ``(D, N)`` is ``(N, D)`` here.

    MATLAB stores by columns, so this is the order in which the numbers lie in the file.
    """

    def numbers(self) -> Features:
        """The matrix, with its axes reversed; on disk where the file allows it."""

    def texts(self) -> list[str]:
        """The entries of a cell array of texts."""


def open_mat(path: Path) -> Mapping[str, MatVariable]:
    """The variables of a .mat file by name; their contents are read when asked for.

    Raises:
        InputError: neither version 5 nor 7.3. Damage raises anything; call this within ``reading``.
    """
    if h5py.is_hdf5(path):
        file = hdf5.open_read(path)
        return {name: _HDF5Variable(file, name) for name in file if not name.startswith("#")}
    if path.stat().st_size < 128:
        raise InputError(f"{path} has {path.stat().st_size} bytes", "a .mat file of version 5 or 7.3")
    content = np.memmap(path, dtype=np.uint8, mode="r").data
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None:
        raise InputError(f"{path} doesn't start as a .mat file does", "version 5 or 7.3", "Save it with -v7 or -v7.3")
    return _walk(content, order)


@dataclass(frozen=True)
class _HDF5Variable:
    """A variable of a version 7.3 file."""

    file: h5py.File
    name: str

    def numbers(self) -> Features:
        found = hdf5.dataset(self.file, self.name)
        if "MATLAB_empty" in found.attrs:
            return np.zeros((0, 0))
        return hdf5.matrix(found)

    def texts(self) -> list[str]:
        found = hdf5.dataset(self.file, self.name)
        if h5py.check_ref_dtype(found.dtype) is not h5py.Reference:
            raise InputError(f"{self.name!r} is of type {found.dtype}", "a cell array of texts")
        return [self._text(reference) for reference in found[...].ravel()]

    def _text(self, reference: h5py.Reference) -> str:
        target = self.file[reference] if reference else None
        if not isinstance(target, h5py.Dataset) or target.dtype.kind != "u" or target.shape is None:
            raise InputError(f"{self.name!r} has an entry that is no text", "a cell array of texts")
        if "MATLAB_empty" in target.attrs:
            return ""
        hdf5.check_storage(target, self.name)
        if math.prod(target.shape) > hdf5.MAX_NAME_BYTES:
            raise InputError(f"{self.name!r} has an entry of {math.prod(target.shape):,} characters", "names")
        return np.asarray(target[...], dtype="<u2").tobytes().decode("utf-16-le")


@dataclass(frozen=True)
class _Mat5Variable:
    """A variable of a version 5 file."""

    name: str
    content: memoryview
    order: str
    compressed: bool

    def numbers(self) -> Features:
        array_class, shape, _, body = _matrix_header(self._body(), self.order)
        if array_class not in NUMBER_CLASSES:
            raise InputError(f"{self.name!r} is of MATLAB class {array_class & 0xFF}", "a full matrix of real numbers")
        if 0 in shape:
            return np.zeros(shape[::-1])
        number_type, data, _ = _element(body, 0, self.order)
        values = np.frombuffer(data, dtype=self.order + NUMBER_TYPES[number_type])
        if values.size != math.prod(shape):
            raise InputError(f"{self.name!r} claims a shape of {shape} and holds {values.size:,} numbers")
        return values.reshape(shape[::-1])

    def texts(self) -> list[str]:
        array_class, shape, _, body = _matrix_header(self._body(), self.order)
        if array_class != CELL_CLASS:
            raise InputError(f"{self.name!r} is of MATLAB class {array_class & 0xFF}", "a cell array of texts")
        if math.prod(shape) * 8 > len(body):
            raise InputError(f"{self.name!r} claims a shape of {shape} and the file doesn't hold that many entries")
        entries, position = [], 0
        for _ in range(math.prod(shape)):
            _, entry, position = _element(body, position, self.order)
            entries.append(self._text(entry))
        return entries

    def _text(self, entry: memoryview) -> str:
        array_class, shape, _, body = _matrix_header(entry, self.order)
        if 0 in shape and array_class in (CHAR_CLASS, *NUMBER_CLASSES):
            return ""
        if array_class != CHAR_CLASS:
            raise InputError(
                f"{self.name!r} has an entry of MATLAB class {array_class & 0xFF}", "a cell array of texts"
            )
        text_type, data, _ = _element(body, 0, self.order)
        codec = TEXT_CODECS[text_type]
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self.order == "<" else "-be"
        return bytes(data).decode(codec)

    def _body(self) -> memoryview:
        if not self.compressed:
            return self.content
        stream = zlib.decompressobj()
        start = stream.decompress(self.content, 8)
        size = int(np.frombuffer(start, self.order + "u4")[1])
        if size > MAX_COMPRESSION * len(self.content):
            raise InputError(f"{self.name!r} claims {size:,} bytes and the file doesn't hold that much data")
        body = stream.decompress(stream.unconsumed_tail, size + 8)
        if len(body) < size or not stream.eof:
            raise InputError(f"{self.name!r} is cut short or damaged")
        return memoryview(body)[:size]


def _walk(content: memoryview, order: str) -> dict[str, MatVariable]:
    """The variables of a version 5 file, from the tags and headers alone."""
    variables: dict[str, MatVariable] = {}
    position = 128
    while position < len(content):
        kind, data, position = _element(content, position, order)
        if kind == MATRIX:
            start = data
        elif kind == COMPRESSED:
            start = memoryview(zlib.decompressobj().decompress(data, PREFIX_BYTES))[8:]
        else:
            continue
        _, _, name, _ = _matrix_header(start, order)
        variables[name] = _Mat5Variable(name, data, order, kind == COMPRESSED)
    return variables


def _element(buffer: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Type and data of the element at ``position``, and the position of the next one."""
    tag = np.frombuffer(buffer[position : position + 8], order + "u4")
    if len(tag) < 2:
        raise InputError(f"The file ends within an element, at byte {position:,} of it")
    kind, size = int(tag[0]), int(tag[1])
    if kind >> 16:  # up to four bytes of data lie within the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise InputError(f"The file has a short element of {size} bytes", "at most 4")
        return kind, buffer[position + 4 : position + 4 + size], position + 8
    data = buffer[position + 8 : position + 8 + size]
    if len(data) < size:
        raise InputError(f"The file claims an element of {size:,} bytes and has {len(data):,} left")
    padding = 0 if kind == COMPRESSED else -size % 8
    return kind, data, position + 8 + size + padding


def _matrix_header(buffer: memoryview, order: str) -> tuple[int, tuple[int, ...], str, memoryview]:
    """Class, MATLAB shape, name and the rest of a matrix element; a class beyond 255 marks complex numbers."""
    _, flags, position = _element(buffer, 0, order)
    word = int(np.frombuffer(flags, order + "u4")[0])
    _, sizes, position = _element(buffer, position, order)
    shape = tuple(int(size) for size in np.frombuffer(sizes, order + "i4"))
    if len(shape) < 2 or min(shape) < 0:
        raise InputError(f"The file has a variable of shape {shape}")
    _, name, position = _element(buffer, position, order)
    return word & (0xFF | COMPLEX_FLAG), shape, bytes(name).decode("latin-1"), buffer[position:]
