"""Choice of gamma on held-out classes, and the scores to expect where no test row is known.

Gamma is subtracted from the seen classes' scores (calibrated stacking, Chao et al. 2016). On few classes the gamma with
the highest H depends on those classes, so three things keep it from doing harm: accuracies are averaged over all
held-out classes before H is taken, the gamma nearest to 0 is chosen among those with nearly the highest H, and it is
kept only where resampled classes gain by it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from fgen import rng
from fgen.errors import InputError
from fgen.features.checks import as_ids, as_numbers
from fgen.features.class_scores import GroupBest
from fgen.metrics.calibration import harmonic_mean
from fgen.metrics.inputs import checked_test_labels

#: Fewest held-out classes, and rows of them, that a gamma is chosen from.
FEWEST_CLASSES = 4
FEWEST_ROWS = 12
#: Among gammas whose H is within this share of the highest, the one nearest to 0 is chosen.
TOLERANCE = 0.02
#: A gamma is kept if this quantile of the gain in H over resampled classes is above 0.
QUANTILE = 0.25
N_RESAMPLES = 1000
#: The interval of an expected score, in percent.
LEVELS = (2.5, 97.5)
#: Gammas that are tried at most, evenly spaced among those at which an accuracy changes.
MOST_GAMMAS = 2000


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What decides about rows that neither the generator nor the head has learned from.

    Attributes:
        labels: ``(N,)`` class ids.
        is_seen: ``(N,)`` bool, the rows of seen classes.
        right: ``(N,)`` bool, the rows whose class has the best score among the classes of its group.
        margin: ``(N,)`` best score of a seen class minus best score of an unseen one.
    """

    labels: np.ndarray
    is_seen: np.ndarray
    right: np.ndarray
    margin: np.ndarray

    @classmethod
    def of(cls, labels: Any, scores: Any, seen: Any, unseen: Any) -> Self:
        """Return what decides, from scores.

        Args:
            labels: ``(N,)`` class ids.
            scores: ``(N, C)`` by class id, the larger the likelier.
            seen, unseen: ids of the candidates; some of the unseen ones may have no rows.

        Raises:
            InputError: shapes, ids or values that don't fit.
        """
        labels, seen, unseen = checked_test_labels(labels, seen, unseen)
        return cls.of_best(labels, GroupBest.of(as_numbers("scores", scores), len(labels), seen, unseen), seen)

    @classmethod
    def of_best(cls, labels: np.ndarray, best: GroupBest, seen: np.ndarray) -> Self:
        """Return what decides, from checked labels ``(N,)`` and the best class of each group."""
        is_seen = np.isin(labels, seen)
        return cls(labels, is_seen, np.where(is_seen, best.seen, best.unseen) == labels, best.margin)

    def accuracies(self, gammas: np.ndarray, *, of_seen: bool) -> dict[int, np.ndarray]:
        """Return the accuracies ``(G,)`` of each seen class that has rows, or of each unseen one, at some gammas."""
        result = {}
        for k in np.unique(self.labels[self.is_seen == of_seen]):
            own = self.labels == k
            below = np.searchsorted(np.sort(self.margin[own & self.right]), gammas)
            result[int(k)] = (np.count_nonzero(self.right[own]) - below if of_seen else below) / np.count_nonzero(own)
        return result


