"""Accuracies of generalized zero-shot learning: T1, U, S, H, and the area under the calibration curve.

All accuracies are fractions in [0, 1] and means over classes, not rows (Xian et al., "Zero-Shot Learning: A
Comprehensive Evaluation", 2018). A class without a test row has no accuracy (NaN) and is left out of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fgen.errors import InputError

ABSTAIN = -1


@dataclass(frozen=True, eq=False)
class Curve:
    """Seen and unseen accuracy for every calibration ``gamma`` (Chao et al. 2016, "calibrated stacking").

    Attributes:
        breakpoints: ``(K,)`` ascending; the only values of gamma at which an accuracy changes.
        seen, unseen: ``(K + 1,)`` mean accuracies; point j holds for ``breakpoints[j-1] < gamma <= breakpoints[j]``,
            so the first point is gamma -> -inf and the last gamma -> +inf.
    """

    breakpoints: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray

    @property
    def H(self) -> np.ndarray:
        """``(K + 1,)`` harmonic mean of both accuracies."""
        return harmonic_mean(self.unseen, self.seen)

    def at(self, gamma: float) -> tuple[float, float]:
        """(seen accuracy, unseen accuracy) at one gamma."""
        point = np.searchsorted(self.breakpoints, gamma, side="left")
        return float(self.seen[point]), float(self.unseen[point])


@dataclass(frozen=True, eq=False)
class GZSLScores:
    """The scores of one evaluation.

    Attributes:
        T1: mean accuracy on unseen rows with unseen classes as the only candidates (ZSL); None without scores.
        U, S: mean accuracy on unseen and on seen rows with all classes as candidates.
        H: harmonic mean of U and S.
        AUSUC: area under the seen-unseen curve; None without scores.
        gamma: what was subtracted from the seen classes' scores.
        accuracy: share of all rows that are right; depends on how many rows each class has.
        seen, unseen: class ids, ascending; the classes of the per-class fields.
        per_class_T1, per_class_U: ``(len(unseen),)``, NaN for a class without a row.
        per_class_S: ``(len(seen),)``, NaN for a class without a row.
        curve: the calibration curve; None without scores.
    """

    T1: float | None
    U: float
    S: float
    H: float
    AUSUC: float | None
    gamma: float
    accuracy: float
    seen: np.ndarray
    unseen: np.ndarray
    per_class_T1: np.ndarray | None
    per_class_U: np.ndarray
    per_class_S: np.ndarray
    curve: Curve | None

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold: scores by name, per-class scores by class id; undefined ones (NaN) are None."""
        names = ("T1", "U", "S", "H", "AUSUC", "gamma", "accuracy")
        result: dict[str, Any] = {name: _json_number(getattr(self, name)) for name in names}
        for name, classes in (("T1", self.unseen), ("U", self.unseen), ("S", self.seen)):
            values = getattr(self, f"per_class_{name}")
            if values is not None:
                pairs = zip(classes, values, strict=True)
                result[f"per_class_{name}"] = {str(c): _json_number(value) for c, value in pairs}
        return result


def per_class_accuracy(labels: Any, predictions: Any, classes: Any) -> np.ndarray:
    """The share of each class's rows that are right.

    Args:
        labels: ``(N,)`` class ids.
        predictions: ``(N,)`` class ids.
        classes: ``(K,)`` the class ids asked for, each once.

    Returns:
        ``(K,)`` in [0, 1], in the order of ``classes``; NaN for a class without a row.
    """
    classes = np.asarray(classes, dtype=np.int64)
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise InputError(f"labels have shape {labels.shape} and predictions {predictions.shape}", "(N,) for both")
    if not classes.size:
        return np.zeros(0)
    order = np.argsort(classes)
    position = order[np.searchsorted(classes, labels, sorter=order).clip(max=len(classes) - 1)]
    asked = classes[position] == labels
    position, right = position[asked], (labels == predictions)[asked]
    n_rows = np.bincount(position, minlength=len(classes))
    n_right = np.bincount(position[right], minlength=len(classes))
    return np.where(n_rows > 0, n_right / np.maximum(n_rows, 1), np.nan)


def mean_accuracy(per_class: np.ndarray) -> float:
    """The mean over the classes that have rows; NaN if none has."""
    present = np.asarray(per_class)[~np.isnan(per_class)]
    return float(present.mean()) if present.size else float("nan")


def harmonic_mean(u: Any, s: Any) -> Any:
    """2us / (u + s), 0 where both are 0; for numbers or arrays."""
    u, s = np.asarray(u, dtype=np.float64), np.asarray(s, dtype=np.float64)
    total = u + s
    h = 2 * u * s / np.where(total == 0, 1.0, total)
    return h if h.ndim else float(h)


