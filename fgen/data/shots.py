"""Any-shot learning: a few real rows of unseen classes join the training rows, and the rest stay for the test.

Xian et al. 2019 (f-VAEGAN-D2) call the classes *novel* and the setting (generalized) few-shot learning. Classes with
shots remain "unseen" for the scores: T1 and U are over them, on the rows that weren't moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fgen import rng
from fgen.data.checks import checked_names
from fgen.data.splits import by_class
from fgen.errors import InputError

if TYPE_CHECKING:
    from fgen.data.dataset import ZSLDataset

#: Which unseen classes get shots: a share of them, a number of them, names, or None for all.
ShotClasses = int | float | str | Sequence[str] | None


@dataclass(frozen=True)
class Shots:
    """What was asked for, kept so that the validation task can mirror it.

    Attributes:
        k: rows of each chosen class.
        share: the chosen classes' share of those that could be chosen, in (0, 1].
        seed: names the choice of classes and rows.
    """

    k: int
    share: float
    seed: int


def draw_shots(
    dataset: ZSLDataset, k: int, classes: ShotClasses, seed: int
) -> tuple[Shots, np.ndarray, tuple[str, ...]]:
    """Which rows move from ``test_unseen`` to ``trainval``.

    A class keeps at least one row for the test, so one with k rows or fewer gives fewer.

    Returns:
        What was asked for, the rows in ascending order, and notes of what was drawn.

    Raises:
        InputError: classes that are unknown or not unseen, or have no row to spare.
    """
    test = dataset.splits["test_unseen"]
    counts = np.bincount(dataset.labels[test], minlength=dataset.n_classes)
    able = np.flatnonzero(counts > 1)
    chosen = _choose(dataset, classes, able, seed)
    of_class = {dataset.labels[own[0]]: own for own in by_class(test, dataset.labels)}
    rows = []
    for label in chosen:
        own = of_class[label]
        rows.append(rng.stream(seed, "shots", int(label)).permutation(own)[: min(k, len(own) - 1)])
    notes = [f"{k}-shot: {sum(map(len, rows)):,} rows of {len(chosen)} of the {len(dataset.unseen)} unseen classes"]
    short = [label for label, own in zip(chosen, rows, strict=True) if len(own) < k]
    if short:
        named = ", ".join(f"{_name(dataset, label)} ({counts[label] - 1})" for label in short[:5])
        notes.append(f"{len(short)} classes gave fewer than {k} shots to keep a row for the test: {named}")
    single = np.flatnonzero(counts == 1)
    if single.size:
        named = ", ".join(_name(dataset, label) for label in single[:5])
        notes.append(f"{single.size} classes with a single row could give no shot: {named}")
    return Shots(k, len(chosen) / len(able), seed), np.sort(np.concatenate(rows)), tuple(notes)


def _choose(dataset: ZSLDataset, classes: ShotClasses, able: np.ndarray, seed: int) -> np.ndarray:
    """Ascending ids of the classes that get shots; ``able`` have a row to spare."""
    if not able.size:
        raise InputError(f"{dataset.name} has no unseen class with 2 test rows", "one for a shot and one for the test")
    if classes is None:
        return able
    classes = classes.item() if isinstance(classes, np.number) else classes
    if not isinstance(classes, int | float):
        given = [classes] if isinstance(classes, str | bytes) else classes
        return _named(dataset, checked_names(given, name="shot_classes", distinct=False), able)
    number = max(1, round(classes * len(able))) if isinstance(classes, float) else classes
    if not 1 <= number <= len(able) or (isinstance(classes, float) and not 0 < classes <= 1):
        raise InputError(
            f"shot_classes is {classes}",
            f"a share above 0 and up to 1.0, or a number from 1 to {len(able)}, the unseen classes with 2 test rows",
        )
    return np.sort(rng.stream(seed, "shot classes").choice(able, size=number, replace=False))


def _named(dataset: ZSLDataset, names: Sequence[str], able: np.ndarray) -> np.ndarray:
    known = {_name(dataset, label): label for label in range(dataset.n_classes)}
    unseen, spare = {*dataset.unseen.tolist()}, {*able.tolist()}
    for name in names:
        if name not in known or known[name] not in unseen:
            raise InputError(f"shot_classes names {name!r}", f"unseen classes of {dataset.name}, by name")
        if known[name] not in spare:
            raise InputError(f"{name!r} has fewer than 2 test rows", "one for a shot and one for the test")
    if not names or len(set(names)) < len(names):
        raise InputError(f"shot_classes is {list(names)}", "one or more names, each once")
    return np.sort([known[name] for name in names])


def _name(dataset: ZSLDataset, label: int) -> str:
    return f"class {label}" if dataset.class_names is None else dataset.class_names[label]
