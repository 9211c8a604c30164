"""Reading of MATLAB files of version 5 (parsed here) and 7.3 (HDF5): numbers and lists of names only.

Version 5 has a reader of its own because a general one trusts the file: nested cells, claimed shapes and
object arrays are followed to whatever memory or stack they ask for. Here a variable is a matrix of numbers
or a list of texts, its claims are checked against the bytes that are there, and the numbers of an
uncompressed file stay on disk. Variables of other kinds have a name and a kind, and are refused when they are
asked for. MATLAB stores by columns: what it calls ``(D, N)`` is ``(N, D)`` here, as the numbers lie in the file.
Format: "MAT-File Format", MathWorks, R2019b, chapter 1; objects, which it leaves out, as SciPy reads them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from fgen.errors import InputError
from fgen.io import hdf5
from fgen.io.reading import most_unpacked

MATRIX, COMPRESSED = 14, 15
NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXT_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL_CLASS, OBJECT_CLASS, CHAR_CLASS, NUMBER_CLASSES, OPAQUE_CLASS = 1, 3, 4, range(6, 16), 17
COMPLEX_FLAG = 0x0800
PREFIX_BYTES = 4096

NUMBERS, CELLS, CHARS, SPARSE, STRUCT = "matrix of numbers", "cell array", "char matrix", "sparse matrix", "struct"
#: What a variable of version 5 is called by its class; an object is called by the name of its MATLAB class.
KINDS = {CELL_CLASS: CELLS, 2: STRUCT, CHAR_CLASS: CHARS, 5: SPARSE, 16: "function handle"} | dict.fromkeys(
    NUMBER_CLASSES, NUMBERS
)
#: The same by the attribute MATLAB_class of version 7.3.
KINDS_73 = {"cell": CELLS, "char": CHARS, "function_handle": "function handle", "logical": NUMBERS} | dict.fromkeys(
    ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))), NUMBERS
)
#: Kinds that hold texts, whose entries MATLAB's cellstr makes a cell array of texts.
TEXT_KINDS = ("string", "categorical", CELLS, CHARS)
#: MATLAB's functions that make a matrix of numbers of another kind.
MAKES_NUMBERS = {SPARSE: "full", "table": "table2array", "dlarray": "extractdata", "gpuArray": "gather"}
#: MATLAB's own limit is 63.
MAX_NAME_BYTES = 256


def open_mat(path: Path) -> Mapping[str, MatVariable]:
    """Return the variables of a .mat file by name; their contents are read when needed.

    Raises:
        InputError: neither version 5 nor 7.3. Damage raises anything; call this within ``guarded_read``.
    """
    if h5py.is_hdf5(path):
        with hdf5.opened(path) as file:
            if _is_octaves(file):
                found = f"{path} has the HDF5 layout of Octave's save -hdf5"
                raise InputError(found, "version 5, 7 or 7.3", "Save it in Octave with save -v7")
            return {name: _HDF5Variable(file, name) for name in file if not name.startswith("#")}
    if path.stat().st_size < 128:
        raise InputError(f"{path} has {path.stat().st_size} bytes", "a .mat file of version 5 or 7.3")
    content = np.memmap(path, dtype=np.uint8, mode="r").data
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
    if order is None:
        remedy = "Save it with -v7, or in MATLAB with -v7.3"
        raise InputError(f"{path} doesn't start as a .mat file does", "version 5 or 7.3", remedy)
    return _walk(content, order)


def _is_octaves(file: h5py.File) -> bool:
    """Return whether the first variable is a group as Octave marks it; links aren't followed."""
    first = next((name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)), None)
    return first is not None and "OCTAVE_NEW_FORMAT" in file[first].attrs


def _no_matrix(name: str, kind: str) -> InputError:
    """Return the error for a variable that is no matrix of numbers."""
    remedy = f"In MATLAB: {name} = {MAKES_NUMBERS[kind]}({name})" if kind in MAKES_NUMBERS else ""
    return InputError(f"{name!r} is a MATLAB {kind}", "a full matrix of real numbers", remedy)


def _no_texts(name: str, kind: str) -> InputError:
    """Return the error for a variable that holds no texts."""
    if kind in TEXT_KINDS:
        remedy = f"In MATLAB: {name} = cellstr({name})"
    elif kind == STRUCT:  # R.matlab makes one, without a field, of a list
        remedy = f"In MATLAB save a cell array, in R a character vector: unlist({name})"
    else:
        remedy = f"In MATLAB save a cell array, in Python numpy.array([*map(str, {name})], dtype=object)[:, None]"
    return InputError(f"{name!r} is a MATLAB {kind}", "a cell array of texts", remedy)


