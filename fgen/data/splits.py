"""Splits: the rows for training, for choosing hyperparameters and for the test.

Every reader hands its raw splits to :func:`complete_splits`, the one place where they are checked,
repaired and, where a released file has none, made from a seed.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from fgen import rng
from fgen.errors import InputError, wrong_array
from fgen.features.checks import as_numbers

SPLIT_NAMES = ("train", "val", "val_seen", "trainval", "test_seen", "test_unseen")
VAL_CLASS_FRACTION = 0.2
VAL_SEEN_FRACTION = 0.2

Splits = dict[str, np.ndarray]


def complete_splits(
    labels: np.ndarray, splits: Mapping[str, np.ndarray] | None, *, seed: int = 0
) -> tuple[Splits, tuple[str, ...]]:
    """Check splits and fill in what is missing.

    Args:
        labels: ``(N,)`` class of each row.
        splits: index arrays by name, a subset of ``SPLIT_NAMES`` with at least ``trainval``;
            None puts every row into ``trainval``.
        seed: names the random choice of validation classes and rows where none are given.

    Returns:
        All of ``SPLIT_NAMES`` as sorted int64 arrays, and a note for each repair:

        - ``train`` / ``val``: a partition of ``trainval`` by class. Given ones are cut to ``trainval``
          (some released files let them overlap ``test_seen``); ones that share classes are made anew.
        - ``val_seen``: rows of ``train`` held out of training while hyperparameters are chosen.

    Raises:
        InputError: indices out of range or repeated, test rows among the training rows,
            unseen classes among the seen ones.
    """
    if splits is None:
        splits = {"trainval": np.arange(len(labels))}
    if unknown := sorted(set(splits) - set(SPLIT_NAMES)):
        raise InputError(f"splits has the unknown name {unknown[0]!r}", f"names among {', '.join(SPLIT_NAMES)}")
    checked = {name: _checked_indices(name, rows, len(labels)) for name, rows in splits.items()}
    if "trainval" not in checked:
        if not {"train", "val"} <= set(checked):
            found = f"splits has {', '.join(sorted(checked)) or 'nothing'}"
            raise InputError(found, "'trainval', or 'train' and 'val'", "Name the rows that training may use")
        checked["trainval"] = np.union1d(checked["train"], checked["val"])
    for name in ("test_seen", "test_unseen"):
        checked.setdefault(name, np.zeros(0, dtype=np.int64))
    _refuse_leaks(labels, checked)

    notes: list[str] = []
    checked["train"], checked["val"] = _class_partition(labels, checked, seed, notes)
    checked["val_seen"] = _held_out_rows(labels, checked, seed, notes)
    return {name: checked[name] for name in SPLIT_NAMES}, tuple(notes)


def _checked_indices(name: str, rows: np.ndarray, n_rows: int) -> np.ndarray:
    rows = as_numbers(f"split {name!r}", rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        remedy = "Of a mask take numpy.flatnonzero(mask)" if rows.dtype.kind == "b" else ""
        raise wrong_array(f"split {name!r}", rows, "a 1-D array of integers", remedy)
    rows = np.sort(rows.astype(np.int64))
    if rows.size and (rows[0] < 0 or rows[-1] >= n_rows):
        found = f"split {name!r} names row {rows[0] if rows[0] < 0 else rows[-1]}"
        remedy = "Check that the splits and the features belong to the same release"
        raise InputError(found, f"rows from 0 to {n_rows - 1}", remedy)
    repeated = rows[1:][rows[1:] == rows[:-1]]
    if repeated.size:
        raise InputError(f"split {name!r} names row {repeated[0]} twice", "each row at most once")
    return rows


def _refuse_leaks(labels: np.ndarray, splits: Splits) -> None:
    """Refuse test rows among the training rows, and unseen classes with training rows."""
    for one, other in combinations(("trainval", "test_seen", "test_unseen"), 2):
        shared = np.intersect1d(splits[one], splits[other])
        if shared.size:
            found = f"{shared.size} rows are both in {one!r} and in {other!r} (the first is row {shared[0]})"
            raise InputError(found, "each row in one of them, and test rows to be kept out of training")
    seen = np.unique(labels[splits["trainval"]])
    overlap = np.intersect1d(seen, labels[splits["test_unseen"]])
    if overlap.size:
        found = f"class {overlap[0]} has rows both in 'trainval' and in 'test_unseen'"
        raise InputError(found, "unseen classes to have no training row")
    stray = np.setdiff1d(labels[splits["test_seen"]], seen)
    if stray.size:
        raise InputError(f"class {stray[0]} is in 'test_seen' and has no row in 'trainval'", "only seen classes there")


def _class_partition(labels: np.ndarray, splits: Splits, seed: int, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``train`` and ``val``: a partition of trainval by class."""
    trainval = splits["trainval"]
    if "train" in splits and "val" in splits:
        for name in ("train", "val"):
            outside = np.setdiff1d(splits[name], trainval)
            if outside.size:
                leaked = np.intersect1d(outside, np.union1d(splits["test_seen"], splits["test_unseen"])).size
                notes.append(
                    f"{name!r} held {outside.size:,} rows outside 'trainval' ({leaked:,} of them test rows); "
                    "they were left out"
                )
        val_classes = np.unique(labels[np.intersect1d(splits["val"], trainval)])
        train_classes = np.unique(labels[np.intersect1d(splits["train"], trainval)])
        if val_classes.size and train_classes.size and not np.intersect1d(val_classes, train_classes).size:
            return _by_membership(trainval, labels, val_classes)
        notes.append("'train' and 'val' were no partition by class; they were made anew")
    seen = np.unique(labels[trainval])
    if seen.size < 2:
        return trainval, np.zeros(0, dtype=np.int64)
    n_val = max(1, round(VAL_CLASS_FRACTION * seen.size))
    val_classes = rng.stream(seed, "val classes").choice(seen, size=n_val, replace=False)
    notes.append(f"'val' was made with seed {seed}: {n_val} of the {seen.size} seen classes")
    return _by_membership(trainval, labels, val_classes)


