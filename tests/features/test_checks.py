"""What users give as numbers and names: taken wherever it is clear what is meant, and never with a part left out."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
import torch

from fgen.errors import InputError
from fgen.features.checks import as_array, as_matrix, as_numbers, checked_names, mended_text
from fgen.features.rows import as_rows

X = np.arange(6, dtype=np.float32).reshape(3, 2)


class Table:
    """A table as pandas has it: a shape, no type of its own, and objects where columns may lack values."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype) if dtype else self.values


NUMBERS = {
    "list": X.tolist(),
    "rows of tensors": [torch.tensor(row, requires_grad=True) for row in X],
    "gradient": torch.tensor(X, requires_grad=True),
    "bfloat16": torch.tensor(X).bfloat16(),
    "half": torch.tensor(X).half(),
    "negated view": torch.tensor(X * 1j).conj().imag,
    "objects": X.astype(object),
    "decimals": [[Decimal(int(x)) for x in row] for row in X],
    "fractions": [[Fraction(int(x)) for x in row] for row in X],
    "nullable table": Table(X.astype(object)),
    "mask that hides nothing": np.ma.array(X, mask=False),
    "matrix": np.asmatrix(X),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_taken_whatever_holds_them(kind):
    signed = -X if kind == "negated view" else X
    assert np.array_equal(as_matrix("E", NUMBERS[kind]), signed)
    rows = as_rows(NUMBERS[kind])
    assert type(rows) is np.ndarray
    assert np.array_equal(rows, signed)


REFUSED = {
    "hidden values": (np.ma.array(X, mask=X > 4), "masked array that hides 1 values"),
    "hidden values of one row": ([np.ma.array([1, 2], mask=[0, 1]), [3, 4]], "masked array that hides 1 values"),
    "imaginary parts": (X + 1j, "complex"),
    "imaginary zeros": (X.astype(complex), "complex"),
    "complex tensor": (torch.tensor(X + 1j), "complex"),
    "complex objects": (np.array([[1, 2j]], dtype=object), "2j in row 0, column 1"),
    "sparse": (scipy.sparse.csr_array(X), r"Call its toarray\(\)"),
    "sparse tensor": (torch.tensor(X).to_sparse(), r"Call its to_dense\(\)"),
    "a tensor without data": (torch.empty(3, 2, device="meta"), "can't be read"),
    "several lengths": ([[1, 2], [3]], "several lengths"),
    "missing": ([[1, None]], "None in row 0, column 1"),
    "a dict": ({"a": [1]}, "is {'a': "),
    "nothing": (None, "is None"),
    "too many digits": (np.array([[10**400]], dtype=object), "more digits"),
    "days": (X.astype("M8[s]"), "type datetime64"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_lose_a_part_or_is_no_number_is_refused_by_what_it_is(kind):
    given, words = REFUSED[kind]
    with pytest.raises(InputError, match=rf"^class_embeddings .*{words}"):
        as_matrix("class_embeddings", given)
    with pytest.raises(InputError, match=rf"^features .*{words}"):
        as_rows(given)


def test_text_among_numbers_is_named_with_what_to_do_about_it():
    for given, found in (
        ([["tall", "1"]], "'tall' in row 0, column 0"),
        ([[1.5, "tall"]], "'tall' in row 0, column 1"),
        (np.array([[1.5, "tall"]], dtype=object), "'tall' in row 0, column 1"),
        (Table(np.array([[1.5, "tall"]], dtype=object)), "'tall' in row 0, column 1"),
    ):
        with pytest.raises(InputError, match=rf"E holds the text {found}; expected numbers.* `fgen embed`"):
            as_matrix("E", given)
    digits = [["1.5", "2"]]
    with pytest.raises(InputError, match=r"the text '1.5' .* by numpy.asarray\(..., dtype=float\)"):
        as_matrix("E", digits)
    assert as_matrix("E", np.asarray(digits, dtype=float)).tolist() == [[1.5, 2]], "the remedy does it"


def test_numbers_keep_their_kind_and_what_needs_no_copy_gets_none():
    assert as_numbers("y", np.array([1, 2], dtype=object)).dtype == np.int64
    assert as_numbers("y", torch.tensor([1, 2])).dtype == np.int64
    assert as_numbers("y", np.array([True], dtype=object)).dtype == bool
    assert as_array("y", np.array(["a", 1], dtype=object)).dtype == object
    assert as_matrix("E", X) is X
    assert np.shares_memory(as_rows(torch.from_numpy(X)), X)


def test_names_are_text_and_bytes_are_decoded():
    whole = ("ant", "bée")
    for given in (
        whole,
        list(whole),
        np.array(whole),
        np.array(whole, dtype=object),
        [name.encode() for name in whole],
        np.array([name.encode() for name in whole]),
        np.array([name.encode() for name in whole], dtype=object),
        (name for name in whole),
    ):
        names = checked_names(given, 2)
        assert names == whole
        assert {type(name) for name in names} == {str}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0, 1], r"class_names\[0\] is 0, no text; .* \[str\(name\) for name in class_names\]"),
        (np.arange(2), r"class_names\[0\] is 0, no text"),
        (torch.arange(2), r"class_names\[0\] is 0, no text"),
        (["a", float("nan")], r"class_names\[1\] is nan, no text; .* Give each class a name"),
        (["a", None], r"class_names\[1\] is None, no text; .* Give each class a name"),
        ([b"a", b"\xff"], r"class_names\[1\] is b'\\xff'; expected text, or bytes of UTF-8"),
        (["a", "b\0"], r"class_names\[1\] is 'b\\x00'; expected text without NUL"),
        (["a", "\ud800"], r"class_names\[1\] is '\\ud800'; .* lone surrogates"),
        (["a", "a"], "class_names has 'a' twice"),
        (["a", b"a"], "class_names has 'a' twice"),
        (["a"], "class_names has 1 names; expected 2, one for each row of class_embeddings"),
        ("ab", "class_names is 'ab'; expected a list of names"),
        ({"a", "b"}, "expected a list of names"),
        (5, "class_names is 5; expected a list of names"),
        (np.ma.array(["a", "b"], mask=[0, 1]), "hides 1 values"),
        ([["a"], ["b"]], r"class_names\[0\] is \['a'\], no text"),
    ],
)
def test_what_is_no_name_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        checked_names(given, 2)


def test_a_name_that_is_no_utf8_is_mended():
    assert mended_text("donn\udce9es\0") == "donn?es?"


def test_tables_of_pandas_are_taken():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X)
    for given in (table, table.convert_dtypes(), table.astype("Float64"), table.astype(object)):
        assert np.array_equal(as_matrix("E", given), X)
        assert np.array_equal(as_rows(given), X)
    table.iloc[1, 0] = np.nan
    with pytest.raises(InputError, match=r"(<NA>|nan) in row 1, column 0"):
        as_matrix("E", table.convert_dtypes())
    assert checked_names(pandas.Series(["a", "b"]), 2) == ("a", "b")
