"""Choice of the epochs, of a head's penalty or a baseline's setting, and of gamma, on held-out classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from fgen.baselines.base import EmbeddingBaseline
from fgen.compute.device import cpu_threads
from fgen.data.dataset import ZSLDataset
from fgen.data.folds import n_folds, validation_folds
from fgen.errors import InputError
from fgen.experiment.config import Recipe
from fgen.experiment.directory import SeedDirectory
from fgen.experiment.heads import KeptScores, RowScorer, ScoredRows, tested_rows
from fgen.experiment.records import read_held_out, read_scores, write_held_out, write_scores
from fgen.experiment.steps import (
    Task,
    embedding_config,
    evenly_spread,
    fit,
    n_epochs,
    new_heads,
    new_model,
    representation,
    synthetic_rows,
)
from fgen.experiment.weights import choose_weights
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.rows import SelectedRows
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.calibration import best_gamma
from fgen.metrics.gamma import GammaChoice, HeldOut, choose
from fgen.training.hooks import NO_HOOK, EpochHook

#: Nothing is chosen where all classes have fewer rows, of which one each would be held out.
FEWEST_ROWS = 5
#: Evaluations of a fold by the number of the epoch and of the head's candidate.
Evaluations = dict[tuple[int, int], HeldOut]


def selection_tasks(task: Task) -> list[Task]:
    """Return the tasks that hyperparameters are chosen on: folds of held-out classes, or under ``legacy`` the task.

    Raises:
        InputError: too few classes or rows to hold some out.
    """
    protocol, dataset = task.recipe.protocol, task.dataset
    if protocol.name != "honest":
        return [task]
    n = protocol.folds
    if n == "auto":
        n = n_folds(dataset) if protocol.calibrate else 1
    folds = validation_folds(dataset, n, seed=task.seed)
    if min(len(fold.seen) for fold in folds) < 2:
        raise InputError(
            f"{dataset.name} has {len(dataset.seen)} seen classes: without validation classes 1 is left to train on",
            "at least 3 seen classes",
            "Give more classes, or set protocol.name = 'legacy' and a fixed model.epochs",
        )
    if not all(len(fold.splits["test_seen"]) for fold in folds):
        raise InputError(
            f"{dataset.name} holds no training rows out for validation: 'val_seen' is empty",
            "a class with 2 or more rows in 'train', one of which is held out, or rows in 'val_seen'",
            "Give more rows, leave out an empty splits.val_seen, or set protocol.name = 'legacy'",
        )
    return [replace(task, dataset=fold) for fold in folds]


def too_few_to_hold_out(dataset: ZSLDataset) -> str:
    """Return a warning where no classes, and rows of the other classes, can be held out, else ""."""
    task = dataset.validation() if len(dataset.splits["val"]) else None
    fullest = np.bincount(dataset.labels[dataset.splits["trainval"]]).max()
    if task is not None and len(task.seen) > 1 and fullest >= FEWEST_ROWS and len(task.splits["test_seen"]):
        return ""
    return (
        f"{len(dataset.seen)} seen classes with {len(dataset.splits['trainval'])} rows are too few to calibrate on: "
        "seen classes have no handicap, and all epochs are trained"
    )


def choose_epochs(
    task: Task, title: str | None = None, folder: SeedDirectory | None = None, hook: EpochHook = NO_HOOK
) -> dict[str, Any]:
    """Choose the number of epochs, gamma, of several penalties the head's, and where they are "auto" the weights of
    kinds, by T1 or H on the selection tasks.

    Training with a seed for fewer epochs is the beginning of training for more, so the final training repeats
    what was chosen.

    Args:
        title: of the progress bar; None shows no bar.
        folder: where training is resumed from, and what is needed for it is kept.
        hook: called after each epoch of each training.

    Returns:
        ``epochs`` and ``of`` how many, ``gamma``, ``l2`` where there were several, the score that selection looked at,
        the ``history`` of all evaluations, and in ``held_out`` what :class:`fgen.metrics.gamma.GammaChoice` tells; of
        "auto" weights what :func:`fgen.experiment.weights.choose_weights` adds.
    """
    if task.recipe.embedding.weights == "auto":

        def with_weights(one: Task, number: int) -> dict[str, Any]:
            inner = None if folder is None else folder.candidate(number)
            return choose_epochs(one, title and f"{title}, weights {number + 1}", inner, hook)

        return choose_weights(task, with_weights, goal_score(task.recipe), folder)
    recipe, tasks = task.recipe, selection_tasks(task)
    last = min(n_epochs(fold) for fold in tasks)
    epochs = set(evenly_spread(last, recipe.protocol.evaluations))
    choose_by = _choose_on_folds if len(tasks) > 1 else _choose_on_validation_classes
    return choose_by(task, tasks, epochs, title, folder, hook.within("selection")) | {"of": last}


def _choose_on_validation_classes(
    task: Task,
    tasks: Sequence[Task],
    epochs: set[int],
    title: str | None,
    folder: SeedDirectory | None,
    hook: EpochHook,
) -> dict[str, Any]:
    recipe, (validation,), goal = task.recipe, tasks, goal_score(task.recipe)
    model, candidates = new_model(validation), recipe.candidates()
    keeper = Keeper.of(folder, 0)

    def evaluate(epoch: int, losses: Mapping[str, float]) -> dict[str, float]:
        row: dict[str, float] = {}
        if epoch in epochs:
            scored = _scored(validation, model)
            keeper.keep(epoch, scored)
            row = _best_scores(recipe, scored)
        hook(epoch, {**losses, **row})
        return row

    checkpoint = None if folder is None else folder.checkpoint("selection")
    history = fit(validation, model, title=title, checkpoint=checkpoint, on_epoch=evaluate).history
    best = max((row for row in history if goal in row), key=lambda row: row[goal])
    penalty = {"l2": best["val_l2"]} if len(candidates) > 1 else {}
    epoch, gamma = int(best["epoch"]), best["val_gamma"]
    candidate = [c.classifier.l2 for c in candidates].index(best["val_l2"]) if penalty else 0
    held = keeper.held.get((epoch, candidate))  # not of a run that an earlier fgen began
    told = {} if held is None or recipe.protocol.name != "honest" else _told(task, _choice(task, [held], gamma))
    return told | {"epochs": epoch, "gamma": gamma, goal: best[goal], "history": history} | penalty


def _choose_on_folds(
    task: Task,
    tasks: Sequence[Task],
    epochs: set[int],
    title: str | None,
    folder: SeedDirectory | None,
    hook: EpochHook,
) -> dict[str, Any]:
    titles = [title and f"{title}, fold {k + 1} of {len(tasks)}" for k in range(len(tasks))]
    evaluated = [_evaluate_fold(fold, epochs, titles[k], folder, k, hook) for k, fold in enumerate(tasks)]
    folds, histories = zip(*evaluated, strict=True)
    tried = {key: _choice(task, [fold[key] for fold in folds]) for key in sorted(folds[0])}
    goal, candidates = goal_score(task.recipe), task.recipe.candidates()
    rows = {key: _row(choice) for key, choice in tried.items()}
    epoch, candidate = best = max(rows, key=lambda key: rows[key][goal])
    penalty = {"l2": candidates[candidate].classifier.l2} if len(candidates) > 1 else {}
    history = [
        _mean_row(same) | rows.get((int(same[0]["epoch"]), candidate), {}) for same in zip(*histories, strict=False)
    ]
    chosen = {"epochs": epoch, "gamma": tried[best].gamma, goal: rows[best][goal], "history": history}
    return chosen | penalty | _told(task, tried[best])


def _evaluate_fold(
    task: Task, epochs: set[int], title: str | None, folder: SeedDirectory | None, number: int, hook: EpochHook
) -> tuple[Evaluations, list[dict[str, float]]]:
    """Train on a fold; return what decides about its held-out rows, by epoch and candidate, and the history."""
    model, keeper, hook = new_model(task), Keeper.of(folder, number), hook.within(f"fold-{number + 1}")
    wanted = {(e, c) for e in epochs for c in range(len(task.recipe.candidates()))}

    def evaluate(epoch: int, losses: Mapping[str, float]) -> None:
        scores: dict[str, float] = {}
        if epoch in epochs:
            scored = _scored(task, model)
            keeper.keep(epoch, scored)
            scores = _best_scores(task.recipe, scored) if hook.on_epoch else {}
        hook(epoch, {**losses, **scores})

    checkpoint = None if folder is None else folder.checkpoint(f"selection-{number}")
    history = fit(task, model, title=title, checkpoint=checkpoint, on_epoch=evaluate).history
    if missing := wanted - keeper.held.keys():
        found = f"{keeper.path} lacks the evaluation of epoch {min(missing)[0]}, which the checkpoint beside it is past"
        raise InputError(found, "both of one run", "Remove the folder they are in and go on with --resume")
    return keeper.held, history


def _mean_row(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number over an epoch's rows of all folds."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@dataclass(frozen=True)
class Keeper:
    """Evaluations of a fold, in memory and in a file from which a stopped selection goes on; None keeps no file."""

    path: Path | None
    held: Evaluations

    @classmethod
    def of(cls, folder: SeedDirectory | None, number: int) -> Self:
        """Return the evaluations that the file of a fold holds, if there is one."""
        path = None if folder is None else folder.held_out(number)
        return cls(path, read_held_out(path) if path is not None and path.exists() else {})

    def keep(self, epoch: int, scored: Sequence[ScoredRows]) -> None:
        """Add an evaluation; it is on disk before the checkpoint of its epoch."""
        self.held.update({(epoch, candidate): rows.held_out() for candidate, rows in enumerate(scored)})
        if self.path is not None:
            write_held_out(self.path, self.held)


def _scored(task: Task, model: Any) -> list[ScoredRows]:
    """Return the scores of the task's held-out rows by each of the recipe's heads."""
    with cpu_threads(task.recipe.train.threads):
        return [scorer.decided() for scorer in _scorers(task, model)]


def _scorers(task: Task, model: Any) -> list[RowScorer]:
    """Train each of the recipe's heads, and return what scores the task's held-out rows."""
    with_zsl = task.recipe.protocol.setting == "zsl"
    heads = new_heads(task, model, *synthetic_rows(task, model), with_zsl=with_zsl)
    return [head.scorer(task.dataset, representation(model)) for head in heads]


def _best_scores(recipe: Recipe, scored: Sequence[ScoredRows]) -> dict[str, float]:
    """Return the validation scores of the best of the recipe's heads, and of several penalties its own."""
    candidates, goal = recipe.candidates(), goal_score(recipe)
    penalties = [{"val_l2": c.classifier.l2} if len(candidates) > 1 else {} for c in candidates]
    tried = [validation_scores(recipe, s.at(0.0)[0]) | p for s, p in zip(scored, penalties, strict=True)]
    return max(tried, key=lambda row: row[goal])


