"""Trials of recipes on held-out classes: one training each, scored after several epochs under several heads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from fgen.classifiers.base import HeadConfig
from fgen.classifiers.softmax import SoftmaxConfig
from fgen.compute.device import cpu_threads
from fgen.data.dataset import ZSLDataset
from fgen.experiment.config import Recipe
from fgen.experiment.steps import (
    Task,
    evenly_spread,
    fit,
    n_epochs,
    new_heads,
    new_model,
    representation,
    synthetic_rows,
)
from fgen.metrics.gamma import HeldOut, calibrated_scores

#: Passes over the rows that softmax regression takes for a penalty, beginning with the weights of another.
SOFTMAX_PASSES = 40
#: Measured on a CPU, in multiply-adds of such a pass: one of a training step, whose batches are small, and a trial's
#: beginning and scores.
OF_TRAINING, OF_TRIAL = 2.4, 2e10
#: What decides about a task's test rows, by the share of the epochs that was trained and the head.
Outcomes = dict[tuple[float, HeadConfig], HeldOut]


@dataclass(frozen=True)
class Trial:
    """A generator and what may become of it.

    Attributes:
        name: what tables call it.
        recipe: the generator with its highest number of epochs.
        heads: to choose from.
        evaluations: how often, evenly spread over the epochs, heads are trained and scored.
    """

    name: str
    recipe: Recipe
    heads: tuple[HeadConfig, ...]
    evaluations: int = 1

    def work(self, dataset: ZSLDataset) -> tuple[float, float]:
        """Return measures of the time that a trial takes on a data set, and of a run with one of its candidates.

        They count multiply-adds: those of the training, and those of softmax heads. A run trains twice, to choose and
        for good.
        """
        model, n_rows, dim = self.recipe.model, len(dataset.splits["trainval"]), dataset.features.shape[1]
        layers = (3 * model.critic_steps + 2) * model.hidden_dim * dim
        training = OF_TRIAL + OF_TRAINING * model.n_steps(n_rows) * model.batch_size * layers
        n_synthetic = len(dataset.unseen) * self.recipe.bank.n_per_class
        of_head = SOFTMAX_PASSES * (n_rows + n_synthetic) * dataset.n_classes * dim
        n_softmax = sum(len(head.penalties) for head in self.heads if isinstance(head, SoftmaxConfig))
        return training + self.evaluations * n_softmax * of_head, 2 * (training + bool(n_softmax) * of_head)

    def with_choice(self, share: float, head: HeadConfig) -> Recipe:
        """Return the recipe for a share of the epochs, and a head."""
        model = self.recipe.model
        if model.steps is None:
            model = replace(model, epochs=max(1, round(share * model.epochs)))
        return replace(self.recipe, model=model, classifier=head)


def score_trial(task: Task, trial: Trial, title: str | None = None) -> Outcomes:
    """Train on a task's seen classes and score its test rows.

    Args:
        task: its recipe is the trial's.
        trial: the heads to score.
        title: of the progress bar; None shows no bar.

    Returns:
        The outcome of each number of epochs and head.
    """
    model, found = new_model(task), Outcomes()
    epochs = evenly_spread(n_epochs(task), trial.evaluations)
    shares = {epoch: (k + 1) / len(epochs) for k, epoch in enumerate(epochs)}

    def evaluate(epoch: int) -> dict[str, float]:
        if epoch in shares:
            bank = synthetic_rows(task, model)
            for head in trial.heads:
                own = replace(task, recipe=replace(task.recipe, classifier=head))
                trained = new_heads(own, model, *bank, with_zsl=False)
                for candidate, heads in zip(head.candidates(), trained, strict=True):
                    with cpu_threads(task.recipe.train.threads):
                        scored = heads.score(task.dataset, representation(model))
                    found[shares[epoch], candidate] = scored.held_out()
        return {}

    fit(task, model, title=title, on_epoch=evaluate)
    return found


@dataclass(frozen=True)
class Candidate:
    """A recipe and what decides about the held-out rows of each fold.

    Attributes:
        facts: the settings that tell it from other candidates.
        outcomes: one for each fold, from the first on.
    """

    facts: dict[str, Any]
    recipe: Recipe
    outcomes: tuple[HeldOut, ...]

    def score(self, n_folds: int | None = None) -> float:
        """Return the mean of T1 and calibrated H over the first folds, by default over all that there are."""
        return float(np.mean(calibrated_scores(self.outcomes[:n_folds])))

    def as_dict(self) -> dict[str, Any]:
        """Return settings and scores."""
        t1, h = calibrated_scores(self.outcomes)
        return self.facts | {"folds": len(self.outcomes), "T1": round(t1, 4), "H": round(h, 4)}


def score_trials(
    trials: Sequence[Trial], folds: Sequence[ZSLDataset], seed: int, hidden: bool | None
) -> list[Candidate]:
    """Train each trial's generator on each fold, and return what may become of them, which is nothing without folds.

    Args:
        hidden: show no bar; None shows one on a terminal.
    """
    jobs = [(trial, fold) for trial in trials for fold in folds]
    outcomes = [
        score_trial(Task(trial.recipe, fold, seed), trial)
        for trial, fold in tqdm(jobs, unit="training", desc="candidates", disable=hidden)
    ]
    found = []
    for k, trial in enumerate(trials if folds else ()):
        own = outcomes[k * len(folds) : (k + 1) * len(folds)]
        for share, head in own[0]:
            recipe = trial.with_choice(share, head)
            facts = facts_of(trial.name, recipe)
            found.append(Candidate(facts, recipe, tuple(outcome[share, head] for outcome in own)))
    return found


def facts_of(name: str, recipe: Recipe) -> dict[str, Any]:
    """Return the settings that tell a candidate from others."""
    head: HeadConfig = recipe.classifier
    penalty = {"l2": head.l2} if isinstance(head, SoftmaxConfig) else {}
    epochs = {} if recipe.model.steps else {"epochs": recipe.model.epochs}
    return {"candidate": name, "head": head.name} | penalty | epochs
