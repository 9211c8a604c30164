"""Runs an hour of ``fgen sweep --jobs 2``, of the same commands two at a time, and of one after the other.

``python -m experiments.bench.sweeps``: six runs of emoji's narrow nets, three learning rates and two seeds. The arms:
``sweep``, one command on two workers; ``two at a time``, six commands of ``fgen run`` on a thread each, of which two
run at once; ``one by one``, six commands on all threads. The arms take turns. A ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from experiments.bench.machine import describe_machine

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "experiments" / "fgen2026_clswgan-matching_emoji.toml"
RATES, SEEDS = (0.0001, 0.0002, 0.0004), (0, 1)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    arms: dict[str, Callable[[Path, list[str]], None]] = {
        "sweep": swept,
        "two at a time": lambda out, narrow: separate(out, [*narrow, "--set", "train.threads=1"], at_once=2),
        "one by one": lambda out, narrow: separate(out, narrow, at_once=1),
    }
    narrow = [f"model.epochs={options.epochs}", "model.hidden_dim=256", f"protocol.evaluations={options.epochs}"]
    settings = [part for setting in narrow for part in ("--set", setting)]
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, arm in arms.items():
            with tempfile.TemporaryDirectory(prefix="fgen-sweeps-") as folder:
                start = time.perf_counter()
                arm(Path(folder), settings)
                seconds[name].append(time.perf_counter() - start)
        arms = dict(reversed(arms.items()))
    print(table(seconds))
    if options.json is not None:
        result = {"machine": describe_machine(), "epochs": options.epochs, "seconds": seconds}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def swept(out: Path, settings: list[str]) -> None:
    """Do all runs by one command."""
    grid = ["--set-grid", f"model.lr={list(RATES)}", "--seeds", *map(str, SEEDS)]
    call(["sweep", str(CONFIG), *grid, *settings, "--jobs", "2", "--out", str(out / "sweep")])


def separate(out: Path, settings: list[str], *, at_once: int) -> None:
    """Do each run by a command of its own."""

    def one(rate: float, seed: int) -> None:
        own = ["--set", f"model.lr={rate}", "--set", f"protocol.seeds=[{seed}]", "--out", str(out / f"{rate}-{seed}")]
        call(["run", str(CONFIG), *settings, *own])

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda run: one(*run), product(RATES, SEEDS)))


def call(words: list[str]) -> None:
    """Run a command of fgen."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "fgen", *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"fgen {' '.join(words)} failed:\n{done.stderr}")


def table(seconds: dict[str, list[float]]) -> str:
    """Return seconds, and how many times as fast the sweep is."""
    lines = ["arm               median seconds [range]   sweep's speed against it [range]"]
    for name, own in seconds.items():
        ratios = [one / swept for one, swept in zip(own, seconds["sweep"], strict=True)]
        told = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        lines.append(f"{name:17} {statistics.median(own):8.1f} [{min(own):.1f}, {max(own):.1f}]   {told:>20}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
