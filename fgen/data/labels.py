"""Labels and descriptions of classes as users have them, made ids and a matrix; errors name what the user gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgen.data.frames import row_labels
from fgen.errors import InputError, did_you_mean

#: How the text of a label reads where a table had none.
MISSING = ("nan", "NaN", "None", "NaT", "<NA>")


def described_classes(given: Any, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``(C,)`` and embeddings ``(C, A)`` float32, finite.

    Args:
        given: ``(C, A)`` array, list or tensor; or ``{label: (A,)}``; or a table, whose index holds the labels. An
            error calls it ``class_embeddings``.
        classes: labels of the rows of an array; None numbers them from 0.

    Raises:
        InputError: no embeddings, or such that are words, ragged or not finite; labels that are of several kinds, too
            few or not distinct. The message names the label, or the row and column.
    """
    if given is None:
        raise InputError("class_embeddings is missing", "a matrix (C, A), or a dict from label to embedding")
    if isinstance(given, Mapping):
        if classes is not None:
            raise InputError("class_embeddings is a dict, and classes is given", "one of them: its keys are labels")
        if not given:
            raise InputError("class_embeddings is an empty dict", "{label: embedding} with each of the classes")
        labels = _labels(list(given))
        if labels.shape != (len(given),):
            raise InputError(f"class_embeddings has the key {next(iter(given))!r}", "numbers or text")
        return labels, _stacked(given)
    embeddings, classes = _matrix(given), _indexed(given, classes)
    labels = np.arange(len(embeddings)) if classes is None else _labels(classes)
    if labels.shape != (len(embeddings),):
        raise InputError(f"classes has shape {labels.shape}", f"({len(embeddings)},), one for each embedding")
    twice, times = Counter(map(str, labels.tolist())).most_common(1)[0]
    if times > 1:
        raise InputError(f"classes has {twice!r} twice", "distinct labels")
    return labels, embeddings


def _indexed(given: Any, classes: Any) -> Any:
    """``classes``, or where that is None the labels that a table's rows have; None for positions.

    Raises:
        InputError: both say of a label that it is another row's.
    """
    index = row_labels(given)
    if index is None or classes is None:
        return index if classes is None else classes
    of_label = {label: row for row, label in enumerate(index)}
    for row, label in enumerate(_labels(classes).ravel().tolist()):
        if of_label.get(label, row) != row:
            found = (
                f"row {of_label[label]} of class_embeddings has the index {label!r}, and classes gives it to row {row}"
            )
            raise InputError(found, "one of them: the index holds labels", "Leave classes out")
    return classes


def class_ids(y: Any, described: np.ndarray) -> np.ndarray:
    """The ids ``(N,)`` int64 of labels ``y (N,)``: their positions among the classes' labels ``described (C,)``.

    Raises:
        InputError: ``y`` is no row of labels, misses some, or has one that isn't described; the nearest is named.
    """
    index = {label: k for k, label in enumerate(described.tolist())}
    labels = np.asarray(y.detach().cpu() if hasattr(y, "detach") else y)
    if labels.ndim != 1:
        raise InputError(f"y has shape {labels.shape}", "(N,), a label for each row of X")
    given = labels.tolist()
    try:
        unknown = next((label for label in given if label not in index), index)
    except TypeError:
        raise InputError("y holds labels that are no numbers or text", "a label for each row of X") from None
    if unknown is not index:
        missing = next((row for row, label in enumerate(given) if str(label) in MISSING and label not in index), None)
        if missing is not None:
            found, remedy = f"y holds {given[missing]} in row {missing}", "Drop rows without a label, from X as well"
            raise InputError(found, "a label for each row of X", remedy)
        expected = "labels that class_embeddings describes"
        remedy = _remedy(unknown, list(index), renumbered=set(given) == set(range(len(set(given)))))
        raise InputError(f"y holds the label {unknown!r}", expected, remedy)
    return np.array([index[label] for label in given], dtype=np.int64)


def counted_from_one(ids: np.ndarray, class_names: Sequence[str] | None = None) -> str:
    """What is odd about ids of classes where just 1, 2, 3 and so on have rows: mostly nothing, but where they were
    counted from 1 each class learns from another's description."""
    with_rows = np.unique(ids)
    if len(with_rows) < 2 or not np.array_equal(with_rows, np.arange(1, len(with_rows) + 1)):
        return ""
    first = f"0 ({class_names[0]})" if class_names else "0"
    told = f"no row has the label {first}, and 1 to {len(with_rows)} have some"
    return f"{told}: were they counted from 1? They count from 0"


