"""Decision-level fusion of finished runs: of methods, kinds of embedding, or image networks."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fgen.compute.device import cpu_threads, matrix_precision
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.fused import FusedRun
from fgen.experiment.protocol import SeedRun
from fgen.experiment.results import RunResult
from fgen.experiment.runner import describe
from fgen.experiment.seed_unit import dataset_facts
from fgen.features.class_embeddings import expect_weights
from fgen.features.scaled_rows import CPU
from fgen.metrics.decision_fusion import RULES, Rule


def fuse_runs(
    runs: Sequence[str | Path], *, rule: Rule = "mean", weights: Sequence[float] | None = None, progress: bool = False
) -> RunResult:
    """Fuse the decisions of finished runs, seed by seed, and score the fusion on the test rows.

    What is fitted of the fusion, and gamma, rests on held-out classes alone. The first call trains each run's generator
    on its selection tasks again for the chosen epochs, and keeps the held-out scores in the run's folder.

    Args:
        runs: two or more run folders with the same seeds and protocol. Their data sets hold the same rows in the same
            order, the same classes and the same splits; features and class embeddings may differ.
        rule: one of :data:`fgen.metrics.decision_fusion.RULES`.
        weights: of the "weighted" mean, one for each run; None chooses them.
        progress: show bars.

    Returns:
        The scores of all seeds with 95 % intervals over classes and seeds; it is kept in no folder.

    Raises:
        InputError: runs that aren't finished or don't fit together, or whose data are gone.
    """
    names = _names(runs)
    _expect_fusion(rule, weights, names)
    opened = [RunDirectory.open(run) for run in runs]
    configs = [ExperimentConfig.from_file(directory.config) for directory in opened]
    for path, config in zip(runs, configs, strict=True):
        RunResult.load(path)  # it is finished
        _expect_fits(path, config, configs[0])
    seeds, first = configs[0].protocol.seeds, configs[0]
    pairs = list(zip(opened, configs, strict=True))
    datasets = [directory.seed(seeds[0]).load_dataset(config) for directory, config in pairs]
    fusion = {"names": names, "rule": rule, "weights": None if weights is None else tuple(weights)}
    with ExitStack() as stack, cpu_threads(first.train.threads), matrix_precision("highest", CPU):
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="fgen-")))
        for directory in opened:
            stack.enter_context(directory.locked())
        outcomes = []
        for seed in seeds:
            members = tuple(
                SeedRun(config, dataset, seed, directory.seed(seed), progress)
                for (directory, config), dataset in zip(pairs, datasets, strict=True)
            )
            own = replace(members[0], folder=SeedDirectory(folder / str(seed)))
            outcomes.append(FusedRun.of(own, members, **fusion).outcome())
    description = describe(first, dataset_facts(datasets[0]), outcomes) | {"model": f"{rule} of {', '.join(names)}"}
    return RunResult(description, tuple(outcomes))


def _names(runs: Sequence[str | Path]) -> tuple[str, ...]:
    names = tuple(Path(run).name for run in runs)
    return names if len(set(names)) == len(names) else tuple(map(str, runs))


def _expect_fusion(rule: str, weights: Sequence[float] | None, names: Sequence[str]) -> None:
    """Refuse fewer than two runs, the same one twice, an unknown rule, or weights that don't fit."""
    if len(set(names)) < 2:
        raise InputError(f"the runs are {', '.join(names)}", "two or more different ones")
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}", f"one of {', '.join(RULES)}")
    if weights is not None:
        if rule != "weighted" or len(weights) != len(names):
            expected = f"{len(names)}, one for each run, with the rule 'weighted'"
            raise InputError(f"there are {len(weights)} weights, and the rule is {rule!r}", expected)
        expect_weights("weights", dict(zip(names, weights, strict=True)))


def _expect_fits(path: str | Path, config: ExperimentConfig, first: ExperimentConfig) -> None:
    """Refuse a run that can't be a member beside the first."""
    if config.dataset.fusion == "decision":
        raise InputError(f"{path} fuses decisions itself", "runs of one model")
    for name in ("name", "setting", "seeds", "calibrate", "folds"):
        found, expected = getattr(config.protocol, name), getattr(first.protocol, name)
        if found != expected:
            raise InputError(f"{path} has protocol.{name} = {found!r}", f"{expected!r}, as the first run has")
