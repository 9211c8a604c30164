"""Folds of held-out classes: smaller zero-shot tasks within a data set, each with other classes held out."""

import numpy as np

from fgen import rng
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import VAL_SEEN_FRACTION, by_class, first_share
from fgen.errors import InputError

#: Up to so many seen classes each is held out alone.
FEW_CLASSES = 12
#: With fewer validation classes all seen classes are held out, in so many folds.
FEWEST_VALIDATION_CLASSES = 4


def n_folds(dataset: ZSLDataset) -> int:
    """Return the number of folds that suits the numbers of classes: 1 where the validation classes are enough."""
    n_seen, n_validation = len(dataset.seen), len(np.unique(dataset.labels[dataset.splits["val"]]))
    enough = n_seen > FEW_CLASSES and n_validation >= FEWEST_VALIDATION_CLASSES
    return 1 if enough or dataset.shots is not None else min(n_seen, FEW_CLASSES)


def validation_folds(dataset: ZSLDataset, n: int, *, seed: int = 0) -> list[ZSLDataset]:
    """Return ``n`` zero-shot tasks within one. Together they hold out each seen class once.

    A fold's unseen classes are those held out, and where these are fewer than the task's unseen classes, as many of
    the latter as make them equally many: they have no rows, but their descriptions compete for rows. Its test rows of
    seen classes are the same in all folds: ``val_seen``, and as large a share of the validation classes' rows.

    Args:
        dataset: the outer task; no test row of it can be reached through a fold.
        n: number of folds, from 2 to the number of seen classes; 1 returns :meth:`fgen.ZSLDataset.validation`.
        seed: names which classes are held out together, the rows that are held out, and the competing classes.

    Raises:
        InputError: too few seen classes for so many folds, or folds of a task with shots.
    """
    if n == 1:
        return [dataset.validation()]
    if dataset.shots is not None:
        raise InputError(f"there are {n} folds and shots", "folds = 1 with shots")
    if not 2 <= n <= len(dataset.seen):
        raise InputError(f"there are {n} folds of {len(dataset.seen)} seen classes", "at most one for each class")
    labels, rows = dataset.labels, dataset.splits["trainval"]
    validation = dataset.splits["val"]
    shuffled = validation[rng.stream(seed, "held-out rows").permutation(len(validation))]
    held = [first_share(own, VAL_SEEN_FRACTION) for own in by_class(shuffled, labels)]
    held_rows = np.sort(np.concatenate([dataset.splits["val_seen"], *held]))
    folds = []
    for k, classes in enumerate(np.array_split(rng.stream(seed, "folds").permutation(dataset.seen), n)):
        n_rivals = max(len(dataset.unseen) - len(classes), 0)
        rivals = rng.stream(seed, "rivals", k).choice(dataset.unseen, size=n_rivals, replace=False)
        of_classes = np.isin(labels, classes)
        splits = {
            "trainval": np.setdiff1d(rows[~of_classes[rows]], held_rows),
            "test_seen": held_rows[~of_classes[held_rows]],
            "test_unseen": rows[of_classes[rows]],
        }
        folds.append(dataset.inner(f"fold {k + 1} of {n}", splits, unseen=np.union1d(classes, rivals)))
    return folds
