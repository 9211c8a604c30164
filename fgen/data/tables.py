"""CSV tables and feature files of users: descriptions of classes, features to predict on."""

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError, shortened, wrong_array
from fgen.features.checks import as_text, number_in
from fgen.features.rows import Features, refuse_non_finite
from fgen.io import hdf5, npz
from fgen.io.atomic import new_file
from fgen.io.matlab import open_mat
from fgen.io.reading import guarded_read

IN_WORDS = "Of descriptions in words, fgen embed makes numbers"
OTHER_SEPARATOR = "Save the table with commas between its cells, and points in its numbers: name,0.5,0.25"
DECIMAL_COMMAS = "Write numbers with a point: 0.5"
FIRST_HEADERS = ("", "name", "class", "class_name", "label", "index")
DESCRIPTION_HEADERS = (["name", "description"], ["class", "description"])
_OF_COLUMNS = re.compile(r"[;\t]")


def read_embeddings_csv(path: str | Path, width: int | None = None) -> tuple[list[str], np.ndarray]:
    """Read descriptions of classes: a name and then A numbers in each row.

    Args:
        path: a CSV file in UTF-8. A first row without a single number is a header, and so is one that counts the
            columns from 0 or 1, as pandas and R write it; after a name of its own it counts four of them or more.
        width: A, where the reader knows it.

    Returns:
        K distinct names, and ``(K, A)`` float32.

    Raises:
        InputError: names the line: a ragged row, no finite number, a name that is empty or there twice, text
            that isn't UTF-8, cells between semicolons, tabs or blanks, decimal commas; or a file without classes.
    """
    path = Path(path)
    rows: dict[str, list[float]] = {}
    with guarded_read(path, ".csv"):
        for where, name, cells in _class_rows(path, _is_header, "numbers", IN_WORDS):
            width = width if width is not None else len(cells) - 1
            if len(cells) - 1 != width or not width or (_OF_COLUMNS.search(name) and _is_split_elsewhere(cells)):
                found = f"{where}: {shortened(name)} has {len(cells) - 1} numbers"
                raise InputError(found, f"{width or 'at least 1'}, separated by commas", _remedy(cells, IN_WORDS))
            rows[name] = [_checked_number(cells, at, where, IN_WORDS) for at in range(1, len(cells))]
        return list(rows), np.array(list(rows.values()), dtype=np.float32)


def header_of(path: str | Path) -> list[str]:
    """Return the cells of the first row of a CSV file of embeddings if they name its columns, else ``[]``."""
    with guarded_read(Path(path), ".csv"):
        first = next((cells for _, cells in csv_rows(Path(path))), [])
        return first if _is_header(first) else []


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether a first row names the columns: without a number, or with nothing but their numbers.

    pandas writes ``,0,1,2`` or ``0,1,2,3``, R ``"","1","2","3"`` or, one cell short, ``"1","2","3"``. A class may have
    the numbers 1, 2, 3, so a row that begins with its name must count more of them.
    """
    if len(cells) < 2 or _is_split_elsewhere(cells) or _has_decimal_commas(cells):
        return False
    if all(number_in(cell) is None for cell in cells[1:]):
        return True
    columns = [str(column) for column in range(len(cells) + 1)]
    if list(cells) in (columns[:-1], columns[1:]):
        return len(cells) > 2
    counted = list(cells[1:]) in (columns[:-2], columns[1:-1])
    return counted and (len(cells) > 4 or cells[0].strip().lower() in FIRST_HEADERS)


def _is_split_elsewhere(cells: Sequence[str]) -> bool:
    """Return whether semicolons, tabs or blanks split a row into a name and numbers, perhaps with decimal commas."""
    parts = next((parts for parts in map(",".join(cells).split, (";", "\t", None)) if len(parts) > 1), [","])
    return "," not in parts[0] and all(number_in(part.replace(",", ".")) is not None for part in parts[1:])


def _has_decimal_commas(cells: Sequence[str]) -> bool:
    """Return whether a cell after the name is a number but for its comma."""
    return any(number_in(cell) is None and number_in(cell.replace(",", ".")) is not None for cell in cells[1:])


def _remedy(cells: Sequence[str], in_words: str = "") -> str:
    """Return what to do about a row that isn't of numbers; ``in_words`` where it holds words after its first cell."""
    if _is_split_elsewhere(cells) or (len(cells) == 1 and _OF_COLUMNS.search(cells[0])):
        return OTHER_SEPARATOR
    if _has_decimal_commas(cells):
        return DECIMAL_COMMAS
    return in_words if any(cell.strip() and number_in(cell) is None for cell in cells[1:]) else ""


