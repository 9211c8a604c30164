"""Accuracies of generalized zero-shot learning: T1, U, S, H, and the area under the calibration curve.

All accuracies are fractions in [0, 1] and means over classes, not rows (Xian et al., "Zero-Shot Learning: A
Comprehensive Evaluation", 2018). A class without a test row has no accuracy (NaN) and is left out of the mean.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_numbers
from fgen.features.class_scores import GroupBest
from fgen.metrics.calibration import CalibrationCurve, ausuc, curve_of, harmonic_mean
from fgen.metrics.inputs import checked_predictions, checked_test_labels


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
    curve: CalibrationCurve | None

    def as_reported(self) -> Self:
        """Return what a run reports: without test rows of seen classes T1 alone (conventional ZSL), without U."""
        if not np.isnan(self.S):
            return self
        return replace(self, U=float("nan"), AUSUC=None, curve=None)

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON can hold: scores by name, per-class scores by class id; NaN becomes None."""
        names = ("T1", "U", "S", "H", "AUSUC", "gamma", "accuracy")
        result: dict[str, Any] = {name: json_number(getattr(self, name)) for name in names}
        for name, classes in (("T1", self.unseen), ("U", self.unseen), ("S", self.seen)):
            values = getattr(self, f"per_class_{name}")
            if values is not None:
                pairs = zip(classes, values, strict=True)
                result[f"per_class_{name}"] = {str(c): json_number(value) for c, value in pairs}
        return result


def json_number(value: float | None) -> float | None:
    """Return a score as JSON can hold it: None for NaN."""
    return None if value is None or np.isnan(value) else float(value)


def per_class_accuracy(labels: Any, predictions: Any, classes: Any) -> np.ndarray:
    """Return the share of each class's rows that are predicted correctly.

    Args:
        labels: ``(N,)`` class ids.
        predictions: ``(N,)`` class ids.
        classes: ``(K,)`` class ids, each once.

    Returns:
        ``(K,)`` in [0, 1], in the order of ``classes``; NaN for a class without a row.
    """
    classes = as_numbers("classes", classes).astype(np.int64)
    labels, predictions = as_numbers("labels", labels), as_numbers("predictions", predictions)
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
    """Return the mean over the classes that have rows; NaN if none has."""
    present = np.asarray(per_class)[~np.isnan(per_class)]
    return float(present.mean()) if present.size else float("nan")


def gzsl_scores(labels: Any, predictions_or_scores: Any, *, seen: Any, unseen: Any, gamma: float = 0.0) -> GZSLScores:
    """Compute T1, U, S, H and AUSUC of predictions on the test rows of seen and unseen classes.

    Ties are settled for good: with scores, a row goes to its best seen class if that score minus its best unseen
    score is at least ``gamma``, else to its best unseen class; within a group the lowest class id wins.

    Args:
        labels: ``(N,)`` true class ids, of seen and unseen classes.
        predictions_or_scores: ``(N,)`` predicted class ids (-1 abstains, and counts as wrong), or ``(N, C)``
            scores of all class ids, the larger the likelier; columns of other classes are ignored.
        seen, unseen: class ids, not masks, without a class in common.
        gamma: subtracted from the seen classes' scores (calibrated stacking, Chao et al. 2016). It has to be chosen
            on validation classes, see :func:`fgen.metrics.calibration.best_gamma`.

    Returns:
        Scores as fractions. T1 and AUSUC need class scores and are None for predicted ids. Classes without a row are
        left out of the means; without a row of any seen class S and H are NaN (likewise U, H and unseen).

    Raises:
        InputError: shapes, ids or values that don't fit.

    Example:
        >>> scores = [[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 1.0]]
        >>> result = fgen.gzsl_scores([0, 0, 1, 2], scores, seen=[0, 1], unseen=[2], gamma=1.5)
        >>> result.U, result.S, round(result.H, 3)
        (1.0, 0.75, 0.857)
    """
    labels, seen, unseen = checked_test_labels(labels, seen, unseen)
    given = as_numbers("predictions_or_scores", predictions_or_scores)
    if given.ndim != 1:
        return scores_of(labels, GroupBest.of(given, len(labels), seen, unseen), seen=seen, unseen=unseen, gamma=gamma)
    predictions = checked_predictions(given, labels, seen, unseen, gamma)
    return _scores(labels, predictions, seen, unseen, gamma)


def scores_of(labels: Any, best: GroupBest, *, seen: Any, unseen: Any, gamma: float = 0.0) -> GZSLScores:
    """Compute what :func:`gzsl_scores` does, from the best class of each group and their margin.

    Args:
        labels: ``(N,)`` true class ids, of seen and unseen classes.
        best: of the same rows.
        seen, unseen, gamma: as in :func:`gzsl_scores`.
    """
    labels, seen, unseen = checked_test_labels(labels, seen, unseen)
    per_class_T1 = per_class_accuracy(labels, best.unseen, unseen)
    curve = curve_of(labels, seen, best)
    found = _scores(labels, best.predict(gamma), seen, unseen, gamma)
    return replace(found, T1=mean_accuracy(per_class_T1), per_class_T1=per_class_T1, curve=curve, AUSUC=ausuc(curve))


def _scores(
    labels: np.ndarray, predictions: np.ndarray, seen: np.ndarray, unseen: np.ndarray, gamma: float
) -> GZSLScores:
    """Return the scores that predicted ids ``(N,)`` have."""
    per_class_U = per_class_accuracy(labels, predictions, unseen)
    per_class_S = per_class_accuracy(labels, predictions, seen)
    u, s = mean_accuracy(per_class_U), mean_accuracy(per_class_S)
    return GZSLScores(
        T1=None,
        U=u,
        S=s,
        H=harmonic_mean(u, s),
        AUSUC=None,
        gamma=float(gamma),
        accuracy=float(np.mean(labels == predictions)),
        seen=seen,
        unseen=unseen,
        per_class_T1=None,
        per_class_U=per_class_U,
        per_class_S=per_class_S,
        curve=None,
    )
