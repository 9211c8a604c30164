"""Plan of a run: what each phase takes, from a few steps of it on the real data with the real settings."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fgen.baselines import BASELINES
from fgen.classifiers.base import HeadConfig
from fgen.classifiers.lbfgs import LBFGS_STEPS, Stop
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig
from fgen.compute.device import choose_device, cpu_threads, matrix_precision
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.footprint import head_memory, one_task, seed_disk, size
from fgen.experiment.results import format_table
from fgen.experiment.runner import load_to_run, read_experiment, trainings
from fgen.experiment.selection import score_baseline, selection_tasks
from fgen.experiment.steps import (
    Task,
    evenly_spread,
    fit,
    generated_rows,
    n_epochs,
    new_heads,
    new_model,
    representation,
    synthetic_counts,
)
from fgen.experiment.weights import candidate_weights
from fgen.features.scaled_rows import CPU
from fgen.training.loop import Pace

T = TypeVar("T")
#: Steps of a training, classes of a bank and steps of a head that are timed.
TIMED = 3
#: Settings of methods that say how long networks are trained before the first step.
PRETRAINING = ("cls_epochs", "regressor_epochs")


@dataclass(frozen=True)
class Work:
    """One kind of work of a run.

    Attributes:
        phase: as in a run's ``timing.json``.
        name: of the work.
        number: how many there are at most, over all trainings and seeds.
        unit: one of them.
        seconds: that one takes.
    """

    phase: str
    name: str
    number: int
    unit: str
    seconds: float

    @property
    def minutes(self) -> float:
        """Minutes that all take."""
        return self.number * self.seconds / 60


@dataclass(frozen=True)
class Plan:
    """What a run takes at most: it may choose fewer epochs, and a head by L-BFGS mostly ends after 15 to 30 steps.

    Attributes:
        works: in the order of a run.
        memory: bytes of a training's networks, gradients and optimisers, or of bank and heads if they are more.
        disk: bytes of the run folder at their peak, without tables of scores and predictions.

    Example:
        >>> found = fgen.plan({"dataset": {"name": "toy"}, "model": {"name": "ridge"}})
        >>> [work.phase for work in found.works]
        ['selection', 'test']
    """

    works: tuple[Work, ...]
    memory: int
    disk: int

    @property
    def minutes(self) -> float:
        """Minutes of all works, one after the other."""
        return sum(work.minutes for work in self.works)

    def table(self) -> str:
        """Return a table of the works, with time, memory and disk of all."""
        rows = [
            [f"{one.phase}: {one.name}", f"{one.number:,}", one.unit, f"{one.seconds:.2g}", f"{one.minutes:.1f}"]
            for one in self.works
        ]
        table = format_table(["", "at most", "unit", "seconds each", "minutes"], [*rows, _total(self.minutes)])
        below = [f"about {size(self.memory)} of memory beside the data and torch's own, {size(self.disk)} of disk"]
        if any(one.name == "heads" and one.unit == "step" for one in self.works):
            below.append(f"{LBFGS_STEPS} steps of a head by L-BFGS are its limit: most heads take a few dozen.")
        return "\n".join([table, *(below if self.disk else [])])

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known, as JSON can hold it."""
        works = [vars(one) | {"minutes": one.minutes} for one in self.works]
        return {"works": works, "minutes": self.minutes, "memory": self.memory, "disk": self.disk}

    def __repr__(self) -> str:
        return self.table()


def _total(minutes: float) -> list[str]:
    return ["all", "", "", "", f"{minutes:.1f}"]


