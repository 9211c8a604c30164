"""Steps of a run over a recipe, a data set and a seed; the scikit-learn door and predictions use them too."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fgen.compute.device import cpu_threads
from fgen.data.dataset import ZSLDataset
from fgen.experiment.config import Recipe
from fgen.experiment.heads import HeadRecipe, Heads, Represent, train_heads
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.features.rows import SelectedRows
from fgen.features.scaling import FeatureScaler
from fgen.models.base.fixed_batches import concatenate_blocks
from fgen.models.base.generator import FeatureGenerator
from fgen.training.hooks import OnEpoch
from fgen.training.loop import OnPace


@dataclass(frozen=True)
class Task:
    """A recipe, the data set to apply it to, and the seed of every random number.

    Attributes:
        sample_weight: weights ``(N,)`` of the data set's rows in the training of heads; None for none.
        on_pace: told how long a generator's training takes, see :func:`fgen.training.loop.train`; None logs it.
    """

    recipe: Recipe
    dataset: ZSLDataset
    seed: int
    sample_weight: np.ndarray | None = field(default=None, kw_only=True)
    on_pace: OnPace | None = field(default=None, kw_only=True)


def new_model(task: Task) -> FeatureGenerator:
    """Return an untrained model with the recipe's embedding preparation."""
    return task.recipe.model.build(embedding_config(task))


def embedding_config(task: Task) -> EmbeddingConfig:
    """Return how the recipe prepares the data set's embeddings."""
    given, dataset = task.recipe.embedding, task.dataset
    named = given.weights is not None or given.fusion is not None
    return replace(given, widths=dataset.embedding_widths, kinds=dataset.embedding if named else None)


def fit(
    task: Task,
    model: FeatureGenerator,
    *,
    title: str | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> FeatureGenerator:
    """Train a model on the data set's trainval rows.

    Args:
        title: of the progress bar; None shows no bar.
        checkpoint: file to resume from and to keep up to date.
        on_epoch: called after each epoch, as in :meth:`fgen.models.base.generator.FeatureGenerator.fit`.
    """
    dataset = task.dataset
    rows = dataset.splits["trainval"]
    unlabelled = SelectedRows(dataset.features, dataset.splits["test_unseen"]) if model.config.is_transductive else None
    return model.fit(
        SelectedRows(dataset.features, rows),
        dataset.labels[rows],
        dataset.class_embeddings,
        seed=task.seed,
        class_names=dataset.class_names,
        unlabelled=unlabelled,
        train_config=task.recipe.train,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        on_pace=task.on_pace,
        progress=title or False,
    )


def n_epochs(task: Task) -> int:
    """Return the number of epochs that training on the task takes at most."""
    model, n_rows = task.recipe.model, len(task.dataset.splits["trainval"])
    return math.ceil(model.n_steps(n_rows) / model.steps_per_epoch(n_rows))


def evenly_spread(last: int, times: int) -> list[int]:
    """Return the epochs, up to the last, after which a training is evaluated: so many, or all where there are fewer."""
    times = min(times, last)
    return [round(last * (k + 1) / times) for k in range(times)]


def synthetic_counts(task: Task) -> np.ndarray:
    """Return the number of synthetic rows of each class ``(C,)``; 0 for classes that are neither seen nor unseen."""
    counts, bank = np.zeros(task.dataset.n_classes, dtype=np.int64), task.recipe.bank
    counts[task.dataset.seen], counts[task.dataset.unseen] = bank.n_per_seen_class, bank.n_per_class
    return counts


def synthetic_rows(task: Task, model: FeatureGenerator) -> tuple[np.ndarray, np.ndarray]:
    """Return what the task's bank would hold, as float32.

    Returns:
        Rows ``(M, D)`` in the model's ``bank_space``, and their class ids ``(M,)``.
    """
    return generated_rows(task, model, synthetic_counts(task), represented=model.bank_space != "raw")


def generated_rows(
    task: Task, model: FeatureGenerator, counts: np.ndarray, *, represented: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return so many generated rows of each class as ``counts (C,)`` says, and their class ids ``(M,)``.

    Args:
        represented: give rows ``(M, D')`` in the model's own space, in place of raw features ``(M, D)``.
    """
    classes = np.flatnonzero(counts)
    if not len(classes):
        width = model.bank_dim if represented else model.scaler.dim
        return np.zeros((0, width), np.float32), np.zeros(0, np.int64)
    embeddings, names, _ = model.describe(classes)
    blocks = model.iter_generate(embeddings, names, counts[classes], seed=task.seed, represented=represented)
    with cpu_threads(task.recipe.train.threads):
        return concatenate_blocks(blocks, int(counts.sum())), np.repeat(classes, counts[classes])


def new_heads(
    task: Task,
    model: FeatureGenerator,
    synthetic: np.ndarray,
    labels: np.ndarray,
    *,
    with_zsl: bool = True,
) -> list[Heads]:
    """Train heads on the data set's rows and on synthetic ``(M, D)`` in the model's ``bank_space``.

    Returns:
        Heads for each candidate of the recipe's classifier.
    """
    recipe = task.recipe
    with cpu_threads(recipe.train.threads):
        return train_heads(
            HeadRecipe(
                config=recipe.classifier,
                seed=task.seed,
                with_real=recipe.bank.real,
                pseudo_share=recipe.model.pseudo_labelled_share,
                precision=recipe.train.precision,
                device=recipe.train.device,
                sample_weight=task.sample_weight,
            ),
            task.dataset,
            synthetic,
            labels,
            represent=representation(model),
            space=model.bank_space,
            scaler=shared_scaler(recipe, model),
            with_zsl=with_zsl,
        )


def shared_scaler(recipe: Recipe, model: FeatureGenerator) -> FeatureScaler | None:
    """Return the model's scaling, where the heads' would be fitted on the same rows to the same numbers, else None."""
    same = model.scaler.kind == recipe.classifier.scaling and model.scaler.length is not None  # older files lack it
    return model.scaler if same and not model.has_own_space else None


def representation(model: FeatureGenerator) -> Represent | None:
    """Return the model's map to the space of its heads; None for the identity, so that rows need not be copied."""
    return model.represent if model.has_own_space else None