@dataclass(frozen=True)
class Expectation:
    """The score to expect of a task, and the interval that should hold it in 95 of 100 such tasks."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class GammaChoice:
    """A choice of gamma and what it rests on.

    Attributes:
        gamma: what to subtract from the seen classes' scores; 0 where no other is surely better.
        H: the mean over the held-out classes that selection compares: with the gamma that would be chosen if every
            gain counted.
        n_classes, n_rows: the held-out classes, and their rows.
        expected: T1, U, S and H with ``gamma``.
        uncalibrated: the same without.
    """

    gamma: float
    H: float
    n_classes: int
    n_rows: int
    expected: dict[str, Expectation]
    uncalibrated: dict[str, Expectation]

    @property
    def sentence(self) -> str:
        """What was chosen, and the number of classes and rows that the choice rests on."""
        basis = f"{self.n_classes} held-out classes ({self.n_rows} rows)"
        if self.gamma:
            return f"gamma {self.gamma:.3g} was chosen on {basis}"
        if self.n_classes < FEWEST_CLASSES or self.n_rows < FEWEST_ROWS:
            return f"gamma is 0: {basis} are too few to choose one, which takes {FEWEST_CLASSES} with {FEWEST_ROWS}"
        return f"gamma is 0: on {basis} no other is surely better"

    def as_dict(self) -> dict[str, Any]:
        """Return what the choice rests on, and what it makes of scores, as JSON can hold it."""
        facts = asdict(self)
        del facts["gamma"], facts["H"]
        return facts | {"sentence": self.sentence}


def choose_gamma(scores: Any, labels: Any, seen: Any, unseen: Any) -> float:
    """Choose what to subtract from the seen classes' scores of any classifier, on classes held out of its training.

    Args:
        scores: ``(N, C)`` of held-out rows by class id, the larger the likelier: probabilities' logarithms, distances
            with a minus sign, votes.
        labels: ``(N,)`` class ids; rows of seen classes that weren't trained on, and rows of held-out classes.
        seen: ids of the classes whose real rows the classifier was trained on.
        unseen: ids of the held-out classes, for which it was trained on generated rows.

    Returns:
        Gamma: among those whose H is within 2 % of the highest, the one nearest to 0. It is 0 where fewer than 4
        classes or 12 rows are held out, or where the gain isn't sure: H must rise in three quarters of 1,000 resamples
        of the classes.

    Raises:
        InputError: shapes, ids or values that don't fit, or no rows of seen or of unseen classes.

    Example:
        >>> import numpy as np
        >>> labels = np.repeat(np.arange(8), 5)
        >>> scores = np.eye(8)[labels]
        >>> scores[:, :4] += 2  # the classifier is biased towards the seen classes 0 to 3
        >>> gamma = fgen.choose_gamma(scores, labels, seen=range(4), unseen=range(4, 8))
        >>> bool((fgen.apply_gamma(scores, range(4), gamma).argmax(axis=1) == labels).all())
        True
    """
    return choose([HeldOut.of(labels, scores, seen, unseen)]).gamma


def apply_gamma(scores: Any, seen: Any, gamma: float) -> np.ndarray:
    """Return scores ``(N, C)`` with those of the seen classes lowered by gamma.

    Args:
        scores: ``(N, C)`` by class id.
        seen: ids of the seen classes.
        gamma: from :func:`choose_gamma`.

    Raises:
        InputError: scores that are no matrix, ids without a column, or a gamma that isn't finite.

    Example:
        >>> fgen.apply_gamma([[2.0, 1.5]], seen=[0], gamma=1.0).tolist()
        [[1.0, 1.5]]
    """
    numbers, seen = as_numbers("scores", scores), as_ids("seen", seen)
    if numbers.ndim != 2 or (seen.size and seen.max() >= numbers.shape[1]):
        raise InputError(f"scores have shape {numbers.shape}", "(N, C), with a column for each seen class")
    if not np.isfinite(gamma):
        raise InputError(f"gamma is {gamma}", "a finite number")
    lowered = numbers.astype(np.result_type(numbers, np.float32))
    lowered[:, seen] -= gamma
    return lowered


def choose(
    folds: Sequence[HeldOut],
    *,
    n_seen: int | None = None,
    n_unseen: int | None = None,
    gamma: float | None = None,
) -> GammaChoice:
    """Choose gamma on one or several folds of held-out classes, and say what scores to expect.

    Args:
        folds: each with other held-out classes. A class's accuracy is its mean over the folds that have rows of it.
        n_seen, n_unseen: numbers of classes of the task that scores are expected for; by default those of the folds.
        gamma: what to describe in place of a choice.

    Raises:
        InputError: no rows of seen or of unseen classes.
    """
    gammas = _gammas(folds) if gamma is None else np.unique([-np.inf, 0.0, gamma, np.inf])
    seen, unseen = _accuracies(folds, gammas)
    zero = int(np.searchsorted(gammas, 0.0))
    h = harmonic_mean(unseen.mean(axis=0), seen.mean(axis=0))
    at = _nearest_to_zero(gammas, h) if gamma is None else int(np.searchsorted(gammas, gamma))
    highest = float(h[at])
    n_classes, n_rows = len(unseen), sum(int(np.count_nonzero(~fold.is_seen)) for fold in folds)
    few = n_classes < FEWEST_CLASSES or n_rows < FEWEST_ROWS
    if gamma is None and (few or not _gains(unseen[:, [at, zero]], seen[:, [at, zero]])):
        at = zero

    def expected(point: int) -> dict[str, Expectation]:
        # Beyond the last gamma every row goes to its best unseen class, which is what T1 counts.
        parts = {"T1": (unseen[:, -1], n_unseen), "U": (unseen[:, point], n_unseen), "S": (seen[:, point], n_seen)}
        drawn = {name: _drawn(*part) for name, part in parts.items()}
        means = {name: accuracies.mean() for name, (accuracies, _) in parts.items()}
        drawn["H"], means["H"] = harmonic_mean(drawn["U"], drawn["S"]), harmonic_mean(means["U"], means["S"])
        return {
            name: Expectation(float(means[name]), *map(float, np.percentile(drawn[name], LEVELS))) for name in drawn
        }

    return GammaChoice(float(gammas[at]), highest, n_classes, n_rows, expected(at), expected(zero))


def calibrated_scores(folds: Sequence[HeldOut]) -> tuple[float, float]:
    """Return T1 and :attr:`GammaChoice.H` of the folds alone, which compares many candidates in little time."""
    gammas = _gammas(folds)
    seen, unseen = _accuracies(folds, gammas)
    h = harmonic_mean(unseen.mean(axis=0), seen.mean(axis=0))
    return float(unseen[:, -1].mean()), float(h[_nearest_to_zero(gammas, h)])


def _accuracies(folds: Sequence[HeldOut], gammas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies ``(K, G)`` of the seen and of the unseen classes that have rows.

    Raises:
        InputError: no rows of seen or of unseen classes.
    """
    seen, unseen = (_by_class([fold.accuracies(gammas, of_seen=group) for fold in folds]) for group in (True, False))
    if not len(seen) or not len(unseen):
        raise InputError("there are no held-out rows of seen or of unseen classes", "rows of both")
    return seen, unseen


