"""Names of rows and columns of tables, such as pandas' DataFrames; no such library is imported."""

import numbers
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fgen.errors import InputError, did_you_mean
from fgen.features.checks import IN_COLUMNS, as_numbers


def column_names(table: Any) -> tuple[str, ...] | None:
    """Return the names of a table's columns where all of them are text, else None."""
    names = tuple(getattr(table, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def check_columns(table: Any, fitted: Sequence[str] | None, fitted_by: str, *, stacklevel: int) -> None:
    """Refuse a table whose columns have other names than in ``fit``, or another order, by scikit-learn's rules.

    Where one side alone has names there is a warning.

    Args:
        fitted: the names in ``fit``, or None.
        fitted_by: the name of the estimator's class.
        stacklevel: of the warning, as from this function.

    Raises:
        InputError: other names, or another order.
    """
    names = column_names(table)
    if names is not None and fitted is not None:
        if names != tuple(fitted):
            raise _other_columns(names, tuple(fitted))
    elif names is not None or fitted is not None:
        given, by = ("does not have valid", "with") if names is None else ("has", "without")
        told = f"X {given} feature names, but {fitted_by} was fitted {by} feature names"
        warnings.warn(told, stacklevel=stacklevel)


def _other_columns(names: tuple[str, ...], fitted: tuple[str, ...]) -> InputError:
    found = "The feature names should match those that were passed during fit"
    known, given = set(fitted), set(names)
    new, missing = [name for name in names if name not in known], [name for name in fitted if name not in given]
    parts = ((new, "unseen at fit time"), (missing, "seen at fit time, yet now missing"))
    shown = [f"{_some(some)} {what}" for some, what in parts if some]
    if not shown:
        column = next(k for k, (name, other) in enumerate(zip(names, fitted, strict=False)) if name != other)
        shown = [f"column {column} is {names[column]!r}, and was {fitted[column]!r}"]
    remedy = "" if missing else "Pass X[classifier.feature_names_in_]"
    return InputError(f"{found}: {'; '.join(shown)}", "the same names in the same order", remedy)


def row_labels(table: Any) -> list[Any] | None:
    """Return the labels of a table's rows; None where it has no index, or one that counts the rows from 0."""
    if not hasattr(table, "columns") or not hasattr(table, "index"):
        return None
    labels = list(table.index)
    counted = all(isinstance(label, numbers.Integral) for label in labels) and labels == list(range(len(labels)))
    return None if counted else labels


def named_by_index(table: Any) -> bool:
    """Return whether all labels of a table's rows are text."""
    labels = row_labels(table)
    return bool(labels) and all(isinstance(label, str) for label in labels or ())


def rows_by_name(embeddings: Any, class_names: Sequence[str] | None) -> tuple[Any, Sequence[str] | None]:
    """Return embeddings whose rows are in the order of ``class_names``, and these names.

    Args:
        embeddings: ``(C, A)``, or ``{kind: (C, A)}``. A table's index says which row is which class; anything without
            an index, and an index that counts from 0, has its rows in the order of the names already.
        class_names: C names; None takes those of a table's index.

    Raises:
        InputError: a table whose index is neither names nor positions, or whose names aren't ``class_names``.
    """
    if not isinstance(embeddings, Mapping):
        return _rows_by_name("class_embeddings", embeddings, class_names)
    ordered = {}
    for kind, table in embeddings.items():
        ordered[kind], class_names = _rows_by_name(f"class_embeddings[{kind!r}]", table, class_names)
    return ordered, class_names


def _rows_by_name(what: str, table: Any, names: Sequence[str] | None) -> tuple[Any, Sequence[str] | None]:
    labels = row_labels(table)
    if labels is None:
        return table, names
    matrix = as_numbers(what, table, IN_COLUMNS)
    if names is None and named_by_index(table):
        return matrix, labels
    if names is None:
        raise InputError(f"{what} has the index {_some(labels)}", "names, or the rows' numbers", _of_numbers(labels))
    if Counter(labels) != Counter(names):
        known = set(names)
        strange = next((label for label in labels if label not in known), labels[0])
        remedy = did_you_mean(str(strange), map(str, names)) or "Call reset_index(drop=True) if rows are in their order"
        raise InputError(f"{what} has the index {_some(labels)}", "the names in class_names, in any order", remedy)
    position = {label: row for row, label in enumerate(labels)}
    return matrix[[position[name] for name in names]], names


def _of_numbers(labels: list[Any]) -> str:
    """Return a remedy for a table whose index is neither names nor row numbers."""
    drop = "reset_index(drop=True) if labels count the rows from 0"
    if Counter(labels) == Counter(range(len(labels))):
        return f"Call sort_index() if labels are those of the index, {drop}"
    return f"Call {drop}; ZeroShotClassifier takes any labels"


def _some(labels: Sequence[Any]) -> str:
    return ", ".join(map(repr, labels[:3])) + (", …" if len(labels) > 3 else "")
