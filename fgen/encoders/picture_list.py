"""Lists of pictures: of a folder, of folders of classes, of a table of paths, or of single files."""

import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fgen.data.splits import SPLIT_NAMES
from fgen.data.tables import csv_rows
from fgen.encoders.pictures import SUFFIXES
from fgen.errors import InputError, did_you_mean, shortened
from fgen.features.checks import mended_text
from fgen.io.reading import guarded_read

#: Columns of a table of paths; only the first must be there.
COLUMNS = PATH, CLASS, SPLIT = "path", "class", "split"
#: The split of test rows where the table doesn't say whether their class is seen.
TEST = "test"
log = logging.getLogger("fgen")


@dataclass(frozen=True)
class PictureList:
    """Pictures, and what is said of them.

    Attributes:
        paths: N files.
        names: N texts, the path of each picture as a user would write it: below a folder that was given, or as a table
            has it.
        classes: N names, or none at all where the classes aren't known.
        splits: N of :data:`fgen.data.splits.SPLIT_NAMES` and ``"test"``, or none at all.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()


def are_pictures(source: str | Path) -> bool:
    """Return whether a path is a folder, a picture by its ending, or a table of paths, rather than a file of features.

    Raises:
        InputError: a table that can't be read.
    """
    path = Path(source)
    return path.is_dir() or path.suffix.lower() in SUFFIXES or (path.suffix == ".csv" and _is_table_of_paths(path))


def list_pictures(sources: Sequence[str | Path]) -> PictureList:
    """Return all pictures of some folders, tables of paths and files, whatever their classes.

    Args:
        sources: the pictures of a folder are those in it and in the folders below it, sorted. Names that begin with a
            point are passed over.

    Raises:
        InputError: a path that isn't there, a folder without pictures, a table without the column ``path``.
    """
    parts = [_pictures_of(Path(source)) for source in sources]
    paths, names = (tuple(chain.from_iterable(getattr(part, at) for part in parts)) for at in ("paths", "names"))
    return PictureList(paths, names)


def classified_pictures(source: str | Path) -> PictureList:
    """Return the pictures of a folder with a folder for each class, or of a table of ``path,class[,split]``.

    Raises:
        InputError: no such folder or file, or pictures whose classes aren't said.
    """
    source = Path(source)
    if not source.is_dir() and source.suffix == ".csv":
        found = read_paths_csv(source)
        if not found.classes:
            raise InputError(f"{source} has no column {CLASS!r}", ",".join(COLUMNS[:2]), WITHOUT_CLASSES)
        return found
    by_class = pictures_of_classes(source)
    paths = tuple(path for found in by_class.values() for path in found)
    classes = tuple(name for name, found in by_class.items() for _ in found)
    return PictureList(paths, tuple(map(_text, paths)), classes)


#: What to do with pictures whose classes aren't known.
WITHOUT_CLASSES = "Without --embeddings, features alone are written, to ask fgen predict about"


def pictures_of_classes(folder: str | Path) -> dict[str, list[Path]]:
    """Return the sorted pictures in each folder of a folder, by the folder's name, which is the class's.

    Other files are counted in a warning.

    Raises:
        InputError: no such folder, a folder without pictures, or a class with files but no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "a folder with a folder of pictures for each class, or a .csv file")
    found: dict[str, list[Path]] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        entries = sorted(path for path in inner.iterdir() if not path.name.startswith("."))
        pictures = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if entries and not pictures:
            raise InputError(f"{inner} holds {entries[0].name!r} and no picture", f"one of {', '.join(SUFFIXES)}")
        if len(entries) > len(pictures):
            log.warning("%s: %d entries that are no pictures are passed over", inner, len(entries) - len(pictures))
        if pictures:
            found[unicodedata.normalize("NFC", inner.name)] = pictures
    if not found:
        remedy = WITHOUT_CLASSES if any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()) else ""
        expected = f"CLASS/NAME with one of {', '.join(SUFFIXES)}"
        raise InputError(f"{folder} has no folders with pictures", expected, remedy)
    return found


