"""Base class of all methods: training on seen classes.

A method is a subclass that overrides a few formulas: its networks, and what each update of a step minimises.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from fgen.compute.device import choose_device, cpu_threads, matrix_precision
from fgen.errors import InputError
from fgen.features.checks import as_matrix, checked_names
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.frames import rows_by_name
from fgen.features.labels import labels_of_rows
from fgen.features.rows import Features, as_rows
from fgen.features.scaling import FeatureScaler
from fgen.models.base.config import ModelConfig
from fgen.models.base.feature_matching import FeatureMatching
from fgen.models.base.trained import TrainedModel
from fgen.nn.networks import initialise
from fgen.training.hooks import OnEpoch
from fgen.training.loop import OnPace, Pace, TrainConfig, tell, train
from fgen.training.training_set import TrainingSet
from fgen.training.update import Trainable


class FeatureGenerator(TrainedModel, Trainable):
    """Base class of all methods: a generator of features that is conditioned on class embeddings.

    Attributes:
        methods: settings of every method that has been imported, by name.
        data: the training set, until :meth:`fit` ends.
        matching: the feature-matching terms that the config switches on.
        own_matching: feature-matching terms that the method computes itself.
        xavier_gain: how the networks start, see :func:`fgen.nn.networks.initialise`; None is the lineage's N(0, 0.02).
    """

    methods: ClassVar[dict[str, type[ModelConfig]]] = {}

    config: ModelConfig
    xavier_gain: ClassVar[float | None] = None
    own_matching: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, config: type[ModelConfig] | None = None) -> None:
        if config is not None:
            config.generator = cls
            cls.methods[config.name] = config

    # The formulas that methods override.

    def initialise(self, seed: int) -> None:
        """Set the starting weights, by default from N(0, 0.02)."""
        for name, network in self.networks.items():
            initialise(network, seed, name, self.xavier_gain)

    def compute_statistics(self, data: TrainingSet, seed: int) -> None:
        """Compute the statistics of the real rows that terms need (means, prototypes), without training."""
        self.data = data
        self.matching = FeatureMatching(self.config, data, seed, without=self.own_matching)

    def pretrain(self, data: TrainingSet, seed: int) -> None:
        """Train networks before the first step that stay frozen afterwards; by default there are none."""

    @property
    def pretraining(self) -> dict[str, int]:
        """Return how many epochs :meth:`pretrain` trains a network, by its role."""
        return {}

    # What users call.

    def fit(
        self,
        features: Features,
        labels: np.ndarray,
        class_embeddings: np.ndarray,
        *,
        seed: int,
        class_names: Sequence[str] | None = None,
        unlabelled: Features | None = None,
        train_config: TrainConfig | None = None,
        checkpoint: Path | None = None,
        on_epoch: OnEpoch | None = None,
        on_pace: OnPace | None = None,
        progress: bool | str = False,
    ) -> Self:
        """Learn how class embeddings become features.

        Args:
            features: ``(N, D)`` raw features of seen classes.
            labels: ``(N,)`` rows of ``class_embeddings``, or names that are in ``class_names``; classes without a row
                are not trained on.
            class_embeddings: ``(C, A)`` raw; rows of a table whose index holds names are put in their order.
            seed: names every random number used.
            class_names: C names, text or bytes of UTF-8, by default those of a table's index; they name the noise
                streams of :meth:`generate`.
            unlabelled: only for transductive methods.
            train_config: device, threads, precision, checkpoint interval.
            checkpoint: file to go on from if it is there, and to write to.
            on_epoch: called after each epoch with the number of finished epochs; a function of two arguments also gets
                the epoch's mean losses, ``{name: float}``, and one of three the phase, "training". What it returns
                joins :attr:`history`. Epochs of a checkpoint that training goes on from are not repeated.
            on_pace: called after the third step, or the last of fewer, with the seconds that all takes, a
                ``fgen.training.loop.Pace``; None logs them, if they are many.
            progress: show a bar; a text is what it says before it.

        Raises:
            InputError: inputs that don't match, or training that diverged (the term is named).
            Interrupted: a signal asked to stop; the checkpoint holds all that was computed.
        """
        if unlabelled is not None and not self.config.is_transductive:
            raise InputError(
                f"{self.config.name} is inductive", "unlabelled=None", "Set transductive = true where a method has it"
            )
        if unlabelled is None and self.config.is_transductive:
            raise InputError("the transductive setting got no unlabelled features", "unlabelled, (M, D)")
        class_embeddings, class_names = rows_by_name(class_embeddings, class_names)
        class_embeddings = as_matrix("class_embeddings", class_embeddings)
        names = None if class_names is None else checked_names(class_names, len(class_embeddings))
        train_config = train_config or TrainConfig()
        self.class_names = names
        device = choose_device(train_config.device)
        # What is measured and pre-trained before the first step is float32's, whatever torch is set to.
        with cpu_threads(train_config.threads), matrix_precision("highest", device):
            began = time.perf_counter()
            data = self.begin(
                features, labels, class_embeddings, seed=seed, device=train_config.device, unlabelled=unlabelled
            )
            self.initialise(seed)
            prepared = time.perf_counter()
            self.pretrain(data, seed)
            pretrained = time.perf_counter()

        def told(pace: Pace) -> None:
            (on_pace or tell)(replace(pace, preparation=prepared - began, pretraining=pretrained - prepared))

        try:
            self.history = train(
                self,
                data,
                seed=seed,
                config=train_config,
                checkpoint=checkpoint,
                on_epoch=on_epoch,
                on_pace=told,
                progress=progress,
            )
        finally:
            del self.data  # a trained model is much smaller than its rows
        return self

    def begin(
        self,
        features: Features,
        labels: np.ndarray,
        class_embeddings: np.ndarray,
        *,
        seed: int = 0,
        device: str = "auto",
        unlabelled: Features | None = None,
    ) -> TrainingSet:
        """Check the inputs, fit the scalings, create the networks and compute statistics, without training."""
        features, unlabelled = as_rows(features), None if unlabelled is None else as_rows(unlabelled)
        if unlabelled is not None and unlabelled.shape[1] != features.shape[1]:
            raise InputError(f"unlabelled has {unlabelled.shape[1]} columns", f"{features.shape[1]}, as features has")
        embeddings = as_matrix("class_embeddings", class_embeddings)
        labels = labels_of_rows(labels, len(features), len(embeddings), self.class_names, least_classes=2)
        self.device = choose_device(device)
        self.class_embeddings = embeddings.copy()
        self.preprocessor = EmbeddingPreprocessor.fit(self.embedding, self.class_embeddings[np.unique(labels)])
        self.scaler = FeatureScaler.fit(self.config.feature_scaling, features)
        prepared = self.preprocessor(self.class_embeddings)
        data = TrainingSet(features, labels, prepared, self.scaler, self.device, unlabelled=unlabelled)
        self.make_networks(data.feature_dim, prepared.shape[1], data.n_classes)
        self.steps_per_epoch = self.config.steps_per_epoch(len(data))
        self.compute_statistics(data, seed)
        return data
