"""Work that one of two checkouts does, a program of its own: :mod:`experiments.bench.checkouts` starts and measures it.

``python -P checkout_work.py CHECKOUT WORK FOLDER PLAN`` imports fgen from the checkout that ``PYTHONPATH`` names and
prints a line of JSON with its figures. Only the names of ``fgen.__all__`` and shell commands are used, which every
version has. Libraries are imported by the work that needs them: the seconds of a command hold its imports.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

BEGIN = time.perf_counter()
TOY, EMOJI = "fgen2026_clswgan_toy.toml", "xian2018_clswgan_emoji.toml"
#: Networks of the methods whose models are compared byte by byte.
NARROW: dict[str, Any] = {"hidden_dim": 16, "noise_dim": 4, "batch_size": 64, "steps": 3}
WALL, CPU, PEAK = "wall s", "CPU s", "peak MB"
Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """How much each kind of work does.

    Attributes:
        experiments: the folder of the TOML files, the same for both checkouts.
        threads: CPU threads.
        networks: overrides of a method's config at the size of ``world.npz``.
        steps: of the shorter of the two trainings whose difference gives a step; the longer takes five times as many.
        n_per_class: rows of each unseen class in the bank.
        toy_epochs, emoji_epochs: of ``fgen run``.
        classes: of the two banks whose rows are taken by name.
        methods: whose models are compared; empty for all.
    """

    experiments: str
    threads: int
    networks: dict[str, int] = field(default_factory=dict)
    steps: int = 2
    n_per_class: int = 100
    toy_epochs: int = 20
    emoji_epochs: int = 1
    classes: Sequence[int] = (2_000, 8_000)
    methods: Sequence[str] = ()


# What is measured.


def toy_run(folder: Path, plan: Plan) -> Figures:
    """Return the seconds of ``fgen run`` on the toy world, from the start of the process, and its peak memory."""
    return whole_run(folder, plan, TOY, f"model.epochs={plan.toy_epochs}")


def emoji_run(folder: Path, plan: Plan) -> Figures:
    """Return the seconds of ``fgen run`` on the emoji, from the start of the process, and its peak memory."""
    return whole_run(folder, plan, EMOJI, f"model.epochs={plan.emoji_epochs}", "model.cls_epochs=2")


def cub_step(folder: Path, plan: Plan) -> Figures:
    """Return the seconds of a step of f-CLSWGAN, from two trainings of different lengths: all else cancels out."""
    world = read_world(folder)
    fit("clswgan", world, {"hidden_dim": 8, "batch_size": 64, "steps": 1, "cls_epochs": 1})  # imports all it needs
    few, many = (
        timed(partial(fit, "clswgan", world, plan.networks | {"steps": steps, "cls_epochs": 1}))
        for steps in (plan.steps, 5 * plan.steps)
    )
    return {f"{key}/step": (many[key] - few[key]) / (4 * plan.steps) for key in few}


def bank(folder: Path, plan: Plan) -> Figures:
    """Return the seconds in which ``fgen generate`` fills a bank with the base's model, imports done before."""
    fill = partial(shell, "generate", folder / "cub", "--overwrite", "--out", folder / "bank.h5", "--n-per-class")
    fill(1)
    return timed(partial(fill, plan.n_per_class))


