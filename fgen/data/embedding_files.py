"""Files of class embeddings that users have: tables, word vectors, NumPy's arrays."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgen.data.tables import header_of, lines_of, read_embeddings_csv, write_embeddings_csv
from fgen.errors import InputError, shortened
from fgen.features.checks import as_matrix, as_text, checked_names, number_in
from fgen.io import npz
from fgen.io.atomic import new_file
from fgen.io.reading import guarded_read

#: A name may end in a number, as "boeing 747"; with a point in it, it is one number too many.
_ENDS_IN_A_FRACTION = re.compile(r"(^| )[-+]?\d*\.\d+(e[-+]?\d+)?$", re.IGNORECASE)
_COLUMN_OF_KIND = re.compile(r"(.+)\.(\d+)")
_BLANKS = re.compile(r"[ \t]+")
#: The name under which a file holds the record of the encoder.
TEXT_ENCODER = "text_encoder"
LARGEST = np.finfo(np.float32).max


def read_embeddings(path: str | Path, width: int | None = None) -> tuple[list[str], np.ndarray]:
    """Read class embeddings.

    Args:
        path: ``.csv``, see :func:`fgen.data.tables.read_embeddings_csv`; ``.txt`` or ``.vec`` as GloVe and word2vec
            write text, a name and its numbers with blanks between them, perhaps after a line with both sizes; ``.npz``
            with ``class_names (K,)`` and ``class_embeddings (K, A)``; or ``.npy`` with ``(K, A)``, whose names are the
            lines of ``NAME.names.txt`` beside ``NAME.npy``.
        width: A, where the reader knows it.

    Returns:
        K distinct names, and ``(K, A)`` float32.

    Raises:
        InputError: names that are missing, empty or there twice, numbers that aren't finite, another width; damage.
    """
    path = Path(path)
    if path.suffix not in READERS:
        raise InputError(f"{path} ends in {path.suffix!r}", f"one of {', '.join(READERS)}")
    if path.suffix == ".csv":
        return read_embeddings_csv(path, width)
    with guarded_read(path, path.suffix):
        names, matrix = READERS[path.suffix](path, width)
        if width is not None and matrix.shape[1] != width:
            raise InputError(f"{path} has {matrix.shape[1]} numbers for each class", f"{width}")
        return names, matrix


def write_embeddings(
    path: str | Path, names: Sequence[str], embeddings: np.ndarray, encoder: str, *, overwrite: bool = False
) -> None:
    """Write what :func:`read_embeddings` reads, whole or not at all.

    Args:
        path: ``.npz``, which also holds the record of the encoder, or a CSV file.
        names, embeddings: K names and ``(K, A)``.
        encoder: the record, as JSON.

    Raises:
        InputError: the file exists, or the disk refuses.
    """
    path = Path(path)
    if path.suffix != ".npz":
        write_embeddings_csv(path, names, embeddings, overwrite=overwrite)
        return
    arrays: dict[str, Any] = {"class_names": np.array(names), TEXT_ENCODER: np.array([encoder])}
    with new_file(path, overwrite=overwrite) as partial, partial.open("wb") as file:
        np.savez(file, class_embeddings=np.asarray(embeddings, np.float32), **arrays)


def read_text_encoder(path: str | Path) -> str | None:
    """Return the record of the encoder of class embeddings, as JSON; None where the file doesn't hold it.

    Raises:
        InputError: damage.
    """
    path = Path(path)
    if path.suffix != ".npz":
        return None
    with guarded_read(path, path.suffix), npz.Archive(path) as archive:
        if TEXT_ENCODER not in archive.members:
            return None
        return checked_names(archive[TEXT_ENCODER], 1, name=TEXT_ENCODER)[0]


def read_kinds(path: str | Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read class embeddings of one or of several kinds.

    Args:
        path: what :func:`read_embeddings` reads. A CSV file whose header names the columns ``KIND.0``, ``KIND.1`` and
            so on for two kinds or more holds these; any other file holds one kind, "attributes".

    Returns:
        K distinct names, and ``(K, A)`` float32 of each kind, sorted by name.

    Raises:
        InputError: as :func:`read_embeddings` has it.
    """
    names, matrix = read_embeddings(path)
    columns = columns_of_kinds(path)
    return names, {kind: matrix[:, columns[kind]] for kind in sorted(columns)} or {"attributes": matrix}


