"""Pictures for reports: features in two dimensions, the calibration curve, the course of training.

matplotlib is imported inside the functions, and drawn through ``Figure`` alone: no backend is chosen, no global
state touched. Files are PNG and appear whole or not at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fgen.data.splits import evenly_spaced
from fgen.errors import InputError, require
from fgen.features.checks import number_in
from fgen.features.labels import names_of
from fgen.io.atomic import atomic_file, expect_free
from fgen.metrics.calibration import CalibrationCurve, best_gamma
from fgen.metrics.inputs import checked_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Paul Tol's "muted" scheme: told apart by colour-blind readers, and none too pale on white.
PALETTE = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#AA4499", "#999933", "#555555")
MAX_POINTS = 200
#: Characters of a name that are drawn.
LONGEST_TEXT = 200
DPI = 150
Target = str | Path | IO[bytes]


def plot_features(
    target: Target,
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    class_names: Sequence[str] | None = None,
    title: str = "Real and generated features",
    *,
    max_classes: int = 8,
) -> None:
    """Draw real rows (dots) and generated rows (crosses) on the first two principal components of the real rows.

    Args:
        target: where the PNG goes, a path or an open file.
        real, synthetic: ``(N, D)`` and ``(M, D)``.
        real_labels, synthetic_labels: ``(N,)`` and ``(M,)`` class ids.
        class_names: name of each class id; None shows the ids.
        max_classes: of more classes, so many are shown, spread evenly over the ids (at most 10).

    Raises:
        InputError: shapes that don't fit, or no real row. MissingExtra: no matplotlib.
    """
    kinds = checked_sets(real, real_labels, synthetic, synthetic_labels)
    (real, real_labels), (synthetic, synthetic_labels) = kinds
    if not len(real):
        raise InputError("no real rows", "some, to find the principal components of")
    present = np.union1d(real_labels, synthetic_labels)
    classes = present[np.linspace(0, len(present) - 1, min(len(present), max_classes, len(PALETTE))).astype(int)]
    kinds = [_thinned(rows, labels, classes) for rows, labels in kinds]
    centre, axes_2d, explained = _principal_plane(kinds[0][0] if len(kinds[0][0]) else real)
    points = [((rows - centre) @ axes_2d.T, labels) for rows, labels in kinds]

    figure, (axes,) = _frames(1, 1, (7.6, 5.2))
    for colour, label in zip(PALETTE, classes, strict=False):
        _draw_class(axes, [xy[labels == label] for xy, labels in points], colour)
    some = f" ({len(classes)} of {len(present)} classes)" if len(classes) < len(present) else ""
    axes.set_title(plain_text(title) + some)
    # One unit is as long in both directions: distances in the picture are distances in the plane.
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"first principal component of the real rows ({explained[0]:.0%} of variance)")
    axes.set_ylabel(f"second ({explained[1]:.0%})")
    named = classes if class_names is None else np.array([class_names[label] for label in classes], dtype=object)
    names = list(map(plain_text, names_of(named)))
    _features_legend(axes, names)
    write_figure(target, figure)


def plot_calibration(
    target: Target, curves: CalibrationCurve | Sequence[CalibrationCurve], names: Sequence[str] | str = ""
) -> None:
    """Draw seen against unseen accuracy over all calibrations, the best H of each curve, and lines of equal H.

    Args:
        target: where the PNG goes, a path or an open file.
        curves: one or more :class:`CalibrationCurve`, at most 10.
        names: a name for each.

    Raises:
        InputError: a number of names that differs, or a curve without seen or unseen rows. MissingExtra.
    """
    curves = [curves] if isinstance(curves, CalibrationCurve) else list(curves)
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != len(curves) or not 1 <= len(curves) <= len(PALETTE):
        raise InputError(f"{len(curves)} curves and {len(names)} names", f"a name for each of 1 to {len(PALETTE)}")
    figure, (axes,) = _frames(1, 1, (5.6, 5.2))
    limit = 1.03 * max(float(max(curve.seen.max(), curve.unseen.max())) for curve in curves) or 1.0
    _draw_equal_h(axes, limit)
    for colour, curve, name in zip(PALETTE, curves, names, strict=False):
        gamma, h = best_gamma(curve)
        seen, unseen = curve.at(gamma)
        best = f"{plain_text(name) + ': ' if name else ''}best H {100 * h:.1f} (gamma {gamma:.3g})"
        axes.plot(100 * curve.unseen, 100 * curve.seen, color=colour, lw=1.8, label=best, zorder=3)
        axes.plot(100 * unseen, 100 * seen, "o", color=colour, ms=8, mec="white", mew=1.2, zorder=4)
    axes.set(xlim=(0, 100 * limit), ylim=(0, 100 * limit), aspect="equal")
    axes.set(xlabel="unseen accuracy U (%)", ylabel="seen accuracy S (%)", title="Calibration of seen against unseen")
    # Curves begin at the left and end at the bottom; a few names have room between, more would cover them.
    within = len(curves) < 3
    beside = None if within else (1, 1)
    axes.legend(loc="lower left" if within else "upper left", bbox_to_anchor=beside, fontsize=8.5, framealpha=0.9)
    write_figure(target, figure)


def plot_scores(
    target: Target, names: Sequence[str], scores: Sequence[Mapping[str, Mapping[str, Any]]], shown: Sequence[str]
) -> None:
    """Draw scores of several runs below each other, with their intervals; a panel for each score.

    Args:
        target: where the PNG goes, a path or an open file.
        names: a name for each run.
        scores: of each run, as :func:`fgen.metrics.stats.summarise` gives them, fractions.
        shown: names of the scores to draw, the first of which always is; another gets a panel where a run has a mean of
            it. An interval that is None is left out.

    Raises:
        MissingExtra: no matplotlib.
    """
    shown = [score for score in shown if score == shown[0] or any(one[score]["mean"] is not None for one in scores)]
    size = (1.5 + 3.1 * len(shown), 0.9 + 0.34 * len(names))
    figure, panels = _frames(1, len(shown), size, layout="constrained", sharey=True)
    for axes, score in zip(panels, shown, strict=True):
        for place, summary in enumerate(scores):
            mean, low, high = (summary[score][key] for key in ("mean", "low", "high"))
            if mean is not None and low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [place, place], color=PALETTE[0], lw=1.6)
            if mean is not None:
                axes.plot(100 * mean, place, "o", color=PALETTE[0], ms=6)
        axes.set(title=f"{score} (%)", ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), [plain_text(name) for name in names])
    write_figure(target, figure)


def plot_training(target: Target, rows: Iterable[Mapping[str, Any]]) -> None:
    """Draw a small panel for each column of the training's metrics, over epochs.

    Args:
        target: where the PNG goes, a path or an open file.
        rows: one mapping for each epoch, as in ``metrics.csv``; the horizontal axis is ``epoch``, else ``step``, else
            the row's number, and each ``phase`` gets a line. Columns without a finite number are left out.

    Raises:
        InputError: nothing to draw. MissingExtra: no matplotlib.
    """
    rows = list(rows)
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: np.array([number_in(row.get(name)) for row in rows], dtype=float) for name in names}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    axis = next((name for name in ("epoch", "step") if name in columns), "row")
    x = columns.get(axis, np.arange(1, len(rows) + 1))
    drawn = {name: values for name, values in columns.items() if name not in ("epoch", "step")}
    if not drawn:
        raise InputError(f"{len(rows)} rows of metrics without a number to draw", "at least one column of numbers")
    phases = np.array([str(row.get("phase", "")) for row in rows])
    figure, panels = _panels(len(drawn), axis)
    for panel, (name, values) in zip(panels, drawn.items(), strict=True):
        for colour, phase in zip(PALETTE, dict.fromkeys(phases), strict=False):
            shown = np.isfinite(values) & (phases == phase)
            panel.plot(x[shown], values[shown], color=colour, lw=1.5, marker="o", ms=3 if shown.sum() < 15 else 0)
            if panel is panels[0] and phase:
                panel.lines[-1].set_label(plain_text(phase))
        panel.set_title(plain_text(name), fontsize=10)
    if any(phases):
        figure.legend(loc="outside upper center", ncols=len(set(phases)), frameon=False, fontsize=9)
    write_figure(target, figure)


def _panels(n: int, xlabel: str) -> tuple[Figure, list[Axes]]:
    """Return n small axes in rows of three; the lowest of each column has an x axis."""
    width = min(3, n)
    height = -(-n // width)
    size = (3.6 * width, 2.2 * height + 0.5)
    figure, panels = _frames(height, width, size, layout="constrained", sharex=True)
    for index, panel in enumerate(panels):
        panel.set_visible(index < n)
        is_lowest = index + width >= n
        panel.tick_params(labelbottom=is_lowest)
        panel.set_xlabel(xlabel if is_lowest else "")
    return figure, panels[:n]


def _frames(
    rows: int, columns: int, size: tuple[float, float], layout: str | None = None, **shared: bool
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row, each with a grid and without the upper and the right line."""
    figure = require("matplotlib.figure", "plots", "pictures").Figure(figsize=size, layout=layout)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#E6E6E6", lw=0.6)
        panel.set_axisbelow(True)
    return figure, panels


