"""What every method shares: fit on seen classes, generate for any class, save and load.

A method is a subclass that overrides a few formulas: its networks, its critic terms, its generator terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fgen import rng
from fgen.data.dataset import Features
from fgen.data.scaling import FeatureScaler
from fgen.encoders.fusion import EmbeddingConfig, EmbeddingPreprocessor
from fgen.errors import InputError
from fgen.models import losses
from fgen.models.engine import TrainConfig, choose_device, train
from fgen.models.nets import Critic, Generator, Output, initialise
from fgen.models.sampling import Batch, Draws, TrainingSet

#: Rows of one class that are generated together; fixed, so that a feature never depends on its company.
TILE = 64

Terms = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every method of the family can be told.

    Attributes:
        epochs: passes over the training rows; an epoch is ceil(N / batch_size) steps.
        steps: number of steps, in place of ``epochs``.
        critic_steps: critic updates for each generator update.
        gp_weight: weight of the gradient penalty (lambda).
        hidden_dim: width of the hidden layers.
        noise_dim: columns of noise; None means as many as the class embedding has.
        output: the generator's last activation, on features scaled by ``feature_scaling``.
        class_mean_weight, moment_weight: feature matching; 0 switches a term off.
    """

    name: ClassVar[str]

    epochs: int = 50
    steps: int | None = None
    batch_size: int = 64
    critic_steps: int = 5
    gp_weight: float = 10.0
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    hidden_dim: int = 4096
    noise_dim: int | None = None
    feature_scaling: Literal["minmax", "standard", "none"] = "minmax"
    output: Output = "relu"
    class_mean_weight: float = 0.0
    moment_weight: float = 0.0

    def __post_init__(self) -> None:
        for key in ("epochs", "steps", "batch_size", "critic_steps", "hidden_dim", "noise_dim"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key} is {value}", "a whole number of at least 1")
        for key in ("gp_weight", "class_mean_weight", "moment_weight"):
            if not getattr(self, key) >= 0:
                raise InputError(f"{key} is {getattr(self, key)}", "a number of at least 0")
        if not 0 < self.lr < 1:
            raise InputError(f"lr is {self.lr}", "a number between 0 and 1", "The published rates are near 1e-4")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise InputError(f"beta1, beta2 are {self.beta1}, {self.beta2}", "numbers from 0 to below 1")
        if self.batch_size < 2 and self.moment_weight:
            raise InputError("batch_size is 1", "at least 2 rows for moment matching")

    def n_steps(self, n_rows: int) -> int:
        """Training steps for ``n_rows`` rows."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch(n_rows)

    def steps_per_epoch(self, n_rows: int) -> int:
        """ceil(N / batch_size)."""
        return -(-n_rows // self.batch_size)

    def build(self, embedding: EmbeddingConfig | None = None) -> FeatureGenerator:
        """An untrained model."""
        raise NotImplementedError


class FeatureGenerator:
    """A conditional WGAN over features: the base of every method.

    Attributes:
        networks: the networks by role; ``critic`` is updated in the critic phase, all others that can be
            trained in the generator phase.
        frozen: roles of the networks that :meth:`prepare` trains and nothing after it.
        class_embeddings: ``(C, A)`` raw, as given to :meth:`fit`.
    """

    frozen: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: ModelConfig, embedding: EmbeddingConfig | None = None) -> None:
        self.config = config
        self.embedding = embedding or EmbeddingConfig()
        self.networks = nn.ModuleDict()
        self.device = torch.device("cpu")
        self.class_names: tuple[str, ...] | None = None
        self.history: list[dict[str, float]] = []

    # The formulas that methods override.

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """The networks by role, not yet initialised."""
        config = self.config
        return {
            "generator": Generator(self.noise_dim, embedding_dim, config.hidden_dim, feature_dim, config.output),
            "critic": Critic(feature_dim, embedding_dim, config.hidden_dim),
        }

    def prepare(self, data: TrainingSet, seed: int) -> None:
        """Work before the first step, for example pre-training a network that stays frozen."""

    def critic_fakes(self, batch: Batch, draws: Draws) -> Tensor:
        """What the critic is shown as generated, ``(B, D)``; the generator is frozen meanwhile."""
        return self.synthesise(draws.normal("critic noise", (len(batch), self.noise_dim)), batch.condition)

    def critic_terms(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Terms:
        """What the critic minimises: ``E[D(fake)] - E[D(real)]`` + gp_weight * penalty (Gulrajani 2017, Eq. 3)."""
        critic = self.networks["critic"]
        assert isinstance(critic, Critic)
        alpha = draws.uniform(f"mixing {index}", (len(batch), 1))
        distance, penalty = losses.critic_terms(critic, batch.features, fake, batch.condition, alpha)
        return {"critic": distance, "gradient_penalty": self.config.gp_weight * penalty}

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """What the generator minimises: ``-E[D(fake)]`` and the feature-matching terms that are switched on."""
        return self.adversarial_terms(self.generator_fakes(batch, draws), batch)

    def generator_fakes(self, batch: Batch, draws: Draws) -> Tensor:
        """Fresh features ``(B, D)`` for the batch's classes, with the generator's graph."""
        return self.synthesise(draws.normal("generator noise", (len(batch), self.noise_dim)), batch.condition)

    def adversarial_terms(self, fake: Tensor, batch: Batch) -> Terms:
        """``-E[D(fake)]``, and feature matching against the batch and the classes' real means."""
        config = self.config
        terms = {"adversarial": -self.networks["critic"](fake, batch.condition).mean()}
        if config.class_mean_weight:
            gap = losses.class_mean_matching(fake, batch.labels, self.class_means)
            terms["class_mean"] = config.class_mean_weight * gap
        if config.moment_weight:
            terms["moment"] = config.moment_weight * losses.moment_matching(fake, batch.features)
        return terms

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Noise ``(B, Z)`` and prepared embeddings ``(B, A)`` to scaled features ``(B, D)``."""
        return self.networks["generator"](noise, condition)

    def represent(self, features: np.ndarray) -> np.ndarray:
        """Raw features ``(N, D)`` in the space where the method's own head lives; the identity by default."""
        return features

    # What users call.

    def fit(
        self,
        features: Features,
        labels: np.ndarray,
        class_embeddings: np.ndarray,
        *,
        seed: int,
        class_names: Sequence[str] | None = None,
        unlabelled: np.ndarray | None = None,
        train_config: TrainConfig | None = None,
        checkpoint: Path | None = None,
        on_epoch: Callable[[int], Mapping[str, float] | None] | None = None,
        progress: bool = False,
    ) -> FeatureGenerator:
        """Learn how class embeddings become features.

        Args:
            features: ``(N, D)`` raw features of seen classes.
            labels: ``(N,)`` rows of ``class_embeddings``; classes without a row are not trained on.
            class_embeddings: ``(C, A)`` raw.
            seed: names every random number used.
            class_names: C names; they name the noise streams of :meth:`generate`.
            unlabelled: only for transductive methods.
            train_config: device, threads, precision, checkpoint interval.
            checkpoint: file to go on from if it is there, and to write to.
            on_epoch: called with the number of finished epochs; what it returns joins :attr:`history`.
            progress: show a bar.

        Raises:
            InputError: inputs that don't match, or training that diverged (the term is named).
            Interrupted: a signal asked to stop; the checkpoint holds all that was computed.
        """
        if unlabelled is not None:
            raise InputError(f"{self.config.name} is inductive", "unlabelled=None", "Use a transductive method")
        train_config = train_config or TrainConfig()
        self.class_names = None if class_names is None else tuple(class_names)
        data = self.begin(features, labels, class_embeddings, device=train_config.device)
        for name, network in self.networks.items():
            initialise(network, seed, name)
        self.prepare(data, seed)
        self.history = train(
            self,
            data,
            seed=seed,
            config=train_config,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            progress=progress,
        )
        return self

    def begin(
        self, features: Features, labels: np.ndarray, class_embeddings: np.ndarray, *, device: str = "auto"
    ) -> TrainingSet:
        """Check the inputs, fit the scalings and create the networks: all of :meth:`fit` but the learning."""
        labels = _checked_training_labels(features, labels, class_embeddings)
        self.device = choose_device(device)
        self.class_embeddings = np.array(class_embeddings, dtype=np.float32)
        self.preprocessor = EmbeddingPreprocessor.fit(self.embedding, self.class_embeddings[np.unique(labels)])
        self.scaler = FeatureScaler.fit(self.config.feature_scaling, features)
        prepared = self.preprocessor(self.class_embeddings)
        data = TrainingSet(features, labels, prepared, self.scaler, self.device)
        self.make_networks(data.feature_dim, prepared.shape[1], data.n_classes)
        if self.config.class_mean_weight:
            self.class_means = data.class_means()
        return data

    def generate(
        self,
        classes: Any,
        n_per_class: int,
        *,
        seed: int,
        class_names: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features for classes, whether or not the model has seen them.

        Args:
            classes: ``(K,)`` integer ids, rows of the class embeddings given to :meth:`fit`; or ``(K, A)`` raw
                embeddings of any classes.
            n_per_class: rows for each class.
            seed: with the class's name (or its embedding, without names) the only source of noise: the features
                don't depend on the order or number of classes, and a larger ``n_per_class`` extends a smaller.
            class_names: K names, where embeddings are given.

        Returns:
            features ``(K * n_per_class, D)`` float32 in the caller's raw space, sorted as asked for, and their
            labels: the ids, or 0 to K - 1 where embeddings were given.
        """
        embeddings, names, ids = self.describe(classes, class_names)
        if n_per_class < 1:
            raise InputError(f"n_per_class is {n_per_class}", "at least 1")
        counts = np.full(len(ids), n_per_class)
        blocks = list(self.iter_generate(embeddings, names, counts, seed=seed))
        return np.concatenate(blocks), np.repeat(ids, n_per_class)

    def describe(
        self, classes: Any, class_names: Sequence[str] | None = None
    ) -> tuple[np.ndarray, tuple[str, ...] | None, np.ndarray]:
        """Raw embeddings ``(K, A)``, names or None, and labels ``(K,)`` of what :meth:`generate` was asked for."""
        if not self.networks:
            raise InputError("the model hasn't been trained", "fit() or load_model() before generate()")
        classes = np.asarray(classes)
        if classes.ndim == 2:
            if class_names is not None and len(class_names) != len(classes):
                raise InputError(f"class_names has {len(class_names)} names", f"{len(classes)}, one for each embedding")
            names = None if class_names is None else tuple(class_names)
            return classes.astype(np.float32), names, np.arange(len(classes))
        n_classes = len(self.class_embeddings)
        if classes.ndim != 1 or classes.dtype.kind not in "iu" or not classes.size:
            raise InputError(
                f"classes has shape {classes.shape} and type {classes.dtype}",
                "class ids (K,) or raw embeddings (K, A)",
            )
        if classes.min() < 0 or classes.max() >= n_classes:
            raise InputError(f"classes names the id {classes.max()}", f"ids from 0 to {n_classes - 1}")
        names = None if self.class_names is None else tuple(self.class_names[i] for i in classes)
        return self.class_embeddings[classes], names, classes.astype(np.int64)

    @torch.inference_mode()
    def iter_generate(
        self, embeddings: np.ndarray, names: Sequence[str] | None, counts: np.ndarray, *, seed: int
    ) -> Iterator[np.ndarray]:
        """The features of one class after the other, ``(counts[k], D)`` raw float32, with bounded memory."""
        prepared = torch.from_numpy(self.preprocessor(embeddings)).to(self.device)
        for k, count in enumerate(counts):
            stream = rng.stream(seed, "generate", rng.class_key(None if names is None else names[k], embeddings[k]))
            condition = prepared[k].expand(TILE, -1)
            features = np.empty((count, self.scaler.dim), dtype=np.float32)
            for start in range(0, count, TILE):
                noise = torch.from_numpy(stream.standard_normal((TILE, self.noise_dim), dtype=np.float32))
                tile = self.scaler.invert(self.synthesise(noise.to(self.device), condition))
                features[start : start + TILE] = tile[: count - start].cpu().numpy()
            yield features

    @property
    def noise_dim(self) -> int:
        """Z, the columns of noise."""
        return self.config.noise_dim or self.class_embeddings.shape[1]

    def save(self, path: str | Path) -> None:
        """Write the model to a directory: safetensors and JSON, nothing pickled."""
        from fgen.models.storage import save_model

        save_model(self, Path(path))

    def make_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> None:
        """Create the networks on the model's device, not yet initialised."""
        self.networks = nn.ModuleDict(self.build_networks(feature_dim, embedding_dim, n_seen)).to(self.device)
        self.n_seen = n_seen


def _checked_training_labels(features: Features, labels: np.ndarray, class_embeddings: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(features),) or labels.dtype.kind not in "iu":
        raise InputError(f"labels has shape {labels.shape} and type {labels.dtype}", f"({len(features)},) integers")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(class_embeddings):
        raise InputError(
            f"labels range from {min(labels, default=None)} to {max(labels, default=None)}",
            f"rows of class_embeddings, 0 to {len(class_embeddings) - 1}",
        )
    if len(np.unique(labels)) < 2:
        raise InputError("all rows are of one class", "features of at least 2 seen classes")
    return labels
