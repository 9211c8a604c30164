"""A scorer of image-text pairs as a baseline: features and class embeddings, fused and trained on the seen classes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fgen import rng
from fgen.baselines.base import BaselineConfig, EmbeddingBaseline
from fgen.errors import InputError, TrainingDiverged
from fgen.features.rows import Features, read_rows
from fgen.features.scaling import FeatureScaler
from fgen.nn.losses import classification
from fgen.nn.multimodal import Fusion, ImageTextScorer, Rescale, contrastive, make_fusion
from fgen.nn.networks import initialise

#: Numbers of a pair's hidden layers that are in memory at once in scoring: rows are scored in parts of so many.
MOST_NUMBERS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig(BaselineConfig):
    """Settings of the scorer and of its training by AdamW.

    Attributes:
        fusion: "cosine", "concat", "bilinear" or "gated", see :data:`fgen.nn.multimodal.FUSIONS`.
        joint_dim: length of the joint vector or hidden layer; "bilinear" has none.
        epochs: passes over the rows; None lets the protocol choose one of ``epoch_choices`` on validation classes, and
            is the middle one elsewhere.
        epoch_choices: what is chosen from.
        batch_size: rows in a step.
        lr: AdamW's learning rate.
        weight_decay: of AdamW.
        contrastive_weight: of the contrastive loss over the classes of a batch; 0 leaves it out.
        classification_weight: of the cross-entropy over all seen classes; 0 leaves it out.
    """

    name: ClassVar[str] = "multimodal"

    fusion: Fusion = "cosine"
    joint_dim: int = 256
    epochs: int | None = None
    epoch_choices: tuple[int, ...] = (3, 10, 30)
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-2
    contrastive_weight: float = 1.0
    classification_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.contrastive_weight and not self.classification_weight:
            found = "contrastive_weight and classification_weight are 0"
            raise InputError(found, "a loss to train by", "Leave one of them out")

    def candidates(self) -> list[Self]:
        """Return the settings for each number of epochs, where that is left open."""
        choices = self.epoch_choices if self.epochs is None else (self.epochs,)
        return [replace(self, epochs=epochs) for epochs in choices]

    @property
    def n_epochs(self) -> int:
        """The number of epochs, or if it is left open the middle choice."""
        return sorted(self.epoch_choices)[len(self.epoch_choices) // 2] if self.epochs is None else self.epochs


class Multimodal(EmbeddingBaseline, config=MultimodalConfig):
    """:class:`fgen.nn.multimodal.ImageTextScorer` over features and class embeddings.

    It is trained on the rows of seen classes by the sum of two losses: the contrastive one (CLIP, Radford et al. 2021)
    over the distinct classes of a batch, and the cross-entropy over all seen classes. Features are standardised and
    divided by ``sqrt(D)``; embeddings are centred about those of the seen classes, and divided by one number that
    makes their mean squared length 1. Both are the first part of the scorer, which takes raw rows.

    Attributes:
        scorer: in evaluation mode.
        rows: ``(C, A)`` float32, what its text encoder takes of each class.
        texts: ``(C, A')`` what that returns.
    """

    config: MultimodalConfig
    scorer: ImageTextScorer
    rows: Tensor
    texts: Tensor

    @property
    def device(self) -> torch.device:
        """Where the scorer is."""
        return torch.device("cpu")

    @property
    def rows_at_once(self) -> int:
        """The number of rows that are scored together, so that pairs fit into memory."""
        return max(1, MOST_NUMBERS // (len(self.texts) * self.config.joint_dim))

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Run the epochs.

        Raises:
            TrainingDiverged: a parameter left the finite numbers.
        """
        classes, targets = np.unique(labels, return_inverse=True)
        rows = torch.from_numpy(embeddings.astype(np.float32))
        scorer = self.new_scorer(features, embeddings[classes])
        initialise(scorer.fusion, seed, "fusion", xavier_gain=1.0)
        scorer.to(self.device)
        self._train(scorer, features, rows[torch.from_numpy(classes)], torch.from_numpy(targets), seed)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in scorer.parameters()):
            raise TrainingDiverged("the scorer's weights are NaN or infinite", "finite numbers", "Lower model.lr")
        self.use(scorer, rows)

    def use(self, scorer: ImageTextScorer, rows: Tensor) -> None:
        """Score with a trained scorer and the classes' rows ``(C, A)``."""
        self.scorer, self.rows = scorer.eval(), rows
        with torch.no_grad():
            self.texts = scorer.text_encoder(rows.to(self.device))

    def new_scorer(self, features: Features, embeddings: np.ndarray) -> ImageTextScorer:
        """Return a scorer with an untrained fusion layer, whose encoders rescale the rows.

        Args:
            features: ``(N, D)`` to train on.
            embeddings: ``(S, A)`` of the seen classes.
        """
        image, text = scaled_features(features), scaled_embeddings(embeddings)
        fusion = make_fusion(self.config.fusion, len(image.scale), len(text.scale), self.config.joint_dim)
        return ImageTextScorer(image, text, fusion)

    def parameter_groups(self, scorer: ImageTextScorer) -> list[dict[str, object]]:
        """Return what AdamW moves, and how fast."""
        return [{"params": list(scorer.fusion.parameters())}]

    def _train(self, scorer: ImageTextScorer, features: Features, rows: Tensor, targets: Tensor, seed: int) -> None:
        """Train on features ``(N, D)``, the seen classes' rows ``(S, A)`` and each row's class ``(N,)`` among them."""
        config = self.config
        optimiser = torch.optim.AdamW(self.parameter_groups(scorer), lr=config.lr, weight_decay=config.weight_decay)
        scorer.train()
        rows, targets = rows.to(self.device), targets.to(self.device)
        for numbers in batches(len(targets), config.n_epochs, config.batch_size, seed):
            images = torch.from_numpy(read_rows(features, numbers).astype(np.float32)).to(self.device)
            loss = self.loss(scorer, images, rows, targets[torch.from_numpy(numbers).to(self.device)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def loss(self, scorer: ImageTextScorer, images: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted sum of both losses, a scalar.

        Args:
            images: ``(B, D)``.
            rows: ``(S, A)`` of the seen classes. Without the classification loss only those in the batch are encoded.
            targets: ``(B,)`` the class of each image.
        """
        config = self.config
        present, own = torch.unique(targets, return_inverse=True)
        if not config.classification_weight:
            return config.contrastive_weight * contrastive(scorer(images, rows[present]), own)
        scores = scorer(images, rows)
        loss = config.classification_weight * classification(scores, targets)
        if config.contrastive_weight:
            loss = loss + config.contrastive_weight * contrastive(scores[:, present], own)
        return loss

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return scores ``(n, C)`` of the pairs."""
        parts = torch.from_numpy(np.array(block, dtype=np.float32)).split(self.rows_at_once)
        with torch.inference_mode():
            encoded = (self.scorer.image_encoder(images.to(self.device)) for images in parts)
            return torch.cat([self.scorer.fusion(images, self.texts).cpu() for images in encoded]).numpy()


def scaled_features(features: Features) -> Rescale:
    """Return the standardisation of features ``(N, D)``, and their division by ``sqrt(D)``."""
    scaler, rescale = FeatureScaler.fit("standard", features), Rescale(int(features.shape[1]))
    rescale.offset.copy_(torch.from_numpy(scaler.offset))
    rescale.scale.copy_(torch.from_numpy(scaler.scale) * scaler.dim**0.5)
    return rescale


def scaled_embeddings(embeddings: np.ndarray) -> Rescale:
    """Return the centring of embeddings ``(S, A)``, and their division by one number: the mean squared length is 1."""
    offset, rescale = embeddings.mean(axis=0), Rescale(embeddings.shape[1])
    rescale.offset.copy_(torch.from_numpy(offset))
    # Embeddings that are all alike have no length to be divided by.
    rescale.scale.fill_(float(np.square(embeddings - offset).sum(axis=1).mean()) ** 0.5 or 1.0)
    return rescale


def batches(n_rows: int, n_epochs: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield row numbers of each step: each epoch's rows in another order, in batches of nearly the same size."""
    for epoch in range(n_epochs):
        order = rng.stream(seed, "pair batches", epoch).permutation(n_rows)
        yield from np.array_split(order, -(-n_rows // batch_size))
