"""Reading of files that may be damaged: one error for the many that parsers raise."""

import difflib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError, did_you_mean, first_line, visible

#: Nothing packs tighter: deflate can't (1032 to 1), nor can any filter that ships with HDF5.
MAX_COMPRESSION = 1100
#: Large arrays that anyone could use are packed less tightly; labels in order, which are small, nearly as tightly.
MAX_LARGE_COMPRESSION = 100
SMALL_BYTES = 64 << 20
AGAIN = "It may be truncated or damaged: download or write it again"


@contextmanager
def guarded_read(path: Path, kind: str, remedy: str = AGAIN) -> Iterator[None]:
    """Turn whatever a parser raises at a damaged or hostile file into one InputError that names the file.

    Args:
        path: the file, which must be a regular one (opening a pipe could block).
        kind: what the file should be, as in "no readable .mat file".
        remedy: what to do about a damaged one.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} doesn't exist", f"{article(kind)} file", nearest_sibling(path))
    if not path.is_file():
        raise InputError(f"{path} is no regular file", f"{article(kind)} file")
    try:
        # Numbers beyond float32 become infinite here, and are then refused by name; the warning would be noise.
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except InputError as error:
        if visible(str(path)) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read ({error.strerror})") from error
    except MemoryError as error:
        expected = "a smaller file, or fgen's own .h5, which stays on disk"
        raise InputError(f"{path} doesn't fit into memory", expected) from error
    except Exception as error:
        # Parsers answer damage with a zoo: zlib.error, struct.error, KeyError, OverflowError, BadZipFile, ...
        found = f"{path} is no readable {kind} file ({type(error).__name__}: {first_line(error)})"
        raise InputError(found, remedy=remedy) from error


def most_unpacked(packed: int) -> int:
    """Return how many bytes ``packed`` bytes may unpack to: a small file must not fill the memory."""
    return max(min(packed * MAX_COMPRESSION, SMALL_BYTES), packed * MAX_LARGE_COMPRESSION)


def read_json(path: Path) -> Any:
    """Read a JSON file, within a block of :func:`guarded_read`.

    Raises:
        ValueError: no JSON, or what no JSON may hold and :func:`fgen.io.atomic.write_json` couldn't write again:
            NaN, infinite numbers, halves of surrogate pairs. RecursionError: lists in lists too deep.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    return content


def nearest_sibling(path: Path) -> str:
    """Return a remedy with the name beside ``path`` that is most similar to it, or ""."""
    if os.path.exists(f"{path}.partial"):
        return f"{path}.partial isn't whole yet: the command that began it goes on with it"
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return f"The folder {path.parent} doesn't exist either" if not path.parent.exists() else ""
    near = difflib.get_close_matches(path.stem, {Path(name).stem for name in names}, cutoff=0.7)
    names = [name for name in names if Path(name).stem in near]  # ends are alike of all: .npy, .npz
    return did_you_mean(path.name, names, show=lambda name: str(path.with_name(name)))


def article(noun: str) -> str:
    """Return the noun with "a" or "an" before it; ``.h5`` and ``.npz`` are pronounced letter by letter."""
    return f"{'an' if noun.lstrip('.')[:1].lower() in 'aehinox' else 'a'} {noun}"
