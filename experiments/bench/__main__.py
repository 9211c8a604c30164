"""Measure fgen on this machine.

    python -m experiments.bench --out runs/bench

Parts: a training steps, methods and terms; b the final head; c bank generation; d peak memory; e a whole run.
What is finished is in --out even if a later part fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from experiments.bench import generation, head, memory, report, training, whole_run
from experiments.bench.machine import describe_machine
from experiments.bench.sizes import SIZES, Size
from experiments.bench.timing import Comparison
from fgen.compute.device import choose_device
from fgen.errors import InputError

PARTS = "abcde"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        steps, methods, losses, heads, banks, memory: sizes of each part.
        rounds: of each kind of measurement; those of the parts where little varies, or much time goes, are few.
        features: in a bank.
        epochs: of a whole training, on an accelerator.
        runs: experiments that are run from beginning to end.
    """

    steps: list[Size]
    methods: Size
    losses: list[Size]
    heads: list[Size]
    banks: list[Size]
    memory: list[Size]
    runs: list[str]
    rounds: dict[str, int]
    features: int
    epochs: int = 56


def plan(*, quick: bool, sizes: list[str] | None) -> Plan:
    """The plan of ``--quick`` and ``--sizes``."""

    def chosen(*names: str) -> list[Size]:
        return [SIZES[name] for name in sizes or names]

    if quick:
        small, once = chosen("emoji"), dict.fromkeys(("heads", "memory", "runs"), 1)
        rounds = once | dict.fromkeys(("steps", "methods", "losses", "banks"), 3)
        return Plan(chosen("CUB", "emoji"), small[0], small, small, small, small, ["toy"], rounds, features=2000)
    return Plan(
        chosen("CUB", "AWA2", "SUN", "FLO", "emoji 4096", "emoji"),
        chosen("CUB")[0],
        chosen("CUB", "SUN", "emoji"),
        chosen("emoji", "CUB"),
        chosen("CUB", "emoji"),
        chosen("CUB", "emoji"),
        ["toy", "emoji"],
        {"steps": 5, "losses": 5, "methods": 3, "heads": 3, "banks": 5, "memory": 2, "runs": 2},
        features=generation.FEATURES,
    )


def measure(chosen: str, todo: Plan, folder: Path, devices: list[torch.device]) -> Iterator[Comparison]:
    """All comparisons of the chosen parts, as they are finished."""
    for device in devices:
        if "a" in chosen:
            yield from training.measure_steps(todo.steps, todo.rounds["steps"], device)
            if device.type == "cuda":
                yield from training.measure_training(todo.methods, todo.epochs, todo.rounds["runs"], device)
        if "b" in chosen:
            yield from head.measure_heads(todo.heads, todo.rounds["heads"], device)
        if "c" in chosen:
            yield from generation.measure_generation(
                todo.banks, todo.rounds["banks"], device, folder, features=todo.features
            )
        if "a" in chosen:
            yield from training.measure_losses(todo.losses, todo.rounds["losses"], device)
            yield from training.measure_methods(todo.methods, todo.rounds["methods"], device)
    if "d" in chosen:
        yield from memory.measure_memory(todo.memory, todo.rounds["memory"])
    if "e" in chosen:
        yield from whole_run.measure_runs(todo.runs, todo.rounds["runs"])


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write ``bench.json``, ``table.md``, ``summary.md`` and ``bench.png``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, for example a,b")
    parser.add_argument("--sizes", help=f"in place of the plan's: {', '.join(SIZES)}")
    parser.add_argument("--rounds", type=int, help="of each measurement, in place of the plan's")
    parser.add_argument("--device", help="cpu or cuda; by default both, where there is one")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats, under 2 minutes")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice by default")
    options = parser.parse_args(arguments)
    chosen = "".join(options.only.replace(" ", "").split(","))
    sizes = options.sizes.split(",") if options.sizes else None
    if not chosen or set(chosen) - set(PARTS):
        parser.error(f"--only is {options.only!r}; parts are {', '.join(PARTS)}")
    if sizes and set(sizes) - set(SIZES):
        parser.error(f"--sizes is {options.sizes!r}; sizes are {', '.join(SIZES)}")
    todo = plan(quick=options.quick, sizes=sizes)
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error(f"--rounds is {options.rounds}; at least 1")
        todo = replace(todo, rounds=dict.fromkeys(todo.rounds, options.rounds))
    names = [options.device] if options.device else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    try:
        devices = [choose_device(name) for name in names]
    except InputError as error:
        parser.error(str(error))
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads or before)
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"machine": describe_machine(), "parts": chosen, "quick": options.quick, "rows": rows}
    try:
        for comparison in measure(chosen, todo, options.out, devices):
            rows.append(comparison.to_json())
            result["seconds"] = time.monotonic() - start
            (options.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(f"{result['seconds']:6.0f} s  {comparison.part}: {comparison.case}", file=sys.stderr)
    finally:
        torch.set_num_threads(before)
    table = report.markdown(result)
    (options.out / "table.md").write_text(table + "\n", encoding="utf-8")
    (options.out / "summary.md").write_text(report.summary(result) + "\n", encoding="utf-8")
    report.draw(result, options.out / "bench.png")
    print(
        f"{table}\n\nwritten to {options.out}/: bench.json, table.md, summary.md, bench.png; {result['seconds']:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
