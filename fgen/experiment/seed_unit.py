"""One seed of an experiment as a unit of work, which any process can execute that sees the run folder and the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fgen.compute.device import blas_threads, cpu_threads, matrix_precision, threads_in_use
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import DatasetConfig, ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.fused import of_settings
from fgen.experiment.protocol import SeedRun
from fgen.experiment.results import SeedOutcome
from fgen.features.scaled_rows import CPU
from fgen.io.atomic import working_in


@dataclass(frozen=True)
class Threads:
    """Numbers of threads that the bytes of a result depend on.

    Attributes:
        torch: of torch's products.
        blas: of NumPy's and SciPy's; None leaves theirs as they are.
    """

    torch: int
    blas: int | None

    @classmethod
    def here(cls) -> "Threads":
        """Return the numbers of this process, which the processes of an engine are to have too."""
        found = threads_in_use()
        return cls(found["threads"] or 1, found["blas_threads"])

    @contextmanager
    def set(self) -> Iterator[None]:
        """Set the numbers meanwhile, whatever an engine has set in the environment of its processes."""
        with cpu_threads(self.torch), blas_threads(self.blas):
            yield


@dataclass(frozen=True)
class SeedUnit:
    """One seed of a run folder that :func:`fgen.experiment.runner.begin` began. It may be executed more than once.

    Attributes:
        config: the experiment, as the run folder has it.
        data: its data set, with an absolute path.
        folder: the run folder, an absolute path.
        fingerprint: of the data set that the experiment is to find.
        threads: those of the process that began the run.
    """

    config: ExperimentConfig
    data: DatasetConfig
    folder: Path
    seed: int
    fingerprint: str
    threads: Threads

    def __call__(self) -> SeedOutcome:
        """Load the data, do what is missing of the seed, and return its outcome.

        Raises:
            InputError: other data than the run began with, or what a run is refused for.
        """
        dataset = self.data.load()
        if dataset.fingerprint != self.fingerprint:
            where = self.data.source
            raise InputError(f"{where} holds other data here than where the run was begun", "the same data set")
        run = SeedRun(self.config, dataset, self.seed, RunDirectory(self.folder).seed(self.seed))
        with self.threads.set(), matrix_precision("highest", CPU):
            return locked_outcome(run)


def locked_outcome(run: SeedRun) -> SeedOutcome:
    """Return the outcome of a seed once no other process is at work in its folder."""
    folder = run.folder.path
    folder.mkdir(parents=True, exist_ok=True)
    with working_in(folder, wait=True):
        return of_settings(run).outcome()


def dataset_facts(dataset: ZSLDataset) -> dict[str, object]:
    """Return the section ``dataset`` of ``result.json``."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "embedding": list(dataset.embedding),
        "n_seen": len(dataset.seen),
        "n_unseen": len(dataset.unseen),
        "notes": list(dataset.notes),
    }
