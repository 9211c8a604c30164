"""NumPy's and MATLAB's files that are odd: headers, types, duplicates, classes, and values that don't fit."""

import io
import struct
import zipfile
from contextlib import suppress

import numpy as np
import scipy.io
import scipy.sparse

from tests.fuzz.hdf5_files import pick

DESCRIPTIONS = (
    "<f4",
    ">f4",
    "<f2",
    "<f8",
    "<f16",
    "|O",
    "<c8",
    "|b1",
    "<i8",
    "|u1",
    "<U5",
    "|S4",
    "|V8",
    "<M8[s]",
    "<m8",
    "f",
    "",
    "<f0",
    "<U0",
    [("a", "<f4")],
    [("a", "|O")],
    "<f4" * 99,
    3,
    None,
)
SHAPES = ((), (0,), (-1, 3), (2**62, 2**62), (10**12,), (3, "a"), (1.5,), [2, 3], None, (True,), (1,) * 70)
NAMES = (
    "features",
    "labels",
    "../x",
    "a\x1b[31m",
    "",
    "x" * 500,
    "/etc/x",
    "splits.\x00",
    "splits.trainval",
    "é",
    "a/b",
)


def other_value(draw, array):
    values = [0, -1, 1.5, 1e9, 1e300, -1e300, 2**63, np.nan, np.inf, -np.inf]
    changed = np.array(array).astype(draw.choice(["f8", "f8", "i8", "u8", "f4"]) if array.dtype.kind != "O" else "O")
    if changed.size:
        with np.errstate(all="ignore"):
            changed.flat[int(draw.integers(changed.size))] = values[int(draw.integers(len(values)))]
    return changed


def other_shape(draw, array):
    array = np.asarray(array)
    ways = (
        array.T,
        array[:-1],
        array[:0],
        array[..., None],
        array.reshape(-1),
        np.concatenate([array, array]),
        array[:1],
    )
    return ways[int(draw.integers(len(ways)))]


def other_type(draw, array):
    array = np.asarray(array)
    kinds = ("c16", "?", "S3", "U3", "O", "f2", "i1", "u8")
    with np.errstate(all="ignore"):
        return array.astype(kinds[int(draw.integers(len(kinds)))])


def gone(draw, array):
    return None


def nonsense(draw, variables):
    """A copy of ``variables`` with one of them changed."""
    key = str(draw.choice(sorted(variables)))
    change = (other_value, other_shape, other_type, gone)[int(draw.integers(4))]
    try:
        value = change(draw, variables[key])
    except (ValueError, TypeError, OverflowError, IndexError):
        value = None
    changed = {name: array for name, array in variables.items() if name != key}
    return (changed if value is None else changed | {key: value}), f"{key} {change.__name__}"


def odd_npy(draw, array):
    """An array as ``.npy`` with a header that may say anything; the bytes are the array's."""
    description = pick(draw, (array.dtype.str, array.dtype.str, *DESCRIPTIONS))
    shape = pick(draw, (array.shape, array.shape, *SHAPES))
    order = pick(draw, (False, False, True, 1, "yes"))
    header = repr({"descr": description, "fortran_order": order, "shape": shape})
    header = pick(draw, (header, header, header, header[:-3], header + " " * 9000, "{" * 900, "0" * 9000, "(" * 300))
    version = pick(draw, ((1, 0), (1, 0), (2, 0), (3, 0), (0, 9), (255, 255)))
    size = struct.pack("<H" if version == (1, 0) else "<I", pick(draw, (len(header), len(header), 0, 65_000)))
    body = pick(draw, (array.tobytes(), array.tobytes(), array.tobytes()[:-3], array.tobytes() + b"more", b""))
    told = f"header {description!r} {shape!r} {order!r} {version}"[:200]
    return b"\x93NUMPY" + bytes(version) + size + header.encode("latin-1", "replace") + body, told


def change_npy(draw, path):
    content, told = odd_npy(draw, np.load(path))
    path.write_bytes(content)
    return told


