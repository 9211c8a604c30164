"""Generation of a bank in several processes: each makes the rows of some classes, which are joined in one file."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fgen.data.bank import FeatureBank
from fgen.data.bank_spec import BankSpec
from fgen.data.dataset import ZSLDataset
from fgen.experiment.banks import fill_bank, real_parts, write_bank
from fgen.experiment.seed_unit import Threads
from fgen.experiment.workers import Workers
from fgen.io.atomic import beside, expect_free, working_in
from fgen.models.registry import load_model


@dataclass(frozen=True)
class Shard:
    """The generated rows of some classes as a unit of work.

    Attributes:
        folder: where they are kept, as a bank of the same classes, of which the others have no rows.
        model: folder of the generator.
    """

    folder: Path
    model: Path
    device: str
    spec: BankSpec
    threads: Threads

    @property
    def bank(self) -> Path:
        """The file."""
        return self.folder / "bank.h5"

    def __call__(self) -> None:
        """Generate the rows, or go on where a killed process stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with working_in(self.folder, wait=True), self.threads.set():
            if not self.bank.exists():
                write_bank(self.bank, load_model(self.model, self.device), self.spec)


def write_in_shards(
    path: Path,
    model: Path,
    device: str,
    spec: BankSpec,
    workers: Workers,
    *,
    real: ZSLDataset | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> None:
    """Generate a bank as :func:`fgen.experiment.banks.write_bank` does, to the same bytes, in several processes.

    Shards take as much disk as the bank while they are joined.

    Raises:
        Exception: the error of a shard, once the others are made; the same call goes on.
    """
    expect_free(path, overwrite=overwrite)
    threads = Threads.here()
    place = beside(path, "shards")
    folder = place / replace(spec, threads=threads.torch, blas_threads=threads.blas).sha256()[:16]
    shards = [
        Shard((folder / str(k)).absolute(), model.absolute(), device, part, threads)
        for k, part in enumerate(split_spec(spec, workers.jobs))
    ]
    for done in tqdm(workers.results(shards), total=len(shards), unit="shard", disable=not progress):
        if done.error is not None:
            raise done.error
    with ExitStack() as banks:
        opened = [banks.enter_context(FeatureBank.open(shard.bank)) for shard in shards]

        def generated(wanted: np.ndarray) -> Iterator[np.ndarray]:
            empty = np.empty((0, spec.feature_dim), np.float32)
            for k in wanted.tolist():
                yield next((bank[k] for bank in opened if len(bank[k])), empty)

        real_rows = {} if real is None else real_parts(real)
        cpu = torch.device("cpu")
        fill_bank(path, spec, generated, real_rows, device=cpu, overwrite=overwrite, progress=progress)
    shutil.rmtree(place)


def split_spec(spec: BankSpec, n_parts: int) -> list[BankSpec]:
    """Return specs of the generated rows of neighbouring classes, each of about as many rows; at most ``n_parts``."""
    counts = spec.counts - spec.real
    middle = np.cumsum(counts) - counts / 2
    part = np.minimum(middle * n_parts // max(1, counts.sum()), n_parts - 1)
    numbers = np.unique(part[counts > 0])
    return [replace(spec, counts=np.where(part == k, counts, 0), real_counts=None, row_sets={}) for k in numbers]
