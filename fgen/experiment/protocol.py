"""Protocol of one seed: choose on held-out classes, retrain on trainval, score the test rows once.

``legacy`` differs in one point: it chooses on the test rows, as the papers did.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from fgen.baselines import BASELINES
from fgen.compute.device import cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.bank_writer import recover_bank
from fgen.errors import InputError
from fgen.experiment.banks import dataset_spec, write_bank
from fgen.experiment.config import ExperimentConfig, Recipe
from fgen.experiment.directory import Clock, SeedDirectory
from fgen.experiment.heads import Heads, ScoredRows, tested_rows, warn_of_a_poor_fit
from fgen.experiment.records import write_metrics, write_predictions
from fgen.experiment.results import SeedOutcome
from fgen.experiment.steps import (
    Task,
    embedding_config,
    fit,
    new_heads,
    new_model,
    representation,
    synthetic_counts,
    synthetic_rows,
)
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.rows import SelectedRows
from fgen.io.atomic import write_json
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.calibration import best_gamma
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model


def validation_task(task: Task) -> Task:
    """Return the task with the data that hyperparameters are chosen on, which under ``legacy`` are the same.

    Raises:
        InputError: too few classes or rows to hold some out.
    """
    if task.recipe.protocol.name != "honest":
        return task
    dataset, validation = task.dataset, task.dataset.validation()
    if len(validation.seen) < 2:
        raise InputError(
            f"{dataset.name} has {len(dataset.seen)} seen classes: without validation classes 1 is left to train on",
            "at least 3 seen classes",
            "Give more classes, or set protocol.name = 'legacy' and a fixed model.epochs",
        )
    if not len(validation.splits["test_seen"]):
        raise InputError(
            f"{dataset.name} holds no training rows out for validation: 'val_seen' is empty",
            "a class with 2 or more rows in 'train', one of which is held out, or rows in 'val_seen'",
            "Give more rows, leave out an empty splits.val_seen, or set protocol.name = 'legacy'",
        )
    return replace(task, dataset=validation)


@dataclass(frozen=True)
class SeedRun(Task):
    """One seed of an experiment. A step whose files are whole already is not repeated.

    Attributes:
        recipe: the experiment.
        folder: where the files of the seed are.
        progress: show bars.
        choice: what selection chose; None before it, and in a training without selection.
    """

    recipe: ExperimentConfig
    folder: SeedDirectory
    progress: bool = False
    choice: dict[str, Any] | None = None

    def outcome(self) -> SeedOutcome:
        """Select, train, fill the bank, train the heads, test."""
        clock = Clock(self.folder.timing)
        self.folder.record_fingerprint(self.dataset)
        if self.recipe.model.name in BASELINES:
            return self._outcome_of_baseline(clock)
        run = self.select()
        clock.mark("selection")
        model = run.train()
        clock.mark("training")
        run.fill_bank(model)
        clock.mark("bank")
        heads = run.train_heads(model)
        clock.mark("heads")
        return run.test(heads.score(self.dataset, representation(model)), clock)

    def select(self) -> Self:
        """Return the run with the choice of its selection, which decides the head's penalty too."""
        if not self.folder.choice.exists():
            choice = choose_epochs(self, self._title("selection"), self.folder.checkpoint("selection"))
            write_json(self.folder.choice, choice)
        choice, config = self.folder.read_choice(self.recipe)
        return replace(self, recipe=config, choice=choice)

    def train(self) -> FeatureGenerator:
        """Train on trainval for the chosen number of epochs, or without a choice for the config's own."""
        self.folder.record_fingerprint(self.dataset)
        settings = self.recipe.model if self.choice is None else chosen_model(self, self.choice)
        if not self.folder.model.exists():
            task = replace(self, recipe=replace(self.recipe, model=settings))
            model = fit(
                task, new_model(task), title=self._title("training"), checkpoint=self.folder.checkpoint("final")
            )
            phases = {"selection": [] if self.choice is None else self.choice["history"], "final": model.history}
            write_metrics(self.folder.metrics, phases)
            model.save(self.folder.model)
        model = load_model(self.folder.model, self.recipe.train.device)
        if (model.config.epochs, model.config.steps) != (settings.epochs, settings.steps):
            raise InputError(
                f"{self.folder.model} was trained for {model.config.epochs} epochs, by the other of fgen train and "
                "fgen run",
                f"{settings.epochs}",
                "Choose another --out",
            )
        return model

    def fill_bank(self, model: FeatureGenerator) -> None:
        """Write the synthetic features of the unseen classes, and of the seen ones where wanted, to the run's bank."""
        recover_bank(self.folder.bank)
        if self.folder.bank.exists():
            return
        spec = replace(
            dataset_spec(self.dataset, synthetic_counts(self)),
            feature_dim=model.bank_dim,
            space=model.bank_space,
            dtype=self.recipe.bank.dtype,
            seed=self.seed,
            config=self.recipe.of_seed(self.seed).to_mapping(),
        )
        write_bank(self.folder.bank, model, spec, progress=self.progress)

    def train_heads(self, model: FeatureGenerator) -> Heads:
        """Return the heads that an earlier call saved, or new ones, trained on the real rows and the run's bank."""
        if self.folder.head.exists():
            return Heads.load(self.folder.head, self.folder.head_zsl)
        with FeatureBank.open(self.folder.bank) as bank:
            synthetic, labels = bank.to_numpy()
        (heads,) = new_heads(self, model, synthetic, labels)
        heads.save(self.folder.head, self.folder.head_zsl)
        if self.recipe.bank.real:
            warn_of_a_poor_fit(heads, self.dataset, representation(model))
        return heads

    def test(self, scored: ScoredRows, clock: Clock) -> SeedOutcome:
        """Score the test rows at the chosen gamma and without one, and write what is predicted."""
        choice = self.choice or {}
        (scores, predictions), (uncalibrated, _) = scored.at(choice.get("gamma", 0.0)), scored.at(0.0)
        clock.mark("test")
        write_predictions(self.folder.predictions, predictions, scores)
        return SeedOutcome(self.seed, scores, uncalibrated, choice, clock.seconds)

    def _outcome_of_baseline(self, clock: Clock) -> SeedOutcome:
        """Choose the baseline's setting and gamma where a generator's epochs are chosen, and test it."""
        task, goal = validation_task(self), goal_score(self.recipe)
        candidates = self.recipe.model.candidates()
        tried = [validation_scores(self.recipe, score_baseline(task, c).at(0.0)[0]) for c in candidates]
        best = max(range(len(tried)), key=lambda k: tried[k][goal])
        settings, gamma = asdict(candidates[best]), tried[best]["val_gamma"]
        choice = {"settings": settings, "gamma": gamma, goal: tried[best][goal], "history": tried}
        clock.mark("selection")
        scored = score_baseline(self, candidates[best])
        write_json(self.folder.choice, choice)
        return replace(self, choice=choice).test(scored, clock)

    def _title(self, phase: str) -> str | None:
        return f"{phase}, seed {self.seed}" if self.progress else None


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
    task = validation_task(task)
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
        tried = []
        for candidate, heads in zip(candidates, new_heads(task, model, *bank, with_zsl=zsl), strict=True):
            with cpu_threads(recipe.train.threads):
                scores, _ = heads.score(task.dataset, representation(model)).at(0.0)
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


def chosen_model(task: Task, choice: Mapping[str, Any]) -> Any:
    """Return the model's config for the chosen number of epochs on trainval; a limit in steps still holds."""
    settings = task.recipe.model
    last = choice["epochs"] * settings.steps_per_epoch(len(task.dataset.splits["trainval"]))
    steps = None if settings.steps is None else min(settings.steps, last)
    return replace(settings, epochs=choice["epochs"], steps=steps)


def score_baseline(task: Task, settings: Any) -> ScoredRows:
    """Fit a baseline on the data set's trainval rows and score its test rows."""
    dataset = task.dataset
    prepare = EmbeddingPreprocessor.fit(embedding_config(task), dataset.class_embeddings[dataset.seen])
    embeddings, rows = prepare(dataset.class_embeddings), dataset.splits["trainval"]
    features = SelectedRows(dataset.features, rows)
    baseline = settings.build().fit(features, dataset.labels[rows], embeddings, seed=task.seed)
    tested = tested_rows(dataset)
    scores = baseline.scores(dataset.rows(tested))
    return ScoredRows(dataset, tested, scores, scores)
