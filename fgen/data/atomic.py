"""Files and folders that are either whole or not there, whatever kills the writer."""

from __future__ import annotations

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
        _flush(partial)
        os.replace(partial, path)
        _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: str | Path) -> Iterator[Path]:
    """An empty folder beside ``path`` to write to; on success it takes the place of ``path``.

    A folder can't be replaced in one move, so an older one steps aside first; :func:`settle` puts it back should
    the writer be killed between the two moves.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            _flush(file)
        _flush(partial)
        if path.exists():
            os.replace(path, _aside(path))
        os.replace(partial, path)
        _flush(path.parent)
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
    aside = _aside(path)
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


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
