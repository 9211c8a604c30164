"""Run of an experiment: every seed of it, from data to ``result.json``."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fgen.baselines import BASELINES
from fgen.compute.device import choose_device, cpu_threads, crowded, matrix_precision, threads_in_use
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.footprint import head_memory, one_task, seed_disk, size
from fgen.experiment.fused import of_settings
from fgen.experiment.protocol import SeedRun
from fgen.experiment.provenance import git_commit, version
from fgen.experiment.results import RunResult, SeedOutcome
from fgen.experiment.seed_unit import SeedUnit, Threads, dataset_facts, locked_outcome
from fgen.experiment.selection import selection_tasks, too_few_to_hold_out
from fgen.experiment.steps import Task, new_model
from fgen.experiment.weights import candidate_weights
from fgen.experiment.workers import Workers
from fgen.features.scaled_rows import CPU
from fgen.io.atomic import write_json
from fgen.metrics.stats import summarise
from fgen.models.registry import MODELS
from fgen.training.hooks import EpochHook, OnEpoch
from fgen.training.loop import WORTH_TELLING, OnPace, Pace, tell_length

log = logging.getLogger("fgen")


def run(
    config: ExperimentConfig | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    jobs: int = 1,
) -> RunResult:
    """Run an experiment: every seed of it, from data to scores.

    Several may run at once, in threads or in processes that are started and not forked
    (``multiprocessing.get_context("spawn")``): a forked child may hang in torch's threads.

    Args:
        config: settings, TOML's sections, or the path of a TOML file.
        out: run folder; None keeps nothing but the result.
        resume: go on in ``out`` where an earlier call stopped; the outcome is that of an unbroken run.
        progress: show bars.
        on_epoch: called after each epoch of a generator's trainings with the number of finished epochs; a function of
            two arguments also gets the epoch's mean losses, and in a selection the scores on held-out classes, as
            ``{name: float}`` with the names of ``metrics.csv``; one of three also gets the phase, such as
            ``"seed-0/selection"``, ``"seed-0/selection/fold-1"`` or ``"seed-0/training"``. What it returns is left
            aside. Finished epochs are not repeated by ``resume``, but for those after the last checkpoint.
            :class:`fgen.TensorBoard` is such a function. It is called in this process alone, with ``jobs=1``.
        jobs: seeds at a time, each in a process of its own; the files are those of ``jobs=1``. More than 1 needs
            ``fgen[sweep]``. Each process has as many threads as this one, or ``train.threads``.

    Returns:
        The scores of all seeds with 95 % intervals over classes and seeds.

    Raises:
        InputError: settings or data that don't fit.
        Interrupted: stopped by a signal; ``resume`` goes on.

    Example:
        >>> result = fgen.run({"dataset": {"name": "toy"}, "model": {"name": "ridge"}})
        >>> 0 <= result.scores["H"]["mean"] <= 1
        True
    """
    hook, workers = EpochHook(on_epoch), Workers(jobs)
    if on_epoch is not None and not workers.in_process:
        raise InputError(f"on_epoch is given, and jobs is {jobs}", "jobs=1, where it can be called")
    if not isinstance(config, ExperimentConfig):
        config = read_experiment(config)
    if out is None:
        with _temporary_folder() as folder:
            kept = run(config, out=Path(folder) / "run", progress=progress, on_epoch=on_epoch, jobs=jobs)
            return replace(kept, out=None)
    dataset, config = load_to_run(config)
    phases = trainings(config, dataset)
    directory, config = begin(config, out, resume=resume)
    log_notes(dataset)
    # Training and heads take the experiment's precision; all else, as banks and scores, is float32's.
    with directory.locked(), cpu_threads(config.train.threads), matrix_precision("highest", CPU):
        on_pace: OnPace | None = None
        if config.model.name not in BASELINES:
            on_pace = announce(config, dataset, directory, phases=phases)
        if workers.in_process:
            parts = [(seed, hook.within(f"seed-{seed}")) for seed in config.protocol.seeds]
            outcomes = [
                locked_outcome(
                    SeedRun(config, dataset, seed, directory.seed(seed), progress, hook=part, on_pace=on_pace)
                )
                for seed, part in parts
            ]
        else:
            units = seed_units(config, dataset, directory, Threads.here())
            outcomes = _all_outcomes(workers, units, progress=progress)
        return finish(config, dataset_facts(dataset), outcomes, directory)


def read_experiment(config: Mapping[str, Any] | str | Path) -> ExperimentConfig:
    """Return the experiment of a TOML file, or of its sections."""
    if isinstance(config, Mapping):
        return ExperimentConfig.from_mapping(config)
    return ExperimentConfig.from_file(config)


def load_to_run(config: ExperimentConfig) -> tuple[ZSLDataset, ExperimentConfig]:
    """Return an experiment's data set, which has test rows, and the settings in whose setting they are."""
    dataset = config.dataset.load()
    dataset.require_test_rows()
    return dataset, with_setting_of(dataset, config)