def _remedy(label: Any, known: list[Any], *, renumbered: bool) -> str:
    """What to do about a label of ``y`` that no class has; ``renumbered`` where all of them are 0, 1, 2 and so on."""
    described = next((other for other in known if str(other) == str(label)), None)
    if described is not None:
        return f"There is {described!r}, of another type"
    if isinstance(label, bytes):
        return "y holds bytes: make text of them, by y.astype(str) or label.decode()"
    if isinstance(label, str) and isinstance(known[0], bytes):
        return "The classes' labels are bytes: make text of them, by classes.astype(str) or label.decode()"
    if known == list(range(len(known))):
        if isinstance(label, str):
            return "Name the rows of class_embeddings by classes=[...], or give a dict"
        if label == len(known):
            return "Labels are rows of class_embeddings, counted from 0"
    elif renumbered:
        return (
            "Labels count from 0, as ensembles of scikit-learn (VotingClassifier, StackingClassifier, "
            "BaggingClassifier) number them anew; they answer no unseen class either: fit outside of them and average "
            f"predict_proba. If the numbers are yours, give labels such as {known[0]!r}"
        )
    return did_you_mean(str(label), (other for other in known if isinstance(other, str))) or "Describe it, or drop it"


def _labels(given: Any) -> np.ndarray:
    """Labels ``(C,)``, of one kind."""
    try:
        labels = np.asarray(given)
    except ValueError:
        raise InputError("the labels of the classes are of several lengths", "numbers or text") from None
    if labels.dtype.kind in "US" and labels.ndim == 1 and not all(isinstance(label, str | bytes) for label in given):
        kinds = ", ".join(dict.fromkeys(type(label).__name__ for label in given))  # NumPy makes text of them all
        raise InputError(f"the labels of the classes are {kinds}", "numbers or text, all of one kind")
    return labels


def _numbers(name: str, given: Any) -> np.ndarray:
    """What was given as embeddings under a name, as float32 of any shape; numbers beyond it become infinite."""
    try:
        with np.errstate(over="ignore"):
            given = given.detach().cpu().float().numpy() if hasattr(given, "detach") else given
            return np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        text = _text_in(np.asarray(given) if hasattr(given, "columns") else given)
        if text is None:
            expected = "numbers, as many for each class as for the others"
            raise InputError(f"{name} is no array of numbers", expected) from None
        if hasattr(given, "columns"):
            remedy = "Make the column of labels the index, by set_index(), and leave out other columns of text"
            raise InputError(f"{name} holds the text {text[:40]!r}", "numbers in every column", remedy) from None
        raise InputError(
            f"{name} holds the text {text[:40]!r}",
            "numbers",
            "Descriptions in words become numbers by `fgen embed` or fgen.encoders.text",
        ) from None


def _text_in(given: Any) -> str | None:
    """The first text among what was given as numbers."""
    if isinstance(given, str):
        return given
    items = given.ravel().tolist() if isinstance(given, np.ndarray) else given
    return next(filter(None, map(_text_in, items)), None) if isinstance(items, list | tuple) else None


def _matrix(given: Any) -> np.ndarray:
    """Embeddings ``(C, A)`` float32, finite, of a matrix."""
    embeddings = _numbers("class_embeddings", given)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise InputError(f"class_embeddings has shape {embeddings.shape}", "(C, A), a row of numbers for each class")
    bad = np.argwhere(~np.isfinite(embeddings))
    if bad.size:
        row, column = bad[0]
        found = f"class_embeddings holds {embeddings[row, column]} in row {row}, column {column}"
        raise InputError(found, "finite numbers")
    return embeddings


def _stacked(given: Mapping[Any, Any]) -> np.ndarray:
    """Embeddings ``(C, A)`` float32, finite, of a dict from label to ``(A,)``."""
    rows = {f"class_embeddings[{label!r}]": row for label, row in given.items()}
    _refuse_other_orders(rows)
    rows = {name: _numbers(name, row) for name, row in rows.items()}
    for name, row in rows.items():
        if row.ndim != 1 or not row.size:
            raise InputError(f"{name} has shape {row.shape}", "(A,), the numbers that describe the class")
    (usual, _), *_ = Counter(map(len, rows.values())).most_common(1)
    for name, row in rows.items():
        if len(row) != usual:
            raise InputError(f"{name} has {len(row)} numbers", f"{usual}, as other classes have")
        bad = np.flatnonzero(~np.isfinite(row))
        if bad.size:
            raise InputError(f"{name} holds {row[bad[0]]} in column {bad[0]}", "finite numbers")
    return np.stack(list(rows.values()))


def _refuse_other_orders(rows: Mapping[str, Any]) -> None:
    """Refuse labelled rows, such as pandas' Series, whose numbers are those of the first in another order."""
    indexed = {name: row.index for name, row in rows.items() if hasattr(row, "index") and not callable(row.index)}
    orders = {name: list(index) for name, index in indexed.items()}
    first = next(iter(orders), "")
    for name, order in orders.items():
        if order != orders[first] and Counter(order) == Counter(orders[first]):
            expected = f"the order of {first}"
            raise InputError(f"{name} has the index {order[0]!r}, …", expected, "Call reindex() with one index for all")
