"""The protocol of one seed: choose on held-out classes, retrain on trainval, look at the test rows once.

``legacy`` is the same with one difference: it chooses on the test rows, as the papers did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.bank_writer import recover_bank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig, Recipe
from fgen.experiment.directory import Clock, SeedDirectory
from fgen.experiment.heads import Heads, Scorer, head_scorer, score_matrix, warn_of_a_poor_fit
from fgen.experiment.records import write_metrics, write_predictions
from fgen.experiment.results import SeedOutcome
from fgen.experiment.steps import (
    Task,
    embedding_config,
    fill_bank,
    fit,
    new_heads,
    new_model,
    representation,
    synthetic_rows,
)
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.rows import SelectedRows
from fgen.io.atomic import write_json
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.calibration import best_gamma
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model


def selection_task(recipe: Recipe, dataset: ZSLDataset) -> ZSLDataset:
    """What hyperparameters are chosen on: the validation task, or under ``legacy`` the test rows themselves."""
    if recipe.protocol.name != "honest":
        return dataset
    task = dataset.validation()
    if len(task.seen) < 2:
        raise InputError(
            f"{dataset.name} has {len(dataset.seen)} seen classes: without validation classes 1 is left to train on",
            "at least 3 seen classes",
            "Give more classes, or set protocol.name = 'legacy' and a fixed model.epochs",
        )
    if not len(task.splits["test_seen"]):
        raise InputError(
            f"{dataset.name} holds no training rows out for validation: 'val_seen' is empty",
            "a class with 2 or more rows in 'train', one of which is held out, or rows in 'val_seen'",
            "Give more rows, leave out an empty splits.val_seen, or set protocol.name = 'legacy'",
        )
    return task


# A generator.


def run_generator(
    config: ExperimentConfig, dataset: ZSLDataset, seed: int, folder: SeedDirectory, progress: bool = False
) -> SeedOutcome:
    """Selection, final training, bank, heads, test; a step whose files are whole already is not repeated."""
    clock = Clock(folder.timing)
    folder.record_fingerprint(dataset)
    if not folder.choice.exists():
        title = f"selection, seed {seed}" if progress else None
        write_json(folder.choice, choose_epochs(Task(config, dataset, seed), title, folder.checkpoint("selection")))
    choice, config = folder.read_choice(config)
    clock.mark("selection")
    model = train_final(config, dataset, seed, folder, progress, choice)
    clock.mark("training")
    recover_bank(folder.bank)
    if not folder.bank.exists():
        fill_bank(config, dataset, model, seed, folder.bank, progress)
    clock.mark("bank")
    heads = load_or_train_heads(config, dataset, seed, folder, model)
    clock.mark("heads")
    score = head_scorer(heads, dataset, representation(model))
    (scores, predictions), (uncalibrated, _) = score(choice["gamma"]), score(0.0)
    clock.mark("test")
    write_predictions(folder.predictions, predictions, scores)
    return SeedOutcome(seed, scores, uncalibrated, choice, clock.seconds)


def load_or_train_heads(
    config: ExperimentConfig, dataset: ZSLDataset, seed: int, folder: SeedDirectory, model: FeatureGenerator
) -> Heads:
    """The heads that an earlier call saved, or new ones, trained on the real rows and the run's bank."""
    if folder.head.exists():
        return Heads.load(folder.head, folder.head_zsl)
    with FeatureBank.open(folder.bank) as bank:
        synthetic, labels = bank.to_numpy()
    heads = new_heads(Task(config, dataset, seed), model, synthetic, labels)
    heads.save(folder.head, folder.head_zsl)
    if config.bank.real:
        warn_of_a_poor_fit(heads, dataset, representation(model))
    return heads


def choose_epochs(task: Task, title: str | None = None, checkpoint: Path | None = None) -> dict[str, Any]:
    """Choose the number of epochs, gamma, and of several penalties the head's, by T1 or H on the selection task.

    Training with a seed for fewer epochs is the beginning of training for more, so the final training repeats
    what was chosen.

    Args:
        title: of the progress bar; None shows no bar.
        checkpoint: file to resume from and to keep up to date.

    Returns:
        ``epochs`` and ``of`` how many, ``gamma``, ``l2`` where there were several, the score that selection looked at,
        and the ``history`` of all evaluations.
    """
    recipe = task.recipe
    task = replace(task, dataset=selection_task(recipe, task.dataset))
    n_rows = len(task.dataset.splits["trainval"])
    last = math.ceil(recipe.model.n_steps(n_rows) / recipe.model.steps_per_epoch(n_rows))
    times = min(recipe.protocol.evaluations, last)
    evaluated = {round(last * (k + 1) / times) for k in range(times)}
    model, goal = new_model(task), goal_score(recipe)
    candidates = recipe.candidates()

    def evaluate(epoch: int) -> dict[str, float]:
        if epoch not in evaluated:
            return {}
        zsl, bank = recipe.protocol.setting == "zsl", synthetic_rows(task, model)
        heads, tried = None, []
        for candidate in candidates:
            heads = new_heads(replace(task, recipe=candidate), model, *bank, with_zsl=zsl, start=heads)
            with cpu_threads(recipe.train.threads):
                scores, _ = head_scorer(heads, task.dataset, representation(model))(0.0)
            penalty = {"val_l2": candidate.classifier.l2} if len(candidates) > 1 else {}
            tried.append(validation_scores(recipe, scores) | penalty)
        return max(tried, key=lambda row: row[goal])

    history = fit(task, model, title=title, checkpoint=checkpoint, on_epoch=evaluate).history
    best = max((row for row in history if goal in row), key=lambda row: row[goal])
    penalty = {"l2": best["val_l2"]} if len(candidates) > 1 else {}
    chosen = {"epochs": int(best["epoch"]), "of": last, "gamma": best["val_gamma"], goal: best[goal]}
    return chosen | {"history": history} | penalty