def _rows_of_chars(name: str, text: str, shape: tuple[int, ...]) -> list[str]:
    """Return the rows of a char matrix of MATLAB's ``shape``, whose characters are stored column by column."""
    if len(shape) != 2 or len(text) != math.prod(shape):
        found = f"{name!r} is a char matrix of shape {shape} with {len(text):,} characters"
        raise InputError(found, "a cell array of texts", f"In MATLAB: {name} = cellstr({name})")
    return [text[row :: shape[0]].rstrip(" \0") for row in range(shape[0])] if text else []


def _refuse_several_rows(name: str, shape: tuple[int, ...]) -> None:
    """Refuse an entry that is a char matrix of several rows: its characters would be mixed."""
    if sum(size > 1 for size in shape) > 1:
        raise InputError(f"{name!r} has an entry that is a char matrix of shape {shape}", "one text in each entry")


@dataclass(frozen=True)
class _HDF5Variable:
    """A variable of a version 7.3 file; :class:`_Mat5Variable` has the same properties and methods."""

    file: h5py.File
    name: str

    @property
    def kind(self) -> str:
        """Return ``NUMBERS``, ``CELLS``, another of this file's names, or the class of an object."""
        found = hdf5.member(self.file, self.name)
        if "MATLAB_sparse" in found.attrs:
            return SPARSE
        named = _class_name(found)
        if named is not None:
            return KINDS_73.get(named, named)
        if not isinstance(found, h5py.Dataset):
            return STRUCT
        return CELLS if h5py.check_ref_dtype(found.dtype) is h5py.Reference else NUMBERS

    def numbers(self) -> Any:
        """Return the matrix with its axes reversed; on disk where the file allows it."""
        if self.kind != NUMBERS:
            raise _no_matrix(self.name, self.kind)
        found = hdf5.dataset(self.file, self.name)
        if "MATLAB_empty" in found.attrs:
            return np.zeros((0, 0))
        return hdf5.matrix(found)

    def texts(self) -> list[str]:
        """Return the entries of a cell array of texts, or the rows of a char matrix without the blanks at their end."""
        if self.kind not in (CELLS, CHARS, NUMBERS):
            raise _no_texts(self.name, self.kind)
        found = hdf5.dataset(self.file, self.name)
        if "MATLAB_empty" in found.attrs:
            return []
        if self.kind == CHARS and found.dtype.kind == "u":
            return _rows_of_chars(self.name, _utf16(found), found.shape[::-1])
        if h5py.check_string_dtype(found.dtype) is not None:  # what h5py makes of a list
            return hdf5.texts(found)
        if h5py.check_ref_dtype(found.dtype) is not h5py.Reference:
            raise _no_texts(self.name, self.kind)
        return [self._text(reference) for reference in found[...].ravel()]

    def _text(self, reference: h5py.Reference) -> str:
        target = self.file[reference] if reference else None
        if not isinstance(target, h5py.Dataset) or target.dtype.kind != "u":
            raise InputError(f"{self.name!r} has an entry that is no text", "a cell array of texts")
        hdf5.check_storage(target, self.name)
        if "MATLAB_empty" in target.attrs:
            return ""
        if math.prod(target.shape) > hdf5.MAX_NAME_BYTES:
            raise InputError(f"{self.name!r} has an entry of {math.prod(target.shape):,} characters", "names")
        _refuse_several_rows(self.name, target.shape[::-1])
        return _utf16(target)


def _class_name(found: Any) -> str | None:
    """Return the attribute MATLAB_class, where it is a short text of fixed length, as MATLAB writes it."""
    if "MATLAB_class" not in found.attrs:
        return None
    dtype = found.attrs.get_id("MATLAB_class").dtype
    if dtype.kind != "S" or dtype.itemsize > MAX_NAME_BYTES:
        return None
    return bytes(found.attrs["MATLAB_class"]).decode("latin-1")


def _utf16(found: h5py.Dataset) -> str:
    """Return the text of a dataset of UTF-16 units, as MATLAB writes it."""
    return np.asarray(found[...], dtype="<u2").tobytes().decode("utf-16-le")


