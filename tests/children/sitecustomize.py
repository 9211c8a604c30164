"""Run by Python at the start of each process that a test starts: there, too, ``auto`` is what the tests' switch says.

It waits until ``fgen.compute.matmul`` is imported, for a command that needs no torch has to answer without it.
"""

import importlib.util
import os
import sys
from pathlib import Path


class _Finder:
    """Has ``tests/arithmetic.py`` applied once the module is there."""

    def find_spec(self, name, path=None, target=None):
        if name != "fgen.compute.matmul":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def then_apply(module):
            run(module)
            sys.modules["fgen.compute"].matmul = module
            _arithmetic().apply()

        spec.loader.exec_module = then_apply
        return spec


def _arithmetic():
    name = "tests.arithmetic"  # one for the process, for what it has replaced is noted in it
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "arithmetic.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if os.environ.get("FGEN_TEST_PRODUCTS"):
    sys.meta_path.insert(0, _Finder())
