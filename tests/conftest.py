"""What several test files stand on."""

import os
import signal

import pytest
import torch

from fgen.data.toy import toy_world

# Tests are about what every machine has; those of a GPU, `make test-gpu`, are a file of their own.
if not os.environ.get("FGEN_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

#: Networks small enough for a laptop to train in a second.
TINY = {"hidden_dim": 32, "noise_dim": 4, "batch_size": 32, "epochs": 2}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Networks this small only wait for each other's threads, badly so on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard():
    """A shell starts what it puts in the background with Ctrl-C ignored, and all that this starts in turn."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def world():
    """A small linear-Gaussian world with its truth."""
    return toy_world(n_seen=12, n_unseen=4, rows_per_class=24, seed=3)
