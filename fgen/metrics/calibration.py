"""Calibration curve: seen and unseen accuracy for every gamma taken from the seen classes' scores.

Chao, Changpinyo, Gong, Sha, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object Recognition
in the Wild", ECCV 2016.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fgen.errors import InputError
from fgen.features.checks import as_numbers
from fgen.features.class_scores import GroupBest


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Seen and unseen accuracy for every calibration ``gamma`` (Chao et al. 2016, "calibrated stacking").

    Attributes:
        breakpoints: ``(K,)`` ascending; the only values of gamma at which an accuracy changes.
        seen, unseen: ``(K + 1,)`` mean accuracies; point j holds for ``breakpoints[j-1] < gamma <= breakpoints[j]``,
            so the first point is gamma -> -inf and the last gamma -> +inf.
    """

    breakpoints: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray

    def __post_init__(self) -> None:
        steps, parts = np.asarray(self.breakpoints), (np.asarray(self.seen), np.asarray(self.unseen))
        if steps.ndim != 1 or (np.diff(steps) < 0).any() or any(part.shape != (len(steps) + 1,) for part in parts):
            shapes = ", ".join(str(part.shape) for part in (steps, *parts))
            found = f"a calibration curve has breakpoints, seen and unseen accuracies of shapes {shapes}"
            raise InputError(found, "(K,) ascending, (K + 1,) and (K + 1,)")

    @property
    def H(self) -> np.ndarray:
        """Return the ``(K + 1,)`` harmonic mean of both accuracies."""
        return harmonic_mean(self.unseen, self.seen)

    def at(self, gamma: float) -> tuple[float, float]:
        """Return (seen accuracy, unseen accuracy) at one gamma."""
        point = np.searchsorted(self.breakpoints, gamma, side="left")
        return float(self.seen[point]), float(self.unseen[point])


def harmonic_mean(u: Any, s: Any) -> Any:
    """Return 2us / (u + s), or 0 where both are 0; for numbers or arrays."""
    u, s = as_numbers("u", u).astype(np.float64), as_numbers("s", s).astype(np.float64)
    total = u + s
    h = 2 * u * s / np.where(total == 0, 1.0, total)
    return h if h.ndim else float(h)


def ausuc(curve: CalibrationCurve) -> float:
    """Return the area under the seen-unseen accuracy curve in [0, 1], by trapezoids (Chao et al. 2016).

    Rows that switch at the same gamma make a diagonal piece, any other row a step. NaN where seen or unseen
    classes have no rows at all.
    """
    if np.isnan(curve.H).any():
        return float("nan")
    return float((np.diff(curve.unseen) * (curve.seen[1:] + curve.seen[:-1])).sum() / 2)


def best_gamma(curve: CalibrationCurve | None, tolerance: float = 0.0) -> tuple[float, float]:
    """Return the gamma with the highest H, and that H.

    Args:
        curve: of the rows that the choice is made on.
        tolerance: with 0.05, the middle of all gammas whose H is within 5 % of the highest. The curve of a few hundred
            rows has many steps, and its highest point depends on those rows.

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


def curve_of(labels: np.ndarray, seen: np.ndarray, best: GroupBest) -> CalibrationCurve:
    """Return the curve of checked labels ``(N,)`` of seen and unseen classes."""
    is_seen = np.isin(labels, seen)
    # Only rows that are right within their own group ever count: seen ones up to their margin, unseen ones beyond it.
    counts = labels == np.where(is_seen, best.seen, best.unseen)
    breakpoints, at = np.unique(best.margin[counts], return_inverse=True)

    def weights(group: np.ndarray) -> np.ndarray:
        """Return ``(K,)``: what the group's rows at each breakpoint add to its mean accuracy."""
        n_rows = np.bincount(labels[group], minlength=int(labels.max()) + 1)
        share = group / np.maximum(n_rows, 1)[labels] / max(np.count_nonzero(n_rows), 1)
        return np.bincount(at, share[counts], minlength=len(breakpoints))

    # Each is summed from the end where it is exactly 0.
    seen_accuracy = np.append(np.cumsum(weights(is_seen)[::-1])[::-1], 0.0)
    unseen_accuracy = np.append(0.0, np.cumsum(weights(~is_seen)))
    return CalibrationCurve(
        breakpoints,
        seen=np.where(is_seen.any(), seen_accuracy.clip(0, 1), np.nan),
        unseen=np.where(is_seen.all(), np.nan, unseen_accuracy.clip(0, 1)),
    )
