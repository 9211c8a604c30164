"""(d) Peak memory of each piece of work, in a child process of its own that this one watches.

Anonymous memory (``RssAnon``) is what a machine must have; pages of mapped files, libraries among them, can be given
back. The kernel keeps the peak of both together alone (``VmHWM``), so the anonymous peak is sampled from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from experiments.bench.sizes import SIZES, Size, random_world
from experiments.bench.timing import Comparison

READY = "ready"
#: Seconds between two looks at a child.
EVERY = 0.002
STEPS = 2
TRAINING, HEAD, BANK = "training", "head", "bank"
LBFGS = "fgen, lbfgs"
ARMS = {TRAINING: ("textbook", "fgen"), HEAD: ("textbook", "fgen", LBFGS), BANK: ("fgen",)}


def measure_memory(sizes: Sequence[Size], rounds: int) -> Iterator[Comparison]:
    """Peak anonymous MB beyond the imports: of training steps, of the head, and of writing a bank."""
    if not Path("/proc/self/status").exists():
        return
    for size in sizes:
        for case, arms in ARMS.items():
            samples: dict[str, list[float]] = {arm: [] for arm in arms}
            peaks: dict[str, float] = {}
            for _ in range(rounds):
                for arm in arms:
                    anonymous, all_pages = watch(case, arm, size.name)
                    samples[arm].append(anonymous)
                    peaks[arm] = max(peaks.get(arm, 0.0), all_pages)
            facts = {"VmHWM_mb": peaks}
            yield Comparison("memory", f"{case}, {size.name}", "cpu", "MB", samples, arms[0], facts)


def watch(case: str, arm: str, size: str) -> tuple[float, float]:
    """Run a child; MB of its anonymous peak above what it had after its imports, and of VmHWM."""
    command = [sys.executable, "-m", "experiments.bench.memory", case, arm, size, str(torch.get_num_threads())]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ.copy()) as child:
        assert child.stdout is not None
        if child.stdout.readline().strip() != READY:
            raise RuntimeError(f"{' '.join(command)} ended before it began")
        before = peak = status(child.pid, "RssAnon")
        high = 0.0
        while child.poll() is None:
            # A child that is gone has an empty status.
            peak, high = max(peak, status(child.pid, "RssAnon")), max(high, status(child.pid, "VmHWM"))
            time.sleep(EVERY)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {child.returncode}")
    return peak - before, high


def status(pid: int, field: str) -> float:
    """A field of ``/proc/PID/status`` in MB; 0 where the process has none any more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith(f"{field}:")), 0.0)


def work(case: str, arm: str, size: Size) -> Callable[[], object]:
    """What a child does, imports done and nothing else yet."""
    from experiments.bench import generation, head, training

    device = torch.device("cpu")
    for fused in (False, True):  # an optimiser's first step imports much of torch
        layer = torch.nn.Linear(1, 1)
        layer(torch.zeros(1, 1)).sum().backward()
        torch.optim.Adam(layer.parameters(), fused=fused).step()

    def steps() -> None:
        world = random_world(size)
        if arm == "textbook":
            loop = training.textbook_loop(size, world, device)
        else:
            loop = training.engine_loop("clswgan", size, world, device)
        with training.settings(device)[training.TEXTBOOK if arm == "textbook" else training.AUTO]():
            for _ in range(STEPS):
                loop()

    def final_head() -> None:
        task = head.emoji_task(size.n_per_class) if size.name == "emoji" else head.random_task(size)
        if arm == "textbook":
            head.textbook_head(task, device, epochs=1)
        else:
            solver = "lbfgs" if arm == LBFGS else "adam"
            head.fit(task, head.SoftmaxConfig(solver=solver, batch_size=task.n_per_class, epochs=1))

    def bank() -> None:
        world = random_world(size)
        model, _ = training.begin("clswgan", size, world, device)
        with tempfile.TemporaryDirectory() as folder:
            generation.fill_bank(model, world, size, size.n_per_class, Path(folder) / "bank.h5")

    return {TRAINING: steps, HEAD: final_head, BANK: bank}[case]


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    run = work(sys.argv[1], sys.argv[2], SIZES[sys.argv[3]])
    print(READY, flush=True)
    run()
