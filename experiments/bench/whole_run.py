"""(e) A whole ``fgen run`` through the shell door, in seconds by phase."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments.bench.timing import Comparison

EXPERIMENTS = Path(__file__).resolve().parents[1]
#: Experiment -> its file and the epochs of a small budget.
RUNS = {"toy": ("fgen2026_clswgan_toy.toml", 20), "emoji": ("xian2018_clswgan_emoji.toml", 3)}


def measure_runs(names: list[str], rounds: int) -> Iterator[Comparison]:
    """Seconds of the whole command, and the median of each phase; what no phase has is start, data and files."""
    for name in names:
        file, epochs = RUNS[name]
        walls: list[float] = []
        phases: dict[str, list[float]] = {}
        for _ in range(rounds):
            wall, timing = time_run(EXPERIMENTS / file, epochs)
            walls.append(wall)
            for phase, seconds in timing.items():
                phases.setdefault(phase, []).append(seconds)
        middle = {phase: sorted(seconds)[len(seconds) // 2] for phase, seconds in phases.items()}
        facts = {"phases": middle, "epochs": epochs, "experiment": file}
        yield Comparison("run", name, "cpu", "s", {"fgen run": walls}, "fgen run", facts)


def time_run(config: Path, epochs: int) -> tuple[float, dict[str, float]]:
    """Seconds of the command, and those that ``result.json`` has for each phase."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = [f"model.epochs={epochs}", f"train.threads={torch.get_num_threads()}", "protocol.seeds=[0]"]
        overrides = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "fgen.cli", "run", str(config), "--out", str(out), *overrides]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, cwd=EXPERIMENTS.parent, check=False)
        wall = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return wall, {phase: float(seconds) for phase, seconds in result["timing"]["0"].items()}