def read_embeddings_of(path: str | Path, kinds: str | Sequence[str] | None, width: int) -> tuple[list[str], np.ndarray]:
    """Read class embeddings as a model was trained on them.

    Args:
        path: what :func:`read_embeddings` reads; of a CSV file of several kinds the columns of these kinds are taken,
            in the order of training.
        kinds: the kinds of training; None if they have no names.
        width: A, the number of columns in training.

    Raises:
        InputError: as :func:`read_embeddings` has it, or a kind that the file lacks.
    """
    columns = columns_of_kinds(path)
    if not columns or kinds is None:
        return read_embeddings(path, width)
    names, matrix = read_embeddings(path)
    wanted = [kinds] if isinstance(kinds, str) else kinds
    if missing := [kind for kind in wanted if kind not in columns]:
        raise InputError(f"{path} has columns of {', '.join(columns)}", f"{missing[0]}.0, {missing[0]}.1, ...")
    matrix = matrix[:, [column for kind in wanted for column in columns[kind]]]
    if matrix.shape[1] != width:
        raise InputError(f"{path} has {matrix.shape[1]} numbers of {', '.join(wanted)} for each class", f"{width}")
    return names, matrix


def columns_of_kinds(path: str | Path) -> dict[str, list[int]]:
    """Return the columns of each kind in a CSV file of two kinds or more, in the file's order; of other files ``{}``.

    The columns of a kind are counted from 0, one after the other.
    """
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(header_of(path)[1:] if Path(path).suffix == ".csv" else []):
        parts = _COLUMN_OF_KIND.fullmatch(name.strip())
        if parts is None or int(parts[2]) != len(columns.setdefault(parts[1], [])):
            return {}
        columns[parts[1]].append(column)
    return columns if len(columns) > 1 else {}


def _read_text(path: Path, width: int | None) -> tuple[list[str], np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(lines_of(path, file), 1):
            words, where = _BLANKS.split(line.strip(" \t\r\n")), f"{path}, line {number}"
            if words == [""] or (number == 1 and _counts(words)):
                continue
            width = _trailing_numbers(words) if width is None else width
            name, numbers = " ".join(words[: len(words) - width]), _numbers(words[len(words) - width :])
            if not width or not name or numbers is None or _ENDS_IN_A_FRACTION.search(name):
                expected = f"a name, then {width or 'its'} finite numbers, with blanks between them"
                raise InputError(f"{where}, begins with {shortened(words[0])}", expected, _remedy(line))
            as_text(f"{where}: the class's name", name)
            if name in rows:
                raise InputError(f"{where}: {shortened(name)} is there already", "distinct names")
            rows[name] = numbers
    if not rows:
        raise InputError(f"{path} has no classes", "a line for each: its name, then its numbers")
    return list(rows), np.stack(list(rows.values()))


def _counts(words: Sequence[str]) -> bool:
    """Return whether a first line holds the numbers of words and of columns, as word2vec writes them."""
    return len(words) == 2 and all(word.isascii() and word.isdigit() for word in words)


def _trailing_numbers(words: Sequence[str]) -> int:
    """Return how many words at the end of a line are numbers; the first is never one."""
    count = 0
    while count < len(words) - 1 and number_in(words[-1 - count]) is not None:
        count += 1
    return count


def _numbers(words: Sequence[str]) -> np.ndarray | None:
    """Return words as float32, or None where one is no finite number."""
    values = np.array([*map(number_in, words)], dtype=np.float64)
    return values.astype(np.float32) if (np.abs(values) <= LARGEST).all() else None


def _remedy(line: str) -> str:
    return "Call a table with commas .csv" if "," in line else ""


def _read_npz(path: Path, width: int | None) -> tuple[list[str], np.ndarray]:
    with npz.Archive(path) as archive:
        matrix = as_matrix("class_embeddings", archive["class_embeddings"])
        return list(checked_names(archive["class_names"], len(matrix))), matrix


def _read_npy(path: Path, width: int | None) -> tuple[list[str], np.ndarray]:
    beside = path.with_suffix(".names.txt")
    if not beside.is_file():
        remedy = "Or write numpy.savez(FILE, class_names=names, class_embeddings=matrix)"
        raise InputError(f"{path} has no names", f"{beside} beside it, with a name on each line", remedy)
    with guarded_read(beside, ".txt"), beside.open("rb") as file:
        names = [line.strip() for line in lines_of(beside, file)]
        matrix = as_matrix("the array", npz.map_array(path))
        return list(checked_names(names, len(matrix), each=f"row of {path.name}")), matrix


READERS: dict[str, Callable[[Path, int | None], tuple[list[str], np.ndarray]]] = {
    ".csv": read_embeddings_csv,
    ".txt": _read_text,
    ".vec": _read_text,
    ".npz": _read_npz,
    ".npy": _read_npy,
}
