"""Seconds and memory of each phase by the number of classes: ``python -m experiments.bench.scale``.

Classes have 20 rows each, 80 % of them are seen. The data lie on disk. Each number of classes is a process of its own.
The exponent is that of the growth in work: 1 where time grows as the number of classes at fixed rows a class, or, for
the head and the scores, as classes times rows. ``--million`` measures a million rows of 512 columns in 20,000 classes,
up to the bank; ``--prior`` holds the approximate prior to the exact one at 4,000 seen classes. ``--base CHECKOUT``
measures another checkout of fgen beside this one at one size, in turns. What is finished in --out isn't measured again.
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

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
D, A, ROWS, SHARE_SEEN = 256, 64, 20, 0.8
N_GENERATED, STEPS, BASE_STEPS, L2 = 10, 20, 5, 1e-4
MILLION, WIDE, MOST_CLASSES = 1_000_000, 512, 20_000
#: Seen classes of the comparison of priors, all of its classes, and its :func:`world`: columns that matter less and
#: less, as those of word vectors along their principal axes.
N_SEEN, N_CLASSES, SPREAD, DECAY = 4_000, 5_000, 2.0, 1.0
MODEL: dict[str, Any] = {"hidden_dim": 512, "noise_dim": 64, "batch_size": 64}
#: Phase -> the power of the number of classes in which its work grows at fixed rows a class.
PHASES = {"data set": 1, "prior": 1, "20 steps": 0, "bank": 1, "head": 2, "scores": 2, "report": 1}
#: Phases that an earlier fgen has too.
BASE_PHASES = ("prior, 5 steps", "bank", "head", "scores")
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
    parser.add_argument("--million", action="store_true", help="also a million rows")
    parser.add_argument("--prior", action="store_true", help="also the approximate prior beside the exact one")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.base is not None:
        beside(options.base.resolve(), options)
        return 0
    found = {n: measured(ROOT, ("phases", n), options.out / f"{n}.json") for n in options.classes}
    print(growth(found))
    if options.million:
        print(f"\n{MILLION:,} rows of {WIDE} columns, {MOST_CLASSES:,} classes")
        for phase, one in measured(ROOT, ("million",), options.out / "million.json").items():
            print(f"{phase:17}{cell(one):>22}")
    if options.prior:
        print(f"\nthe prior of {N_SEEN:,} seen classes, exact and approximate")
        for kind, one in measured(ROOT, ("prior",), options.out / "prior.json").items():
            print(f"{kind:17}{one['error']:9.5f} squared error, leaving one class out; T1 {one['T1']:.2f} %")
    return 0


def beside(base: Path, options: argparse.Namespace) -> None:
    """Measure two checkouts in turns, and print the ratio of their seconds and of their memory."""
    n, order = options.classes[0], {"base": base, "here": ROOT}
    samples: dict[str, list[Figures]] = {name: [] for name in order}
    for number in range(options.rounds):
        for name in (list(order), list(order)[::-1])[number % 2]:
            samples[name].append(measured(order[name], ("base", n), options.out / f"{n}-{name}-{number}.json"))
    print(f"{n:,} classes, {options.rounds} rounds in turns: medians of base and here, base / here [range over rounds]")
    for phase in BASE_PHASES:
        for figure in ("seconds", "peak MB"):
            base_, here = (np.array([one[phase][figure] for one in samples[name]]) for name in order)
            told = f"{np.median(base_):9.2f} {np.median(here):9.2f} {np.median(base_ / here):7.2f}"
            print(f"{phase:16} {figure:8} {told} [{(base_ / here).min():.2f}, {(base_ / here).max():.2f}]")


def measured(checkout: Path, work: tuple[str, *tuple[int, ...]], kept: Path) -> Figures:
    """Return the figures of a piece of work, from a process that imports fgen from the checkout."""
    if not kept.exists():
        command = [sys.executable, "-P", __file__, "--child", *map(str, work)]
        environment = os.environ | {"PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        kept.write_text(done.stdout.splitlines()[-1] + "\n", encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def growth(found: dict[int, Figures]) -> str:
    """Return the table, with the exponents from the second largest to the largest number of classes."""
    sizes = sorted(found)
    lines = ["phase            " + "".join(f"{n:>22,}" for n in sizes) + "   exponent in its work"]
    for phase, power in PHASES.items():
        last = ""
        if len(sizes) > 1:
            seconds = [found[n][phase]["seconds"] for n in sizes[-2:]]
            last = f"   {math.log(seconds[1] / seconds[0]) / math.log(sizes[-1] / sizes[-2]) / max(power, 1):.2f}"
        lines.append(f"{phase:17}" + "".join(f"{cell(found[n][phase]):>22}" for n in sizes) + last)
    return "\n".join(lines)


def cell(figures: dict[str, float]) -> str:
    """Return a phase's seconds and memory."""
    return f"{figures['seconds']:9.2f} s {figures['peak MB']:7,.0f} MB"


