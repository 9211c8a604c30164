"""Soul samples of LisGAN: prototypes of a class's real features, by k-means."""

from typing import Any

import numpy as np

from fgen import rng
from fgen.errors import InputError


def soul_prototypes(features: Any, labels: np.ndarray, n_souls: int, seed: int) -> np.ndarray:
    """Return the souls of each class: centres of a k-means of its real features (LisGAN, section 3.3; K = 3 there).

    The released code runs scikit-learn's k-means; here the best of 10 starts of k-means++ and Lloyd's iteration,
    one random stream for each class. It runs once, before training.

    Args:
        features: ``(N, D)`` scaled, an array or what is indexed like one; the rows of one class are read at a time.
        labels: ``(N,)`` in [0, S); S is the largest label + 1.
        n_souls: K >= 1. A class with fewer distinct rows repeats its souls, which changes no nearest distance.
        seed: the run's seed.

    Returns:
        ``(S, K, D)`` float32.

    Raises:
        InputError: ``n_souls`` below 1, no rows, or a class without rows.
    """
    if n_souls < 1:
        raise InputError(f"n_souls is {n_souls}", "at least 1")
    counts = np.bincount(labels)
    if not counts.size or not counts.all():
        empty = f"class {int(counts.argmin())}" if counts.size else "every class"
        raise InputError(f"{empty} has no features", "at least one row for each class")
    order = np.argsort(labels, kind="stable")
    souls = np.empty((len(counts), n_souls, features.shape[1]), dtype=np.float32)
    for label, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        souls[label] = _kmeans(features[rows].astype(np.float64), n_souls, rng.stream(seed, "souls", label))
    return souls


def _kmeans(rows: np.ndarray, n_centres: int, stream: np.random.Generator, n_starts: int = 10) -> np.ndarray:
    # (n, D) to the (K, D) with the least squared distance to the rows among all starts.
    offset = rows.mean(0)
    centred = rows - offset
    starts = [_lloyd(centred, _spread_rows(centred, n_centres, stream)) for _ in range(n_starts)]
    best = min(starts, key=lambda centres: _squared_distances(centred, centres).min(1).sum())
    return best + offset


def _lloyd(rows: np.ndarray, centres: np.ndarray, max_iterations: int = 300) -> np.ndarray:
    nearest = None
    for _ in range(max_iterations):
        before, nearest = nearest, _squared_distances(rows, centres).argmin(1)
        if before is not None and np.array_equal(before, nearest):
            break
        members = nearest == np.arange(len(centres))[:, None]
        counts = members.sum(1, keepdims=True)
        # A centre without rows stays where it is.
        centres = np.where(counts > 0, members @ rows / np.maximum(counts, 1), centres)
    return centres


def _spread_rows(rows: np.ndarray, n_centres: int, stream: np.random.Generator) -> np.ndarray:
    # k-means++: each next row is drawn in proportion to its squared distance to those already drawn.
    chosen = [int(stream.integers(len(rows)))]
    while len(chosen) < n_centres:
        # From differences, so that a row is at 0 from itself, and never drawn again while others are left.
        gaps = np.min([np.square(rows - rows[k]).sum(1) for k in chosen], axis=0)
        total = gaps.sum()
        chosen.append(int(stream.choice(len(rows), p=gaps / total)) if total > 0 else chosen[0])
    return rows[chosen]


def _squared_distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    # (n, K), never below 0.
    products = rows @ centres.T
    return np.maximum(np.square(rows).sum(1)[:, None] + np.square(centres).sum(1) - 2 * products, 0)
