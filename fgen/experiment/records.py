"""Metrics and predictions in a seed's folder."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError
from fgen.io.atomic import atomic_file
from fgen.io.npz import Archive
from fgen.io.reading import guarded_read
from fgen.metrics.accuracy import GZSLScores, gzsl_scores, mean_accuracy
from fgen.metrics.calibration import CalibrationCurve, ausuc
from fgen.metrics.gamma import HeldOut


@dataclass(frozen=True)
class Predictions:
    """Predictions for the test rows.

    Attributes:
        rows, labels: ``(N,)`` row numbers and class ids of ``test_seen`` and ``test_unseen``.
        gzsl: ``(N,)`` predicted class ids among seen and unseen classes, after calibration.
        zsl: ``(N,)`` predicted class ids among the unseen classes; -1 for rows of seen classes.
    """

    rows: np.ndarray
    labels: np.ndarray
    gzsl: np.ndarray
    zsl: np.ndarray


def write_metrics(path: Path, phases: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Write ``metrics.csv``: a row for each epoch of each phase (the selection, the final training)."""
    history = [{"phase": phase} | row for phase, rows in phases.items() for row in rows]
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def write_predictions(path: Path, predictions: Predictions, scores: GZSLScores) -> None:
    """Write ``predictions.npz``: predictions for each test row, the accuracy of each class, the calibration curve."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        of_classes = ("seen", "unseen", "per_class_T1", "per_class_U", "per_class_S")
        parts = vars(predictions) | {"gamma": np.float64(scores.gamma)}
        parts |= {name: getattr(scores, name) for name in of_classes}
        curve = {} if scores.curve is None else vars(scores.curve)
        np.savez_compressed(file, **parts, **{f"curve_{name}": part for name, part in curve.items()})


def write_held_out(path: Path, evaluations: Mapping[tuple[int, int], HeldOut]) -> None:
    """Write the evaluations of a fold, by epoch and head; their rows are the same."""
    held = list(evaluations.values())
    parts: dict[str, Any] = {name: np.stack([getattr(rows, name) for rows in held]) for name in ("right", "margin")}
    parts |= {name: getattr(held[0], name) for name in ("labels", "is_seen")} | {"keys": np.array(list(evaluations))}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **parts)


def read_held_out(path: Path) -> dict[tuple[int, int], HeldOut]:
    """Read what :func:`write_held_out` wrote.

    Raises:
        InputError: a damaged file.
    """
    with guarded_read(path, "held-out rows", "Remove its folder and go on with --resume"), Archive(path) as kept:
        labels, is_seen, right, margin = (kept[name] for name in ("labels", "is_seen", "right", "margin"))
        keys = kept["keys"].tolist()
        if right.shape != margin.shape or right.shape != (len(keys), len(labels)) or labels.shape != is_seen.shape:
            raise InputError("its parts are of different lengths", "as many decisions as rows")
        return {(e, c): HeldOut(labels, is_seen, right[k], margin[k]) for k, (e, c) in enumerate(keys)}


def write_scores(path: Path, folds: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write arrays by name of each fold."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {f"{k}.{name}": array for k, fold in enumerate(folds) for name, array in fold.items()}
        np.savez(file, **arrays)


def read_scores(path: Path) -> list[dict[str, np.ndarray]]:
    """Read what :func:`write_scores` wrote.

    Raises:
        InputError: a damaged file.
    """
    with guarded_read(path, "held-out scores", "Remove it and go on with --resume"), Archive(path) as kept:
        folds: dict[str, dict[str, np.ndarray]] = {}
        for member in kept.members:
            number, _, name = member.partition(".")
            folds.setdefault(number, {})[name] = kept[member]
        return list(folds.values())


def read_predictions(path: Path) -> tuple[Predictions, GZSLScores]:
    """Read what :func:`write_predictions` wrote; without a curve AUSUC is None.

    An earlier fgen left the curve out, and where there are no test rows of seen classes there is none.

    Raises:
        InputError: no such file, or a damaged one.
    """
    with guarded_read(path, "predictions", "Remove it and go on with fgen run --resume"), Archive(path) as kept:
        predictions = Predictions(*(kept[name] for name in ("rows", "labels", "gzsl", "zsl")))
        curve = None
        if "curve_breakpoints" in kept.members:
            curve = CalibrationCurve(*(kept[f"curve_{name}"] for name in ("breakpoints", "seen", "unseen")))
        sizes = {len(part) for part in (predictions.rows, predictions.labels, predictions.zsl)}
        if len(sizes) > 1:
            raise InputError("its parts are of different lengths", "as many predictions as rows and labels")
        scores = gzsl_scores(predictions.labels, predictions.gzsl, seen=kept["seen"], unseen=kept["unseen"])
        scores = replace(
            scores,
            T1=mean_accuracy(kept["per_class_T1"]),
            AUSUC=None if curve is None else ausuc(curve),
            gamma=float(kept["gamma"]),
            per_class_T1=kept["per_class_T1"],
            curve=curve,
        )
        return predictions, scores.as_reported()