@dataclass(frozen=True)
class _Mat5Variable:
    """A variable of a version 5 file."""

    name: str
    kind: str
    content: memoryview
    order: str
    compressed: bool

    def numbers(self) -> Any:
        if self.kind != NUMBERS:
            raise _no_matrix(self.name, self.kind)
        header = _matrix_header(self._body(), self.order)
        if 0 in header.shape:
            return np.zeros(header.shape[::-1])
        number_type, data, _ = _element(header.body, 0, self.order)
        values = np.frombuffer(data, dtype=self.order + NUMBER_TYPES[number_type])
        if values.size != math.prod(header.shape):
            raise InputError(f"{self.name!r} claims a shape of {header.shape} and holds {values.size:,} numbers")
        return values.reshape(header.shape[::-1])

    def texts(self) -> list[str]:
        if self.kind not in (CELLS, CHARS):
            raise _no_texts(self.name, self.kind)
        header = _matrix_header(self._body(), self.order)
        if self.kind == CHARS:
            return _rows_of_chars(self.name, self._chars(header), header.shape)
        size = math.prod(header.shape)
        if size * 8 > len(header.body):
            found = f"{self.name!r} claims a shape of {header.shape} and the file doesn't hold that many entries"
            raise InputError(found)
        entries, position = [], 0
        for _ in range(size):
            _, entry, position = _element(header.body, position, self.order)
            entries.append(self._text(entry))
        return entries

    def _text(self, entry: memoryview) -> str:
        header = _matrix_header(entry, self.order)
        if 0 in header.shape and header.array_class in (CHAR_CLASS, *NUMBER_CLASSES):
            return ""
        if header.array_class != CHAR_CLASS:
            remedy = f"In MATLAB: {self.name} = cellstr(string({self.name}))" if header.kind == "string" else ""
            found = f"{self.name!r} has an entry of MATLAB class {header.array_class}, a {header.kind}"
            raise InputError(found, "a cell array of texts", remedy)
        _refuse_several_rows(self.name, header.shape)
        return self._chars(header)

    def _chars(self, header: _Header) -> str:
        """Return the characters of a char matrix, in the order of the file."""
        if 0 in header.shape:
            return ""
        text_type, data, _ = _element(header.body, 0, self.order)
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
        if size > most_unpacked(len(self.content)):
            raise InputError(f"{self.name!r} claims {size:,} bytes and the file doesn't hold that much data")
        body = stream.decompress(stream.unconsumed_tail, size + 8)
        if len(body) < size or not stream.eof:
            raise InputError(f"{self.name!r} is cut short or damaged")
        return memoryview(body)[:size]


MatVariable = _HDF5Variable | _Mat5Variable


def _walk(content: memoryview, order: str) -> dict[str, MatVariable]:
    """Return the variables of a version 5 file, from tags and headers alone."""
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
        header = _matrix_header(start, order)
        if header.name:  # MATLAB stores the contents of objects in a variable without a name
            variables[header.name] = _Mat5Variable(header.name, header.kind, data, order, kind == COMPRESSED)
    return variables


def _element(buffer: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Return type and data of the element at ``position``, and the position of the next one."""
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


class _Header(NamedTuple):
    """What a matrix element says of itself: class, kind, MATLAB shape and name; ``body`` is what follows."""

    array_class: int
    kind: str
    shape: tuple[int, ...]
    name: str
    body: memoryview


def _matrix_header(buffer: memoryview, order: str) -> _Header:
    """Read the header of a matrix element; an object of MATLAB's newer kind has no shape in it."""
    _, flags, position = _element(buffer, 0, order)
    word = int(np.frombuffer(flags, order + "u4")[0])
    array_class = word & 0xFF
    if array_class == OPAQUE_CLASS:
        name, position = _name_at(buffer, position, order)
        _, position = _name_at(buffer, position, order)  # the system of objects, MCOS or java
        kind, position = _name_at(buffer, position, order)
        return _Header(array_class, kind, (), name, buffer[position:])
    _, sizes, position = _element(buffer, position, order)
    shape = tuple(int(size) for size in np.frombuffer(sizes, order + "i4"))
    if not shape or min(shape) < 0:
        raise InputError(f"The file has a variable of shape {shape}")
    shape = shape if len(shape) > 1 else (*shape, 1)  # R.matlab writes a vector so
    name, position = _name_at(buffer, position, order)
    kind = KINDS.get(array_class, f"variable of class {array_class}")
    if array_class == OBJECT_CLASS:
        kind, _ = _name_at(buffer, position, order)
    elif kind == NUMBERS and word & COMPLEX_FLAG:
        kind = "complex matrix"
    return _Header(array_class, kind, shape, name, buffer[position:])


def _name_at(buffer: memoryview, position: int, order: str) -> tuple[str, int]:
    """Return the name at ``position``, cut where it is too long to be one, and the position after it."""
    _, name, position = _element(buffer, position, order)
    return bytes(name[:MAX_NAME_BYTES]).decode("latin-1"), position
