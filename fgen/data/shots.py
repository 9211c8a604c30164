"""Any-shot learning: a few real rows of unseen classes are trained on, and the rest stay test rows.

Xian et al. 2019 (f-VAEGAN-D2) call the classes *novel* and the setting (generalized) few-shot learning. Classes with
shots remain "unseen" for the scores: T1 and U are over them, on the rows that weren't moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fgen import rng
from fgen.data.splits import by_class
from fgen.errors import InputError
from fgen.features.checks import checked_names

#: Which unseen classes get shots: a share of them, a number of them, names, or None for all.
ShotClasses = int | float | str | Sequence[str] | None


@dataclass(frozen=True)
class Shots:
    """The parameters of a choice of shots, from which the validation task makes a similar choice.

    Attributes:
        k: rows of each chosen class.
        share: the chosen classes' share of those that could be chosen, in (0, 1].
        seed: names the choice of classes and rows.
    """

    k: int
    share: float
    seed: int


def draw_shots(
    labels: np.ndarray, test: np.ndarray, names: Mapping[int, str], k: int, classes: ShotClasses, seed: int
) -> tuple[Shots, np.ndarray, tuple[str, ...]]:
    """Choose the rows that move from ``test_unseen`` to ``trainval``.

    A class keeps at least one row for the test, so one with k rows or fewer gives fewer.

    Args:
        labels: ``(N,)`` of all rows.
        test: ``(n,)`` row numbers of ``test_unseen``.
        names: the unseen classes' names by their ids.
        k: rows of each chosen class.
        classes: which unseen classes get shots.
        seed: names the choice of classes and rows.

    Returns:
        The request, the rows in ascending order, and notes of what was drawn.

    Raises:
        InputError: classes that are unknown or not unseen, or have no row to spare.
    """
    counts = np.bincount(labels[test])
    able = np.flatnonzero(counts > 1)
    chosen = _choose(names, classes, able, seed)
    of_class = {labels[own[0]]: own for own in by_class(test, labels)}
    rows = []
    for label in chosen:
        own = of_class[label]
        rows.append(rng.stream(seed, "shots", int(label)).permutation(own)[: min(k, len(own) - 1)])
    notes = [f"{k}-shot: {sum(map(len, rows)):,} rows of {len(chosen)} of the {len(names)} unseen classes"]
    short = [label for label, own in zip(chosen, rows, strict=True) if len(own) < k]
    if short:
        named = ", ".join(f"{names[label]} ({counts[label] - 1})" for label in short[:5])
        notes.append(f"{len(short)} classes gave fewer than {k} shots to keep a row for the test: {named}")
    single = np.flatnonzero(counts == 1)
    if single.size:
        named = ", ".join(names[label] for label in single[:5])
        notes.append(f"{single.size} classes with a single row could give no shot: {named}")
    return Shots(k, len(chosen) / len(able), seed), np.sort(np.concatenate(rows)), tuple(notes)


def _choose(names: Mapping[int, str], classes: ShotClasses, able: np.ndarray, seed: int) -> np.ndarray:
    """Return the ascending ids of the classes that get shots; ``able`` are those with a row to spare."""
    if not able.size:
        raise InputError("there is no unseen class with 2 test rows", "one for a shot and one for the test")
    if classes is None:
        return able
    classes = classes.item() if isinstance(classes, np.number) else classes
    if not isinstance(classes, int | float):
        given = [classes] if isinstance(classes, str | bytes) else classes
        return _named(names, checked_names(given, name="shot_classes", distinct=False), able)
    number = max(1, round(classes * len(able))) if isinstance(classes, float) else classes
    if not 1 <= number <= len(able) or (isinstance(classes, float) and not 0 < classes <= 1):
        numbers = f"a number from 1 to {len(able)}, the unseen classes with 2 test rows"
        raise InputError(f"shot_classes is {classes}", f"a share above 0 and up to 1.0, or {numbers}")
    return np.sort(rng.stream(seed, "shot classes").choice(able, size=number, replace=False))


def _named(names: Mapping[int, str], chosen: Sequence[str], able: np.ndarray) -> np.ndarray:
    known, spare = {name: label for label, name in names.items()}, {*able.tolist()}
    for name in chosen:
        if name not in known:
            raise InputError(f"shot_classes names {name!r}", "unseen classes of the data set, by name")
        if known[name] not in spare:
            raise InputError(f"{name!r} has fewer than 2 test rows", "one for a shot and one for the test")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"shot_classes is {list(chosen)}", "one or more names, each once")
    return np.sort([known[name] for name in chosen])