def plan(config: ExperimentConfig | Mapping[str, Any] | str | Path) -> Plan:
    """Tell what a run takes, without running it: three steps of each phase are timed, and no file is written.

    Args:
        config: as in :func:`fgen.run`.

    Returns:
        Numbers of steps, seconds, memory and disk.

    Raises:
        InputError: what :func:`fgen.run` refuses too.

    Example:
        >>> settings = {"dataset": {"name": "toy"}, "model": {"name": "clswgan", "epochs": 2, "hidden_dim": 8}}
        >>> found = fgen.plan(settings)
        >>> sum(work.number for work in found.works if work.unit == "step" and work.name == "training")
        32
    """
    if not isinstance(config, ExperimentConfig):
        config = read_experiment(config)
    dataset, config = load_to_run(config)
    choose_device(config.train.device)
    config.classifier.build()
    with cpu_threads(config.train.threads), matrix_precision("highest", CPU):
        task = one_task(config, dataset)
        n_models = len(dataset.embedding) if config.dataset.fusion == "decision" else 1
        if config.model.name in BASELINES:
            return _plan_of_baseline(config, task, n_models)
        every = trainings(config, dataset)
        selecting = selection_tasks(task)
        n_seeds, n_choosing = len(config.protocol.seeds), len(every) - n_models
        last = min(n_epochs(fold) for fold in selecting)
        evaluated = len(evenly_spread(last, config.protocol.evaluations))
        # A fusion trains on each fold twice, the second time for what was chosen, and looks once.
        passes = n_choosing * (evaluated + 1) // 2 if config.dataset.fusion == "decision" else n_choosing * evaluated
        steps = [config.model.n_steps(len(one.splits["trainval"])) for one in every]
        chosen = [steps for steps, one in zip(steps, every, strict=True) if one is not dataset]
        final = [steps for steps, one in zip(steps, every, strict=True) if one is dataset]
        if config.protocol.name == "legacy":
            chosen, final = steps[:n_choosing], steps[n_choosing:]
        choice = _Timed.of(selecting[0], with_zsl=config.protocol.setting == "zsl")
        rest = _Timed.of(replace(task, recipe=task.recipe.candidates()[0]), with_zsl=True)
        works = [
            *choice.training("selection", n_choosing * n_seeds, sum(chosen) * n_seeds),
            *choice.after("selection", "selection", "selection", passes * n_seeds),
            *rest.training("training", n_models * n_seeds, sum(final) * n_seeds),
            *rest.after("bank", "heads", "test", n_models * n_seeds),
        ]
        memory = max(rest.pace.n_bytes, head_memory(task))
        return Plan(tuple(works), memory, n_seeds * seed_disk(task, len(every), n_models))


def _plan_of_baseline(config: ExperimentConfig, task: Task, n_members: int) -> Plan:
    """Return the plan of a baseline, which is fitted once here; it writes no bank, model or head."""
    candidates, folds = config.model.candidates(), selection_tasks(task)
    seconds, _ = _clocked(lambda: score_baseline(folds[0], candidates[0]))
    times = len(candidate_weights(task.dataset.embedding)) if config.embedding.weights == "auto" else 1
    again = config.dataset.fusion == "decision"  # its members are fitted on each fold with what was chosen
    fits = n_members * len(folds) * (len(candidates) * times + again)
    n_seeds = len(config.protocol.seeds)
    works = (
        Work("selection", "fits", fits * n_seeds, "fit", seconds),
        Work("test", "fits", n_members * n_seeds, "fit", seconds),
    )
    return Plan(works, 0, 0)


