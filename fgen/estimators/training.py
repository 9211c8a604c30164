"""Training of the estimators: from constructor arguments, features and labels to what predicts or generates."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fgen.baselines import BASELINES
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.estimators.recipe import RECOMMENDED
from fgen.experiment.config import Recipe
from fgen.experiment.recommended import recommend
from fgen.experiment.selection import choose_epochs, choose_setting, chosen_model, fit_baseline, too_few_to_hold_out
from fgen.experiment.steps import Task, fit, new_heads, new_model, synthetic_rows
from fgen.features.checks import as_weights
from fgen.features.frames import row_labels
from fgen.features.labels import (
    class_ids,
    described_kinds,
    holds_kinds,
    names_of,
    one_based_warning,
    unusual_embeddings_warning,
)
from fgen.inference.baseline import BaselineScores
from fgen.inference.predictor import Predictor
from fgen.models.base.generator import FeatureGenerator
from fgen.training.hooks import NO_HOOK, EpochHook


def described_rows(
    estimator: Any, X: Any, y: Any, sample_weight: Any = None, *, stacklevel: int
) -> tuple[ZSLDataset, np.ndarray]:
    """Return rows of seen classes as a data set, and the labels ``(C,)`` of its classes by id.

    Warns of labels that seem to be counted from 1, and of embeddings that are zero or equal.

    Args:
        estimator: its ``class_embeddings``, ``classes`` and ``random_state`` are read.
        X: ``(N, D)``.
        y: ``(N,)`` labels.
        sample_weight: ``(N,)`` weights, of which those of 0 leave rows out; None for none.
        stacklevel: of the warnings, as from this function.

    Raises:
        InputError: labels without a description, weights or shapes that don't match, numbers that aren't finite.
    """
    if y is None:
        found = f"{type(estimator).__name__} requires y to be passed, but the target y is None"
        raise InputError(found, "a label for each row of X")
    given, classes = estimator.class_embeddings, estimator.classes
    labels, kinds = described_kinds(given, classes)
    ids, names = class_ids(y, labels), names_of(labels)
    embeddings = np.concatenate(list(kinds.values()), axis=1)
    one = next(iter(given.values())) if holds_kinds(given) else given
    by_row = classes is None and not isinstance(one, Mapping) and row_labels(one) is None
    for odd in (one_based_warning(ids) if by_row else "", unusual_embeddings_warning(embeddings, names, ids)):
        if odd:
            warnings.warn(odd, stacklevel=stacklevel)
    splits = None
    if sample_weight is not None and not (weights := as_weights("sample_weight", sample_weight, len(ids))).all():
        splits = {"trainval": np.flatnonzero(weights)}
    seed = int(estimator.random_state)
    dataset = ZSLDataset(X, ids, kinds, class_names=names, splits=splits, seed=seed)
    return dataset.with_embedding(list(kinds)), labels


def new_task(estimator: Any, recipe: Recipe, dataset: ZSLDataset, sample_weight: Any | None = None) -> Task:
    """Return the task of training on the data set; under "recommended" its recipe is chosen now.

    Raises:
        InputError: weights that aren't one number of at least 0 for each row, or a method that takes none.
    """
    seed, weights = int(estimator.random_state), None
    if sample_weight is not None:
        weights = as_weights("sample_weight", sample_weight, len(dataset.labels))
        if estimator.method == RECOMMENDED or estimator.method in BASELINES:
            found = f"sample_weight is given, and method {estimator.method!r} takes no weights of rows"
            raise InputError(found, "a generator as method")
        recipe.classifier.expect_weights_allowed()
    if estimator.method == RECOMMENDED:
        chosen = recommend(dataset, seed=seed, progress=estimator.verbose).recipe
        recipe = chosen if estimator.train is None else replace(chosen, train=recipe.train)
    if len(dataset.embedding) > 1 and recipe.embedding.weights is None:
        recipe = recipe.with_weights(dict.fromkeys(dataset.embedding, 1.0))  # with which the model keeps kinds' names
    return Task(recipe, dataset, seed, sample_weight=weights)


def calibrated(
    task: Task, title: str | None, hook: EpochHook, *, stacklevel: int
) -> tuple[Task, float, dict[str, Any] | None]:
    """Choose epochs, penalty or a baseline's setting, and gamma, on held-out classes.

    Warns where there are too few classes or rows to hold some out; gamma is 0 then, as without unseen classes.

    Returns:
        The task with what was chosen, gamma, and what it rests on where that is known.
    """
    dataset = task.dataset
    if not len(dataset.unseen):
        return task, 0.0, None
    if too_few := too_few_to_hold_out(dataset):
        warnings.warn(too_few, stacklevel=stacklevel)
        return task, 0.0, None
    if task.recipe.model.name in BASELINES:
        choice = choose_setting(task)
        recipe = replace(task.recipe, model=replace(task.recipe.model, **choice["settings"]))
    else:
        choice = choose_epochs(task, title, hook=hook)
        recipe = replace(task.recipe.with_choice(choice), model=chosen_model(task, choice))
    return replace(task, recipe=recipe), float(choice["gamma"]), choice.get("held_out")


def trained_predictor(task: Task, title: str | None, hook: EpochHook, **fields: Any) -> Predictor:
    """Train the task's method, and a generator's head.

    Args:
        title: of the progress bar; None shows none.
        hook: called after each epoch.
        fields: the others of the predictor, but for ``seen``.

    Raises:
        InputError: several penalties of the head are left to choose from.
    """
    recipe, dataset = task.recipe, task.dataset
    if recipe.model.name in BASELINES:
        scores = BaselineScores(fit_baseline(task, recipe.model), dataset.features)
        return Predictor(scores, scores, seen=dataset.seen, **fields)  # type: ignore[arg-type]
    if len(recipe.candidates()) > 1:
        found = "classifier.l2 holds several penalties, and there is nothing to choose by"
        raise InputError(found, "one of them, or calibrate=True and rows to hold out")
    model = trained_generator(task, title, hook)
    (heads,) = new_heads(task, model, *synthetic_rows(task, model), with_zsl=False)
    return Predictor(model, heads.gzsl, seen=dataset.seen, **fields)


def trained_generator(task: Task, title: str | None, hook: EpochHook = NO_HOOK) -> FeatureGenerator:
    """Train the task's generator on the rows of its data set."""
    return fit(task, new_model(task), title=title, on_epoch=hook)
