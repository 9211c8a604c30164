"""What several test files stand on."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tests import arithmetic

# No example is timed: how long one takes is the machine's, and what else it does.
hypothesis.settings.register_profile("fgen", deadline=None)
hypothesis.settings.load_profile("fgen")

# Before torch is imported, for it is then that they are read; and for the processes that tests start.
THREADS = arithmetic.n_threads()
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ["OMP_WAIT_POLICY"] = "passive"  # or threads that wait for each other take the cores from those that work
CHILDREN = str(Path(__file__).parent / "children")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [CHILDREN, os.environ.get("PYTHONPATH")]))

import torch  # noqa: E402

from fgen.baselines import BASELINES  # noqa: E402
from fgen.classifiers.softmax import SoftmaxClassifier  # noqa: E402
from fgen.data.toy import toy_world  # noqa: E402
from fgen.models.registry import MODELS  # noqa: E402

# Tests are about what every machine has; those of a GPU, `make test-gpu`, are a file of their own.
if not os.environ.get("FGEN_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

#: Baselines for features and class embeddings of any widths; "paired" takes those of one space alone.
ANY_WIDTHS = [name for name in BASELINES if name != "paired"]
#: Networks small enough for a laptop to train in a second.
TINY = {"hidden_dim": 32, "noise_dim": 4, "batch_size": 32, "epochs": 2}
#: How long a method trains what its generator learns from, which costs more than the epochs of TINY.
PRETRAINING = ("cls_epochs", "regressor_epochs")


def tiny(name):
    """TINY for a method, with one epoch of each pre-training that it has."""
    return TINY | {key: 1 for key in PRETRAINING if hasattr(MODELS[name], key)}


def pytest_configure(config):
    if wrong := arithmetic.wrong_switch():
        raise pytest.UsageError(wrong)
    arithmetic.apply()
    torch.set_num_threads(THREADS)


def pytest_collection_modifyitems(items):
    """Begin with what takes long, or at the end one worker has it and the others nothing."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(arithmetic.sentence())


@pytest.fixture
def bf16(monkeypatch):
    """Products are rounded to bfloat16 wherever ``auto`` is asked for, whatever the processor and the switch."""
    for module, name, value in arithmetic.replacements("bfloat16"):
        monkeypatch.setattr(f"fgen.compute.{module}.{name}", value)


@pytest.fixture
def threads_of_heads(monkeypatch):
    """On how many threads heads were trained and asked, in turn."""
    found = []
    for name in ("fit", "block_scores"):
        original = getattr(SoftmaxClassifier, name)

        def spy(*arguments, original=original, **options):
            found.append(torch.get_num_threads())
            return original(*arguments, **options)

        monkeypatch.setattr(SoftmaxClassifier, name, spy)
    return found


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard():
    """A shell starts what it puts in the background with Ctrl-C ignored, and all that this starts in turn."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def world():
    """A small linear-Gaussian world with its truth."""
    return toy_world(n_seen=12, n_unseen=4, rows_per_class=24, seed=3)
