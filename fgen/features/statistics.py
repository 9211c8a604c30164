"""First and second moments of features in one pass: all that the closed forms need to know of the rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from fgen.errors import InputError
from fgen.features.rows import Features, iter_blocks


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of features ``(N, D)``, float64.

    Attributes:
        classes: ``(S,)`` ids of the classes with rows.
        counts: ``(S,)`` how many rows each has.
        mean: ``(D,)`` of all rows.
        offsets: ``(S, D)`` class means less ``mean``.
        variances, directions: ``(D,)`` ascending and ``(D, D)``, columns: ``directions @ diag(variances) @
            directions.T`` is the covariance about ``mean``, divided by N.
    """

    classes: np.ndarray
    counts: np.ndarray
    mean: np.ndarray
    offsets: np.ndarray
    variances: np.ndarray
    directions: np.ndarray


_last: tuple[bytes, Moments] | None = None


def moments(features: Features, labels: np.ndarray) -> Moments:
    """The moments of checked inputs.

    The protocol fits every candidate to the same rows, and the eigenvectors of 2,048 columns take as long as
    everything else together. So the last answer is kept, under the hash of what was asked: a tenth of the time, and
    no difference to the caller. It is read-only.

    Raises:
        InputError: a feature isn't finite.
    """
    global _last
    key = _content(features, labels)
    known = _last
    if known is None or known[0] != key:
        known = (key, _moments(features, labels))
        _last = known
    return known[1]


def _moments(features: Features, labels: np.ndarray) -> Moments:
    classes, positions = np.unique(labels, return_inverse=True)
    dim = int(features.shape[1])
    sums, gram, start = np.zeros((len(classes), dim)), np.zeros((dim, dim)), 0
    # Sums about a typical row keep their digits when the mean is far from zero.
    shift = np.asarray(features[:1], dtype=np.float32)[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in iter_blocks(features):
            rows = block - shift
            sums += class_sums(rows, positions[start : start + len(block)], len(classes))
            gram += rows.T @ rows
            start += len(block)
    check_finite_by_class(sums, classes)
    counts = np.bincount(positions)
    mean = sums.sum(axis=0) / len(labels)
    variances, directions = np.linalg.eigh(gram / len(labels) - np.outer(mean, mean))
    found = Moments(classes, counts, mean + shift, sums / counts[:, None] - mean, np.maximum(variances, 0), directions)
    for array in vars(found).values():
        array.flags.writeable = False
    return found


def _content(features: Features, labels: np.ndarray) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(labels, dtype=np.int64).tobytes())
    digest.update(str(features.shape).encode())
    for block in iter_blocks(features):
        digest.update(np.ascontiguousarray(block).data)
    return digest.digest()


def class_means(features: Features, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids ``(S,)`` of the classes that have rows, and their mean features ``(S, D)`` float64, in one pass.

    Raises:
        InputError: a feature of a class isn't finite.
    """
    classes, positions = np.unique(labels, return_inverse=True)
    sums, start = np.zeros((len(classes), features.shape[1])), 0
    for block in iter_blocks(features):
        sums += class_sums(block, positions[start : start + len(block)], len(classes))
        start += len(block)
    check_finite_by_class(sums, classes)
    return classes, sums / np.bincount(positions)[:, None]


def class_sums(rows: np.ndarray, positions: np.ndarray, n_classes: int) -> np.ndarray:
    """``(n_classes, D)`` float64 sums of rows ``(n, D)`` by class."""
    # A one-hot matrix times the rows adds in float64, in a third of the time of numpy.add.at.
    one_hot = scipy.sparse.csr_array((np.ones(len(rows)), (positions, np.arange(len(rows)))), (n_classes, len(rows)))
    return one_hot @ rows


def check_finite_by_class(sums: np.ndarray, classes: np.ndarray) -> None:
    """Name the class whose rows don't add up to finite numbers."""
    finite = np.isfinite(sums).all(axis=1)
    if not finite.all():
        raise InputError(f"features of class {classes[~finite][0]} hold NaN or infinities", "finite numbers")