def gzsl_scores(labels: Any, predictions_or_scores: Any, *, seen: Any, unseen: Any, gamma: float = 0.0) -> GZSLScores:
    """T1, U, S, H and AUSUC of predictions on the test rows of seen and unseen classes.

    Ties are settled for good: with scores, a row goes to its best seen class if that score minus its best unseen
    score is at least ``gamma``, else to its best unseen class; within a group the lowest class id wins.

    Args:
        labels: ``(N,)`` true class ids, of seen and unseen classes.
        predictions_or_scores: ``(N,)`` predicted class ids (-1 abstains, and counts as wrong), or ``(N, C)``
            scores of all class ids, the larger the likelier; columns of other classes are ignored.
        seen, unseen: class ids, not masks, without a class in common.
        gamma: subtracted from the seen classes' scores (calibrated stacking, Chao et al. 2016). It has to be chosen
            on validation classes, see :func:`best_gamma`.

    Returns:
        Scores as fractions. T1 and AUSUC need class scores and are None for predicted ids. Classes without a row are
        left out of the means; without a row of any seen class S and H are NaN (likewise U, H and unseen).

    Raises:
        InputError: shapes, ids or values that don't fit.
    """
    labels, seen, unseen = _checked_labels(labels, seen, unseen)
    given = np.asarray(predictions_or_scores)
    per_class_T1, t1, curve, area = None, None, None, None
    if given.ndim == 1:
        predictions = _checked_predictions(given, labels, seen, unseen, gamma)
    else:
        predictions = predict_classes(given, seen=seen, unseen=unseen, gamma=gamma)
        best_seen, best_unseen, margin = _best_of_each_group(given, len(labels), seen, unseen)
        per_class_T1 = per_class_accuracy(labels, best_unseen, unseen)
        t1 = mean_accuracy(per_class_T1)
        curve = _curve(labels, seen, unseen, best_seen, best_unseen, margin)
        area = ausuc(curve)
    per_class_U = per_class_accuracy(labels, predictions, unseen)
    per_class_S = per_class_accuracy(labels, predictions, seen)
    u, s = mean_accuracy(per_class_U), mean_accuracy(per_class_S)
    return GZSLScores(
        T1=t1,
        U=u,
        S=s,
        H=harmonic_mean(u, s),
        AUSUC=area,
        gamma=float(gamma),
        accuracy=float(np.mean(labels == predictions)),
        seen=seen,
        unseen=unseen,
        per_class_T1=per_class_T1,
        per_class_U=per_class_U,
        per_class_S=per_class_S,
        curve=curve,
    )


def predict_classes(scores: Any, *, seen: Any, unseen: Any, gamma: float = 0.0) -> np.ndarray:
    """``(N,)`` class ids by the rule of :func:`gzsl_scores`, from ``(N, C)`` scores."""
    seen, unseen = _checked_groups(seen, unseen)
    scores = np.asarray(scores)
    best_seen, best_unseen, margin = _best_of_each_group(scores, len(scores), seen, unseen)
    if np.isnan(gamma):
        raise InputError("gamma is NaN", "a number")
    return np.where(margin >= gamma, best_seen, best_unseen)


def calibration_curve(labels: Any, scores: Any, seen: Any, unseen: Any) -> Curve:
    """Seen and unseen accuracy for every gamma, exactly, in O(N log N) after the maxima.

    Args and errors as in :func:`gzsl_scores`, which predicts by the same rule: seen where
    ``best seen score - best unseen score >= gamma``.
    """
    labels, seen, unseen = _checked_labels(labels, seen, unseen)
    return _curve(labels, seen, unseen, *_best_of_each_group(np.asarray(scores), len(labels), seen, unseen))


def ausuc(curve: Curve) -> float:
    """Area under the seen-unseen accuracy curve in [0, 1], by trapezoids (Chao et al. 2016).

    Rows that switch at the same gamma make a diagonal piece, any other row a step. NaN where seen or unseen
    classes have no rows at all.
    """
    if np.isnan(curve.H).any():
        return float("nan")
    return float((np.diff(curve.unseen) * (curve.seen[1:] + curve.seen[:-1])).sum() / 2)


def best_gamma(curve: Curve | None, tolerance: float = 0.0) -> tuple[float, float]:
    """The gamma with the highest H, and that H.

    Args:
        curve: of the rows that the choice is made on.
        tolerance: with 0.05, the middle of all gammas whose H is within 5 % of the highest. The curve of a few hundred
            rows is a saw, and its highest tooth is an accident of those rows.

    Returns:
        ``(gamma, H there)``: the midpoint of the plateau on which H is highest, the one with the lowest gamma if there
        are several; ``(0, 0)`` if H is 0 everywhere. On test rows this H is an upper bound, not a result.

    Raises:
        InputError: there is no curve, or it lacks rows of seen or of unseen classes.
    """
    if curve is None:
        raise InputError("there is no calibration curve", "one", "It needs class scores (N, C), not predicted ids")
    h = curve.H
    if np.isnan(h).any():
        raise InputError("the calibration curve lacks rows of seen or of unseen classes", "rows of both")
    if h.max() == 0:
        return 0.0, 0.0
    # H is 0 at both ends of the curve (no row is predicted unseen, or none seen), so the plateau is bounded.
    on_plateau = np.flatnonzero(h >= h.max() * (1 - tolerance) - 1e-12)
    first, last = on_plateau[0], on_plateau[-1]
    if not tolerance:  # one gamma must be exactly as good as another, and two plateaus have a valley between them
        last = first + int(np.argmin(np.append(h[first:] >= h.max() - 1e-12, False))) - 1
    low, high = curve.breakpoints[first - 1], curve.breakpoints[last]
    middle = low / 2 + high / 2
    gamma = float(middle if middle > low else high)
    return gamma, harmonic_mean(*curve.at(gamma))


