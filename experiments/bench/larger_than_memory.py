"""Training on a file that is larger than memory: how fast beside a set in memory, and with how much memory.

Makes a file of random features sorted by class (the same bytes for the same arguments), opens it, fingerprints it, fits
the scaling and trains f-CLSWGAN's updates on it and on a set in memory with as many columns and classes, by turns; then
a head on it for an epoch. Its pages are dropped from the page cache before training, so that rows come from the disk.

    python -m experiments.bench.larger_than_memory --gigabytes 20
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import torch

import fgen
from experiments.bench.machine import step_settings
from experiments.bench.report import larger_than_memory
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.compute.device import matrix_precision
from fgen.features.rows import SelectedRows
from fgen.features.scaling import FeatureScaler
from fgen.io.atomic import write_json
from fgen.models.base.generator import FeatureGenerator
from fgen.training import training_set
from fgen.training.loop import make_optimisers, train_step, training_bytes

DIM, CLASSES, WIDTH = 2048, 200, 312
BLOCK_ROWS = 4096
HEAD_ROWS = 1024


def main() -> None:
    """The shell door."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0, help="size of the features")
    parser.add_argument("--steps", type=int, default=10, help="steps of each turn")
    parser.add_argument("--turns", type=int, default=8, help="turns of each of the two sets")
    parser.add_argument("--hidden-dim", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where the file is made and removed again")
    parser.add_argument("--in-memory-rows", type=int, default=50_000, help="rows of the set in memory")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-large"), help="folder for large.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="fgen-bench-", dir=options.folder) as folder:
        path = Path(folder) / "large.h5"
        n_rows = max(CLASSES * 5, int(options.gigabytes * 1e9 / (4 * DIM)))
        result = measure(path, n_rows, options)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "large.json", result)
    print(f"{larger_than_memory(result)}\nfigures: {options.out / 'large.json'}")


def measure(path: Path, n_rows: int, options: argparse.Namespace) -> dict[str, object]:
    """All numbers, by name."""
    seconds: dict[str, float] = {}

    def timed(name: str, work):
        start = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - start, 2)
        return result

    timed("write", lambda: write(path, n_rows))
    warm_up(options)
    drop_pages(path)
    before = anonymous_bytes()
    with Peak() as reading:
        data = timed("open_and_check", lambda: fgen.load_dataset(path))
        timed("fingerprint", lambda: data.fingerprint)
        rows = data.splits["trainval"]
        features = SelectedRows(data.features, rows)
        timed("scaling", lambda: FeatureScaler.fit("minmax", features))
    model = build(options)
    large = model.begin(features, data.labels[rows], data.class_embeddings, device="cpu")
    optimisers = make_optimisers(model)
    drop_pages(path, data.features)
    with Peak() as training, step_settings("auto", large.device):
        for step in range(options.steps):
            train_step(model, large, optimisers, 1, step)
    networks = training_bytes(model)
    small = in_memory_set(options, data.class_embeddings)
    drop_pages(path, data.features)
    before_head = anonymous_bytes()
    with Peak() as heading, matrix_precision("auto", large.device):
        head = SoftmaxClassifier(epochs=1, batch_size=HEAD_ROWS)
        timed("head", lambda: head.fit(features, data.labels[rows], progress=True))
    drop_pages(path, data.features)
    spent = take_turns(model, optimisers, {"on_disk": large, "in_memory": small}, options)
    ratios = [a / b for a, b in zip(spent["seconds"]["in_memory"], spent["seconds"]["on_disk"], strict=True)]
    return {
        "gigabytes": round(n_rows * DIM * 4 / 1e9, 2),
        "rows": n_rows,
        "rows_of_trainval": len(rows),
        "rows_in_memory": len(small),
        "columns": DIM,
        "hidden_dim": options.hidden_dim,
        "rows_of_a_step": model.config.critic_steps * model.config.batch_size,
        "threads": options.threads,
        "held_in_memory": large.in_memory,
        "seconds": seconds,
        **{
            f"{key}_per_step": {name: round(statistics.median(values), 4) for name, values in of_parts.items()}
            for key, of_parts in spent.items()
        },
        "speed_ratio": {
            "median": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "turns": len(ratios),
        },
        "anonymous_mb": {
            "networks": round(networks / 1e6, 1),
            "beyond_networks_while_reading": round((reading.bytes - before) / 1e6, 1),
            "beyond_networks_while_training": round((training.bytes - before - networks) / 1e6, 1),
            "of_the_head": round((heading.bytes - before_head) / 1e6, 1),
        },
    }


