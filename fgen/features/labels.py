"""Conversion of users' labels to class ids, and of class descriptions to a matrix. Errors name what the user gave."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgen.errors import InputError, did_you_mean
from fgen.features.checks import IN_WORDS, as_array, as_matrix, as_numbers, as_text
from fgen.features.frames import row_labels

#: How the text of a label reads where a table had none.
MISSING = ("nan", "NaN", "None", "NaT", "<NA>")

#: Fewer classes may be as many as there are rows by chance.
NO_CHANCE = 50


def described_classes(given: Any, classes: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return labels ``(C,)`` and embeddings ``(C, A)`` float32, finite.

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
    embeddings, classes = as_matrix("class_embeddings", given), _indexed(given, classes)
    labels = np.arange(len(embeddings)) if classes is None else _labels(classes)
    if labels.shape != (len(embeddings),):
        raise InputError(f"classes has shape {labels.shape}", f"({len(embeddings)},), one for each embedding")
    twice, times = Counter(map(str, labels.tolist())).most_common(1)[0]
    if times > 1:
        raise InputError(f"classes has {twice!r} twice", "distinct labels")
    return labels, embeddings


def described_kinds(given: Any, classes: Any = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return labels ``(C,)`` and embeddings ``(C, A)`` of each kind, sorted by name; one kind is "attributes".

    Args:
        given: what :func:`described_classes` takes; or a dict of such, which holds kinds, where a dict of vectors holds
            labels.
        classes: as there, of every kind's rows.

    Raises:
        InputError: as there, or kinds that describe other classes.
    """
    if not holds_kinds(given):
        labels, matrix = described_classes(given, classes)
        return labels, {"attributes": matrix}
    kinds: dict[str, np.ndarray] = {}
    labels = np.zeros(0)
    for kind in sorted(given, key=str):
        try:
            own, matrix = described_classes(given[kind], classes)
        except InputError as error:
            raise InputError(f"class_embeddings[{kind!r}]: {error}") from None
        labels = labels if kinds else own
        if sorted(map(str, own.tolist())) != sorted(map(str, labels.tolist())):
            found = f"class_embeddings[{kind!r}] describes {len(own)} classes, and another kind {len(labels)}"
            raise InputError(f"{found} or other ones", "the same classes of each kind")
        row = {label: k for k, label in enumerate(own.tolist())}
        kinds[as_text("a kind of class_embeddings", str(kind))] = matrix[[row[label] for label in labels.tolist()]]
    return labels, kinds


def holds_kinds(given: Any) -> bool:
    """Return whether a dict holds matrices or dicts, one for each kind, in place of a vector for each label."""
    if not isinstance(given, Mapping) or not given:
        return False
    shapes = [
        (2, 2) if isinstance(one, Mapping) else getattr(one, "shape", None) or _shape(one) for one in given.values()
    ]
    return all(len(shape) == 2 for shape in shapes) and any(shape[0] > 1 for shape in shapes)


def _shape(rows: Any) -> tuple[int, ...]:
    """Return the shape of a list, or of anything else ``()``."""
    try:
        return np.shape(rows)
    except ValueError:  # a ragged list
        return ()


def _indexed(given: Any, classes: Any) -> Any:
    """Return ``classes``, or if that is None the labels of a table's rows; None if the table has none.

    Raises:
        InputError: both say of a label that it is another row's.
    """
    index = row_labels(given)
    if index is None or classes is None:
        return index if classes is None else classes
    of_label = {label: row for row, label in enumerate(index)}
    for row, label in enumerate(_labels(classes).ravel().tolist()):
        if of_label.get(label, row) != row:
            given_twice = f"row {of_label[label]} of class_embeddings has the index {label!r}"
            found = f"{given_twice}, and classes gives it to row {row}"
            raise InputError(found, "one of them: the index holds labels", "Leave classes out")
    return classes


def class_ids(
    y: Any,
    described: np.ndarray,
    *,
    name: str = "y",
    rows_of: str = "X",
    expected: str = "labels that class_embeddings describes",
) -> np.ndarray:
    """Return the ids ``(N,)`` int64 of labels ``y (N,)``: their positions in the classes' labels ``described (C,)``.

    Args:
        name, rows_of, expected: what an error calls ``y``, the features, and labels that would do.

    Raises:
        InputError: ``y`` is no row of labels, misses some, or has one that isn't described; the nearest is named.
    """
    index = {label: k for k, label in enumerate(described.tolist())}
    labels = as_array(name, y)
    if labels.ndim != 1:
        raise InputError(f"{name} has shape {labels.shape}", f"(N,), a label for each row of {rows_of}")
    given, whole = labels.tolist(), f"a label for each row of {rows_of}"
    try:
        unknown = next((label for label in given if label not in index), index)
    except TypeError:
        raise InputError(f"{name} holds labels that are no numbers or text", whole) from None
    if unknown is not index:
        missing = next((row for row, label in enumerate(given) if str(label) in MISSING and label not in index), None)
        if missing is not None:
            found, remedy = f"{name} holds {given[missing]} in row {missing}", "Drop rows without a label, from "
            raise InputError(found, whole, f"{remedy}{rows_of} as well")
        shown = str(unknown) if isinstance(unknown, str) else unknown  # NumPy's texts say of what type they are
        remedy = _remedy(unknown, list(index), renumbered=set(given) == set(range(len(set(given)))))
        raise InputError(f"{name} holds the label {shown!r}", expected, remedy)
    return np.array([index[label] for label in given], dtype=np.int64)