def seed_units(
    config: ExperimentConfig, dataset: ZSLDataset, directory: RunDirectory, threads: Threads
) -> list[SeedUnit]:
    """Return each seed of a run that has begun, to be executed in any process."""
    folder, data = directory.path.resolve(), config.dataset
    if data.path is not None:
        data = replace(data, path=str(Path(data.path).absolute()))
    return [SeedUnit(config, data, folder, seed, dataset.fingerprint, threads) for seed in config.protocol.seeds]


def _all_outcomes(workers: Workers, units: Sequence[SeedUnit], *, progress: bool) -> list[SeedOutcome]:
    """Return the outcomes of all seeds in their order.

    Raises:
        Exception: the error of the first seed that failed, once the others are finished.
    """
    results = workers.results(units)
    found = sorted(tqdm(results, total=len(units), unit="seed", disable=not progress), key=lambda one: one.number)
    if errors := [one.error for one in found if one.error is not None]:
        raise errors[0]
    return [one.value for one in found if one.value is not None]


def finish(
    config: ExperimentConfig, facts: Mapping[str, Any], outcomes: Sequence[SeedOutcome], directory: RunDirectory
) -> RunResult:
    """Return the result of a run whose seeds are finished, and write it to ``result.json``."""
    result = RunResult(describe(config, facts, outcomes), tuple(outcomes), directory.path)
    write_json(directory.result, result.description)
    return result


def trainings(config: ExperimentConfig, dataset: ZSLDataset) -> list[ZSLDataset]:
    """Return the task of each training that a seed takes, with those of its selection."""
    folds = [task.dataset for task in selection_tasks(Task(config, dataset, seed=0))]
    if config.dataset.fusion == "decision":
        return [*folds, *folds, dataset] * len(dataset.embedding)
    times = len(candidate_weights(dataset.embedding)) if config.embedding.weights == "auto" else 1
    return [*folds * times, dataset]


def with_setting_of(dataset: ZSLDataset, config: ExperimentConfig) -> ExperimentConfig:
    """Return the settings, in conventional zero-shot learning where no test row is of a seen class; log that."""
    if len(dataset.splits["test_seen"]) or config.protocol.setting == "zsl":
        return config
    log.info(
        "%s has no test rows of seen classes (test_seen): T1 alone is reported, and selection looks at it, "
        "as protocol.setting = 'zsl' has it",
        dataset.name,
    )
    return replace(config, protocol=replace(config.protocol, setting="zsl"))


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder, which is removed when its block ends.

    Raises:
        InputError: there is no place for temporary files.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="fgen-")
    except OSError as error:
        found, remedy = f"no temporary folder can be made ({error.strerror or error})", "Set TMPDIR, or give out=FOLDER"
        raise InputError(found, "one that can be written to, or a run folder", remedy) from None


def train_only(
    config: ExperimentConfig,
    *,
    out: str | Path,
    resume: bool = False,
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
) -> list[Path]:
    """Train each seed's generator and head on all of trainval, without a test.

    With ``protocol.calibrate`` the epochs and gamma are chosen on held-out classes before, as :func:`run` does; else
    the config's own epochs are trained. A folder that an earlier fgen began without a choice goes on without one.
    A training without a choice may be resumed with more epochs or steps; it ends as an unbroken one would.

    Args:
        config, out, resume, progress, on_epoch: as in :func:`run`.

    Returns:
        The model folders.
    """
    hook = EpochHook(on_epoch)
    if config.model.name in BASELINES:
        raise InputError(f"model.name is {config.model.name!r}, a baseline", f"a generator: {', '.join(MODELS)}")
    dataset = config.dataset.load()
    longer = resume and goes_on_longer(config, dataset, Path(out))
    directory, config = begin(config, out, resume=resume, longer=longer)
    log_notes(dataset)
    chooses = config.protocol.calibrate and len(dataset.unseen) > 0
    if chooses and (reason := too_few_to_hold_out(dataset)):
        log.warning(reason)
        chooses = False
    if config.dataset.fusion == "decision" and not chooses:
        remedy = "Set protocol.calibrate, or another fusion"
        raise InputError("fusion is 'decision', and nothing is chosen", "a choice on held-out classes", remedy)
    phases = trainings(config, dataset) if chooses else [dataset]
    with directory.locked(), cpu_threads(config.train.threads), matrix_precision("highest", CPU):
        on_pace = announce(config, dataset, directory, phases=phases)
        for seed in config.protocol.seeds:
            part = hook.within(f"seed-{seed}")
            run_of_seed = SeedRun(config, dataset, seed, directory.seed(seed), progress, hook=part, on_pace=on_pace)
            of_settings(run_of_seed).without_test(chooses)
    return [directory.seed(seed).model for seed in config.protocol.seeds]


