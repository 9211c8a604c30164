"""Reading of files that another process may replace meanwhile: everything read is of one version."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from fgen.errors import InputError
from fgen.io.atomic import beside

T = TypeVar("T")

#: How often a reader begins anew; a writer replaces a folder in milliseconds, and seldom.
TRIES = 100


def current(path: Path) -> Path:
    """Return where a folder's content is now: at ``path``, or beside it while :func:`fgen.io.atomic.replace_directory`
    replaces it or after it was killed.
    """
    aside = _aside(path)
    # The path is tested twice: the new folder may appear, and the older one vanish, between both tests.
    return next((place for place in (path, aside, path) if os.path.exists(place)), path)


def read_folder(path: Path, read: Callable[[Path], T]) -> T:
    """Read a folder that is replaced as a whole: the result is of the old or the new one, never a mixture.

    Args:
        path: the folder's name.
        read: is given the folder where it is now, and is called again where it was replaced meanwhile.
    """
    return read_consistently([path, _aside(path)], lambda: read(current(path)))


def _aside(path: Path) -> Path:
    """Return the path to which an older folder of that name is renamed."""
    with suppress(OSError, RuntimeError, ValueError):  # no path at all: links that lead round, a NUL
        path = path.resolve()
    return beside(path, "old")


def read_consistently(paths: Sequence[Path], read: Callable[[], T]) -> T:
    """Return or raise what ``read()`` does, in a call during which none of ``paths`` was created, replaced or removed.

    Raises:
        InputError: none of 100 tries was undisturbed.
    """
    for _ in range(TRIES):
        with ExitStack() as stack:
            before = [_identity(path, stack) for path in paths]
            try:
                result = read()
            except (InputError, OSError):
                if before == [_identity(path, stack) for path in paths]:
                    raise
            else:
                if before == [_identity(path, stack) for path in paths]:
                    return result
    raise InputError(f"{paths[0]} is replaced all the while", "it at rest", "Try again when that has ended")


def _identity(path: Path, stack: ExitStack) -> tuple[int, int] | None:
    """Return device and inode of what is at ``path``, or None where nothing can be opened.

    It stays open until ``stack`` is closed, so that no other file gets the same numbers meanwhile.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without waiting for the other end of a pipe
    except (OSError, ValueError):
        return None
    stack.callback(os.close, handle)
    found = os.fstat(handle)
    return found.st_dev, found.st_ino