def cub_memory(folder: Path, plan: Plan) -> Figures:
    """Return the peak memory of ``fgen train``, data read from a file."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        train_cub(folder, Path(out) / "cub", plan)
    return {PEAK: memory("VmHWM")}


def fvaegan_memory(folder: Path, plan: Plan) -> Figures:
    """Return the memory that a fitted f-VAEGAN holds: of its tensors and arrays, and of the whole process."""
    world = read_world(folder)
    model = fit("fvaegan", world, {"hidden_dim": 16, "batch_size": 64, "steps": 1})
    rows = world.pop("features").nbytes
    del world
    gc.collect()
    return {"held MB": held_bytes(model) / 1e6, "resident MB": memory("VmRSS"), "training rows MB": rows / 1e6}


def names(folder: Path, plan: Plan) -> Figures:
    """Return the CPU seconds of a bank's rows by class name and of a merge, and how they grow with the classes.

    A growth of 1 is linear in the number of classes, 2 is quadratic.
    """
    import fgen

    def rows(of: Path, classes: list[str]) -> None:
        with fgen.FeatureBank.open(of / "a.h5") as opened:
            opened.to_numpy(classes)

    def merge(of: Path, classes: list[str]) -> None:
        with fgen.FeatureBank.open(of / "a.h5") as a, fgen.FeatureBank.open(of / "b.h5") as b:
            fgen.FeatureBank.merge(of / "both.h5", [a, b], overwrite=True)

    found: Figures = {}
    small, large = plan.classes
    for work in (rows, merge):
        work(folder / f"names-{small}", ["class 0"])  # imports all it needs
        seconds = []
        for n in plan.classes:
            classes = [f"class {k}" for k in range(n)]
            seconds.append(timed(partial(work, folder / f"names-{n}", classes))[CPU])
            found[f"{work.__name__}, {n:,} classes, CPU s"] = seconds[-1]
        found[f"{work.__name__}, growth"] = math.log(seconds[1] / seconds[0]) / math.log(large / small)
    return found


# What the base writes before.


def write_cub(folder: Path, plan: Plan) -> Figures:
    """Write the world as a data set, and a run folder with a model of one step."""
    import fgen

    world = read_world(folder)
    dataset = fgen.ZSLDataset(world["features"], world["labels"], world["embeddings"], name="CUB's sizes")
    fgen.save_dataset(dataset, folder / "cub.h5")
    config = f"[dataset]\npath = '{folder}/cub.h5'\n[model]\nname = 'clswgan'\n"
    (folder / "cub.toml").write_text(config, encoding="utf-8")
    train_cub(folder, folder / "cub", plan)
    return {}


def write_names(folder: Path, plan: Plan) -> Figures:
    """Write two banks of three rows for each class, of the same classes, for each number of classes."""
    import numpy as np

    import fgen

    for n in plan.classes:
        (folder / f"names-{n}").mkdir()
        for seed, name in enumerate("ab"):
            rows = np.random.default_rng(seed).random((n, 3, 16), dtype=np.float32)
            with fgen.FeatureBank.create(
                folder / f"names-{n}" / f"{name}.h5",
                class_names=[f"class {k}" for k in range(n)],
                class_embeddings=np.arange(n, dtype=np.float32)[:, None],
                counts=np.full(n, 3),
                feature_dim=16,
                seen=np.zeros(n, dtype=bool),
                seed=seed,
                config={},
            ) as writer:
                for k in range(n):
                    writer.write(k, rows[k])
    return {}


# What is compared byte by byte.


def half_run(folder: Path, plan: Plan) -> Figures:
    """Begin ``fgen run`` on the toy world and interrupt it, as Ctrl-C does, at the first checkpoint of its training."""

    def interrupt() -> None:
        while not any((folder / "run").glob("seeds/*/checkpoint/*.safetensors")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    settings = f"model.epochs={plan.toy_epochs}", "train.checkpoint_every=0.0", "bank.n_per_class=20"
    shell(*run_words(plan, TOY, folder / "run", *settings), expected=128 + signal.SIGINT)
    return {}


def results(folder: Path, plan: Plan) -> Figures:
    """Go on with the run in the folder; then train a narrow model of each method on one seed, and generate with it."""
    import numpy as np

    import fgen

    shell("run", folder / "run" / "config.toml", "--out", folder / "run", "--resume")
    toy = fgen.load_dataset("toy")
    features, labels = toy.split("trainval")
    for name in plan.methods or sorted(fgen.MODELS):
        model = fgen.make_model(name, **NARROW).fit(features, labels, toy.class_embeddings, seed=0)
        model.save(folder / "models" / name)
        np.save(folder / "models" / f"{name}.npy", model.generate(toy.unseen, 5, seed=0)[0])
    return {}


# Tools.


def whole_run(folder: Path, plan: Plan, config: str, *settings: str) -> Figures:
    """Return the figures of ``fgen run`` since the start of this process."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        shell(*run_words(plan, config, Path(out) / "run", *settings))
    return {WALL: time.perf_counter() - BEGIN, CPU: cpu_seconds(), PEAK: memory("VmHWM")}