def _draw_class(axes: Axes, points: Sequence[np.ndarray], colour: str) -> None:
    """Draw one class: real dots, generated crosses, and the mean of each, larger."""
    real, synthetic = points
    axes.scatter(real[:, 0], real[:, 1], s=13, color=colour, alpha=0.45, lw=0)
    axes.scatter(synthetic[:, 0], synthetic[:, 1], s=17, color=colour, alpha=0.55, marker="x", lw=0.9)
    # The cross is the smaller and lies on top, so that both means show where they coincide.
    for rows, marker, size in ((real, "o", 190), (synthetic, "X", 85)):
        if len(rows):
            x, y = rows.mean(axis=0)
            axes.scatter(x, y, s=size, color=colour, marker=marker, edgecolor="white", lw=1.3, zorder=5)


def _features_legend(axes: Axes, names: Sequence[str]) -> None:
    Line2D = require("matplotlib.lines", "plots", "pictures").Line2D

    def sign(label: str, colour: str = "#444444", **style: Any) -> Any:
        return Line2D([], [], ls="", color=colour, label=label, **style)

    kinds = [
        sign("real", marker="o", ms=4),
        sign("generated", marker="x", ms=5),
        sign("mean of real", marker="o", ms=11, mec="white"),
        sign("mean of generated", marker="X", ms=9, mec="white"),
    ]
    classes = [sign(name, colour, marker="s", ms=8) for name, colour in zip(names, PALETTE, strict=False)]
    style: dict[str, Any] = {"loc": "upper left", "frameon": False, "fontsize": 9, "alignment": "left"}
    first = axes.add_artist(axes.legend(handles=kinds, bbox_to_anchor=(1.01, 1.0), **style))
    first.set_clip_on(False)  # else its width isn't counted when the picture is cut to what it shows
    axes.legend(handles=classes, bbox_to_anchor=(1.01, 0.74), title="class", title_fontsize=9, **style)


