"""Standard streams of the shell: closed ones, full ones, and those that stand where a file is expected."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from fgen.errors import InputError, visible


def open_closed_streams() -> None:
    """Open closed standard streams, as a daemon has them, on the null device; else the next file would replace them."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def flush(stream: TextIO) -> None:
    """Write what is left of the output, or give it up: at its exit Python would fail again, with another exit code."""
    try:
        stream.flush()
    except OSError:
        give_up(stream)


def give_up(stream: TextIO) -> None:
    """Redirect a stream to the null device, or Python would try to write the rest once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def refuse_streams(options: Mapping[str, Any], *, prints: bool = False) -> None:
    """Refuse ``-`` and devices as output: files are written under another name beside it and moved.

    Args:
        options: the values of a command's arguments, by name.
        prints: the command has another way for ``-``.
    """
    for option, name in (("--out", "out"), ("the target", "target")):
        given = options.get(name)
        if prints and given == "-":
            continue
        if given == "-" or (given and re.match(r"/dev/[^/]*$|/dev/fd/|/proc/", os.path.abspath(given))):
            remedy = "--out - prints" if prints else "Write to a file and print that"
            raise InputError(f"{option} is {given!r}", "a name for a file or folder", remedy)


def complain(message: str) -> None:
    """Print a message of fgen to stderr."""
    with suppress(OSError):  # the exit code still tells of the error
        print(visible(f"fgen: {message}"), file=sys.stderr)  # noqa: T201