def take_turns(
    model: FeatureGenerator,
    optimisers: dict[str, torch.optim.Optimizer],
    parts: dict[str, training_set.TrainingSet],
    options: argparse.Namespace,
) -> dict[str, dict[str, list[float]]]:
    """What a step takes of the clock, the processor and the disk, for each part in turn."""
    spent = {key: {name: [] for name in parts} for key in ("seconds", "cpu_seconds", "disk_mb")}
    with step_settings("auto", model.device):
        for turn in range(options.turns):
            for name, part in parts.items():
                before = time.perf_counter(), time.process_time(), disk_bytes() / 1e6
                for step in range(options.steps):
                    train_step(model, part, optimisers, 0, turn * options.steps + step)
                after = time.perf_counter(), time.process_time(), disk_bytes() / 1e6
                for of_parts, start, end in zip(spent.values(), before, after, strict=True):
                    of_parts[name].append((end - start) / options.steps)
    return spent


def write(path: Path, n_rows: int) -> None:
    """The file, sorted by class, a block at a time; 20 % of the classes are unseen."""
    labels = np.arange(n_rows) * CLASSES // n_rows
    rng = np.random.default_rng(0)
    centres = rng.random((CLASSES, DIM), dtype=np.float32)
    noise = rng.random((BLOCK_ROWS + 64, DIM), dtype=np.float32)
    is_test = np.arange(n_rows) % 5 == 0
    unseen = labels >= 0.8 * CLASSES
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "fgen-dataset", "format_version": 1, "name": "larger than memory"})
        features = file.create_dataset("features", (n_rows, DIM), "<f4")
        for number, start in enumerate(range(0, n_rows, BLOCK_ROWS)):
            of_block = labels[start : start + BLOCK_ROWS]
            shift = number % 64
            features[start : start + len(of_block)] = centres[of_block] + noise[shift : shift + len(of_block)]
        file["labels"] = labels.astype("<i4")
        file["class_embeddings/att"] = rng.random((CLASSES, WIDTH), dtype=np.float32)
        file["splits/trainval"] = np.flatnonzero(~is_test & ~unseen)
        file["splits/test_seen"] = np.flatnonzero(is_test & ~unseen)
        file["splits/test_unseen"] = np.flatnonzero(unseen)


def build(options: argparse.Namespace) -> FeatureGenerator:
    """An untrained f-CLSWGAN with the paper's batches."""
    return fgen.make_model("clswgan", hidden_dim=options.hidden_dim, batch_size=64, noise_dim=WIDTH)


def in_memory_set(options: argparse.Namespace, embeddings: np.ndarray) -> training_set.TrainingSet:
    """Random rows in memory, with as many columns and classes."""
    rng = np.random.default_rng(1)
    features = rng.random((options.in_memory_rows, DIM), dtype=np.float32)
    labels = np.arange(len(features)) * int(0.8 * CLASSES) // len(features)
    small = build(options).begin(features, labels, embeddings, device="cpu")
    assert small.in_memory
    return small


def warm_up(options: argparse.Namespace) -> None:
    """A step of small networks, so that what torch keeps for itself isn't counted."""
    rng = np.random.default_rng(2)
    features, labels = rng.random((500, DIM), dtype=np.float32), np.arange(500) % CLASSES
    model = fgen.make_model("clswgan", hidden_dim=64, batch_size=64, noise_dim=WIDTH)
    data = model.begin(features, labels, rng.random((CLASSES, WIDTH), dtype=np.float32), device="cpu")
    train_step(model, data, make_optimisers(model), 0, 0)


def drop_pages(path: Path, mapped: np.ndarray | None = None) -> None:
    """Empty the page cache of the file; pages that a process has mapped stay, so they are unmapped first."""
    if mapped is not None:
        mapping = mapped
        while isinstance(mapping, np.ndarray):
            mapping = mapping.base
        mapping.madvise(mmap.MADV_DONTNEED)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_bytes() -> int:
    """What this process had the disk read so far."""
    with open("/proc/self/io") as lines:
        return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


def anonymous_bytes() -> int:
    """What this process holds that is no page of a file."""
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Peak:
    """The highest :func:`anonymous_bytes` of a while, looked at 100 times a second."""

    def __enter__(self) -> Peak:
        self.bytes, self._over = anonymous_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.bytes = max(self.bytes, anonymous_bytes())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    main()