def _draw_equal_h(axes: Axes, limit: float) -> None:
    """Draw lines of equal H, u = h s / (2 s - h), labelled where they cross the diagonal."""
    step = 0.1 if limit > 0.45 else 0.05 if limit > 0.2 else limit / 5
    for h in np.arange(step, limit, step):
        s = np.linspace(h / 2 + 1e-3 * limit, limit, 200)
        axes.plot(100 * h * s / (2 * s - h), 100 * s, color="#BBBBBB", lw=0.7, ls=(0, (4, 3)), zorder=1)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(100 * h, 100 * h, f"H {100 * h:.3g}", color="#888888", fontsize=7, ha="center", va="center", bbox=box)


def _principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean ``(D,)``, the first two principal axes ``(2, D)``, and their shares of the variance ``(2,)``."""
    centre = x.mean(axis=0)
    _, scale, directions = np.linalg.svd(x - centre, full_matrices=False)
    # One row or one column has no second axis; it is drawn as zeros.
    axes_2d, variance = np.zeros((2, x.shape[1])), np.zeros(2)
    n = min(2, len(scale))
    axes_2d[:n], variance[:n] = directions[:n], scale[:n] ** 2
    # The sign of a singular vector is arbitrary; the same data should give the same picture.
    largest = np.abs(axes_2d).argmax(axis=1)
    axes_2d *= np.where(axes_2d[[0, 1], largest] < 0, -1, 1)[:, None]
    return centre, axes_2d, variance / max((scale**2).sum(), np.finfo(float).tiny)


def _thinned(features: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most MAX_POINTS rows of each class, evenly spaced, and their labels."""
    rows = np.concatenate([evenly_spaced(np.flatnonzero(labels == label), MAX_POINTS) for label in classes])
    return features[rows], labels[rows]


def plain_text(text: str) -> str:
    """Return text for matplotlib without formulas, which stand between two dollars, and cut where it is very long.

    A text of a damaged file may have tens of thousands of characters, which would take half a minute to draw.
    """
    return (text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…").replace("$", r"\$")


def write_figure(target: Target, figure: Figure) -> None:
    style: dict[str, Any] = {"format": "png", "dpi": DPI, "bbox_inches": "tight", "facecolor": "white"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks shows as boxes
        if not isinstance(target, str | Path):
            figure.savefig(target, **style)
            return
        expect_free(Path(target), overwrite=True)
        with atomic_file(target) as partial, partial.open("wb") as file:
            figure.savefig(file, **style)
