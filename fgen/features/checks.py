"""Checks of arrays, matrices, class ids and names that users give. An error names what was found, and where.

Lists, tensors and tables do wherever arrays do. Nothing is dropped without a word: values that a mask hides, imaginary
parts and text among numbers are refused.
"""

from collections import Counter
from collections.abc import Iterable, Set
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from fgen.errors import InputError, first_line, shortened, wrong_array

IN_WORDS = "Descriptions in words become numbers by `fgen embed` or fgen.encoders.text"
REAL_PART = "Take their real part, or their magnitude by numpy.abs"
IN_COLUMNS = "Make the column of labels the index, by set_index(), and leave out other columns of text"


def as_array(name: str, given: Any) -> np.ndarray:
    """Return an array, list, tensor or table as an array of the type that its values have, without a needless copy.

    Args:
        name: what an error calls it.
        given: a tensor may require a gradient, lie on a GPU, or be of a type that NumPy lacks.

    Raises:
        InputError: rows of several lengths, a mask that hides values, a sparse matrix or tensor.
    """
    if hasattr(given, "detach") and hasattr(given, "layout"):  # torch's, without importing it
        return _of_tensor(name, given)
    if hasattr(given, "toarray"):
        found = f"{name} is a sparse {type(given).__name__}"
        raise InputError(found, "a dense matrix", "Call its toarray()")
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        found = f"{name} is a masked array that hides {np.ma.count_masked(given):,} values"
        raise InputError(found, "an array without a mask", "Fill it by its filled(VALUE), or leave such rows out")
    if isinstance(given, list | tuple):
        # NumPy would drop the mask of an item, and fail at the gradient of a tensor.
        own = [isinstance(item, np.ma.MaskedArray) or hasattr(item, "detach") for item in given]
        given = [as_array(name, item) if odd else item for odd, item in zip(own, given, strict=True)]
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        lengths = "inhomogeneous" in str(error)
        reason = "It has rows of several lengths" if lengths else f"NumPy says: {error!s:.100}"
        raise InputError(f"{name} is no array of numbers", "as many for each row as for the others", reason) from None


def as_numbers(name: str, given: Any, words: str = "") -> np.ndarray:
    """Return what :func:`as_array` does where all of it is real numbers; objects that are numbers become such.

    Args:
        name: what an error calls it.
        given: of any shape.
        words: the remedy for text.

    Raises:
        InputError: as :func:`as_array`; text, complex numbers, missing values, dates or other objects.
    """
    array = as_array(name, given)
    if array.dtype.kind in "OSUT":
        array = _of_objects(name, array, words)
    if array.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers, of type {array.dtype}", "real numbers", REAL_PART)
    if array.dtype.kind not in "fiub":
        raise wrong_array(name, array, "numbers")
    return array


def as_ids(name: str, given: Any, *, least: int = 1, expected: str = "") -> np.ndarray:
    """Return class ids ``(N,)`` int64.

    Args:
        name: what an error calls them.
        given: whole numbers of at least 0, no mask.
        least: the smallest N.
        expected: what an error asks for, by default such a list.

    Raises:
        InputError: as :func:`as_numbers`; another number of dimensions, fewer ids, a mask, fractions, negative numbers.
    """
    ids = as_numbers(name, given)
    whole = ids.dtype.kind in "iu"
    if ids.ndim != 1 or ids.size < least or (ids.size and (not whole or ids.min() < 0)):
        remedy = "Of a mask take numpy.flatnonzero(mask)" if ids.dtype.kind == "b" else ""
        found = f"{name}, of which {ids.min()} is the lowest," if ids.size and whole else name
        expected = expected or f"a list of {'at least one class id' if least else 'class ids'}, 0 or above"
        raise wrong_array(found, ids, expected, remedy)
    return ids.astype(np.int64)


def as_weights(name: str, given: Any, n_rows: int) -> np.ndarray:
    """Return weights of rows ``(N,)`` float64.

    Args:
        name: what an error calls them.
        given: finite numbers of at least 0, some above 0.
        n_rows: N.

    Raises:
        InputError: as :func:`as_numbers`; another shape, NaN, infinities, negative weights, or nothing but zeros.
    """
    weights = as_numbers(name, given).astype(np.float64)
    if weights.shape != (n_rows,):
        raise InputError(f"{name} has shape {weights.shape}", f"({n_rows},), a weight for each row")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise InputError(f"{name} holds {weights[bad[0]]} in row {bad[0]}", "finite numbers of at least 0")
    if not weights.any():
        raise InputError(f"{name} holds nothing but zeros", "a weight above 0")
    return weights


def as_matrix(
    name: str,
    given: Any,
    expected: str = "(C, A), a row of numbers for each class",
    *,
    dtype: Any = np.float32,
    least: int = 1,
) -> np.ndarray:
    """Return a matrix, such as class embeddings ``(C, A)``, as finite numbers of a type, without a needless copy.

    Args:
        name, expected: what an error calls it, and what its shape should be.
        least: the smallest number of rows.

    Raises:
        InputError: as :func:`as_numbers`; another number of dimensions, too few rows, no column, NaN, infinity.
    """
    array = as_numbers(name, given, IN_COLUMNS if hasattr(given, "columns") else IN_WORDS)
    if array.ndim != 2 or not array.shape[1] or len(array) < least:
        raise InputError(f"{name} has shape {array.shape}", expected)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused by row and column
        matrix = array.astype(dtype, copy=False)
    expect_finite(f"{name} holds", matrix, f"finite numbers, within {np.dtype(dtype)}'s range")
    return matrix