# The child.


class Phases:
    """Figures of phases, each timed once."""

    def __init__(self) -> None:
        self.found: Figures = {}

    def __call__(self, phase: str, do: Callable[[], Any]) -> Any:
        """Do a phase, and note its seconds and its peak of memory."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        start = time.perf_counter()
        result = do()
        self.found[phase] = {"seconds": time.perf_counter() - start, "peak MB": peak()}
        print(phase, self.found[phase], file=sys.stderr, flush=True)
        return result


def phases(n_classes: int) -> Figures:
    """Do each phase once, from the file to the report."""
    import fgen
    from fgen.reports.run_report import write_report

    with tempfile.TemporaryDirectory() as name:
        timed, path = Phases(), Path(name) / "world.h5"
        fgen.save_dataset(world(n_classes), path)
        data = timed("data set", lambda: checked(path))
        features, labels = data.split("trainval")
        model = fitted(timed, features, labels, data.class_embeddings)
        rows, of_rows = timed("bank", lambda: model.generate(data.unseen, N_GENERATED, seed=0))
        both = np.concatenate([features, rows]), np.concatenate([labels, of_rows])
        head = fgen.SoftmaxClassifier(solver="lbfgs", scaling="standard", l2=L2)
        timed("head", lambda: head.fit(*both, classes=np.arange(n_classes)))
        told = timed("scores", lambda: scored(head, data))
        print(f"T1, H: {told}", file=sys.stderr)
        settings = {
            "dataset": {"path": str(path)},
            "model": {"name": "priorgan", "steps": STEPS, **MODEL},
            "bank": {"n_per_class": N_GENERATED},
            "classifier": {"name": "cosine"},
        }
        run = fgen.run(settings, out=Path(name) / "run")
        timed("report", lambda: write_report([run.out], Path(name) / "report.html"))
    return timed.found


def million() -> Figures:
    """Do each phase up to the bank on a file of a million rows."""
    from fgen.features.rows import SelectedRows

    with tempfile.TemporaryDirectory() as name:
        timed, path = Phases(), Path(name) / "million.h5"
        write_million(path)
        data = timed("data set", lambda: checked(path))
        of_trainval = data.splits["trainval"]
        features = SelectedRows(data.features, of_trainval)
        model = fitted(timed, features, data.labels[of_trainval], data.class_embeddings)
        timed("bank", lambda: model.generate(data.unseen, N_GENERATED, seed=0))
    return timed.found


def checked(path: Path) -> Any:
    """Return a data set that has been read and checked whole, as a run does first."""
    import fgen

    data = fgen.load_dataset(path)
    assert data.fingerprint
    return data


def fitted(timed: Phases, features: Any, labels: np.ndarray, embeddings: np.ndarray) -> Any:
    """Return a model with its prior fitted and steps taken."""
    import fgen
    from fgen.training.loop import make_optimisers, stepper

    model = fgen.make_model("priorgan", **MODEL)

    def prior() -> Any:
        rows = model.begin(features, labels, embeddings, device="cpu")
        model.initialise(0)
        model.pretrain(rows, 0)
        return rows

    rows = timed("prior", prior)
    step = stepper(model, rows, make_optimisers(model), 0)
    timed("20 steps", lambda: [step(number) for number in range(STEPS)])
    del model.data
    return model


def prior() -> Figures:
    """Return the error, leaving one class out, and T1 of the exact prior and of the approximate one."""
    import torch

    import fgen
    from fgen.nn.kernel_ridge import SemanticPrior
    from fgen.nn.nystroem_prior import NystroemPrior

    data = world(N_CLASSES, SPREAD, DECAY)
    rows, labels = np.array(data.features), data.labels
    means = np.stack([rows[k * ROWS : (k + 1) * ROWS].mean(axis=0) for k in range(N_SEEN)])
    embeddings, means = torch.from_numpy(data.class_embeddings.copy()), torch.from_numpy(means)
    tested = torch.from_numpy(rows[labels >= N_SEEN]).double()
    found: Figures = {}
    settings = fgen.MODELS["priorgan"]()
    for kind in (SemanticPrior, NystroemPrior):
        one = kind(N_SEEN, A, D, (A,), alpha=settings.prior_alpha, width=settings.prior_width)
        one.fit(embeddings[:N_SEEN], means)
        error = (one.leave_one_out.double() - means.double()).square().mean()
        nearest = torch.cdist(tested, one(embeddings[N_SEEN:]).double()).argmin(dim=1).numpy() + N_SEEN
        found[kind.__name__] = {"error": float(error), "T1": 100 * float((nearest == labels[labels >= N_SEEN]).mean())}
    return found


def base(n_classes: int) -> Figures:
    """Do what an earlier fgen has too, with the fgen that is imported."""
    import fgen

    with tempfile.TemporaryDirectory() as name:
        timed, path = Phases(), Path(name) / "world.h5"
        fgen.save_dataset(world(n_classes), path)
        data = fgen.load_dataset(path)
        features, labels = data.split("trainval")
        model = fgen.make_model("priorgan", steps=BASE_STEPS, **MODEL)
        timed("prior, 5 steps", lambda: model.fit(features, labels, data.class_embeddings, seed=0))
        rows, of_rows = timed("bank", lambda: model.generate(data.unseen, N_GENERATED, seed=0))
        both = np.concatenate([features, rows]), np.concatenate([labels, of_rows])
        head = fgen.SoftmaxClassifier(solver="lbfgs", scaling="standard", l2=L2)
        timed("head", lambda: head.fit(*both, classes=np.arange(n_classes)))
        told = timed("scores", lambda: scored(head, data))
        print(f"T1, H: {told}", file=sys.stderr)
    return timed.found


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


def world(n_classes: int, spread: float = 1.0, decay: float = 0.0) -> Any:
    """Return a data set in which a class's mean follows from its embedding, but for a part that nothing tells.

    Args:
        spread: standard deviation within classes; 1 leaves no doubt of a row's class.
        decay: the embeddings' k-th column has a deviation in proportion to ``k ** -decay``.
    """
    import fgen

    stream = np.random.default_rng(0)
    embeddings = stream.standard_normal((n_classes, A), dtype=np.float32)
    embeddings *= (np.arange(1, A + 1) ** -decay).astype(np.float32)
    embeddings *= math.sqrt(A) / np.linalg.norm(embeddings, axis=1).mean()
    hidden = np.tanh(embeddings @ stream.standard_normal((A, 2 * A), dtype=np.float32) / 8)
    means = hidden @ stream.standard_normal((2 * A, D), dtype=np.float32) / 8
    means += 0.3 * stream.standard_normal(means.shape, dtype=np.float32)
    labels = np.repeat(np.arange(n_classes), ROWS)
    features = means[labels] + spread * stream.standard_normal((len(labels), D), dtype=np.float32)
    n_seen = int(SHARE_SEEN * n_classes)
    rows, of_seen, is_test = np.arange(len(labels)), labels < n_seen, np.arange(len(labels)) % ROWS < ROWS // 5
    splits = {
        "trainval": rows[of_seen & ~is_test],
        "test_seen": rows[of_seen & is_test],
        "test_unseen": rows[~of_seen],
    }
    return fgen.ZSLDataset(features, labels, embeddings, splits=splits, name=f"{n_classes} classes")


def write_million(path: Path) -> None:
    """Write a million rows, sorted by class, a block at a time."""
    stream, n_each = np.random.default_rng(0), MILLION // MOST_CLASSES
    embeddings = stream.standard_normal((MOST_CLASSES, A), dtype=np.float32)
    weight = stream.standard_normal((A, WIDE), dtype=np.float32) / 8
    labels = np.repeat(np.arange(MOST_CLASSES), n_each)
    is_test, is_seen = np.arange(MILLION) % n_each < n_each // 5, labels < SHARE_SEEN * MOST_CLASSES
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "fgen-dataset", "format_version": 1, "name": "a million rows"})
        features = file.create_dataset("features", (MILLION, WIDE), "<f4")
        for start in range(0, MILLION, MILLION // 100):
            of_block = labels[start : start + MILLION // 100]
            block = stream.standard_normal((len(of_block), WIDE), dtype=np.float32)
            features[start : start + len(of_block)] = embeddings[of_block] @ weight + block
        file["labels"] = labels.astype("<i4")
        file["class_embeddings/att"] = embeddings
        file["splits/trainval"] = np.flatnonzero(is_seen & ~is_test)
        file["splits/test_seen"] = np.flatnonzero(is_seen & is_test)
        file["splits/test_unseen"] = np.flatnonzero(~is_seen)


def peak() -> float:
    """Return the peak of this process's memory in MB, since it was begun anew."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        work = {"phases": phases, "million": million, "prior": prior, "base": base}[sys.argv[2]]
        print(json.dumps(work(*map(int, sys.argv[3:]))))
    else:
        sys.exit(main())