def read_descriptions_csv(path: str | Path) -> tuple[list[str], list[str]]:
    """Read classes and what is said of them: in each row a name, then any cells that describe it.

    Args:
        path: a CSV file in UTF-8; a list of names, one on each line, is one too. A first row of ``name`` or ``class``
            and ``description`` is a header.

    Returns:
        K distinct names, and K texts: ``"name: description"``, or the name alone where nothing else is said.

    Raises:
        InputError: names the line: a name that is empty or there twice; text that isn't UTF-8; no classes.
    """
    path = Path(path)
    with guarded_read(path, ".csv"):
        texts = {name: text for _, name, text in _description_rows(path)}
    return list(texts), list(texts.values())


def read_descriptions(path: str | Path) -> dict[str, list[str]]:
    """Read classes with one or several descriptions each.

    Args:
        path: a CSV file as :func:`read_descriptions_csv` has it, where a class may have several lines, each a
            description; or a folder of pages, texts ``NAME.txt`` in UTF-8, each of the class ``NAME``.

    Returns:
        The texts of each class, in the order of the file or of the names.

    Raises:
        InputError: as there; a line that is there twice; a folder without pages, or an empty page.
    """
    path, texts = Path(path), dict[str, list[str]]()
    if path.is_dir():
        return _read_pages(path)
    with guarded_read(path, ".csv"):
        for where, name, text in _description_rows(path, distinct=False):
            if text in texts.setdefault(name, []):
                raise InputError(f"{where}: {shortened(text)} is there already", "distinct descriptions of a class")
            texts[name].append(text)
    return texts


def _read_pages(folder: Path) -> dict[str, list[str]]:
    """Read a folder of texts ``NAME.txt``."""
    texts = {}
    for page in sorted(folder.glob("*.txt")):
        with guarded_read(page, ".txt"), page.open("rb") as file:
            text = "".join(lines_of(page, file)).strip()
        if not text:
            raise InputError(f"{page} is empty", "a description of the class")
        texts[as_text(f"{page}: the class's name", page.stem)] = [text]
    if not texts:
        raise InputError(f"{folder} has no pages", "texts NAME.txt, each of the class NAME")
    return texts


def _description_rows(path: Path, *, distinct: bool = True) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the class's name and the text of each row: ``"name: description"``, or the name alone."""
    for where, name, cells in _class_rows(path, _names_descriptions, "description", distinct=distinct):
        if len(cells) == 1 and _OF_COLUMNS.search(cells[0]):
            found = f"{where}: {shortened(cells[0])} has no comma"
            raise InputError(found, "a name, then its description", "Save the table with commas")
        said = ", ".join(cell.strip() for cell in cells[1:] if cell.strip())
        yield where, name, f"{name}: {said}" if said else name


def _names_descriptions(cells: Sequence[str]) -> bool:
    """Return whether a first row is the header of a table of descriptions."""
    return [cell.strip().lower() for cell in cells] in DESCRIPTION_HEADERS


def write_embeddings_csv(
    path: str | Path,
    names: Sequence[str],
    embeddings: np.ndarray | Mapping[str, np.ndarray],
    *,
    overwrite: bool = False,
) -> None:
    """Write what :func:`read_embeddings_csv` reads: ``K`` names with their rows of ``(K, A)``, whole or not at all.

    A dict holds several kinds, whose columns are named ``KIND.0``, ``KIND.1`` and so on.

    Raises:
        InputError: the file exists, or the disk refuses.
    """
    header: list[list[str]] = []
    if isinstance(embeddings, Mapping):
        columns = (f"{kind}.{k}" for kind, matrix in embeddings.items() for k in range(matrix.shape[1]))
        header, embeddings = [["name", *columns]], np.concatenate(list(embeddings.values()), axis=1)
    rows = ([name, *(f"{x:.9g}" for x in row)] for name, row in zip(names, embeddings, strict=True))
    _write_csv(Path(path), chain(header, rows), overwrite=overwrite)


def _write_csv(path: Path, rows: Iterable[Iterable[Any]], *, overwrite: bool) -> None:
    """Write a table, whole or not at all."""
    with new_file(path, overwrite=overwrite) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_features(path: str | Path) -> tuple[Features, np.ndarray | None]:
    """Read features to predict on.

    Args:
        path: ``.h5`` with a dataset ``features`` (a bank or a data set has one), ``.npz`` with an array
            ``features``, ``.npy``, ``.mat`` with a variable ``features (D, N)``, whose columns are the rows, or
            ``.csv`` with D numbers in each row. A first row of the CSV file that names or counts the columns is a
            header; where its first cell is empty, the first column holds names or numbers of rows and isn't read.

    Returns:
        ``(N, D)`` features, on disk where the file allows it, and ``(N,)`` labels where the file has an integer for
        each row. What else it calls labels isn't needed here, and is passed over: names, or NaN for an unknown class.

    Raises:
        InputError: damage, no features, or features that are no finite numbers.
    """
    path = Path(path)
    if path.suffix not in FEATURE_READERS:
        raise InputError(f"{path} ends in {path.suffix!r}", f"one of {', '.join(FEATURE_READERS)}")
    with guarded_read(path, path.suffix):
        features, labels = FEATURE_READERS[path.suffix](path)
        if len(features.shape) != 2 or features.dtype.kind not in "fiu" or 0 in features.shape:
            raise wrong_array("features", features, "numbers (N, D)")
        refuse_non_finite(features)
        fit = labels is not None and labels.shape == features.shape[:1] and labels.dtype.kind in "iu"
        return features, labels if fit else None