def change_npz(draw, path):
    """Write an archive anew: odd values, odd headers, odd names, arrays that are there twice, other packing."""
    with np.load(path) as arrays:
        variables = dict(arrays)
    way = pick(draw, ("nonsense", "nonsense", "header", "header", "name", "twice", "packing", "text", "flag"))
    if way == "nonsense":
        variables, told = nonsense(draw, variables)
        np.savez(path, **variables)
        return told
    chosen, told = pick(draw, sorted(variables)), way
    packing = pick(draw, (0, 8, 12, 14)) if way == "packing" else pick(draw, (0, 8))
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, array in variables.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=True)
            content, stored = buffer.getvalue(), f"{name}.npy"
            if way == "header" and name == chosen:
                content, told = odd_npy(draw, array)
            if way == "text" and name == chosen:
                odd = np.array(pick(draw, (["\ud800"] * 9, ["a\x1b[2J"] * 9, ["x" * 20_000], ["é", ""], [])), dtype=str)
                buffer = io.BytesIO()
                np.save(buffer, odd)
                content, told = buffer.getvalue(), f"{name} texts"
            if way == "name" and name == chosen:
                stored = pick(draw, NAMES) + pick(draw, (".npy", "")) or ".npy"
            archive.writestr(stored, content)
            if way == "twice" and name == chosen:
                buffer = io.BytesIO()
                np.save(buffer, array.ravel()[:1])
                archive.writestr(stored, buffer.getvalue())
        if way == "flag":
            archive.comment = b"c" * 60_000
            archive.filelist[0].flag_bits |= pick(draw, (1, 8, 1 << 6, 1 << 11))
    return f"{told} {chosen}"


def odd_variable(draw, array):
    """Something that MATLAB has and fgen doesn't read, or reads in part."""
    kind = pick(
        draw,
        ("sparse", "struct", "chars", "cells", "object", "function", "complex", "logical", "int64", "3-D", "empty"),
    )
    plain = array if array.dtype.kind in "fiu" else np.ones((2, 2))
    made = {
        "sparse": lambda: scipy.sparse.csc_array(plain.astype(float)),
        "struct": lambda: {"a": plain, "b": {"c": "text"}},
        "chars": lambda: np.array(["zebra", "ant  "]),
        "cells": lambda: np.array([[plain, "text", np.array([["deep", None]], dtype=object)[:, :1]]], dtype=object),
        "object": lambda: scipy.io.matlab.MatlabObject(np.zeros((1, 1), dtype=[("a", object)]), "inline"),
        "function": lambda: scipy.io.matlab.MatlabFunction(np.zeros((1, 1), dtype=[("a", object)])),
        "complex": lambda: plain + 1j,
        "logical": lambda: plain > 0,
        "int64": lambda: np.round(plain).astype(np.int64),
        "3-D": lambda: np.stack([plain, plain]),
        "empty": lambda: np.zeros((0, 0)),
    }[kind]
    return made(), kind


def opaque(name):
    """A variable of MATLAB's class ``string`` as its files have it: type system, class, and where its text would be."""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    places = element(6, np.array([0xDD000000, 2, 1, 1, 1, 1], "<u4").tobytes())
    numbers = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<ii", 6, 1)) + element(1, b"") + places
    parts = [element(1, text) for text in (name, b"MCOS", b"string")]
    return element(14, element(6, struct.pack("<II", 17, 0)) + b"".join(parts) + element(14, numbers))


def change_mat(draw, path):
    """Write a version 5 file anew with one variable that doesn't fit, or with one more that nobody needs."""
    variables = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    way = pick(draw, ("nonsense", "nonsense", "class", "class", "more", "opaque", "version 4"))
    told = way
    if way == "nonsense":
        variables, told = nonsense(draw, variables)
    elif way == "class":
        key = pick(draw, sorted(variables))
        variables[key], told = odd_variable(draw, variables[key])
        told = f"{key} as {told}"
    elif way == "more":
        variables["more"], told = odd_variable(draw, np.ones((2, 3)))
        told = f"one more: {told}"
    elif way == "version 4":
        variables = {key: value for key, value in variables.items() if value.dtype != object}
    # SciPy itself won't write some of them; then the file is what it was.
    content = io.BytesIO()
    with suppress(Exception):
        compressed = {} if way == "version 4" else {"do_compression": bool(draw.integers(2))}
        scipy.io.savemat(content, variables, format="4" if way == "version 4" else "5", **compressed)
        path.write_bytes(content.getvalue())
    if way == "opaque":
        with path.open("ab") as file:
            file.write(opaque(pick(draw, (b"net", b"features", b"eightchr", b""))))
    return told
