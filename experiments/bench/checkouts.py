"""Two checkouts of fgen side by side: seconds, memory and bytes of the same work.

``python -m experiments.bench.checkouts --base FOLDER_OF_OTHER_CHECKOUT``: each measurement is a process of its own that
imports fgen from one of the two checkouts. They take turns, and which is first changes with each round. Figures are
medians with their range; the ratio base / here is taken round by round, above 1 where this checkout is faster or
smaller. The range of 5 ratios holds their median with a probability of 94 %, whatever their distribution. On a busy
machine CPU seconds tell more than wall seconds. All work is done on the CPU. All subjects take about 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from experiments.bench import checkout_work
from experiments.bench.checkout_files import compare_results, told
from experiments.bench.checkout_work import MEASURED, WRITTEN, Plan
from experiments.bench.machine import describe_machine
from experiments.bench.sizes import SIZES, random_world
from experiments.bench.timing import Comparison
from experiments.bench.whole_run import EXPERIMENTS

HERE = EXPERIMENTS.parent
BYTES = "bytes"
SUBJECTS = (*MEASURED, BYTES)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and compare; print a table. Returns 1 where a file that both wrote differs, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path, help="a checkout of fgen to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(SUBJECTS), help=f"subjects (default: {','.join(SUBJECTS)})")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: torch's)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--json", type=Path, help="also write all figures to this file, after each round")
    options = parser.parse_args(argv)
    subjects = options.only.split(",")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; at least 1")
    if unknown := set(subjects) - set(SUBJECTS):
        parser.error(f"--only has {', '.join(sorted(unknown))}; subjects are {', '.join(SUBJECTS)}")
    checkouts = {"base": options.base.resolve(), "here": HERE}
    size = SIZES["tiny" if options.quick else "CUB"]
    plan = Plan(str(EXPERIMENTS), options.threads, size.networks())
    if options.quick:
        plan = replace(plan, steps=1, n_per_class=5, toy_epochs=1, classes=(10, 20), methods=("clswgan",))
    result: dict[str, Any] = {"machine": describe_machine(), "commits": {k: commit(v) for k, v in checkouts.items()}}
    with tempfile.TemporaryDirectory(prefix="fgen-checkouts-") as name:
        folder = Path(name)
        world = random_world(size)
        np.savez(folder / "world.npz", features=world.features, labels=world.labels, embeddings=world.embeddings)
        for rows in measure(checkouts, [s for s in subjects if s != BYTES], options.rounds, plan, folder):
            result["rows"] = [row.to_json() for row in rows]
            write(result, options.json)
        print(table(result.get("rows", [])), flush=True)
        if BYTES in subjects:
            result[BYTES] = compare_bytes(checkouts, plan, folder)
            write(result, options.json)
            print("\n".join(map(told, result[BYTES])))
    return int(any(found["differ"] or found["base_alone"] for found in result.get(BYTES, [])))


def measure(
    checkouts: dict[str, Path], subjects: Sequence[str], rounds: int, plan: Plan, folder: Path
) -> Iterator[list[Comparison]]:
    """Yield after each round what has been measured so far, a comparison for each figure of each subject."""
    for work, readers in WRITTEN.items():
        if set(readers) & set(subjects):
            run_child(checkouts["base"], work.__name__, folder, plan)
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    order = list(checkouts)
    with tqdm(total=rounds * len(subjects) * len(order), unit="measurement") as bar:
        for _ in range(rounds if subjects else 0):
            for subject in subjects:
                for name in order:
                    bar.set_postfix_str(f"{subject}, {name}")
                    for figure, value in run_child(checkouts[name], subject, folder, plan).items():
                        samples.setdefault((subject, figure), {arm: [] for arm in checkouts})[name].append(value)
                    bar.update()
            order.reverse()
            yield [Comparison("checkouts", s, "cpu", figure, arms, "base") for (s, figure), arms in samples.items()]


def compare_bytes(checkouts: dict[str, Path], plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """Interrupt a run of the base, go on with both, train models with both; return how their files compare."""
    folders = {name: folder / BYTES / name for name in checkouts}
    for path in folders.values():
        path.mkdir(parents=True)
    run_child(checkouts["base"], checkout_work.half_run.__name__, folders["base"], plan)
    subprocess.run(["cp", "-a", folders["base"] / "run", folders["here"]], check=True)
    for name, checkout in checkouts.items():
        run_child(checkout, checkout_work.results.__name__, folders[name], plan)
    return compare_results(folders["base"], folders["here"])


def run_child(checkout: Path, work: str, folder: Path, plan: Plan) -> dict[str, float]:
    """Return the figures of a piece of work in a process that imports fgen from that checkout."""
    words = [str(checkout), work, str(folder), json.dumps(asdict(plan))]
    command = [sys.executable, "-P", checkout_work.__file__, *words]
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": str(plan.threads),
        "OMP_WAIT_POLICY": "passive",  # a thread that waits takes no CPU seconds
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{work} failed with fgen of {checkout}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for each figure: medians with their ranges, and the ratio base / here."""
    return "\n".join(
        f"{row['case']}, {row['unit']}: base {shown(row['arms']['base'])}, here {shown(row['arms']['here'])}, "
        f"base / here {shown(row['gain']['here'])}"
        for row in rows
    )


def shown(found: dict[str, Any]) -> str:
    """Return a median with its range."""
    return f"{found['median']:.4g} ({found['low']:.4g} to {found['high']:.4g})"


def write(result: dict[str, Any], path: Path | None) -> None:
    """Write the figures so far."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, with ``+`` for local changes; empty where it isn't one of git's."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
