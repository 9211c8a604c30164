"""Sweep: several experiments, or one with other settings, each with several seeds, on as many workers as there are."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError, first_line
from fgen.experiment.config import DatasetConfig, ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.grid import Config, Experiment, combinations
from fgen.experiment.results import SCORES, RunResult, SeedOutcome, format_table
from fgen.experiment.runner import begin, finish, log_notes, seed_units, with_setting_of
from fgen.experiment.seed_unit import SeedUnit, Threads, dataset_facts
from fgen.experiment.workers import Workers
from fgen.io.atomic import working_in

log = logging.getLogger("fgen")


@dataclass(frozen=True)
class SweepResult:
    """What is finished of a sweep.

    Attributes:
        results: of the experiments whose seeds are all finished, by name; the name is that of the run folder.
        failures: the error of each run that failed, by ``"NAME, seed S"``.

    Example:
        >>> settings = {"dataset": {"name": "toy"}, "model": {"name": "ridge"}}
        >>> result = fgen.sweep(settings, out="runs/ridges", grid={"model.alpha": [0.1, 1.0]})
        >>> list(result.results)
        ['ridge-toy,alpha=0.1', 'ridge-toy,alpha=1.0']
    """

    results: dict[str, RunResult] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    def table(self) -> str:
        """Return a table of the scores in percent, and the failures below it."""
        rows = [result.row(name) for name, result in self.results.items()]
        told = [f"{name}: {first_line(error)}" for name, error in self.failures.items()]
        return "\n".join([format_table(["%", *SCORES], rows), *told])

    def __repr__(self) -> str:
        return self.table()


def sweep(
    configs: Config | Sequence[Config],
    *,
    out: str | Path,
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    backend: str = "loky",
    address: str | None = None,
    progress: bool = False,
) -> SweepResult:
    """Run each experiment with each combination of settings and each seed. The same call goes on after a stop.

    A run that fails ends no other one. What is made doesn't depend on jobs and backend: a run has the threads that its
    ``train.threads`` names, or 1.

    Args:
        configs: an experiment or several: settings, TOML's sections, or what ``fgen run`` takes.
        out: folder of the run folders; workers on other machines have to find it under the same name.
        grid: values of settings, as ``{"model.lr": [1e-4, 3e-4]}``; each is combined with each of the others.
        seeds: those of each experiment, in place of its own.
        jobs: runs at a time, each in a process of its own. More than 1 needs ``fgen[sweep]``.
        backend: ``"loky"``, processes of this machine; ``"dask"``, all those of a cluster.
        address: of Dask's scheduler.
        progress: show a bar over all runs.

    Returns:
        Results and failures.

    Raises:
        InputError: settings that can't be meant, before anything runs; another sweep at work in ``out``.
        Interrupted, KeyboardInterrupt: stopped; the same call goes on.

    Example:
        >>> settings = {"dataset": {"name": "toy"}, "model": {"name": "ridge"}}
        >>> sorted(fgen.sweep(settings, out="runs/seeds", seeds=[0, 1]).results)
        ['ridge-toy']
    """
    sources = configs if isinstance(configs, Sequence) and not isinstance(configs, str) else [configs]
    experiments = combinations(sources, grid or {}, seeds=seeds)
    *_, result = iter_sweep(experiments, Path(out), Workers(jobs, backend, address), progress=progress)
    return result


def iter_sweep(
    experiments: Sequence[Experiment], out: Path, workers: Workers, *, progress: bool = False
) -> Iterator[SweepResult]:
    """Run experiments; yield what is finished: what an earlier call left, then after each that ends, then at the end.

    Raises:
        InputError: a folder of other settings, data that are refused, another sweep at work in ``out``.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", "a folder", "Choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with working_in(out), logging_redirect_tqdm() if progress else nullcontext():
        load = lru_cache(maxsize=1)(_loaded)
        begun = [_Begun.of(one, out / one.name, load(one.config.dataset)) for one in experiments]
        runs = [(one, unit) for one in begun if one.result is None for unit in one.units]
        log.info("%d experiments, %d runs that aren't finished", len(begun), len(runs))
        failures: dict[str, Exception] = {}
        yield _state(begun, failures)
        found = workers.results([unit for _, unit in runs])
        for done in tqdm(found, total=len(runs), unit="run", disable=not progress):
            one, unit = runs[done.number]
            if done.error is not None:
                failures[f"{one.name}, seed {unit.seed}"] = done.error
                log.error("%s, seed %d failed: %s", one.name, unit.seed, first_line(done.error))
            elif done.value is not None and one.take(done.value):
                yield _state(begun, failures)
        yield _state(begun, failures)


def _state(begun: Sequence["_Begun"], failures: dict[str, Exception]) -> SweepResult:
    """Return the results that are there, in the order of the experiments, and the failures so far."""
    return SweepResult({one.name: one.result for one in begun if one.result is not None}, dict(failures))


def _loaded(config: DatasetConfig) -> ZSLDataset:
    dataset = config.load()
    dataset.require_test_rows()
    log_notes(dataset)
    return dataset


class _Begun:
    """An experiment whose run folder was begun.

    Attributes:
        name: of the folder.
        units: its seeds.
        result: once all seeds are finished.
    """

    def __init__(self, name: str, config: ExperimentConfig, dataset: ZSLDataset, directory: RunDirectory) -> None:
        self.name, self._config, self._facts, self._directory = name, config, dataset_facts(dataset), directory
        self._threads = Threads(config.train.threads or 1, config.train.threads or 1)
        self._outcomes: dict[int, SeedOutcome] = {}
        self.units: list[SeedUnit] = seed_units(config, dataset, directory, self._threads)
        self.result = self._earlier()

    @classmethod
    def of(cls, experiment: Experiment, folder: Path, dataset: ZSLDataset) -> "_Begun":
        """Begin the run folder of an experiment, or go on in it."""
        config = with_setting_of(dataset, experiment.config)
        directory, config = begin(config, folder, resume=(folder / "config.toml").exists())
        return cls(experiment.name, config, dataset, directory)

    def take(self, outcome: SeedOutcome) -> bool:
        """Take the outcome of a seed; return whether it was the last one that was missing."""
        self._outcomes[outcome.seed] = outcome
        seeds = self._config.protocol.seeds
        if len(self._outcomes) < len(seeds):
            return False
        with self._threads.set():
            outcomes = [self._outcomes[seed] for seed in seeds]
            self.result = finish(self._config, self._facts, outcomes, self._directory)
        return True

    def _earlier(self) -> RunResult | None:
        """Return the result of an earlier call, if it has all the seeds and is of these data."""
        if not self._directory.result.exists():
            return None
        result = RunResult.load(self._directory.path)
        facts, seeds = result.description, list(self._config.protocol.seeds)
        same = facts["seeds"] == seeds and facts["dataset"]["fingerprint"] == self._facts["fingerprint"]
        return result if same else None
