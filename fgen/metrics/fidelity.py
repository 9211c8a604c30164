"""Similarity of generated and real features, compared with the similarity of real features among themselves.

The real rows of a class are split in two halves of the same size. One half is the reference; the other half and as
many generated rows are each compared with it. Every score depends on how many rows there are, so a score means
something only beside its ``real_split``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.linalg import svdvals
from scipy.spatial.distance import cdist

from fgen import rng
from fgen.errors import InputError
from fgen.features.checks import as_numbers
from fgen.metrics.inputs import checked_sets

BLOCK_ROWS = 512
NAN = float("nan")


@dataclass(frozen=True)
class FidelityScores:
    """How close one set of rows is to a reference set; NaN where there are too few rows.

    Attributes:
        frechet: squared Fréchet distance, in the features' units squared; 0 is the best.
        precision, recall, coverage: fractions in [0, 1]; 1 is the best.
        density: at least 0, near 1 for the same distribution; above 1 where rows crowd at the reference's modes.
        nearest_mean: share of rows whose nearest class mean of the reference is that of their own class.
    """

    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float
    nearest_mean: float


@dataclass(frozen=True)
class Comparison:
    """Generated against real rows, and real against real rows, with ``n_rows`` rows on each side."""

    n_rows: int
    synthetic: FidelityScores
    real_split: FidelityScores


@dataclass(frozen=True)
class Fidelity:
    """The comparison over all classes together, and for each class id that has real and generated rows."""

    overall: Comparison
    per_class: dict[int, Comparison]

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON can hold; NaN becomes None."""
        per_class = {str(label): _jsonable(asdict(result)) for label, result in self.per_class.items()}
        return {"overall": _jsonable(asdict(self.overall)), "per_class": per_class}