def goes_on_longer(config: ExperimentConfig, dataset: ZSLDataset, out: Path) -> bool:
    """Return whether trainings in a folder can go on to more epochs or steps, and then end as unbroken ones.

    They were begun with the same settings otherwise, no selection came before them, and they end with an epoch.
    """
    folder, n_rows = RunDirectory(out), len(dataset.splits["trainval"])
    try:
        before = ExperimentConfig.from_file(folder.config)
    except InputError:  # none yet, or one that RunDirectory.create refuses
        return False
    if type(before.model) is not type(config.model):
        return False
    as_long = replace(config.model, epochs=before.model.epochs, steps=before.model.steps)
    selected = any(folder.seed(seed).has_selected() for seed in before.protocol.seeds)
    if selected or folder.difference(replace(config, model=as_long)):
        return False
    ended = before.model.n_steps(n_rows)
    return ended < config.model.n_steps(n_rows) and ended % config.model.steps_per_epoch(n_rows) == 0


def begin(
    config: ExperimentConfig, out: str | Path, *, resume: bool, longer: bool = False
) -> tuple[RunDirectory, ExperimentConfig]:
    """Begin a run folder, or go on in it; log settings that have no effect.

    Returns:
        The folder, and the settings that it was begun with.

    Raises:
        InputError: a device or an optional library isn't there, or as :meth:`RunDirectory.create` has it.
    """
    choose_device(config.train.device)
    config.classifier.build()
    directory = RunDirectory.create(Path(out), config, resume=resume, longer=longer)
    if unused := config.unused():
        log.warning("%s: set, and without effect beside the other settings", ", ".join(unused))
    return directory, ExperimentConfig.from_file(directory.config)


def log_notes(dataset: ZSLDataset) -> None:
    """Log the notes on a data set."""
    for note in dataset.notes:
        log.info("%s: %s", dataset.name, note)


def announce(
    config: ExperimentConfig, dataset: ZSLDataset, directory: RunDirectory, phases: Sequence[ZSLDataset]
) -> OnPace | None:
    """Log the steps and the pre-training of the models that are missing, the memory of banks and heads, and the disk.

    Returns:
        What tells after the run's third step how long all of its trainings take; None where no model is missing.
    """
    n_models = sum(not directory.seed(seed).model.exists() for seed in config.protocol.seeds)
    if not n_models:
        return None
    if busy := crowded(config.train.threads):
        log.warning(busy)
    task, n_members = one_task(config, dataset), 1
    if config.dataset.fusion == "decision":
        n_members = len(dataset.embedding)
    steps = sum(config.model.n_steps(len(phase.splits["trainval"])) for phase in phases) * n_models
    log.info(
        "%s on %s: at most %s training steps%s; about %s of memory for bank and heads beside torch's own; "
        "about %s of disk",
        config.model.name,
        dataset.name,
        f"{steps:,}",
        _before_the_steps(task),
        size(head_memory(task)),
        size(n_models * seed_disk(task, len(phases), n_members)),
    )
    return _TellOnce(steps, len(phases) * n_models)


class _TellOnce:
    """Logs after the first training's third step how long all trainings of a run take, if that is long.

    Args:
        steps: of all trainings that are missing.
        n_trainings: their number.
    """

    def __init__(self, steps: int, n_trainings: int) -> None:
        self._steps, self._n_trainings, self._told = steps, n_trainings, False

    def __call__(self, pace: Pace) -> None:
        """Log, once."""
        if self._told:
            return
        self._told = True
        seconds = self._n_trainings * (pace.preparation + pace.pretraining) + self._steps * pace.step_seconds
        if seconds > WORTH_TELLING:
            tell_length(f"{self._steps:,} steps of {self._n_trainings} trainings take at most", seconds, pace)


def _before_the_steps(task: Task) -> str:
    """Return a word on the pre-training of each model, which isn't among the steps."""
    epochs = [f"{number:,} epochs of the {role}" for role, number in new_model(task).pretraining.items()]
    return f", and before each training {' and '.join(epochs)}" if epochs else ""


def describe(config: ExperimentConfig, facts: Mapping[str, Any], outcomes: Sequence[SeedOutcome]) -> dict[str, Any]:
    """Return the content of ``result.json``, of which the facts are the section ``dataset``."""
    return {
        "model": config.model.name,
        "protocol": config.protocol.name,
        "setting": config.protocol.setting,
        "calibrated": config.protocol.calibrate,
        "test_used_for_selection": config.protocol.name == "legacy",
        "unseen_embeddings_in_training": getattr(config.model, "uses_unseen_embeddings", False),
        "transductive": getattr(config.model, "sees_test_rows", False),
        "seeds": list(config.protocol.seeds),
        "scores": summarise([outcome.scores for outcome in outcomes]),
        "uncalibrated": summarise([outcome.uncalibrated for outcome in outcomes]),
        "accuracy": [outcome.scores.accuracy for outcome in outcomes],
        "choice": [{key: o.choice[key] for key in o.choice if key != "history"} for o in outcomes],
        "dataset": dict(facts),
        "timing": {str(outcome.seed): outcome.seconds for outcome in outcomes},
        **threads_in_use(),
        "version": version(),
        "git_commit": git_commit(),
        "config": config.to_mapping(),
    }
