"""Memory and disk that a run takes, from sizes alone, before anything is computed."""

from dataclasses import replace

import torch

from fgen.classifiers.lbfgs import LOGITS_IN_MEMORY
from fgen.compute.device import choose_device
from fgen.data.dataset import ZSLDataset
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.steps import Task, new_model, synthetic_counts
from fgen.experiment.weights import candidate_weights
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.scaled_rows import IN_MEMORY
from fgen.models.base.generator import FeatureGenerator
from fgen.training.loop import training_bytes


def one_task(config: ExperimentConfig, dataset: ZSLDataset) -> Task:
    """Return the task of one model of a run: of its first seed, with the first weights, of a fusion's first member."""
    if config.dataset.fusion == "decision":
        kind = dataset.embedding[0]
        config, dataset = replace(config, dataset=config.dataset.of_kind(kind)), dataset.with_embedding(kind)
    if config.embedding.weights == "auto":
        config = config.with_weights(candidate_weights(dataset.embedding)[0])
    return Task(config, dataset, config.protocol.seeds[0])


def size(n_bytes: int) -> str:
    """Return a number of bytes in GB, or in MB where it is less."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes / 1e6, 0.1):.1f} MB"


def head_memory(task: Task) -> int:
    """Return the bytes that bank and heads take at their peak.

    The head holds the bank as it is and, where there is room for it, a scaled copy of bank and real rows. Softmax
    regression to its minimum holds two matrices of logits beside them, unless they are too large.
    """
    dataset, n_synthetic = task.dataset, int(synthetic_counts(task).sum())
    rows = n_synthetic + (len(dataset.splits["trainval"]) if task.recipe.bank.real else 0)
    scaled, logits = 4 * rows * dataset.feature_dim, 4 * rows * (len(dataset.seen) + len(dataset.unseen))
    by_lbfgs = getattr(task.recipe.classifier, "solver", None) == "lbfgs"
    kept = 2 * logits if by_lbfgs and logits <= LOGITS_IN_MEMORY else 0
    return 4 * n_synthetic * dataset.feature_dim + (scaled if scaled <= IN_MEMORY else 0) + kept


def seed_disk(task: Task, n_trainings: int, n_models: int = 1) -> int:
    """Return the bytes of a seed's folder at their peak; tables of scores and predictions are left out.

    Args:
        task: as :func:`one_task` has it.
        n_trainings: each leaves a checkpoint, of networks and Adam's two moments.
        n_models: each with a bank and heads.
    """
    dataset, model = task.dataset, _with_networks(task)
    networks = sum(tensor.nbytes for tensor in model.networks.state_dict().values())
    trained = (training_bytes(model) - sum(p.nbytes for p in model.networks.parameters())) // 3
    row = torch.zeros(0, dataset.feature_dim)
    width = (row if model.bank_space == "raw" else model.represent_scaled(row)).shape[1]
    bank = int(synthetic_counts(task).sum()) * width * int(task.recipe.bank.dtype[1])
    heads = 4 * (len(dataset.seen) + 2 * len(dataset.unseen)) * (width + 1)
    return n_models * (networks + bank + heads) + n_trainings * (networks + 2 * trained)


def _with_networks(task: Task) -> FeatureGenerator:
    """Return an untrained model with networks of their full size, for which no row is read."""
    model, dataset = new_model(task), task.dataset
    model.device, model.class_embeddings = choose_device("cpu"), dataset.class_embeddings
    model.preprocessor = EmbeddingPreprocessor.fit(model.embedding, dataset.class_embeddings[dataset.seen])
    width = model.preprocessor(dataset.class_embeddings).shape[1]
    model.make_networks(dataset.feature_dim, width, len(dataset.seen))
    return model