def ids_by_name(
    labels: np.ndarray,
    class_names: Sequence[str] | None,
    *,
    name: str = "labels",
    remedy: str = "For named labels give class_names=[...], a name for each row of class_embeddings",
) -> np.ndarray:
    """Return the class ids of labels ``(N,)`` that are text or bytes of UTF-8; other labels are returned as numbers.

    Args:
        name: what an error calls the labels.
        remedy: what to do where there are no ``class_names``.

    Raises:
        InputError: text without ``class_names``, or a name that isn't among them; the nearest is named.
    """
    given = labels.tolist()
    text = next((label for label in given if isinstance(label, str | bytes)), None)
    if text is None:
        return as_numbers(name, labels)
    if class_names is None:
        raise InputError(f"{name} holds the text {text[:40]!r}", "integers that index rows of class_embeddings", remedy)
    decoded = [as_text(name, label) if isinstance(label, bytes) else label for label in given]
    names, expected = np.array(class_names, dtype=object), "names that are in class_names"
    return class_ids(np.array(decoded, dtype=object), names, name=name, rows_of="features", expected=expected)


def labels_of_rows(
    labels: Any, n_rows: int, n_classes: int, class_names: Sequence[str] | None = None, *, least_classes: int = 1
) -> np.ndarray:
    """Return the labels of rows of features as ids of classes, ``(N,)`` int64.

    Args:
        labels: ``(N,)`` rows of ``class_embeddings``, or names that are in ``class_names``.
        n_rows: N.
        n_classes: C, the number of rows of ``class_embeddings``.
        least_classes: how many classes must have a row.

    Raises:
        InputError: as :func:`ids_by_name`; another number of labels, anything but whole numbers, a number that is no
            row of ``class_embeddings``, or fewer classes.
    """
    labels = as_array("labels", labels)
    if labels.shape != (n_rows,):
        raise InputError(f"labels has shape {labels.shape}", f"({n_rows},), one label for each row of features")
    if labels.dtype.kind in "OSUT":
        labels = ids_by_name(labels, class_names)
    if labels.dtype.kind not in "iu":
        missing = np.flatnonzero(labels != labels)
        expected = "integers that index rows of class_embeddings, or names that are in class_names"
        remedy = "Make integers of whole numbers by numpy.asarray(labels, dtype=int)"
        if missing.size:
            remedy = f"Drop rows without a label, as row {missing[0]}, from features as well"
        raise InputError(f"labels are of type {labels.dtype}", expected, remedy)
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if outside.size:
        expected = f"0 to {n_classes - 1}, since class_embeddings has {n_classes} rows"
        from_one = labels.min() == 1 and labels.max() == n_classes
        remedy = "They seem to count from 1: subtract 1" if from_one else ""
        raise InputError(f"labels[{outside[0]}] is {labels[outside[0]]}", expected, remedy)
    if len(np.unique(labels)) < least_classes:
        found = f"all rows are of class {labels[0]}" if n_rows else "there are no rows"
        raise InputError(found, f"features of at least {least_classes} seen classes")
    return labels.astype(np.int64)


def names_of(labels: np.ndarray) -> list[str]:
    """Return the names of classes with these labels ``(C,)``: text unchanged, bytes decoded, numbers as Python prints
    them.
    """
    return [label.decode(errors="replace") if isinstance(label, bytes) else str(label) for label in labels.tolist()]


def one_based_warning(ids: np.ndarray, class_names: Sequence[str] | None = None) -> str:
    """Return a warning if exactly the ids 1 to n occur, else "".

    Labels that start at 1 are a common mistake; every class would be trained with another class's description.
    """
    with_rows = np.unique(ids)
    if len(with_rows) < 2 or not np.array_equal(with_rows, np.arange(1, len(with_rows) + 1)):
        return ""
    first = f"0 ({class_names[0]})" if class_names else "0"
    told = f"no row has the label {first}, and 1 to {len(with_rows)} have some"
    return f"{told}: were they counted from 1? They count from 0"