@dataclass(frozen=True)
class _Timed:
    """What was timed of a task.

    Attributes:
        epochs: of pre-training, of which one was timed; 1 where it isn't counted in epochs.
        bank: seconds of a class, and the number of classes.
        heads: seconds of what comes before the first step of the heads, seconds of a step, their number and unit.
        scores: seconds of the scores of all test rows.
    """

    pace: Pace
    epochs: int
    bank: tuple[float, int]
    heads: tuple[float, float, int, str]
    scores: float

    @classmethod
    def of(cls, task: Task, *, with_zsl: bool) -> "_Timed":
        """Time a few steps of a task's training, classes of its bank and steps of its heads, and its scores."""
        config, paces = task.recipe.model, list[Pace]()
        n_steps = min(TIMED, config.n_steps(len(task.dataset.splits["trainval"])))
        once = {name: min(1, getattr(config, name)) for name in PRETRAINING if hasattr(config, name)}
        short = replace(task.recipe, model=replace(config, steps=n_steps, **once))
        model = fit(replace(task, recipe=short, on_pace=paces.append), new_model(replace(task, recipe=short)))
        counts = synthetic_counts(task)
        classes = np.flatnonzero(counts)
        some = np.where(np.isin(np.arange(len(counts)), classes[:TIMED]), counts, 0)
        own = model.bank_space != "raw"
        bank, (rows, _) = _clocked(lambda: generated_rows(task, model, some, represented=own))
        # As many rows as the bank will have; what they hold doesn't change the time of a step.
        synthetic = np.resize(rows, (int(counts.sum()), rows.shape[1]))
        labels = np.repeat(np.arange(len(counts)), counts)

        def heads(classifier: HeadConfig) -> Any:
            one = replace(task, recipe=replace(task.recipe, classifier=classifier))
            return new_heads(one, model, synthetic, labels, with_zsl=with_zsl)

        first, few, number, unit = _shortened(task.recipe.classifier)
        before = 0.0 if first is None else _clocked(lambda: heads(first))[0]
        seconds, trained = _clocked(lambda: heads(few))
        timed = TIMED * len(trained) if unit == "step" else len(trained)
        scores, _ = _clocked(lambda: trained[0].scorer(task.dataset, representation(model)).decided())
        return cls(
            paces[0],
            max(new_model(task).pretraining.values(), default=1),
            (bank / max(len(classes[:TIMED]), 1), len(classes)),
            (before, max(seconds - before, 0.0) / timed, number * len(trained), unit),
            scores * len(trained),
        )

    def training(self, phase: str, n_trainings: int, n_steps: int) -> list[Work]:
        """Return the works of some trainings."""
        pace = self.pace
        before = [Work(phase, "preparation", n_trainings, "training", pace.preparation)]
        pretraining = [Work(phase, "pre-training", n_trainings * self.epochs, "epoch", pace.pretraining)]
        return [*before, *pretraining, Work(phase, "training", n_steps, "step", pace.step_seconds)]

    def after(self, bank: str, heads: str, test: str, times: int) -> list[Work]:
        """Return the works that follow a training, in the phases that they belong to."""
        before, seconds, number, unit = self.heads
        return [
            Work(bank, "bank", times * self.bank[1], "class", self.bank[0]),
            *([Work(heads, "preparation of heads", times, "time", before)] if before else []),
            Work(heads, "heads", times * number, unit, seconds),
            Work(test, "scores", times, "time", self.scores),
        ]


def _shortened(config: HeadConfig) -> tuple[HeadConfig | None, HeadConfig, int, str]:
    """Return settings of a head that takes no step, or None; of one that takes few; how many a whole one takes."""
    if not isinstance(config, SoftmaxConfig):
        return None, config, 1, "fit"
    if config.solver == "adam":
        return None, replace(config, epochs=1), config.epochs, "epoch"
    given = vars(config)
    return _ShortSoftmax(**given, steps=0), _ShortSoftmax(**given, steps=TIMED), LBFGS_STEPS, "step"


@dataclass(frozen=True, kw_only=True)
class _ShortSoftmax(SoftmaxConfig):
    """Softmax regression that ends after some steps of lbfgs."""

    steps: int

    def build(self) -> SoftmaxClassifier:
        """Return an untrained head."""
        return _ShortHead(self)


class _ShortHead(SoftmaxClassifier):
    config_class = _ShortSoftmax
    config: _ShortSoftmax

    @property
    def stop(self) -> Stop:
        """Where lbfgs ends."""
        return Stop(self.config.tol, self.config.steps)


def _clocked(work: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that some work takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result