def _curve(
    labels: np.ndarray,
    seen: np.ndarray,
    unseen: np.ndarray,
    best_seen: np.ndarray,
    best_unseen: np.ndarray,
    margin: np.ndarray,
) -> Curve:
    is_seen = np.isin(labels, seen)
    # Only rows that are right within their own group ever count: seen ones up to their margin, unseen ones beyond it.
    counts = labels == np.where(is_seen, best_seen, best_unseen)
    breakpoints, at = np.unique(margin[counts], return_inverse=True)

    def weights(group: np.ndarray) -> np.ndarray:
        """``(K,)``: what the group's rows at each breakpoint add to its mean accuracy."""
        n_rows = np.bincount(labels[group], minlength=int(labels.max()) + 1)
        share = group / np.maximum(n_rows, 1)[labels] / max(np.count_nonzero(n_rows), 1)
        return np.bincount(at, share[counts], minlength=len(breakpoints))

    # Each is summed from the end where it is exactly 0.
    seen_accuracy = np.append(np.cumsum(weights(is_seen)[::-1])[::-1], 0.0)
    unseen_accuracy = np.append(0.0, np.cumsum(weights(~is_seen)))
    return Curve(
        breakpoints,
        seen=np.where(is_seen.any(), seen_accuracy.clip(0, 1), np.nan),
        unseen=np.where(is_seen.all(), np.nan, unseen_accuracy.clip(0, 1)),
    )


def _best_of_each_group(
    scores: np.ndarray, n_rows: int, seen: np.ndarray, unseen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of the best seen and best unseen class, and the margin between their scores; each ``(N,)``."""
    n_classes = int(max(seen[-1], unseen[-1])) + 1
    if scores.ndim != 2 or len(scores) != n_rows or scores.shape[1] < n_classes or scores.dtype.kind not in "fiu":
        raise InputError(
            f"scores have shape {scores.shape} and type {scores.dtype}",
            f"({n_rows}, C) numbers with C at least {n_classes}, a column for each class id",
        )
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
        raise InputError(
            f"row {row} has best scores {value[0][row]} (seen) and {value[1][row]} (unseen)", "finite numbers"
        )
    return best[0], best[1], margin


def _checked_labels(labels: Any, seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, (seen, unseen) = _ids("labels", labels), _checked_groups(seen, unseen)
    other = ~np.isin(labels, np.concatenate([seen, unseen]))
    if other.any():
        row = int(np.argmax(other))
        raise InputError(
            f"labels[{row}] is {labels[row]}, which is neither in seen nor in unseen",
            "ids of seen or unseen classes",
            "Leave such rows out, or add the class",
        )
    return labels, seen, unseen


def _checked_groups(seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray]:
    seen, unseen = np.unique(_ids("seen", seen)), np.unique(_ids("unseen", unseen))
    both = np.intersect1d(seen, unseen)
    if both.size:
        raise InputError(f"class {both[0]} is in seen and in unseen", "each class in one of them")
    return seen, unseen


def _checked_predictions(
    predictions: np.ndarray, labels: np.ndarray, seen: np.ndarray, unseen: np.ndarray, gamma: float
) -> np.ndarray:
    if gamma != 0:
        raise InputError(f"gamma is {gamma} with predicted class ids", "class scores (N, C)", "Give scores, or gamma=0")
    if predictions.shape != labels.shape or predictions.dtype.kind not in "iu":
        raise InputError(
            f"predictions have shape {predictions.shape} and type {predictions.dtype}",
            f"({len(labels)},) class ids, one for each label, or ({len(labels)}, C) class scores",
        )
    other = ~np.isin(predictions, np.concatenate([[ABSTAIN], seen, unseen]))
    if other.any():
        row = int(np.argmax(other))
        raise InputError(
            f"predictions[{row}] is {predictions[row]}, which is neither in seen nor in unseen",
            "ids of seen or unseen classes",
            "Restrict the classifier to the candidates; -1 stands for no answer",
        )
    return predictions


def _ids(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not values.size or values.min() < 0:
        raise InputError(
            f"{name} has shape {values.shape} and type {values.dtype}"
            + (f", lowest {values.min()}" if values.size and values.dtype.kind in "iu" else ""),
            "a list of at least one class id, 0 or above",
            "Of a mask take numpy.flatnonzero(mask)" if values.dtype.kind == "b" else "",
        )
    return values.astype(np.int64)


def _json_number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
