"""Classes of a bank by name: CPU seconds here and in another checkout, in turn, and how they grow with the classes.

``python -m experiments.bench.names --base FOLDER_OF_OTHER_CHECKOUT``: each measurement is a process of its own that
imports fgen from one of the two checkouts and works on the same banks. Seconds are the processor's, which other work
on the machine changes little. 3 rounds beside a version that searches names in a row take some 5 minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.bench.timing import spread
from fgen.data.bank import FeatureBank

HERE = Path(__file__).resolve().parents[2]
SIZES = (2_000, 20_000)
ROWS, DIM = 3, 16
WORK = ("to_numpy(names)", "merge")
#: Does one of WORK once, as after opening a bank, and prints its CPU seconds.
CHILD = """
import sys, time
from pathlib import Path
import fgen
from fgen.data.bank import FeatureBank
checkout, folder, work = sys.argv[1:]
assert Path(fgen.__file__).is_relative_to(checkout), fgen.__file__
with FeatureBank.open(f"{folder}/a.h5") as a, FeatureBank.open(f"{folder}/b.h5") as b:
    names = [f"class {k}" for k in range(len(a.class_names))]
    start = time.process_time()
    if work == "merge":
        FeatureBank.merge(f"{folder}/both.h5", [a, b], overwrite=True)
    else:
        a.to_numpy(names)
    print(time.process_time() - start)
"""

Key = tuple[str, int, str]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, type=Path, help="a checkout of fgen to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=WORK, action="append", help="one of both; may be repeated")
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, help="numbers of classes, the smaller first")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args(argv)
    checkouts = {"base": options.base.resolve(), "here": HERE}
    with tempfile.TemporaryDirectory(prefix="fgen-names-") as folder:
        for samples in measure(checkouts, options.work or WORK, options.sizes, options.rounds, Path(folder)):
            rounds = min(map(len, samples.values()))
            print(f"after {rounds} of {options.rounds} rounds\n{table(samples, options.sizes)}", flush=True)
    if options.json:
        rows = [{"work": w, "classes": n, "checkout": c} | spread(values) for (w, n, c), values in samples.items()]
        options.json.write_text(json.dumps(rows, indent=2))


def measure(
    checkouts: dict[str, Path], works: Sequence[str], sizes: Sequence[int], rounds: int, folder: Path
) -> Iterator[dict[Key, list[float]]]:
    """CPU seconds of each work, number of classes and checkout, in turn; after each round, those so far."""
    for n in sizes:
        (folder / str(n)).mkdir()
        for seed, name in enumerate("ab"):
            write_bank(folder / str(n) / f"{name}.h5", n, seed)
    keys = [(work, n, checkout) for work in works for n in sizes for checkout in checkouts]
    samples: dict[Key, list[float]] = {key: [] for key in keys}
    bar = tqdm(total=rounds * len(keys), unit="measurement")
    for _ in range(rounds):
        for work, n, checkout in keys:
            samples[work, n, checkout].append(seconds(checkouts[checkout], folder / str(n), work))
            bar.update()
        yield samples
    bar.close()


def write_bank(path: Path, n_classes: int, seed: int) -> None:
    """A bank of three rows for each class; the classes are the same for every seed."""
    rows = np.random.default_rng(seed).random((n_classes, ROWS, DIM), dtype=np.float32)
    with FeatureBank.create(
        path,
        class_names=[f"class {k}" for k in range(n_classes)],
        class_embeddings=np.arange(n_classes, dtype=np.float32)[:, None],
        counts=np.full(n_classes, ROWS),
        feature_dim=DIM,
        seen=np.zeros(n_classes, dtype=bool),
        seed=seed,
        config={},
    ) as writer:
        for k in range(n_classes):
            writer.write(k, rows[k])


def seconds(checkout: Path, folder: Path, work: str) -> float:
    """CPU seconds of a call in a process that imports fgen from that checkout."""
    command = [sys.executable, "-c", CHILD, str(checkout), str(folder), work]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def table(samples: dict[Key, list[float]], sizes: Sequence[int]) -> str:
    """Medians with their ranges, how many times as fast this checkout is, and the exponents of growth."""
    lines = []
    for work in dict.fromkeys(work for work, _, _ in samples):
        for n in sizes:
            base, here = samples[work, n, "base"], samples[work, n, "here"]
            gain = [a / b for a, b in zip(base, here, strict=True)]
            told = f"base {shown(base, ' s')}, here {shown(here, ' s')}, {shown(gain, 'x')} as fast"
            lines.append(f"{work}, {n:,} classes: {told}")
        for checkout in ("base", "here"):
            small, large = (samples[work, n, checkout] for n in sizes)
            grown = [math.log(b / a) / math.log(sizes[1] / sizes[0]) for a, b in zip(small, large, strict=True)]
            lines.append(f"{work}, {checkout}: seconds grow with the classes to the power of {shown(grown, '')}")
    return "\n".join(lines)


def shown(values: Sequence[float], unit: str) -> str:
    """The median with its range."""
    found = spread(values)
    return f"{found['median']:.3g}{unit} ({found['low']:.3g} to {found['high']:.3g})"


if __name__ == "__main__":
    main()
