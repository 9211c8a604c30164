"""Folders of two files, ``NAME.json`` with a description and ``NAME.safetensors`` with tensors; nothing is pickled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from fgen.errors import InputError
from fgen.io.atomic import expect_only, replace_directory, write_json
from fgen.io.consistent_read import read_folder
from fgen.io.reading import nearest_sibling, read_json

#: The version of every format.
VERSION = 1
T = TypeVar("T")


def write(
    path: str | Path, name: str, form: str, description: Mapping[str, Any], tensors: Mapping[str, Tensor | np.ndarray]
) -> None:
    """Write a folder; equal contents are equal bytes. An older folder of that name is replaced in one move.

    Args:
        path: the folder.
        name: of both files, without their ending.
        form: the name of the format, which :func:`read` expects.
        description: what JSON can hold.
        tensors: by name.

    Raises:
        InputError: the folder holds other files.
    """
    files = f"{name}.json", f"{name}.safetensors"
    with replace_directory(path, partial(expect_only, names=files)) as folder:
        (folder / files[1]).write_bytes(save({key: _stored(value) for key, value in tensors.items()}))
        write_json(folder / files[0], {"format": form, "format_version": VERSION, **description})


def read(
    path: str | Path,
    name: str,
    forms: Collection[str],
    restore: Callable[[dict[str, Any], dict[str, Tensor]], T],
) -> T:
    """Return what ``restore(description, tensors)`` makes of a folder that :func:`write` wrote.

    A folder that is replaced meanwhile is read again: description and tensors always belong together.

    Args:
        path: the folder.
        name: of both files, without their ending.
        forms: the names of the formats that are accepted.
        restore: what it raises is taken for damage of the folder, and becomes an InputError.

    Raises:
        InputError: no such folder, damaged files, or another format.
    """
    return read_folder(Path(path), lambda folder: _read(folder, name, forms, restore))


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _read(
    path: Path, name: str, forms: Collection[str], restore: Callable[[dict[str, Any], dict[str, Tensor]], T]
) -> T:
    files = path / f"{name}.json", path / f"{name}.safetensors"
    try:
        description, tensors = _parsed(files[0], read_json), _parsed(files[1], load_file)
        found = description["format"], description["format_version"]
        if found[0] not in forms or found[1] != VERSION:
            raise ValueError(f"the format is {found[0]} {found[1]}, not {' or '.join(forms)} {VERSION}")
        return restore(description, tensors)
    except MemoryError:
        raise
    except Exception as error:  # damage makes parsers and constructors raise whatever comes
        raise InputError(
            f"{path} is no readable {name} ({_reason(error)})",
            f"a folder with {files[0].name} and {files[1].name}, as save() writes it",
            _remedy(path, name),
        ) from None


def _parsed(file: Path, parse: Callable[[Path], T]) -> T:
    """Return what a file holds; an error names the file."""
    if not file.is_file():  # a pipe would be waited for
        raise ValueError(f"there is no file {file.name}")
    try:
        return parse(file)
    except Exception as error:
        raise ValueError(f"{file.name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the first line of an error's message, with the error's type where that isn't told by the message."""
    line = (str(error).splitlines() or [""])[0][:200].rstrip(".")
    return line if isinstance(error, ValueError) and line else f"{type(error).__name__}: {line}"


def _remedy(path: Path, name: str) -> str:
    """Return which folder may have been meant: one within it that holds such files, or one of a similar name."""
    if not path.exists():
        return nearest_sibling(path)
    inner = next((file for where in ("*", f"seeds/*/{name}") for file in path.glob(f"{where}/{name}.json")), None)
    return "" if inner is None else f"There is {inner.parent}"


def _stored(value: Tensor | np.ndarray) -> Tensor:
    return (torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value.cpu()).contiguous()
