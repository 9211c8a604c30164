"""Class scores: the best seen and the best unseen class of each row, and the choice between both by a gamma.

Chao, Changpinyo, Gong, Sha, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object Recognition
in the Wild", ECCV 2016 ("calibrated stacking").
"""

from typing import Any

import numpy as np

from fgen.errors import InputError, wrong_array
from fgen.features.checks import as_ids, as_numbers


def predict_classes(scores: Any, *, seen: Any, unseen: Any, gamma: float = 0.0) -> np.ndarray:
    """Return ``(N,)`` class ids by the rule of :func:`fgen.metrics.accuracy.gzsl_scores`, from ``(N, C)`` scores."""
    seen, unseen = checked_groups(seen, unseen)
    scores = as_numbers("scores", scores)
    return by_margin(*best_of_each_group(scores, scores.shape[0] if scores.ndim else 0, seen, unseen), gamma)


def by_margin(best_seen: np.ndarray, best_unseen: np.ndarray, margin: np.ndarray, gamma: float) -> np.ndarray:
    """Return ``(N,)`` class ids: the best seen one where the margin is at least ``gamma``, else the best unseen one."""
    if np.isnan(gamma):
        raise InputError("gamma is NaN", "a number")
    return np.where(margin >= gamma, best_seen, best_unseen)


def best_of_each_group(
    scores: np.ndarray, n_rows: int, seen: np.ndarray, unseen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids of the best seen and best unseen class, and the margin between their scores; each ``(N,)``."""
    n_classes = int(max(seen[-1], unseen[-1])) + 1
    if scores.ndim != 2 or len(scores) != n_rows or scores.shape[1] < n_classes or scores.dtype.kind not in "fiu":
        expected = f"({n_rows}, C) numbers with C at least {n_classes}, a column for each class id"
        raise wrong_array("scores", scores, expected)
    best, value = [], []
    for classes in (seen, unseen):
        block = scores[:, classes]
        column = block.argmax(axis=1)
        best.append(classes[column])
        value.append(np.take_along_axis(block, column[:, None], axis=1)[:, 0].astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):
        margin = value[0] - value[1]
    if not np.isfinite(margin).all():
        row = int(np.argmin(np.isfinite(margin)))
        found = f"row {row} has best scores {value[0][row]} (seen) and {value[1][row]} (unseen)"
        raise InputError(found, "finite numbers")
    return best[0], best[1], margin


def checked_groups(seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of both groups, ascending; no class is in both."""
    seen, unseen = np.unique(as_ids("seen", seen)), np.unique(as_ids("unseen", unseen))
    both = np.intersect1d(seen, unseen)
    if both.size:
        raise InputError(f"class {both[0]} is in seen and in unseen", "each class in one of them")
    return seen, unseen
