"""A sheet of imagined pictures, beside real drawings and the nearest ones that were seen in training."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import require
from fgen.inference.imagination import SHOWN, Imagination, ImaginedClass, PictureError
from fgen.reports.plots import plain_text, write_figure

#: Inches: a picture's side, the gap beside it, the room under it for a name, the gap between kinds of pictures.
SIDE, GAP, UNDER, BETWEEN = 0.72, 0.06, 0.17, 0.3
#: Inches: the margin, the column of the classes' names, the titles above, and a line of the caption.
MARGIN, NAMES, TITLES, LINE = 0.1, 1.25, 1.15, 0.165
KIND = SHOWN * (SIDE + GAP) + BETWEEN
#: Heading of each kind of pictures, and what stands under it.
HEADINGS = (
    ("Real", "drawings of the class,\nfor comparison alone"),
    ("Decoded", "from features of these\nreal drawings"),
    ("Imagined", "from the description of\nthe class alone"),
    ("Nearest", "drawings in training, to\nthe imagined features"),
)
WIDTH = 2 * MARGIN + NAMES + len(HEADINGS) * KIND - BETWEEN
#: Characters of the caption in a line.
COLUMNS = 148
#: What is said of each of :attr:`fgen.inference.imagination.Imagination.errors`.
ERRORS = {
    "held out": "of drawings of seen classes that weren't trained on, decoded from their own features",
    "unseen": "of drawings of unseen classes, decoded from their own features",
    "imagined": "of drawings of unseen classes, imagined from the description of their class",
    "another class": "of drawings of unseen classes, imagined from that of another unseen class",
}
GREY, DARK = "#707070", "#202020"


def write_sheet(target: str | Path, found: Imagination) -> None:
    """Write a PNG: a row for each class, and below the rows what was trained on what, and how large errors are.

    Raises:
        MissingExtra: no matplotlib.
    """
    caption = textwrap.wrap(caption_of(found), COLUMNS)
    rows_end = TITLES + len(found.classes) * (SIDE + UNDER)
    height = rows_end + LINE * (len(caption) + len(found.errors) + 3) + MARGIN
    figure = require("matplotlib.figure", "plots", "a sheet of pictures").Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.set_axis_off()
    title = plain_text(f"Pictures of classes of {found.dataset.name}, imagined by {found.method}")
    _text(axes, MARGIN, 0.25, title, size=13, weight="bold")
    for kind, (heading, below) in enumerate(HEADINGS):
        _text(axes, _left(kind), 0.65, heading, size=10.5, weight="bold")
        _text(axes, _left(kind), 0.73, below, size=7.5, color=GREY, va="top")
    for row, one in enumerate(found.classes):
        _draw_class(axes, TITLES + row * (SIDE + UNDER), one)
    at = rows_end + LINE
    for line in caption:
        _text(axes, MARGIN, at, plain_text(line), size=7.5)
        at += LINE
    _draw_errors(axes, at + LINE, found.errors)
    write_figure(target, figure)


def caption_of(found: Imagination) -> str:
    """Return what was seen in training, and where the pictures come from."""
    data, n = found.dataset, len(found.classes)
    some = f" {n} of {found.chosen_from} classes are shown, drawn by seed {found.seed}."
    return (
        f"{_seen_in_training(found)} Imagined pictures are made of the class's description "
        f"({', '.join(data.embedding)}) alone: the generator {found.method}, trained on features of {len(data.seen)} "
        f"seen classes of {data.name}, makes features of it; a decoder, trained on {found.n_drawings:,} drawings of "
        f"{found.n_classes} seen classes, makes a picture of them. Decoded pictures show the best that the decoder can "
        f"do. Nearest are the training drawings whose features are nearest to the imagined ones, with their classes: "
        f"where the two look the same, the picture is copied, not imagined. {_verdict(found.errors)}"
        f"The mean picture is that of the drawings that were trained on.{some if n < found.chosen_from else ''}"
    )


def _seen_in_training(found: Imagination) -> str:
    """Return which drawings of the classes were seen in training; mostly none."""
    n_seen, but = sum(one.is_seen for one in found.classes), []
    if n_seen:
        but.append(f"{n_seen} of the {len(found.classes)} are seen classes")
    if found.dataset.shots is not None:
        but.append(f"the generator was trained on {found.dataset.shots.k} drawings of some unseen classes")
    if found.is_transductive:
        but.append("the generator was trained on drawings of unseen classes, without knowing which is of which")
    return f"No drawing of these classes was seen in training{', but '.join(['', *but])}."


def _verdict(errors: Mapping[str, PictureError]) -> str:
    """Return whether imagined pictures are nearer to real ones than what knows nothing of their class."""
    if "another class" not in errors:
        return ""
    imagined, mean_picture, _ = errors["imagined"]
    than_mean = "nearer" if imagined < mean_picture else "no nearer"
    than_others = "nearer" if imagined < errors["another class"].decoded else "no nearer"
    return (
        f"Imagined pictures are {than_others} to the real ones than those of another class, and {than_mean} than the "
        "mean picture. "
    )


def _draw_class(axes: Any, top: float, one: ImaginedClass) -> None:
    """Draw the row of a class, whose pictures begin at ``top`` inches."""
    label = "\n".join(textwrap.wrap(plain_text(one.name), 17)[:3]) + ("\n(seen)" if one.is_seen else "")
    _text(axes, MARGIN, top + SIDE / 2, label, size=9, va="center")
    for kind, pictures in enumerate((one.real, one.decoded, one.imagined, one.nearest)):
        for at, picture in enumerate(pictures):
            left = _left(kind) + at * (SIDE + GAP)
            axes.imshow(picture, extent=(left, left + SIDE, top + SIDE, top), aspect="auto", interpolation="bilinear")
            axes.plot(*_frame(left, top), color="#CFCFCF", lw=0.6)
    if not len(one.real):
        _text(axes, _left(0), top + SIDE / 2, "there is none", size=8, color=GREY, va="center")
    for at, name in enumerate(one.nearest_names):
        _text(axes, _left(3) + at * (SIDE + GAP), top + SIDE + 0.1, _shortened(name, 15), size=6, color=GREY)


def _draw_errors(axes: Any, top: float, errors: dict[str, PictureError]) -> None:
    """Draw the table of errors, whose first line is at ``top`` inches."""
    columns = (WIDTH - 1.75, WIDTH - 0.8, WIDTH - MARGIN)
    heads = ("this picture", "mean picture", "drawings")
    title = "Root mean square error of colour values, in % of their range (lower is better)"
    _text(axes, MARGIN, top, title, size=7.5, weight="bold")
    for right, head in zip(columns, heads, strict=True):
        _text(axes, right, top, head, size=7.5, weight="bold", ha="right")
    for line, (name, error) in enumerate(errors.items(), start=1):
        _text(axes, MARGIN, top + line * LINE, ERRORS[name], size=7.5)
        cells = (f"{100 * error.decoded:.1f}", f"{100 * error.mean_picture:.1f}", f"{error.n:,}")
        for right, cell in zip(columns, cells, strict=True):
            _text(axes, right, top + line * LINE, cell, size=7.5, ha="right")


def _shortened(name: str, width: int) -> str:
    """Return a name of at most ``width`` characters."""
    return plain_text(name if len(name) <= width else f"{name[: width - 1]}…")


def _left(kind: int) -> float:
    """Return where pictures of a kind begin, in inches."""
    return MARGIN + NAMES + kind * KIND


def _frame(left: float, top: float) -> np.ndarray:
    """Return the corners ``(2, 5)`` of a picture's frame."""
    return np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]) * SIDE + [[left], [top]]


def _text(axes: Any, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
    axes.text(x, y, text, fontsize=size, **{"color": DARK, **style})