def run_words(plan: Plan, config: str, out: Path, *settings: str) -> list[object]:
    """Return the words of ``fgen run`` of one seed."""
    chosen = *settings, f"train.threads={plan.threads}", "protocol.seeds=[0]"
    return ["run", Path(plan.experiments) / config, "--out", out, *(f"--set={setting}" for setting in chosen)]


def train_cub(folder: Path, out: Path, plan: Plan) -> None:
    """Train f-CLSWGAN for a step through the shell command."""
    settings = plan.networks | {"steps": 1, "cls_epochs": 1}
    chosen = *(f"model.{key}={value}" for key, value in settings.items()), f"train.threads={plan.threads}"
    shell("train", folder / "cub.toml", "--out", out, *(f"--set={setting}" for setting in chosen))


def fit(name: str, world: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Return a fitted model."""
    import fgen

    return fgen.make_model(name, **settings).fit(world["features"], world["labels"], world["embeddings"], seed=0)


def read_world(folder: Path) -> dict[str, Any]:
    """Return the arrays ``features (N, D)``, ``labels (N,)`` and ``embeddings (C, A)``."""
    import numpy as np

    with np.load(folder / "world.npz") as archive:
        return dict(archive)


def shell(*words: object, expected: int = 0) -> None:
    """Run a command of the shell in this process.

    Raises:
        RuntimeError: its exit code isn't the expected one.
    """
    from fgen.cli import main

    if (code := main([str(word) for word in words])) != expected:
        raise RuntimeError(f"fgen {words} ended with {code}, not with {expected}")


def timed(work: Callable[[], object]) -> Figures:
    """Return the wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return {WALL: time.perf_counter() - wall, CPU: cpu_seconds() - cpu}


def cpu_seconds() -> float:
    """Return the CPU seconds of this process so far, all threads and finished child processes included."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def memory(entry: str) -> float:
    """Return an entry of Linux's ``/proc/self/status`` in MB: ``VmHWM``, the peak, or ``VmRSS``, what is resident now.

    ``ru_maxrss`` would begin with the peak of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{entry}:"))


def held_bytes(root: object) -> int:
    """Return the bytes of all tensors and arrays that an object keeps alive, each block of memory once."""
    import numpy as np
    import torch

    blocks: dict[int, int] = {}
    visited: dict[int, object] = {}
    waiting = [root]
    while waiting:
        found = waiting.pop()
        if id(found) in visited or isinstance(found, type | ModuleType):
            continue
        visited[id(found)] = found
        if isinstance(found, torch.Tensor):
            storage = found.untyped_storage()
            blocks[storage.data_ptr()] = storage.nbytes()
            waiting.append(found.grad)
        elif isinstance(found, np.ndarray) and not isinstance(found.base, np.ndarray | torch.Tensor):
            blocks[found.ctypes.data] = found.nbytes
        waiting.extend(referents(found))
    return sum(blocks.values())


def referents(found: object) -> list[Any]:
    """Return what an object refers to; of a function what it encloses, not its module's names."""
    import numpy as np

    if isinstance(found, FunctionType):
        return [found.__closure__, found.__defaults__, found.__kwdefaults__]
    return [found.base] if isinstance(found, np.ndarray) else gc.get_referents(found)


#: Subject -> its work.
MEASURED: dict[str, Callable[[Path, Plan], Figures]] = {
    "toy-run": toy_run,
    "emoji-run": emoji_run,
    "cub-step": cub_step,
    "bank": bank,
    "cub-memory": cub_memory,
    "fvaegan-memory": fvaegan_memory,
    "names": names,
}
#: What the base writes -> the subjects that read it.
WRITTEN = {write_cub: ("bank", "cub-memory"), write_names: ("names",)}
WORK = MEASURED | {work.__name__: work for work in (*WRITTEN, half_run, results)}


def main() -> None:
    """Do one piece of work with fgen of one checkout."""
    import fgen

    checkout, work, folder, plan = sys.argv[1:]
    if not Path(fgen.__file__).is_relative_to(checkout):
        raise RuntimeError(f"fgen is imported from {fgen.__file__}, not from {checkout}")
    found = WORK[work](Path(folder), Plan(**json.loads(plan)))
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
