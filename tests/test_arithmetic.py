"""The switches of the tests' own arithmetic: they reach child processes, and a wrong one is told of before any test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fgen.compute import matmul
from tests import arithmetic
from tests.conftest import THREADS
from tests.tolerances import BFLOAT16

ROOT = Path(__file__).parents[1]
#: What a process that a test starts says of itself; the library is imported as a command imports it.
ASK = """
import sys
assert "torch" not in sys.modules, "a command that needs none answers at once"
import torch, fgen.models.registry
from fgen.compute import matmul
from fgen.compute import device
print(device.has_bf16(torch.device("cpu")), torch.get_num_threads())
"""


def test_a_process_that_a_test_starts_calculates_as_the_test(monkeypatch):
    for asked in arithmetic.PRODUCTS:
        monkeypatch.setenv("FGEN_TEST_PRODUCTS", asked)
        done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.stdout.split() == [str(asked == "bfloat16"), str(THREADS)], done.stderr


def test_a_switch_that_means_nothing_is_told_of(monkeypatch):
    assert arithmetic.wrong_switch() is None
    monkeypatch.setenv("FGEN_TEST_THREADS", "3")
    assert arithmetic.wrong_switch() == "FGEN_TEST_THREADS is '3'; expected 1 or 2. Leave it out for the default."
    environment = os.environ | {"FGEN_TEST_THREADS": "1", "FGEN_TEST_PRODUCTS": "tf32"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "tests/test_rng.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "FGEN_TEST_PRODUCTS is 'tf32'; expected float32 or bfloat16." in done.stderr


def test_bfloat16_that_torch_does_not_multiply_is_told_of(monkeypatch):
    def refuse(*factors, out=None):
        raise RuntimeError("not implemented for 'BFloat16'\nat some place")

    monkeypatch.setattr(torch, "mm", refuse)
    monkeypatch.setenv("FGEN_TEST_PRODUCTS", "bfloat16")
    expected = "torch multiplies no bfloat16 on this CPU (not implemented for 'BFloat16'); expected a torch that does"
    assert expected in str(arithmetic.wrong_switch())


@pytest.mark.parametrize("wide", [False, True])
def test_what_stands_in_for_torchs_products_of_bfloat16_is_as_near_as_the_order_of_sums_lets_it_be(wide):
    """Each rounds once to bfloat16 what it has summed up in float32."""
    left, right = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = torch.empty(24, 24) if wide else None
    found = arithmetic.stand_in(left, right, out)
    assert found.dtype == (torch.float32 if wide else torch.bfloat16)
    own = arithmetic.OWN.get("cpu_product", matmul.cpu_product)(left, right)
    torch.testing.assert_close(found.double(), own.double(), rtol=2 * BFLOAT16, atol=2 * BFLOAT16)
