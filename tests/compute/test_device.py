"""Threads: whose they are, and what is noted of them."""

import os
import sys
import threading

import pytest
import torch

from fgen.compute.device import MOST_THREADS, cpu_threads, threads_in_use
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.runner import train_only
from fgen.training.loop import TrainConfig

ONE_MORE = torch.get_num_threads() + 1


def in_another_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_threads_are_set_for_who_asks_and_for_a_while():
    before = torch.get_num_threads()
    with cpu_threads(ONE_MORE):
        assert torch.get_num_threads() == ONE_MORE
        with cpu_threads(None), cpu_threads(before):
            assert torch.get_num_threads() == before
        assert torch.get_num_threads() == ONE_MORE
    assert torch.get_num_threads() == before


def test_a_thread_that_begins_while_another_trains_has_what_it_would_have_had():
    """Torch would give it the trainer's number, and for as long as it lives."""
    usual = in_another_thread(torch.get_num_threads)
    with cpu_threads(ONE_MORE):
        assert in_another_thread(torch.get_num_threads) == usual
    assert in_another_thread(torch.get_num_threads) == usual


def test_the_threads_of_torch_and_of_blas_are_known():
    with cpu_threads(ONE_MORE):
        found = threads_in_use()
    assert found["threads"] == ONE_MORE
    assert found["blas_threads"] is None or found["blas_threads"] >= 1
    controller = pytest.importorskip("threadpoolctl").ThreadpoolController()
    pools = [pool.num_threads for pool in controller.lib_controllers if "numpy" in pool.filepath]
    assert not pools or found["blas_threads"] == pools[0]


@pytest.mark.skipif(sys.platform != "linux", reason="it is GNU's OpenMP that waits so")
@pytest.mark.parametrize(
    ("threads", "load", "policy", "told"),
    [
        (2, 99.0, "", True),
        (None, 99.0, "active", True),
        (1, 99.0, "", False),
        (2, 99.0, "PASSIVE", False),
        (2, 0.1, "", False),
    ],
)
def test_threads_that_would_wait_for_each_other_on_busy_cores_are_told_of(
    monkeypatch, tmp_path, caplog, threads, load, policy, told
):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    config = {"dataset": {"name": "toy"}, "model": {"name": "priorgan", "steps": 1, "hidden_dim": 8}}
    with cpu_threads(2):
        train_only(ExperimentConfig.from_mapping(config | {"train": {"threads": threads}}), out=tmp_path / "run")
    assert ("cores are busy (load 99), where 2 threads can take many times as long as 1" in caplog.text) == told


@pytest.mark.parametrize("threads", [0, -1, MOST_THREADS + 1, 2**40])
def test_threads_that_no_machine_has_are_refused(threads):
    with pytest.raises(InputError, match=f"threads is {threads}; expected a whole number from 1 to 1,024"):
        TrainConfig(threads=threads)