def unusual_embeddings_warning(
    embeddings: np.ndarray, class_names: Sequence[str] | None = None, labels: np.ndarray | None = None
) -> str:
    """Return a warning if class embeddings ``(C, A)`` are zero or equal, or seem to be one for each picture, else "".

    No method can distinguish such classes. The usual causes are words without a vector, a repeated description,
    and an embedding for each picture where one for each class is wanted; ``labels (N,)`` help to see the last.
    """
    same: dict[bytes, list[int]] = {}
    empty, said = np.flatnonzero(~embeddings.any(axis=1)).tolist(), np.flatnonzero(embeddings.any(axis=1)).tolist()
    for k, row in zip(said, embeddings[said] + np.float32(0), strict=True):  # which makes a 0 of -0
        same.setdefault(hashlib.blake2b(row.data, digest_size=16).digest(), []).append(k)
    equal = [group for group in same.values() if len(group) > 1]
    told = [f"{_so_many(len(empty))} nothing but zeros ({_first(empty, class_names)})"] if empty else []
    if equal:
        repeats, shown = sum(map(len, equal)) - len(equal), _first(max(equal, key=len), class_names)
        told.append(f"{_so_many(repeats)} the same one as another class ({shown})")
    if equal and 2 * len(same) <= len(said):
        told.append(f"only {len(same):,} embeddings differ: is there one for each picture, not for each class?")
    elif labels is not None and NO_CHANCE <= len(embeddings) == len(labels) >= 2 * len(np.unique(labels)):
        told.append("there are as many as rows of features: is there one for each picture, not for each class?")
    return f"class embeddings: {'; '.join(told)}" if told else ""


def _so_many(count: int) -> str:
    return f"{count:,} classes have" if count > 1 else "1 class has"


def _first(ids: Sequence[int], class_names: Sequence[str] | None) -> str:
    """Return the first three of some classes, by name or number."""
    named = [str(k) if class_names is None else repr(class_names[k]) for k in ids[:3]]
    return ", ".join([*named, "..."] if len(ids) > 3 else named)


def _remedy(label: Any, known: list[Any], *, renumbered: bool) -> str:
    """Return what to do about a label of ``y`` that no class has. ``renumbered``: the labels are 0, 1, 2 and so on."""
    described = next((other for other in known if str(other) == str(label)), None)
    if described is not None:
        return f"There is {described!r}, of another type"
    if isinstance(label, bytes):
        how = "by y.astype(str) or label.decode()" if label.isascii() else "by [label.decode() for label in y]"
        return f"y holds bytes: make text of them, {how}"
    if isinstance(label, str) and isinstance(known[0], bytes):
        return "The classes' labels are bytes: make text of them, by classes.astype(str) or label.decode()"
    if known == list(range(len(known))):
        if isinstance(label, str):
            return "Name the rows of class_embeddings by classes=[...], or give a dict"
        if label == len(known):
            return "Labels are rows of class_embeddings, counted from 0"
    elif renumbered:
        return (
            "Labels count from 0, as the label encoders in scikit-learn's VotingClassifier, StackingClassifier, "
            "BaggingClassifier, OneVsRestClassifier and cross_val_predict of probabilities number them anew; these "
            "answer no unseen class either: fit outside of them and average predict_proba. If the numbers are yours, "
            f"give labels such as {known[0]!r}"
        )
    near = did_you_mean(str(label), (str(other) for other in known if isinstance(other, str)))
    return near or "Describe it, or drop it"


def _labels(given: Any) -> np.ndarray:
    """Return labels ``(C,)``, all of one kind."""
    try:
        labels = np.asarray(given)
        if labels.dtype.kind == "T":  # which scikit-learn and JSON don't know
            labels, given = np.asarray(labels.tolist()), labels.tolist()
    except ValueError:
        raise InputError("the labels of the classes are of several lengths", "numbers or text") from None
    if labels.dtype.kind in "US" and labels.ndim == 1 and not all(isinstance(label, str | bytes) for label in given):
        kinds = ", ".join(dict.fromkeys(type(label).__name__ for label in given))  # NumPy makes text of them all
        raise InputError(f"the labels of the classes are {kinds}", "numbers or text, all of one kind")
    missing = [label for label in labels.ravel().tolist() if str(label) in MISSING and not isinstance(label, str)]
    if missing:
        raise InputError(f"the labels of the classes hold {missing[0]}", "a label for each class")
    return labels


def _stacked(given: Mapping[Any, Any]) -> np.ndarray:
    """Return embeddings ``(C, A)`` float32, finite, of a dict from label to ``(A,)``."""
    rows = {f"class_embeddings[{label!r}]": row for label, row in given.items()}
    _refuse_other_orders(rows)
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its column
        rows = {name: as_numbers(name, row, IN_WORDS).astype(np.float32) for name, row in rows.items()}
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
