"""(c) A bank's features per second, beside what the matrix products alone and the disk alone would allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from experiments.bench.sizes import Size, World, random_world
from experiments.bench.timing import Comparison, alternate, spread
from experiments.bench.training import begin
from fgen.compute.device import matrix_precision
from fgen.data.bank_spec import BankSpec
from fgen.experiment.banks import write_bank
from fgen.models.base.generator import FeatureGenerator
from fgen.nn.networks import SLOPE

#: Rows of a bare product: large, so that its own overhead vanishes.
NOISE_CHUNK = 4096
#: Features in a bank at most, 8 KiB each at the published width: CUB's 300 for each of its 50 unseen classes.
FEATURES = 15_000
CHUNK = 8 << 20

WRITE_BANK, PRODUCTS, DISK = "write_bank", "matrix products", "disk"


def measure_generation(
    sizes: Sequence[Size], rounds: int, device: torch.device, folder: Path, *, features: int = FEATURES
) -> Iterator[Comparison]:
    """Seconds for the same number of features by each arm, and the share of the smaller limit that is reached.

    Products are in float32, as :func:`fgen.experiment.banks.write_bank` has them.
    """
    for size, n_per_class in _banks(sizes, features):
        world = random_world(size)
        model, _ = begin("clswgan", size, world, device)
        total = n_per_class * size.n_unseen
        bank, scratch = folder / "bench-bank.h5", folder / "bench-disk.tmp"
        products, chunk = bare_products(model, world, total), np.random.default_rng(0).bytes(CHUNK)

        arms: dict[str, Callable[[], object]] = {
            WRITE_BANK: lambda m=model, w=world, s=size, n=n_per_class, p=bank: fill_bank(m, w, s, n, p),
            PRODUCTS: products,
            DISK: lambda n=total * 4 * size.feature_dim, p=scratch, c=chunk: write_sequentially(p, c, n),
        }
        try:
            with matrix_precision("highest", device):
                samples = alternate(arms, rounds, device=device)
        finally:
            bank.unlink(missing_ok=True)
            scratch.unlink(missing_ok=True)
        shares = [max(a, b) / c for a, b, c in zip(samples[PRODUCTS], samples[DISK], samples[WRITE_BANK], strict=True)]
        facts = {
            "features": total,
            "feature_dim": size.feature_dim,
            "features_per_second": {name: spread([total / t for t in times]) for name, times in samples.items()},
            "share_of_smaller_limit": spread(shares),
        }
        case = size.name if n_per_class <= size.n_per_class else f"{size.name}, {n_per_class} a class"
        yield Comparison("generation", case, device.type, "s", samples, WRITE_BANK, facts)


def _banks(sizes: Sequence[Size], features: int) -> Iterator[tuple[Size, int]]:
    """Each size's own bank, up to ``features``; one that is far smaller, mostly opened and closed, also that large."""
    for size in sizes:
        most = max(1, features // size.n_unseen)
        yield size, min(size.n_per_class, most)
        if size.n_per_class < most / 3:
            yield size, most


def fill_bank(model: FeatureGenerator, world: World, size: Size, n_per_class: int, path: Path) -> None:
    """A bank of the unseen classes."""
    unseen = np.arange(len(world.embeddings)) >= size.n_seen
    spec = BankSpec(
        class_embeddings=world.embeddings,
        counts=np.where(unseen, n_per_class, 0),
        is_seen=~unseen,
        feature_dim=model.scaler.dim,
    )
    write_bank(path, model, spec, overwrite=True)


def bare_products(model: FeatureGenerator, world: World, total: int) -> Callable[[], None]:
    """The generator's two products in large tiles, and nothing else: no noise, no scaling back, no copy."""
    generator = model.networks["generator"]
    hidden, out = generator.hidden, generator.out
    assert isinstance(hidden, nn.Linear)
    assert isinstance(out, nn.Linear)
    rows = torch.randn(min(NOISE_CHUNK, total), hidden.in_features, device=model.device)
    inner, features = rows.new_empty(len(rows), hidden.out_features), rows.new_empty(len(rows), out.out_features)

    @torch.inference_mode()
    def run() -> None:
        for start in range(0, total, NOISE_CHUNK):
            n = min(NOISE_CHUNK, total - start)
            torch.addmm(hidden.bias, rows[:n], hidden.weight.T, out=inner[:n])
            F.leaky_relu_(inner[:n], SLOPE)
            torch.addmm(out.bias, inner[:n], out.weight.T, out=features[:n])
            features[:n].relu_()

    return run


def write_sequentially(path: Path, chunk: bytes, n_bytes: int) -> None:
    """Write so many bytes from memory and wait until the disk has them."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, n_bytes, len(chunk)):
            file.write(chunk[: n_bytes - start])
        os.fsync(file.fileno())
