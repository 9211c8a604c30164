"""Class scores: the best seen and the best unseen class of each row, and the choice between both by a gamma.

Chao, Changpinyo, Gong, Sha, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object Recognition
in the Wild", ECCV 2016 ("calibrated stacking").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fgen.errors import InputError, wrong_array
from fgen.features.checks import as_ids, as_numbers

#: The score of a class that is no candidate: below any log-probability a row can have, yet finite, so that margins
#: between scores (calibrated stacking, AUSUC) are numbers where -inf - -inf would be NaN.
NO_CANDIDATE = -1e30
#: Scores that are looked at in one block, so that no copy of a large matrix is made.
BLOCK_SCORES = 1 << 24


@dataclass(frozen=True, eq=False)
class GroupBest:
    """What decides about rows at any gamma; of N rows it takes 24 N bytes, whatever the number of classes.

    Attributes:
        seen, unseen: ``(N,)`` ids of the best seen and of the best unseen class; of equal scores the lowest id's.
        margin: ``(N,)`` float64 score of the best seen class minus that of the best unseen one.
    """

    seen: np.ndarray
    unseen: np.ndarray
    margin: np.ndarray

    @classmethod
    def of(cls, scores: Any, n_rows: int, seen: np.ndarray, unseen: np.ndarray, *, first: int = 0) -> Self:
        """Return what decides, from scores ``(n_rows, C)``; ids are ascending, ``first`` is the first row's number."""
        scores = as_numbers("scores", scores)
        n_classes = int(max(seen[-1], unseen[-1])) + 1
        if scores.ndim != 2 or len(scores) != n_rows or scores.shape[1] < n_classes or scores.dtype.kind not in "fiu":
            expected = f"({n_rows}, C) numbers with C at least {n_classes}, a column for each class id"
            raise wrong_array("scores", scores, expected)
        step = rows_at_once(scores.shape[1])
        blocks = [scores[start : start + step] for start in range(0, n_rows, step)] or [scores]
        of_seen, of_unseen = ([best_of(block, classes) for block in blocks] for classes in (seen, unseen))
        ids, best = map(np.concatenate, zip(*of_seen, strict=True))
        unseen_ids, unseen_best = map(np.concatenate, zip(*of_unseen, strict=True))
        with np.errstate(invalid="ignore", over="ignore"):
            margin = best - unseen_best
        if not np.isfinite(margin).all():
            row = int(np.argmin(np.isfinite(margin)))
            found = f"row {first + row} has best scores {best[row]} (seen) and {unseen_best[row]} (unseen)"
            raise InputError(found, "finite numbers")
        return cls(ids, unseen_ids, margin)

    @classmethod
    def of_blocks(cls, blocks: Iterable[Self]) -> Self:
        """Return what decides about the rows of several blocks, in their order."""
        parts = [(block.seen, block.unseen, block.margin) for block in blocks]
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def predict(self, gamma: float) -> np.ndarray:
        """Return ``(N,)`` ids: the best seen class where the margin is at least ``gamma``, else the best unseen one."""
        if np.isnan(gamma):
            raise InputError("gamma is NaN", "a number")
        return np.where(self.margin >= gamma, self.seen, self.unseen)


def predict_classes(scores: Any, *, seen: Any, unseen: Any, gamma: float = 0.0) -> np.ndarray:
    """Return ``(N,)`` class ids by the rule of :func:`fgen.metrics.accuracy.gzsl_scores`, from ``(N, C)`` scores."""
    seen, unseen = checked_groups(seen, unseen)
    scores = as_numbers("scores", scores)
    return GroupBest.of(scores, scores.shape[0] if scores.ndim else 0, seen, unseen).predict(gamma)


def rows_at_once(n_classes: int) -> int:
    """Return how many rows of scores of so many classes are held at once."""
    return max(BLOCK_SCORES // max(n_classes, 1), 1)


def best_of(scores: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the id of the best of some classes for each row, and its score in float64."""
    columns = np.take(scores, classes, axis=1)
    best = columns.argmax(axis=1)
    return classes[best], np.take_along_axis(columns, best[:, None], axis=1)[:, 0].astype(np.float64)


def checked_groups(seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of both groups, ascending; no class is in both."""
    seen, unseen = np.unique(as_ids("seen", seen)), np.unique(as_ids("unseen", unseen))
    both = np.intersect1d(seen, unseen)
    if both.size:
        raise InputError(f"class {both[0]} is in seen and in unseen", "each class in one of them")
    return seen, unseen
