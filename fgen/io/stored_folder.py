"""Folders of two files, ``NAME.json`` with a description and ``NAME.safetensors`` with tensors; nothing is pickled."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save
from torch import Tensor

from fgen.errors import InputError, first_line
from fgen.io.atomic import expect_only, replace_directory, write_json
from fgen.io.consistent_read import read_folder
from fgen.io.reading import nearest_sibling, read_json

#: The version of every format.
VERSION = 1
T = TypeVar("T")
Restore = Callable[[dict[str, Any], dict[str, Tensor]], T]


def write(
    path: str | Path, name: str, form: str, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a folder; equal contents are equal bytes. An older folder of that name is replaced in one move.

    Args:
        path: the folder.
        name: of both files, without their ending.
        form: the name of the format, by which :func:`read` chooses.
        description: what JSON can hold.
        tensors: by name.

    Raises:
        InputError: the folder holds other files.
    """
    files = f"{name}.json", f"{name}.safetensors"
    with replace_directory(path, partial(expect_only, names=files)) as folder:
        (folder / files[1]).write_bytes(save({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}))
        write_json(folder / files[0], {"format": form, "format_version": VERSION, **description})


def read(path: str | Path, name: str, restore: Mapping[str, Restore[T]]) -> T:
    """Return what is made of a folder that :func:`write` wrote.

    A folder that is replaced meanwhile is read again: description and tensors always belong together.

    Args:
        path: the folder.
        name: of both files, without their ending.
        restore: by the name of the format, a function of the description and the tensors. What it raises is taken for
            damage of the folder.

    Raises:
        InputError: no such folder, damaged files, or another format.
    """
    return read_folder(Path(path), lambda folder: _read(folder, name, restore))


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, by the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _read(path: Path, name: str, restore: Mapping[str, Restore[T]]) -> T:
    files = path / f"{name}.json", path / f"{name}.safetensors"
    try:
        if missing := [file.name for file in files if not file.is_file()]:  # a pipe would be waited for
            raise ValueError(f"there is no file {missing[0]}")
        description, tensors = read_json(files[0]), load_file(files[1])
        form, version = description["format"], description["format_version"]
        if form not in restore or version != VERSION:
            raise ValueError(f"the format is {form} {version}, not {' or '.join(restore)} {VERSION}")
        return restore[form](description, tensors)
    except MemoryError:
        raise
    except Exception as error:  # damage makes parsers and constructors raise whatever comes
        found = f"{path} is no readable {name} ({first_line(error).rstrip('.')})"
        expected = f"a folder with {files[0].name} and {files[1].name}, as save() writes it"
        raise InputError(found, expected, _remedy(path, name)) from None


def _remedy(path: Path, name: str) -> str:
    """Return which folder may have been meant: one of a similar name, or one within it that holds such files."""
    if not path.exists():
        return nearest_sibling(path)
    inner = next((file for where in ("*", f"seeds/*/{name}") for file in path.glob(f"{where}/{name}.json")), None)
    return "" if inner is None else f"There is {inner.parent}"