def read_paths_csv(path: str | Path) -> PictureList:
    """Read a table of pictures.

    Args:
        path: a CSV file in UTF-8, whose first row names its columns: ``path``, and where they are known ``class`` and
            ``split``. Others are passed over. Paths are absolute, or begin in the folder that the table is in.

    Raises:
        InputError: names the line: an empty cell, a path that is there twice, an unknown split; or a table without the
            column ``path``, or without rows.
    """
    path = Path(path)
    with guarded_read(path, ".csv"):
        rows = csv_rows(path)
        header = [cell.strip().lower() for cell in next(rows, (0, [""]))[1]]
        if PATH not in header:
            raise InputError(f"{path} has no column {PATH!r}", f"a first row of {','.join(COLUMNS)}, or of the first")
        columns = [name for name in COLUMNS if name in header]
        lines: dict[str, int] = {}
        table: list[list[str]] = []
        for line, cells in rows:
            found = {name: cells[at].strip() if at < len(cells) else "" for at, name in enumerate(header)}
            _check_line(f"{path}, line {line}", [found[name] for name in columns], columns, lines)
            lines[found[PATH]] = line
            table.append([found[name] for name in columns])
        if not table:
            raise InputError(f"{path} has no pictures", "a row for each")
    by_name = dict(zip(columns, map(tuple, zip(*table, strict=True)), strict=True))
    names = by_name[PATH]
    return PictureList(tuple(path.parent / name for name in names), names, *(by_name.get(n, ()) for n in COLUMNS[1:]))


def _check_line(where: str, cells: Sequence[str], columns: Sequence[str], lines: dict[str, int]) -> None:
    """Refuse a row of a table of paths: an empty cell, a path of an earlier line, a split that no data set has."""
    for name, cell in zip(columns, cells, strict=True):
        if not cell:
            raise InputError(f"{where}, has no {name}", "a text in each cell")
    if cells[0] in lines:
        raise InputError(f"{where}: {shortened(cells[0])} is already in line {lines[cells[0]]}", "distinct paths")
    splits = (*SPLIT_NAMES, TEST)
    if columns[-1] == SPLIT and cells[-1] not in splits:
        expected = f"one of {', '.join(splits)}"
        raise InputError(f"{where}: the split is {shortened(cells[-1])}", expected, did_you_mean(cells[-1], splits))


def _is_table_of_paths(path: Path) -> bool:
    with guarded_read(path, ".csv"):
        return PATH in (cell.strip().lower() for cell in next(csv_rows(path), (0, [""]))[1])


def _pictures_of(source: Path) -> PictureList:
    """Return the pictures of a folder, of a table of paths, or of a file that is one."""
    if source.is_dir():
        paths = tuple(_below(source))
        if not paths:
            raise InputError(f"{source} has no pictures", f"one of {', '.join(SUFFIXES)}")
        return PictureList(paths, tuple(map(_text, paths)))
    if source.suffix == ".csv":
        return read_paths_csv(source)
    with guarded_read(source, "picture", f"Give one of {', '.join(SUFFIXES)}"):
        if source.suffix.lower() not in SUFFIXES:
            raise InputError(f"{source} ends in {source.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    return PictureList((source,), (_text(source),))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and in those below it, each folder's own first; count other files in a warning."""
    visited: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        visited.add(os.path.realpath(at))  # a link may lead back to where it is
        inner = (name for name in sorted(folders) if os.path.realpath(os.path.join(at, name)) not in visited)
        folders[:] = [name for name in inner if not name.startswith(".")]
        files = [Path(at, name) for name in sorted(names) if not name.startswith(".")]
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        if len(files) > len(pictures):
            log.warning("%s: %d files that are no pictures are passed over", at, len(files) - len(pictures))
        yield from pictures


def _text(path: Path) -> str:
    """Return a path as text that a file of UTF-8 can hold."""
    return mended_text(str(path))