def choose_setting(task: Task) -> dict[str, Any]:
    """Choose a baseline's setting and gamma where a generator's epochs are chosen.

    Returns:
        ``settings``, ``gamma``, the score that selection looked at, and the ``history`` of all that was tried; of
        "auto" weights what :func:`fgen.experiment.weights.choose_weights` adds.
    """
    if task.recipe.embedding.weights == "auto":
        return choose_weights(task, lambda one, _: choose_setting(one), goal_score(task.recipe))
    tasks, goal, candidates = selection_tasks(task), goal_score(task.recipe), task.recipe.model.candidates()
    scored = ([score_baseline(fold, candidate) for fold in tasks] for candidate in candidates)
    tried, facts = zip(*(rate(task, folds) for folds in scored), strict=True)
    best = max(range(len(tried)), key=lambda k: tried[k][goal])
    chosen = {"settings": asdict(candidates[best]), "gamma": tried[best]["val_gamma"], goal: tried[best][goal]}
    return chosen | facts[best] | {"history": list(tried)}


def rate(task: Task, folds: Sequence[ScoredRows]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return what the scores of each fold's held-out rows amount to: a row with gamma, and what is told of the rows."""
    if len(folds) == 1:
        return validation_scores(task.recipe, folds[0].at(0.0)[0]), {}
    choice = _choice(task, [rows.held_out() for rows in folds])
    return _row(choice), _told(task, choice)


def held_out_scores(
    task: Task, choice: Mapping[str, Any], folder: SeedDirectory | None = None, title: str | None = None
) -> list[KeptScores]:
    """Return the scores of each selection task's held-out rows with what was chosen.

    Generators are trained on the selection tasks again, for the chosen number of epochs.

    Args:
        task: with the chosen penalty and weights.
        choice: the ``epochs`` that :func:`choose_epochs` chose, or the ``settings`` of :func:`choose_setting`.
        folder: where the scores are kept, and training is resumed from.
        title: of the progress bar; None shows no bar.
    """
    tasks, names = selection_tasks(task), ("rows", "scores", "zsl_scores")
    if folder is not None and folder.held_out_scores.exists():
        kept = read_scores(folder.held_out_scores)
        return [KeptScores(fold.dataset, *map(held.__getitem__, names)) for fold, held in zip(tasks, kept, strict=True)]
    found = []
    for k, fold in enumerate(tasks):
        if "settings" in choice:
            found.append(baseline_scorer(fold, replace(task.recipe.model, **choice["settings"])).kept())
            continue
        fold = replace(fold, recipe=replace(fold.recipe, model=chosen_model(fold, choice)))
        checkpoint = None if folder is None else folder.checkpoint(f"held-out-{k}")
        scorers = _scorers(fold, fit(fold, new_model(fold), title=title, checkpoint=checkpoint))
        with cpu_threads(task.recipe.train.threads):
            found += [scorer.kept() for scorer in scorers]
    if folder is not None:
        write_scores(folder.held_out_scores, [{name: getattr(rows, name) for name in names} for rows in found])
    return found


def score_baseline(task: Task, settings: Any) -> ScoredRows:
    """Fit a baseline on the data set's trainval rows and score its test rows."""
    return baseline_scorer(task, settings).decided()


def baseline_scorer(task: Task, settings: Any) -> RowScorer:
    """Fit a baseline on the data set's trainval rows, and return what scores its test rows."""
    dataset, baseline = task.dataset, fit_baseline(task, settings)
    return RowScorer(dataset, SelectedRows(dataset.features, tested_rows(dataset)), baseline.scores)


def fit_baseline(task: Task, settings: Any) -> EmbeddingBaseline:
    """Return a baseline with these settings, fitted on the data set's trainval rows."""
    dataset = task.dataset
    config = embedding_config(task)
    prepare = EmbeddingPreprocessor.fit(config, dataset.class_embeddings[dataset.seen])
    embeddings, rows = prepare(dataset.class_embeddings), dataset.splits["trainval"]
    features = SelectedRows(dataset.features, rows)
    baseline: EmbeddingBaseline = settings.build()
    kinds: dict[str, Any] = {"widths": config.prepared_widths, "kind_weights": config.prior_weights}
    return baseline.fit(features, dataset.labels[rows], embeddings, seed=task.seed, **kinds)


def goal_score(recipe: Recipe) -> str:
    """Return the name of the score that selection looks at."""
    return "val_T1" if recipe.protocol.setting == "zsl" else "val_H"


def validation_scores(recipe: Recipe, scores: GZSLScores) -> dict[str, float]:
    """Return T1, U, S, H of a selection task, and where calibration is asked for the gamma that is best on it.

    Under ``legacy`` the task may have no test rows of seen classes, and then T1 and gamma are all.
    """
    gamma, best = 0.0, scores.H
    if recipe.protocol.calibrate and scores.curve is not None:
        gamma, best = best_gamma(scores.curve, tolerance=0.05)
    found = {"val_T1": scores.T1 or 0.0, "val_U": scores.U, "val_S": scores.S, "val_H": best, "val_gamma": gamma}
    return {name: float(score) for name, score in found.items() if not np.isnan(score)}


def _choice(task: Task, folds: Sequence[HeldOut], gamma: float | None = None) -> GammaChoice:
    """Return gamma, or what is to be told of one that is chosen already, and the expected scores of the task."""
    if gamma is None and not task.recipe.protocol.calibrate:
        gamma = 0.0
    return choose(folds, n_seen=len(task.dataset.seen), n_unseen=len(task.dataset.unseen), gamma=gamma)


def _told(task: Task, choice: GammaChoice) -> dict[str, Any]:
    """Return what the held-out rows tell, as ``choice.json`` holds it."""
    facts = choice.as_dict()
    if not task.recipe.protocol.calibrate:
        facts["sentence"] = "gamma is 0: protocol.calibrate is false"
    return {"held_out": facts}


def _row(choice: GammaChoice) -> dict[str, float]:
    """Return the row of an evaluation; its U and S are those without gamma, as :func:`validation_scores` has them."""
    without = {f"val_{name}": score.mean for name, score in choice.uncalibrated.items()}
    return without | {"val_H": choice.H, "val_gamma": choice.gamma}


def chosen_model(task: Task, choice: Mapping[str, Any]) -> Any:
    """Return the model's config for the chosen number of epochs on trainval; a limit in steps still holds."""
    settings = task.recipe.model
    last = choice["epochs"] * settings.steps_per_epoch(len(task.dataset.splits["trainval"]))
    steps = None if settings.steps is None else min(settings.steps, last)
    return replace(settings, epochs=choice["epochs"], steps=steps)
