"""Union of runs of one experiment whose seeds were made in several places."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fgen.config import dump_toml
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, setting_difference
from fgen.experiment.results import RunResult
from fgen.experiment.runner import run
from fgen.io.atomic import replace_directory

log = logging.getLogger("fgen")


def join_runs(runs: Sequence[str | Path], *, out: str | Path) -> RunResult:
    """Copy the seeds of finished runs into one run folder, and score them together.

    The folder is that of one run with all of the seeds, in the order in which they are given. The data set is loaded,
    from where the first run has it, for the test rows to be scored anew.

    Raises:
        InputError: a run that isn't finished, other settings or data than the first one's, or a seed twice.
    """
    results = [RunResult.load(path) for path in runs]
    configs = [ExperimentConfig.from_file(RunDirectory.open(path).config) for path in runs]
    for path, result, config in zip(runs[1:], results[1:], configs[1:], strict=True):
        _expect_the_same(path, result, config, results[0], configs[0])
    places = [(seed, path) for path, config in zip(runs, configs, strict=True) for seed in config.protocol.seeds]
    seeds = tuple(seed for seed, _ in places)
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        where = " and ".join(str(path) for seed, path in places if seed == repeated[0])
        raise InputError(f"seed {repeated[0]} is in {where}", "each seed once")
    joined = replace(configs[0], protocol=replace(configs[0].protocol, seeds=seeds))
    with replace_directory(out, _expect_nothing) as folder:
        for seed, path in places:
            shutil.copytree(RunDirectory(Path(path)).seed(seed).path, RunDirectory(folder).seed(seed).path)
        RunDirectory(folder).config.write_text(dump_toml(joined.to_mapping()), encoding="utf-8")
    return run(joined, out=out, resume=True)


def _expect_nothing(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out} exists", "a new folder", "Choose another --out")


def _expect_the_same(
    path: str | Path, result: RunResult, config: ExperimentConfig, first: RunResult, others: ExperimentConfig
) -> None:
    """Refuse a run of other settings or data than the first one's; warn of other threads, and so of other sums."""
    elsewhere = replace(config, dataset=replace(config.dataset, name=others.dataset.name, path=others.dataset.path))
    if difference := setting_difference(others, elsewhere):
        raise InputError(f"{path} is of another experiment than the first ({difference})", "seeds of one experiment")
    mine, its = (one.description["dataset"]["fingerprint"] for one in (result, first))
    if mine != its:
        raise InputError(f"{path} was made from other data than the first", "seeds of one experiment")
    for key in ("threads", "blas_threads"):
        mine, its = (one.description.get(key) for one in (result, first))
        if mine != its:
            log.warning(
                "%s was made with %s = %s, the first with %s: no single run would be the same", path, key, mine, its
            )
