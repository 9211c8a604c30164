"""Means and intervals over seeds, and paired differences between two methods.

A few seeds say nothing about which classes happened to be drawn, so the bootstrap resamples classes as well as
seeds. All intervals are 95 % percentile intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgen import rng
from fgen.errors import InputError
from fgen.metrics.accuracy import GZSLScores, json_number
from fgen.metrics.calibration import harmonic_mean

SCORES = ("T1", "U", "S", "H", "AUSUC")
N_RESAMPLES = 2000
LEVELS = (2.5, 97.5)


def summarise(
    per_seed: Sequence[GZSLScores], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Return mean and interval of each score of one method.

    T1, U and S resample seeds and classes; H is recomputed from the resampled U and S of each seed. AUSUC has no
    per-class parts and resamples seeds only, so its interval is too narrow to compare data sets by.

    Args:
        per_seed: the scores of each seed, on the same test rows.
        seed: names the resamples.

    Returns:
        For each of T1, U, S, H, AUSUC: ``mean``, ``low``, ``high`` (fractions) and ``per_seed`` (a list). None stands
        for what is undefined: scores that weren't computed, classes without rows, the interval of AUSUC over one seed.

    Raises:
        InputError: no scores, or scores of other classes or test rows.
    """
    _check_comparable(per_seed)
    draws = _draw(per_seed[0], len(per_seed), seed, n_resamples)
    resampled = _resample(per_seed, draws)
    summary = {}
    for name in SCORES:
        values = [json_number(getattr(scores, name)) for scores in per_seed]
        mean = None if None in values else float(np.mean(values))  # type: ignore[arg-type]
        low, high = _interval(None if mean is None else resampled.get(name))
        summary[name] = {"mean": mean, "low": low, "high": high, "per_seed": values}
    return summary


def paired_interval(
    a: Sequence[GZSLScores],
    b: Sequence[GZSLScores],
    score: str = "H",
) -> dict[str, float | None]:
    """Return the difference between ``a`` and ``b`` with its interval. Each resample takes the same seeds and classes
    for both.

    Args:
        a, b: scores of two methods; ``a[i]`` and ``b[i]`` come from the same seed, all from the same test rows.
        score: one of T1, U, S, H, AUSUC (AUSUC resamples seeds only).

    Returns:
        ``difference`` (mean of a - mean of b), ``low``, ``high``, and ``share_positive``, the share of resamples in
        which a is strictly better. None where undefined, as in :func:`summarise`.

    Raises:
        InputError: an unknown score, or scores that can't be paired.
    """
    if score not in SCORES:
        raise InputError(f"score is {score!r}", f"one of {', '.join(SCORES)}")
    if len(a) != len(b):
        raise InputError(f"{len(a)} and {len(b)} seeds", "the same seeds for both")
    _check_comparable([*a, *b])
    draws = _draw(a[0], len(a), 0, N_RESAMPLES)
    values = [json_number(getattr(scores, score)) for scores in (*a, *b)]
    if None in values:
        return dict.fromkeys(("difference", "low", "high", "share_positive"))
    of_a, of_b = _resample(a, draws).get(score), _resample(b, draws).get(score)
    gaps = None if of_a is None or of_b is None else of_a - of_b
    low, high = _interval(gaps)
    return {
        "difference": float(np.mean(values[: len(a)]) - np.mean(values[len(a) :])),  # type: ignore[arg-type]
        "low": low,
        "high": high,
        "share_positive": None if gaps is None else float(np.mean(gaps > 0)),
    }


def _draw(scores: GZSLScores, n_seeds: int, seed: int, n_resamples: int) -> dict[str, np.ndarray]:
    """Return how often each resample takes each of the ``seeds``, and each class of T1, U and S; counts ``(B, n)``."""
    stream = rng.stream(seed, "bootstrap")

    def counts(n: int) -> np.ndarray:
        if n == 0:
            return np.zeros((n_resamples, 0), dtype=np.int64)
        return stream.multinomial(n, np.full(n, 1 / n), size=n_resamples)

    n_unseen, n_seen = (int(_present(part).sum()) for part in (scores.per_class_U, scores.per_class_S))
    of_seeds, of_unseen = counts(n_seeds), counts(n_unseen)
    return {"seeds": of_seeds, "T1": of_unseen, "U": of_unseen, "S": counts(n_seen)}


def _resample(per_seed: Sequence[GZSLScores], draws: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return ``(B,)`` resampled means of each score that can be resampled."""
    by_seed: dict[str, np.ndarray] = {}
    seeds = draws["seeds"]
    for name in ("T1", "U", "S"):
        counts = draws[name]
        parts = [getattr(scores, f"per_class_{name}") for scores in per_seed]
        if counts.size and not any(part is None for part in parts):
            accuracies = np.stack([part[_present(part)] for part in parts])
            by_seed[name] = counts @ accuracies.T / counts.shape[1]
    if "U" in by_seed and "S" in by_seed:
        by_seed["H"] = harmonic_mean(by_seed["U"], by_seed["S"])
    areas = [json_number(scores.AUSUC) for scores in per_seed]
    # With one seed there is nothing to resample, and an interval of width 0 would be wrong.
    if len(areas) > 1 and None not in areas:
        by_seed["AUSUC"] = np.broadcast_to(np.array(areas, dtype=np.float64), seeds.shape)
    return {name: (seeds * values).sum(axis=1) / seeds.shape[1] for name, values in by_seed.items()}


def _check_comparable(all_scores: Sequence[GZSLScores]) -> None:
    if not all_scores:
        raise InputError("no scores", "the scores of at least one seed")
    first = all_scores[0]
    for scores in all_scores[1:]:
        if not (np.array_equal(scores.seen, first.seen) and np.array_equal(scores.unseen, first.unseen)):
            raise InputError("scores of different classes", "the same seen and unseen classes for all")
        for name in ("per_class_U", "per_class_S"):
            if not np.array_equal(_present(getattr(scores, name)), _present(getattr(first, name))):
                raise InputError("scores of test sets that lack different classes", "the same test rows for all")


def _present(per_class: np.ndarray) -> np.ndarray:
    return ~np.isnan(per_class)


def _interval(resampled: np.ndarray | None) -> tuple[float | None, float | None]:
    if resampled is None:
        return None, None
    low, high = np.percentile(resampled, LEVELS)
    return float(low), float(high)
