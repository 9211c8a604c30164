"""The public names' own examples, which stand in their docstrings, are run as they stand there."""

import doctest
import sys
from collections.abc import Mapping

import pytest

import fgen


def example_of(name):
    """The docstring with the example: a mapping's is that of its module."""
    value = getattr(fgen, name)
    return sys.modules[fgen._HOMES[name]].__doc__ if isinstance(value, Mapping) else value.__doc__


@pytest.mark.parametrize("name", fgen.__all__)
def test_the_example_in_its_docstring_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(example_of(name) or "", {"fgen": fgen}, name, None, None)
    assert test.examples, f"fgen.{name} has no example"
    assert test.examples[0].source != "import fgen\n", "the name is there"
    said = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not result.failed, "".join(said)