def goal_score(recipe: Recipe) -> str:
    """Return the name of the score that selection looks at."""
    return "val_T1" if recipe.protocol.setting == "zsl" else "val_H"


def validation_scores(recipe: Recipe, scores: GZSLScores) -> dict[str, float]:
    """Return T1, U, S, H of a selection task, and where calibration is asked for the gamma that is best on it."""
    gamma, best = 0.0, scores.H
    if recipe.protocol.calibrate and scores.curve is not None:
        gamma, best = best_gamma(scores.curve, tolerance=0.05)
    return {"val_T1": float(scores.T1 or 0.0), "val_U": scores.U, "val_S": scores.S, "val_H": best, "val_gamma": gamma}


def train_final(
    config: ExperimentConfig,
    dataset: ZSLDataset,
    seed: int,
    folder: SeedDirectory,
    progress: bool = False,
    choice: dict[str, Any] | None = None,
) -> FeatureGenerator:
    """The model trained on trainval for the chosen number of epochs, or without a choice for the config's own."""
    folder.record_fingerprint(dataset)
    settings = config.model if choice is None else chosen_model(Task(config, dataset, seed), choice)
    if not folder.model.exists():
        task = Task(replace(config, model=settings), dataset, seed)
        title = f"training, seed {seed}" if progress else None
        model = fit(task, new_model(task), title=title, checkpoint=folder.checkpoint("final"))
        phases = {"selection": [] if choice is None else choice["history"], "final": model.history}
        write_metrics(folder.metrics, phases)
        model.save(folder.model)
    model = load_model(folder.model, config.train.device)
    if (model.config.epochs, model.config.steps) != (settings.epochs, settings.steps):
        raise InputError(
            f"{folder.model} was trained for {model.config.epochs} epochs, by the other of fgen train and fgen run",
            f"{settings.epochs}",
            "Choose another --out",
        )
    return model


def chosen_model(task: Task, choice: Mapping[str, Any]) -> Any:
    """Return the model's config for the chosen number of epochs on trainval; a limit in steps still holds."""
    settings = task.recipe.model
    last = choice["epochs"] * settings.steps_per_epoch(len(task.dataset.splits["trainval"]))
    steps = None if settings.steps is None else min(settings.steps, last)
    return replace(settings, epochs=choice["epochs"], steps=steps)


# An embedding baseline.


def run_baseline(
    config: ExperimentConfig, dataset: ZSLDataset, seed: int, folder: SeedDirectory, progress: bool = False
) -> SeedOutcome:
    """A baseline under the same protocol: its setting and gamma are chosen where a generator's epochs are."""
    clock = Clock(folder.timing)
    folder.record_fingerprint(dataset)
    task, goal = selection_task(config, dataset), goal_score(config)
    candidates = config.model.candidates()
    tried = [validation_scores(config, _baseline_scorer(config, c, task, seed)(0.0)[0]) for c in candidates]
    best = max(range(len(tried)), key=lambda k: tried[k][goal])
    gamma = tried[best]["val_gamma"]
    choice = {"settings": asdict(candidates[best]), "gamma": gamma, goal: tried[best][goal], "history": tried}
    clock.mark("selection")
    score = _baseline_scorer(config, candidates[best], dataset, seed)
    (scores, predictions), (uncalibrated, _) = score(gamma), score(0.0)
    clock.mark("test")
    write_json(folder.choice, choice)
    write_predictions(folder.predictions, predictions, scores)
    return SeedOutcome(seed, scores, uncalibrated, choice, clock.seconds)


def _baseline_scorer(config: ExperimentConfig, settings: Any, task: ZSLDataset, seed: int) -> Scorer:
    """A baseline fitted to the task's trainval rows: gamma to its scores on the task's test rows."""
    embeddings = EmbeddingPreprocessor.fit(
        embedding_config(Task(config, task, seed)), task.class_embeddings[task.seen]
    )(task.class_embeddings)
    rows = task.splits["trainval"]
    baseline = settings.build().fit(SelectedRows(task.features, rows), task.labels[rows], embeddings, seed=seed)
    test = np.concatenate([task.splits["test_seen"], task.splits["test_unseen"]])
    scores = baseline.scores(task.rows(test))
    return lambda gamma: score_matrix(task, test, scores, scores, gamma)