def _by_membership(rows: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of other classes, and the rows of ``classes``."""
    inside = np.isin(labels[rows], classes)
    return rows[~inside], rows[inside]


def _held_out_rows(labels: np.ndarray, splits: Splits, seed: int, notes: list[str]) -> np.ndarray:
    """Return ``val_seen``: rows of ``train`` that take the part of ``test_seen`` while hyperparameters are chosen."""
    train = splits["train"]
    if "val_seen" in splits:
        held = splits["val_seen"]
        outside = np.setdiff1d(held, train)
        if outside.size:
            notes.append(f"'val_seen' held {outside.size:,} rows outside 'train'; they were left out")
            held = np.intersect1d(held, train)
        emptied = np.setdiff1d(labels[train], labels[np.setdiff1d(train, held)])
        if emptied.size:
            raise InputError(f"'val_seen' holds every training row of class {emptied[0]}", "at least one row left")
        return held
    shuffled = train[rng.stream(seed, "val_seen rows").permutation(len(train))]
    return np.sort(np.concatenate([first_share(rows, VAL_SEEN_FRACTION) for rows in by_class(shuffled, labels)]))


def by_class(rows: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Split row numbers ``(n,)`` into one array for each class that has some, by ``labels (N,)``; the order within a
    class stays.
    """
    ordered = rows[np.argsort(labels[rows], kind="stable")]
    return np.split(ordered, np.flatnonzero(np.diff(labels[ordered])) + 1)


def first_share(rows: np.ndarray, fraction: float) -> np.ndarray:
    """Return the first ``fraction`` of a class's rows ``(n,)``: rounded down, but at least 1 of 2 or more rows."""
    return rows[: max(int(fraction * len(rows)), min(1, len(rows) - 1))]


def evenly_spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most ``most`` of the rows, at equal distances."""
    return rows[:: -(-len(rows) // most) or 1]
