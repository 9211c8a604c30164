"""Errors, as other processes and Python's own tools get them."""

import copy
import pickle

import pytest

from fgen.errors import InputError, Interrupted, MissingExtra, TrainingDiverged


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
