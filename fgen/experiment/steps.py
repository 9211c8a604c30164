"""The steps that a run's seed is made of, which the scikit-learn door and predictions borrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fgen.compute.device import cpu_threads
from fgen.data.dataset import ZSLDataset
from fgen.experiment.banks import write_bank
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.heads import Heads, Represent, train_heads
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.features.rows import SelectedRows
from fgen.models.base.fixed_batches import concatenate_blocks
from fgen.models.base.generator import FeatureGenerator


def new_heads(
    config: ExperimentConfig,
    task: ZSLDataset,
    model: FeatureGenerator,
    synthetic: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    with_zsl: bool = True,
    start: Heads | None = None,
) -> Heads:
    """The experiment's heads, trained on the task's rows and the model's ``(M, D)`` in its own ``bank_space``."""
    with cpu_threads(config.train.threads):
        return train_heads(
            config.classifier,
            task,
            synthetic,
            labels,
            seed=seed,
            represent=representation(model),
            space=model.bank_space,
            with_zsl=with_zsl,
            with_real=config.bank.real,
            pseudo_share=config.model.pseudo_labelled_share,
            precision=config.train.precision,
            device=config.train.device,
            start=start,
        )


def fill_bank(
    config: ExperimentConfig, dataset: ZSLDataset, model: FeatureGenerator, seed: int, path: Path, progress: bool
) -> None:
    """The run's bank: synthetic features of the unseen classes, and of the seen ones where wanted."""
    write_bank(
        path,
        model,
        class_embeddings=dataset.class_embeddings,
        class_names=dataset.class_names,
        counts=synthetic_counts(config, dataset),
        seen=np.isin(np.arange(dataset.n_classes), dataset.seen),
        seed=seed,
        config=config.of_seed(seed).to_mapping(),
        data_sha256=dataset.fingerprint,
        dtype=config.bank.dtype,
        space=model.bank_space,
        progress=progress,
    )


def synthetic_rows(
    config: ExperimentConfig, task: ZSLDataset, model: FeatureGenerator, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the experiment's bank of a task would hold but for its ``dtype``: ``(M, D)`` in the model's ``bank_space``,
    and class ids ``(M,)``."""
    counts, own = synthetic_counts(config, task), model.bank_space != "raw"
    classes = np.flatnonzero(counts)
    if not len(classes):
        width = model.bank_dim if own else model.scaler.dim
        return np.zeros((0, width), np.float32), np.zeros(0, np.int64)
    embeddings, names, _ = model.describe(classes)
    blocks = model.iter_generate(embeddings, names, counts[classes], seed=seed, represented=own)
    with cpu_threads(config.train.threads):
        return concatenate_blocks(blocks, int(counts.sum())), np.repeat(classes, counts[classes])


def synthetic_counts(config: ExperimentConfig, task: ZSLDataset) -> np.ndarray:
    """How many synthetic rows each class has ``(C,)``; none those that are no candidates in a validation task."""
    counts = np.zeros(task.n_classes, dtype=np.int64)
    counts[task.seen], counts[task.unseen] = config.bank.n_per_seen_class, config.bank.n_per_class
    return counts


def new_model(config: ExperimentConfig, dataset: ZSLDataset) -> FeatureGenerator:
    """An untrained model with the experiment's embedding preparation."""
    return config.model.build(embedding_config(config, dataset))


def embedding_config(config: ExperimentConfig, dataset: ZSLDataset) -> EmbeddingConfig:
    """How the experiment prepares the data set's embeddings."""
    settings = config.dataset
    return EmbeddingConfig(
        norm=settings.embedding_norm, scale=settings.embedding_scale, widths=dataset.embedding_widths
    )


def fit(
    model: FeatureGenerator,
    config: ExperimentConfig,
    task: ZSLDataset,
    seed: int,
    checkpoint: Path | None,
    progress: bool | str,
    on_epoch: Callable[[int], dict[str, float]] | None = None,
) -> FeatureGenerator:
    """Train on the task's trainval rows."""
    rows = task.splits["trainval"]
    unlabelled = SelectedRows(task.features, task.splits["test_unseen"]) if model.config.is_transductive else None
    return model.fit(
        SelectedRows(task.features, rows),
        task.labels[rows],
        task.class_embeddings,
        seed=seed,
        class_names=task.class_names,
        unlabelled=unlabelled,
        train_config=config.train,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        progress=progress,
    )


def representation(model: FeatureGenerator) -> Represent | None:
    """The model's map to the space of its heads; None for the identity, so that rows need not be copied."""
    return model.represent if model.has_own_space else None
