"""Seconds and memory of each phase by the number of classes: ``python -m experiments.bench.scale``.

Classes have 20 rows each, 80 % of them are seen. The data lie on disk. Each number of classes is a process of its own.
The exponent is that of the growth in work: 1 where time grows as the number of classes at fixed rows a class, or, for
the head and the scores, as classes times rows. ``--base CHECKOUT`` measures another checkout of fgen beside this one at
one size, in turns. What is finished in --out isn't measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
D, A, ROWS, SHARE_SEEN = 256, 64, 20, 0.8
N_GENERATED, STEPS, L2 = 10, 5, 1e-4
#: Phase -> the power of the number of classes in which its work grows at fixed rows a class.
PHASES = {"prior, 5 steps": 1, "bank": 1, "head": 2, "scores": 2}
Figures = dict[str, dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-scale"))
    parser.add_argument("--classes", type=int, nargs="+", default=[1_000, 4_000, 20_000])
    parser.add_argument(
        "--base", type=Path, help="another checkout, measured beside this one at the first of --classes"
    )
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.base is not None:
        beside(options.base.resolve(), options)
        return 0
    found = {n: measured(ROOT, n, options.out / f"{n}.json") for n in options.classes}
    print(growth(found))
    return 0


def beside(base: Path, options: argparse.Namespace) -> None:
    """Measure two checkouts in turns, and print the ratio of their seconds and of their memory."""
    n, order = options.classes[0], {"base": base, "here": ROOT}
    samples: dict[str, list[Figures]] = {name: [] for name in order}
    for number in range(options.rounds):
        for name in (list(order), list(order)[::-1])[number % 2]:
            samples[name].append(measured(order[name], n, options.out / f"{n}-{name}-{number}.json"))
    print(f"{n:,} classes, medians of {options.rounds}: base, here, base / here")
    for phase in PHASES:
        for figure in ("seconds", "peak MB"):
            base_, here = (float(np.median([one[phase][figure] for one in samples[name]])) for name in order)
            print(f"{phase:16} {figure:8} {base_:9.2f} {here:9.2f} {base_ / here:7.2f}")


def measured(checkout: Path, n_classes: int, kept: Path) -> Figures:
    """Return the figures of a number of classes, from a process that imports fgen from the checkout."""
    if not kept.exists():
        command = [sys.executable, "-P", __file__, "--child", str(n_classes)]
        environment = os.environ | {"PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        kept.write_text(done.stdout.splitlines()[-1] + "\n", encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def growth(found: dict[int, Figures]) -> str:
    """Return the table, with the exponents from the second largest to the largest number of classes."""
    sizes = sorted(found)
    lines = ["phase            " + "".join(f"{n:>22,}" for n in sizes) + "   exponent in its work"]
    for phase, power in PHASES.items():
        cells = [f"{found[n][phase]['seconds']:9.2f} s {found[n][phase]['peak MB']:7,.0f} MB" for n in sizes]
        last = ""
        if len(sizes) > 1:
            seconds = [found[n][phase]["seconds"] for n in sizes[-2:]]
            last = f"   {math.log(seconds[1] / seconds[0]) / math.log(sizes[-1] / sizes[-2]) / power:.2f}"
        lines.append(f"{phase:17}" + "".join(f"{cell:>22}" for cell in cells) + last)
    return "\n".join(lines)


# The child.


def work(n_classes: int) -> Figures:
    """Do each phase once with the fgen that is imported, and return its seconds and its peak of memory."""
    import fgen

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.h5"
        fgen.save_dataset(world(n_classes), path)
        data = fgen.load_dataset(path)
        found: Figures = {}

        def timed(phase: str, do: Callable[[], Any]) -> Any:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
            start = time.perf_counter()
            result = do()
            found[phase] = {"seconds": time.perf_counter() - start, "peak MB": peak()}
            print(phase, found[phase], file=sys.stderr, flush=True)
            return result

        features, labels = data.split("trainval")
        model = fgen.make_model("priorgan", steps=STEPS, hidden_dim=512, noise_dim=64, batch_size=64)
        timed("prior, 5 steps", lambda: model.fit(features, labels, data.class_embeddings, seed=0))
        rows, of_rows = timed("bank", lambda: model.generate(data.unseen, N_GENERATED, seed=0))
        both = np.concatenate([features, rows]), np.concatenate([labels, of_rows])
        head = fgen.SoftmaxClassifier(solver="lbfgs", scaling="standard", l2=L2)
        timed("head", lambda: head.fit(*both, classes=np.arange(n_classes)))
        h = timed("scores", lambda: scored(head, data))
        print(f"T1, H: {h}", file=sys.stderr)
    return found


def scored(head: Any, data: Any) -> tuple[float, float]:
    """Return T1 and H as a run does: from the test rows' scores, at two gammas."""
    try:
        from fgen.experiment.heads import Heads

        score = Heads(head).score(data).at
    except ImportError:  # the layout of f5809e6
        from fgen.classifiers.heads import Heads, head_scorer

        score = head_scorer(Heads(head), data)
    score(0.0)
    result, _ = score(1.0)
    return float(result.T1), float(result.H)


def world(n_classes: int) -> Any:
    """Return a data set in which a class's mean follows from its embedding, but for a part that nothing tells."""
    import fgen

    stream = np.random.default_rng(0)
    embeddings = stream.standard_normal((n_classes, A), dtype=np.float32)
    hidden = np.tanh(embeddings @ stream.standard_normal((A, 2 * A), dtype=np.float32) / 8)
    means = hidden @ stream.standard_normal((2 * A, D), dtype=np.float32) / 8
    means += 0.3 * stream.standard_normal(means.shape, dtype=np.float32)
    labels = np.repeat(np.arange(n_classes), ROWS)
    features = means[labels] + stream.standard_normal((len(labels), D), dtype=np.float32)
    n_seen = int(SHARE_SEEN * n_classes)
    rows, of_seen, is_test = np.arange(len(labels)), labels < n_seen, np.arange(len(labels)) % ROWS < ROWS // 5
    splits = {
        "trainval": rows[of_seen & ~is_test],
        "test_seen": rows[of_seen & is_test],
        "test_unseen": rows[~of_seen],
    }
    return fgen.ZSLDataset(features, labels, embeddings, splits=splits, name=f"{n_classes} classes")


def peak() -> float:
    """Return the peak of this process's memory in MB, since it was begun anew."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(work(int(sys.argv[2]))))
    else:
        sys.exit(main())
