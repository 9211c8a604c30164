"""Errors, as other processes and Python's own tools get them."""

import copy
import pickle

import pytest

from fgen.errors import InputError, Interrupted, MissingExtra, TrainingDiverged, require


@pytest.mark.parametrize(
    "error",
    [
        InputError("x is 1", "2", "Did you mean 'y'?"),
        InputError("x is 1."),
        TrainingDiverged("the loss is nan", "a number", "Lower lr"),
        MissingExtra("plots need matplotlib", "it to be installed", "Run: pip install"),
        Interrupted(15, 1234),
    ],
    ids=lambda error: str(error)[:20],
)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_an_error_of_a_worker_process_arrives_as_it_was(error, again):
    error.add_note("in seed 3")
    twin = again(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A function that makes a library of a name, which does as its code says when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, code):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)

    return make


def test_a_library_that_is_missing_is_told_from_one_that_fails(library):
    for missing in ("wug_of_nobody", "wug_of_nobody.inner"):
        with pytest.raises(MissingExtra, match=r'which isn.t installed; .* Run: pip install "fgen\[text\]"'):
            require(missing, "text", "a sentence encoder")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import wug_of_nobody", "ModuleNotFoundError: No module named 'wug_of_nobody'"),
        ("raise RuntimeError('operator wug::nms does not exist')", "RuntimeError: operator wug::nms does not exist"),
        (
            "try:\n    raise RuntimeError('operator wug::nms\\n does not exist')\n"
            "except RuntimeError as error:\n    raise ImportError('Could not import Wug') from error",
            "ImportError: Could not import Wug, because of RuntimeError: operator wug::nms does not exist",
        ),
    ],
)
def test_a_library_that_fails_is_called_installed_and_its_cause_is_told(library, code, words):
    library("wug_that_fails", code)
    with pytest.raises(MissingExtra, match="wug_that_fails, which is installed and can't be imported") as caught:
        require("wug_that_fails", "text", "a sentence encoder")
    assert words in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
