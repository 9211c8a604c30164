"""Random streams: what names one, and that the name is all there is to it."""

import numpy as np
import pytest

from fgen import rng
from fgen.errors import InputError


def numbers(*name):
    return rng.stream(*name).integers(0, 10**9, 4).tolist()


def test_a_stream_is_its_name_and_never_changes():
    assert numbers(3, "batch", 5) == numbers(3, "batch", 5)
    assert rng.subseed(1, "a", "b") == 6945501901404116000, "runs of earlier versions couldn't go on"


def test_numbers_of_numpy_name_the_same_streams():
    assert numbers(np.int64(3), "batch", np.int32(5)) == numbers(3, "batch", 5)


@pytest.mark.parametrize("other", [(4, "batch", 5), (3, "noise", 5), (3, "batch", 6), (3, "batch", "5"), (3, "batch5")])
def test_any_other_part_names_another_stream(other):
    assert numbers(*other) != numbers(3, "batch", 5)


def test_parts_do_not_run_into_each_other():
    assert numbers(0, "init", "ab", "c") != numbers(0, "init", "a", "bc")


def test_a_seed_is_a_whole_number():
    with pytest.raises(InputError, match=r"the seed is 1\.5; expected a whole number"):
        rng.stream(1.5, "batch")
