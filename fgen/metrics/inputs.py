"""What scoring is given, checked: labels, the two groups of classes, predicted ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_numbers

#: A predicted id that names no class, and counts as wrong.
ABSTAIN = -1


def checked_labels(labels: Any, seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels ``(N,)`` and the ids of both groups, ascending; every label is of one of them."""
    labels, (seen, unseen) = _ids("labels", labels), checked_groups(seen, unseen)
    _refuse_others("labels", labels, [*seen, *unseen], "Leave such rows out, or add the class")
    return labels, seen, unseen


def checked_groups(seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray]:
    """The ids of both groups, ascending and without a class in common."""
    seen, unseen = np.unique(_ids("seen", seen)), np.unique(_ids("unseen", unseen))
    both = np.intersect1d(seen, unseen)
    if both.size:
        raise InputError(f"class {both[0]} is in seen and in unseen", "each class in one of them")
    return seen, unseen


def checked_predictions(
    predictions: np.ndarray, labels: np.ndarray, seen: np.ndarray, unseen: np.ndarray, gamma: float
) -> np.ndarray:
    """Predicted ids ``(N,)``, each a candidate or :data:`ABSTAIN`; they leave nothing to calibrate."""
    if gamma != 0:
        raise InputError(f"gamma is {gamma} with predicted class ids", "class scores (N, C)", "Give scores, or gamma=0")
    if predictions.shape != labels.shape or predictions.dtype.kind not in "iu":
        raise InputError(
            f"predictions have shape {predictions.shape} and type {predictions.dtype}",
            f"({len(labels)},) class ids, one for each label, or ({len(labels)}, C) class scores",
        )
    remedy = "Restrict the classifier to the candidates; -1 stands for no answer"
    _refuse_others("predictions", predictions, [ABSTAIN, *seen, *unseen], remedy)
    return predictions


def _refuse_others(name: str, ids: np.ndarray, allowed: list[int], remedy: str) -> None:
    other = ~np.isin(ids, allowed)
    if other.any():
        row = int(np.argmax(other))
        raise InputError(
            f"{name}[{row}] is {ids[row]}, which is neither in seen nor in unseen",
            "ids of seen or unseen classes",
            remedy,
        )


def _ids(name: str, values: Any) -> np.ndarray:
    values = as_numbers(name, values)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not values.size or values.min() < 0:
        raise InputError(
            f"{name} has shape {values.shape} and type {values.dtype}"
            + (f", lowest {values.min()}" if values.size and values.dtype.kind in "iu" else ""),
            "a list of at least one class id, 0 or above",
            "Of a mask take numpy.flatnonzero(mask)" if values.dtype.kind == "b" else "",
        )
    return values.astype(np.int64)