def expect_finite(
    holds: str, matrix: np.ndarray, expected: str, remedy: str = "", *, first: int = 0, given: np.ndarray | None = None
) -> None:
    """Refuse a matrix ``(n, D)`` that isn't finite, and name its first such number, by row and column.

    Args:
        holds: how the message begins, such as "features hold".
        expected, remedy: what an error says of them.
        first: the number of the matrix's first row.
        given: ``(n, D)``, what users gave of the matrix; by default itself.
    """
    bad = np.argwhere(~np.isfinite(matrix))
    if bad.size:
        row, column = bad[0]
        value = (matrix if given is None else given)[row, column]
        raise InputError(f"{holds} {value} in row {first + row}, column {column}", expected, remedy)


def checked_names(
    given: Any,
    count: int | None = None,
    *,
    name: str = "class_names",
    each: str = "row of class_embeddings",
    distinct: bool = True,
) -> tuple[str, ...]:
    """Return names as text, of which bytes are decoded.

    Args:
        given: a list or array of names.
        count: how many there have to be; None takes any number.
        name: what an error calls them.
        each: what each of them names.
        distinct: refuse a name that is there twice.

    Raises:
        InputError: no list, one that is masked or has no order, something that :func:`as_text` refuses, another number
            of names, or a name that is there twice.
    """
    items = as_array(name, given) if isinstance(given, np.ma.MaskedArray) else given
    items = items.tolist() if hasattr(items, "tolist") else items
    if isinstance(items, str | bytes | Set) or not isinstance(items, Iterable):
        raise InputError(f"{name} is {items!r:.60}", "a list of names")
    names = tuple(as_text(f"{name}[{place}]", item) for place, item in enumerate(items))
    if count is not None and len(names) != count:
        raise InputError(f"{name} has {len(names)} names", f"{count}, one for each {each}")
    if distinct and len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"{name} has {twice!r} twice", "distinct names")
    return names


def as_text(name: str, given: Any) -> str:
    """Return text; bytes, as HDF5 hands strings over, are decoded as UTF-8.

    Raises:
        InputError: something else, for whose text users would have to search; bytes of another encoding; or what no
            UTF-8 file or HDF5 string holds: a NUL, or one half of a surrogate pair.
    """
    if isinstance(given, bytes):
        try:
            given = given.decode()
        except UnicodeDecodeError:
            remedy = "Decode it by the encoding that it was written in, such as .decode('latin-1')"
            raise InputError(f"{name} is {given[:40]!r}", "text, or bytes of UTF-8", remedy) from None
    if not isinstance(given, str):
        numbered = isinstance(given, Real) and given == given
        remedy = f"Make text of numbers, by [str(name) for name in {name.partition('[')[0]}]"
        remedy = remedy if numbered else "Give each class a name"
        raise InputError(f"{name} is {given!r:.60}, no text", "text", remedy)
    if given != mended_text(given):
        raise InputError(f"{name} is {shortened(given)}", "text without NUL and lone surrogates, which no file holds")
    return str(given)


def mended_text(text: str) -> str:
    """Return text with a question mark for each NUL and lone surrogate, as the name of a file on Linux may have."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _of_tensor(name: str, given: Any) -> np.ndarray:
    """Return a torch tensor as an array; types that NumPy lacks (bfloat16) become float32."""
    if str(given.layout) != "torch.strided":
        raise InputError(f"{name} is a tensor of layout {given.layout}", "a dense tensor", "Call its to_dense()")
    try:
        try:
            return np.asarray(given.numpy(force=True))
        except TypeError:
            return np.asarray(given.float().numpy(force=True))
    except (TypeError, RuntimeError) as error:
        found = f"{name} is a tensor that can't be read ({first_line(error, 100)})"
        raise InputError(found, "a tensor of numbers") from None


def _of_objects(name: str, array: np.ndarray, words: str) -> np.ndarray:
    """Return an array of Python objects as truth values, whole numbers or floats. Text is refused, also digits."""
    values = array.ravel().tolist()
    kinds = set(map(type, values))
    others = {kind for kind in kinds if not issubclass(kind, Real | Decimal | np.bool_)}
    if others:
        _refuse_others(name, array, values, others, words)
    if values and all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(bool)
    try:
        return array.astype(np.int64 if all(issubclass(kind, Integral) for kind in kinds) else np.float64)
    except OverflowError:
        raise InputError(f"{name} holds a number of more digits than a float has", "finite numbers") from None


def _refuse_others(name: str, array: np.ndarray, values: list[Any], others: set[type], words: str) -> None:
    """Refuse values of some types: name the first text that is no number, else the first value."""
    strange = [(place, value) for place, value in enumerate(values) if type(value) in others]
    in_words = ((at, value) for at, value in strange if isinstance(value, str | bytes) and number_in(value) is None)
    place, value = next(in_words, strange[0])
    position = zip(("row", "column"), np.unravel_index(place, array.shape), strict=False)
    where = ", ".join(f"{axis} {at}" for axis, at in position)
    found, remedy = f"{name} holds {value!r:.60}" if where else f"{name} is {value!r:.60}", ""
    if isinstance(value, str | bytes):
        found = f"{name} holds the text {value[:40]!r}"
        remedy = words if number_in(value) is None else "Make numbers of the text, by numpy.asarray(..., dtype=float)"
    raise InputError(f"{found} in {where}" if where else found, "numbers", remedy)


def number_in(given: Any) -> float | None:
    """Return the number that something is, or that a text says, else None."""
    try:
        return float(given)
    except (TypeError, ValueError):
        return None
