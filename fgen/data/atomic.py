"""Files and folders that are either whole or not there, whatever kills the writer."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgen.errors import InputError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; on success it is flushed to disk and takes the place of ``path``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """:func:`atomic_file` under a name that a user gave.

    Raises:
        InputError: as :func:`expect_free` has it, or the disk refuses.
    """
    expect_free(path, overwrite=overwrite)
    try:
        with atomic_file(path) as partial:
            yield partial
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror or error})") from error


def expect_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a name for a file to be.

    Raises:
        InputError: something of that name exists that isn't to be replaced, or its folder doesn't exist.
    """
    if os.path.exists(path) and (not overwrite or not path.is_file()):
        raise InputError(f"{path} exists", "a new name", "Choose another name, or allow overwriting")
    if not os.path.isdir(path.parent):
        raise InputError(f"The folder {path.parent} doesn't exist", "an existing folder", "Create it first")


@contextmanager
def replace_directory(path: str | Path) -> Iterator[Path]:
    """An empty folder beside ``path`` to write to; on success it takes the place of ``path``.

    A folder can't be replaced in one move, so an older one steps aside first; :func:`settle` puts it back should
    the writer be killed between the two moves.
    """
    path = Path(path).resolve()
    if path == Path.cwd():
        raise InputError(f"{path} is the folder that this runs in", "another", "Name a folder within it")
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path)
    partial = _beside(path, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            flush(file)
        flush(partial)
        if path.exists():
            os.replace(path, _beside(path, "old"))
        os.replace(partial, path)
        flush(path.parent)
    finally:
        settle(path)
        shutil.rmtree(partial, ignore_errors=True)


def expect_only(path: Path, names: Collection[str]) -> None:
    """Refuse to have a folder replaced that holds anything but files of these names.

    Raises:
        InputError: it does, or is no folder.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "a new folder", "Choose another name")
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in names) if path.exists() else []
    if others:
        raise InputError(f"{path} also holds {others[0]!r}", f"a folder of {' and '.join(names)} alone, or a new one")


def settle(path: Path) -> None:
    """Undo or finish a folder's replacement that was killed half-way."""
    aside = _beside(path, "old")
    if aside.exists():
        if path.exists():
            shutil.rmtree(aside)
        else:
            os.replace(aside, path)


def write_json(path: str | Path, content: Any) -> None:
    """JSON with sorted keys, so that equal content is equal bytes."""
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as file:
        file.write_text(text + "\n", encoding="utf-8")


def flush(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def claim(handle: int, path: Path) -> None:
    """Keep other processes of fgen away from ``path`` until the open ``handle``, its own or its journal's, is closed.

    Raises:
        InputError: one is at work there.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another fgen is at work in {path}", "one at a time", "Wait for it, or choose another --out"
        ) from None


def reserve(file: int, size: int) -> None:
    """Have the disk keep ``size`` bytes for an open file, or raise OSError.

    Where the system has no call for that, as macOS, zeros are written.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.pwrite(file, zeros[: size - start], start)


def _beside(path: Path, what: str) -> Path:
    """A folder beside ``path`` that is fgen's own: nobody calls a folder so."""
    return path.with_name(f".{path.name}.fgen.{what}")
