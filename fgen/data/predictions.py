"""Files of predictions: for each row its most probable classes, as CSV or JSON."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fgen.errors import InputError, visible
from fgen.io.atomic import expect_free, new_file

#: The name that stands for standard output.
STDOUT = "-"


class Prediction(NamedTuple):
    """A class of a row.

    Attributes:
        row: its number, from 0.
        score: the calibrated log-probability, in which rows are compared.
        rank: from 1, the most probable class.
        probability: of the class after calibration, among all classes that are answered.
    """

    row: int
    class_id: int
    class_name: str
    score: float
    rank: int
    probability: float


#: First bytes of a file of predictions. An earlier fgen wrote the first four columns alone.
BEGINNINGS = (",".join(Prediction._fields[:4]).encode(), b'[{"row": ')


def write_predictions(
    path: str | Path, predictions: Iterable[Prediction], *, as_json: bool = False, files: Sequence[str] | None = None
) -> None:
    """Write predictions, a line each, whole or not at all, in place of earlier ones.

    In CSV, names stay as they are, also where a spreadsheet would take one for a formula (``=1+1``): a name with a sign
    put before it would match no other file. Who opens the table in a spreadsheet imports this column as text.

    Args:
        path: the file to be; ``"-"`` prints instead.
        as_json: write a list of objects in place of the table.
        files: ``(N,)`` the picture of each row, which becomes the last column, ``file``.

    Raises:
        InputError: the file holds something else, or the disk refuses.
    """
    with _opened(path) as file:
        (_write_json if as_json else _write_csv)(file, predictions, files)


def expect_predictions(path: str | Path) -> None:
    """Refuse what :func:`write_predictions` can't write to, before work is done for it.

    Raises:
        InputError: a file that holds something else, or a folder that isn't there.
    """
    if path == STDOUT:
        return
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            begins = file.read(max(map(len, BEGINNINGS)))
        if begins and not begins.startswith(BEGINNINGS):
            expected = "a new name, or an older file of predictions"
            raise InputError(f"{path} exists and holds no predictions", expected)
    expect_free(path, overwrite=True)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Yield a text file to write to, which replaces ``path`` after the block, or standard output."""
    if path == STDOUT:
        yield _Terminal(sys.stdout) if sys.stdout.isatty() else sys.stdout
        return
    expect_predictions(path)
    with new_file(Path(path), overwrite=True) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        yield file


class _Terminal(NamedTuple):
    """A terminal, which isn't to obey the control characters of names."""

    stream: TextIO

    def write(self, text: str) -> int:
        return self.stream.write(visible(text, keep="\n"))


def _write_csv(file: TextIO, predictions: Iterable[Prediction], files: Sequence[str] | None) -> None:
    table = csv.writer(file, lineterminator="\n")
    table.writerow((*Prediction._fields, *([] if files is None else ["file"])))
    for one in predictions:
        last = () if files is None else (files[one.row],)
        table.writerow((*one[:3], _rounded(one.score), one.rank, _rounded(one.probability), *last))


def _write_json(file: TextIO, predictions: Iterable[Prediction], files: Sequence[str] | None) -> None:
    before = "["
    for one in predictions:
        numbers = {"score": float(_rounded(one.score)), "probability": float(_rounded(one.probability))}
        last = {} if files is None else {"file": files[one.row]}
        file.write(before + json.dumps(one._asdict() | numbers | last, ensure_ascii=False))
        before = ",\n"
    file.write("]\n")


def _rounded(number: float) -> str:
    return f"{number:.6g}"