def compare_features(
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    *,
    k: int = 5,
    seed: int = 0,
    max_rows: int = 1000,
) -> Fidelity:
    """Compare generated with real features, per class and overall.

    Args:
        real, synthetic: ``(N, D)`` and ``(M, D)`` finite numbers in the same space.
        real_labels, synthetic_labels: ``(N,)`` and ``(M,)`` class ids; classes that lack real or generated rows
            are left out.
        k: neighbours for precision, recall, density and coverage.
        seed: names the random halves.
        max_rows: at most so many rows on each side of the overall comparison, and of each class's.

    Raises:
        InputError: shapes or values that don't fit, or no class with 2 real and 1 generated rows.
    """
    (real, real_labels), (synthetic, synthetic_labels) = checked_sets(real, real_labels, synthetic, synthetic_labels)
    if k < 1 or max_rows < 1:
        raise InputError(f"k is {k} and max_rows {max_rows}", "at least 1 for both")
    rows = _matched_rows(real_labels, synthetic_labels, seed, max_rows)
    if not rows:
        raise InputError("no class has both 2 real and 1 generated rows", "at least one", "Check the labels")

    ids = np.array(list(rows))
    means = np.stack([real[half].mean(axis=0) for half, _, _ in rows.values()])
    nearest = {}
    per_class = {}
    for label, (half, other, made) in rows.items():
        nearest[label] = [ids[cdist(x, means).argmin(axis=1)] == label for x in (real[other], synthetic[made])]
        per_class[label] = _compare(real[half], real[other], synthetic[made], nearest[label], k)

    # The three sets have the same number of rows of each class, in the same order; so has any common choice of rows.
    joined = [np.concatenate(part) for part in zip(*rows.values(), strict=True)]
    agrees = [np.concatenate(part) for part in zip(*nearest.values(), strict=True)]
    chosen = np.sort(rng.stream(seed, "fidelity", "overall").permutation(len(joined[0]))[:max_rows])
    half, other, made = (part[chosen] for part in joined)
    return Fidelity(_compare(real[half], real[other], synthetic[made], agrees, k), per_class)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance between two Gaussians fitted to the rows (Heusel et al. 2017, eq. 6).

    ``|m_a - m_b|^2 + Tr(S_a) + Tr(S_b) - 2 Tr((S_a S_b)^(1/2))``, with the last trace as the nuclear norm of
    ``A B^T`` for centred ``A``, ``B`` over sqrt(n - 1): real by construction, and cheap for n << D.

    Args:
        a, b: ``(n, D)`` and ``(m, D)``, at least 2 rows each. Biased upwards for few rows: compare at equal n only.
    """
    a, b = as_numbers("a", a), as_numbers("b", b)
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"shapes {a.shape} and {b.shape}", "(n, D) and (m, D) with at least 2 rows each")
    factor_a, factor_b = _covariance_factor(a), _covariance_factor(b)
    apart = float(((a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)) ** 2).sum())
    traces = float((factor_a**2).sum() + (factor_b**2).sum())
    return max(0.0, apart + traces - 2 * float(svdvals(factor_a @ factor_b.T).sum()))


def neighbour_scores(reference: np.ndarray, rows: np.ndarray, k: int = 5) -> dict[str, float]:
    """Compute precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A row's ball reaches to its k-th nearest other row of the same set and includes its border, so that identical
    features score 1, even where rows repeat.

    Args:
        reference, rows: ``(n, D)`` and ``(m, D)``.
        k: neighbours, below n and m.

    Returns:
        ``precision``: share of rows within a ball of the reference; ``recall``: share of reference rows within a ball
        of the rows; ``density``: mean number of reference balls around a row, over k; ``coverage``: share of reference
        balls that hold a row.
    """
    reference, rows = as_numbers("reference", reference), as_numbers("rows", rows)
    if not 1 <= k < min(len(reference), len(rows)):
        raise InputError(f"k is {k} for {len(reference)} and {len(rows)} rows", "at least 1 and fewer than the rows")
    reference_radius, row_radius = _radii(reference, k), _radii(rows, k)
    covered = np.zeros(len(reference), dtype=bool)
    recalled = np.zeros(len(reference), dtype=bool)
    n_balls = np.zeros(len(rows), dtype=np.int64)
    for block, distance in _distance_blocks(rows, reference):
        within = distance <= reference_radius
        n_balls[block] = within.sum(axis=1)
        covered |= within.any(axis=0)
        recalled |= (distance <= row_radius[block, None]).any(axis=0)
    return {
        "precision": float((n_balls > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(n_balls.mean() / k),
        "coverage": float(covered.mean()),
    }


def _compare(
    reference: np.ndarray, other_real: np.ndarray, synthetic: np.ndarray, nearest: list[np.ndarray], k: int
) -> Comparison:
    sets = zip((other_real, synthetic), nearest, strict=True)
    real_split, made = (_fidelity_scores(reference, rows, agrees, k) for rows, agrees in sets)
    return Comparison(len(reference), synthetic=made, real_split=real_split)


def _fidelity_scores(reference: np.ndarray, rows: np.ndarray, agrees: np.ndarray, k: int) -> FidelityScores:
    neighbours = dict.fromkeys(("precision", "recall", "density", "coverage"), NAN)
    if len(rows) > k:
        neighbours = neighbour_scores(reference, rows, k)
    frechet = frechet_distance(reference, rows) if len(rows) > 1 else NAN
    return FidelityScores(frechet=frechet, nearest_mean=float(agrees.mean()), **neighbours)


def _matched_rows(
    real_labels: np.ndarray, synthetic_labels: np.ndarray, seed: int, max_rows: int
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return for each class row numbers of two disjoint sets of real rows and of generated ones, all of one size."""
    rows = {}
    for label in np.intersect1d(real_labels, synthetic_labels).tolist():
        stream = rng.stream(seed, "fidelity", int(label))
        real = stream.permutation(np.flatnonzero(real_labels == label))
        made = stream.permutation(np.flatnonzero(synthetic_labels == label))
        n = min(len(real) // 2, len(made), max_rows)
        if n:
            rows[int(label)] = (real[:n], real[n : 2 * n], made[:n])
    return rows


def _covariance_factor(x: np.ndarray) -> np.ndarray:
    """Return a matrix F of at most D rows; ``F^T F`` is the covariance of the rows."""
    centred = np.asarray(x, dtype=np.float64)
    centred = (centred - centred.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(x) > x.shape[1] else centred


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of each row to its k-th nearest other row, ``(n,)``."""
    # Each row is its own nearest, at distance 0.
    return np.concatenate([np.partition(distance, k, axis=1)[:, k] for _, distance in _distance_blocks(x, x)])


def _distance_blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield distances by blocks of rows of x. They are calculated from differences, so that equal rows are exactly 0
    apart.
    """
    for start in range(0, len(x), BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, len(x)))
        yield block, cdist(x[block], y)


def _jsonable(nested: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _jsonable(value) if isinstance(value, dict) else None if value != value else value
        for key, value in nested.items()
    }