def _nearest_to_zero(gammas: np.ndarray, h: np.ndarray) -> int:
    """Return the position of the gamma nearest to 0 whose H ``(G,)`` is nearly the highest."""
    good = np.flatnonzero(h >= (1 - TOLERANCE) * h.max())
    return int(good[np.abs(gammas[good]).argmin()])


def _gammas(folds: Sequence[HeldOut]) -> np.ndarray:
    """Return ascending gammas ``(G,)``: 0, one between any two at which an accuracy changes, one beyond each end."""
    steps = np.unique(np.concatenate([fold.margin[fold.right] for fold in folds]))
    if not len(steps):
        return np.zeros(1)
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, MOST_GAMMAS).round().astype(int))]
    return np.unique(np.concatenate([[0.0, steps[0] - 1, steps[-1] + 1], (steps[1:] + steps[:-1]) / 2]))


def _by_class(folds: Sequence[dict[int, np.ndarray]]) -> np.ndarray:
    """Return the mean accuracies ``(K, G)`` of each class over the folds that have it."""
    classes = sorted({k for fold in folds for k in fold})
    return np.array([np.mean([fold[k] for fold in folds if k in fold], axis=0) for k in classes])


def _gains(unseen: np.ndarray, seen: np.ndarray) -> bool:
    """Return whether H is higher in the first than in the second column, in most resamples of the classes.

    Args:
        unseen, seen: accuracies ``(K, 2)``.
    """
    stream = rng.stream(0, "gains")
    u, s = (
        stream.multinomial(len(part), np.full(len(part), 1 / len(part)), N_RESAMPLES) @ part / len(part)
        for part in (unseen, seen)
    )
    h = harmonic_mean(u, s)
    return bool(np.quantile(h[:, 0] - h[:, 1], QUANTILE) > 0)


def _drawn(accuracies: np.ndarray, n_classes: int | None) -> np.ndarray:
    """Return means ``(B,)`` of so many classes drawn from a resample of the classes.

    The resample stands for what the held-out classes leave unknown, the draw for the classes that the task has.

    Args:
        accuracies: ``(K,)`` of the held-out classes.
        n_classes: None draws K.
    """
    stream, k = rng.stream(0, "expected"), len(accuracies)
    pools = accuracies[stream.integers(k, size=(N_RESAMPLES, k))]
    drawn = np.take_along_axis(pools, stream.integers(k, size=(N_RESAMPLES, n_classes or k)), axis=1)
    return drawn.mean(axis=1)