def _hdf5_features(path: Path) -> tuple[Features, np.ndarray | None]:
    with hdf5.opened(path) as file:
        features, labels = hdf5.matrix(hdf5.dataset(file, "features", ndim=2)), None
        with suppress(InputError):  # labels that are missing, or not safely in the file
            labels = hdf5.numbers(file, "labels", ndim=1, kinds="iu")  # a text could claim gigabytes
        return features, labels


def _npz_features(path: Path) -> tuple[Features, np.ndarray | None]:
    with npz.Archive(path) as archive:
        features, labels = archive["features"], None
        with suppress(Exception):  # labels that are missing, objects or damaged
            labels = archive["labels"]
        return features, labels


def _npy_features(path: Path) -> tuple[Features, np.ndarray | None]:
    return npz.map_array(path), None


def _mat_features(path: Path) -> tuple[Features, np.ndarray | None]:
    variables = open_mat(path)
    if "features" not in variables:
        raise InputError(f"{path} has no variable 'features'", f"it beside {', '.join(sorted(variables)[:20])}")
    return variables["features"].numbers(), None


def _csv_features(path: Path) -> tuple[Features, np.ndarray | None]:
    rows: list[np.ndarray] = []
    start = width = 0
    for position, (line, cells) in enumerate(csv_rows(path)):
        if position == 0:
            start, width = int(not cells[0].strip()), len(cells)
            if _names_columns(cells):
                continue
        if len(cells) != width:
            found, expected = f"{path}, line {line}, has {len(cells)} cells", f"{width}, as the first line has"
            raise InputError(found, expected, _remedy(cells))
        numbers = np.array([*map(number_in, cells[start:])], dtype=np.float64)  # NaN for text
        if not (np.abs(numbers) <= np.finfo(np.float32).max).all():
            for at in range(start, width):
                _checked_number(cells, at, f"{path}, line {line}")
        rows.append(numbers.astype(np.float32))
    if not rows:
        raise InputError(f"{path} has no rows", "one of numbers for each picture")
    return np.stack(rows), None


def _names_columns(cells: Sequence[str]) -> bool:
    """Return whether a first row of features is a header: without a number, or with nothing but their numbers."""
    named = cells[not cells[0].strip() :]
    if all(number_in(cell) is None for cell in named):
        return not _is_split_elsewhere(cells) and not _has_decimal_commas(["", *cells])
    return len(named) > 3 and list(named) in ([str(at + first) for at in range(len(named))] for first in (0, 1))


FEATURE_READERS: dict[str, Callable[[Path], tuple[Features, np.ndarray | None]]] = {
    ".h5": _hdf5_features,
    ".hdf5": _hdf5_features,
    ".npz": _npz_features,
    ".npy": _npy_features,
    ".mat": _mat_features,
    ".csv": _csv_features,
}


def _class_rows(
    path: Path, is_header: Callable[[Sequence[str]], bool], what: str, remedy: str = "", *, distinct: bool = True
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the place, the class's name and the cells of each row but a header.

    Args:
        what, remedy: what an error says that a row holds after the name, and what to do where there is no row.
        distinct: refuse a name that is there already.

    Raises:
        InputError: a name that is empty, that no file can hold, or that is there already; no classes.
    """
    lines: dict[str, int] = {}
    for position, (line, cells) in enumerate(csv_rows(path)):
        if position or not is_header(cells):
            where, name = f"{path}, line {line}", cells[0].strip()
            if not name:
                raise InputError(f"{where}, has no class name", "a name in the first cell")
            as_text(f"{where}: the class's name", name)
            if distinct and name in lines:
                raise InputError(f"{where}: {shortened(name)} is already in line {lines[name]}", "distinct names")
            lines[name] = line
            yield where, name, cells
    if not lines:
        raise InputError(f"{path} has no classes", f"a row for each class: its name, then its {what}", remedy)


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row, with the number of the line on which it ends; skip blank lines."""
    with open(path, "rb") as file:
        reader = csv.reader(lines_of(path, file))
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}", "comma-separated values") from None


def lines_of(path: Path, file: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a file of UTF-8 text; refuse others, with the number of the line."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            found = f"{path}, line {number}, isn't UTF-8"
            raise InputError(found, "UTF-8 text", "Save the table as CSV UTF-8") from None


def _checked_number(cells: Sequence[str], at: int, where: str, in_words: str = "") -> float:
    value = number_in(cells[at])
    if value is None or not math.isfinite(value) or abs(value) > np.finfo(np.float32).max:
        remedy = _remedy(cells, in_words) if value is None else ""
        raise InputError(f"{where}, column {at + 1}, is {cells[at].strip()[:40]!r}", "a finite number", remedy)
    return value
