"""Bilinear compatibility learnt by ranking: ALE (Akata et al. 2013, 2016) and DeViSE (Frome et al. 2013).

Both train ``F(x, y) = x' W phi(y)`` so that a row's own class scores above every other by a margin. They differ in
the loss: ALE weights a row by the rank of its class, DeViSE weights every violation equally.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fgen import rng
from fgen.baselines.base import BaselineConfig, EmbeddingBaseline, unit
from fgen.errors import TrainingDiverged
from fgen.features.rows import Features, read_rows
from fgen.features.scaling import FeatureScaler


@dataclass(frozen=True, kw_only=True)
class BilinearConfig(BaselineConfig):
    """Settings of both methods.

    Attributes:
        lr: the learning rate of SGD in units of the margin; None lets the protocol choose one of ``lrs`` on
            validation classes, and is the middle one elsewhere. With the margin W, all scores and the loss grow alike,
            so a rate in other units would be another rate for another margin.
        lrs: what is chosen from.
        epochs: passes over the rows.
        batch_size: rows in a step.
        margin: by how much the score of a row's own class should exceed the others.
    """

    by_rank: ClassVar[bool]
    open_fields: ClassVar[tuple[str, ...]] = ("lr",)

    lr: float | None = None
    lrs: tuple[float, ...] = (1.0, 10.0, 100.0)
    epochs: int = 10
    batch_size: int = 64
    margin: float = 1.0


@dataclass(frozen=True, kw_only=True)
class AleConfig(BilinearConfig):
    """Attribute label embedding: weighted approximate ranking; the margin is the paper's 0/1 loss."""

    name: ClassVar[str] = "ale"
    by_rank: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class DeviseConfig(BilinearConfig):
    """DeViSE: hinge ranking; the margin is the paper's. The sum over classes asks for smaller steps than ALE's."""

    name: ClassVar[str] = "devise"
    by_rank: ClassVar[bool] = False

    lrs: tuple[float, ...] = (0.1, 1.0, 10.0)
    margin: float = 0.1


class Bilinear(EmbeddingBaseline, config=BilinearConfig):
    """``F(x, y) = x' W phi(y)``, learnt by minibatch SGD on the whole ranking loss.

    The papers sample one violating class a step, which saves time only where classes are many thousands; here every
    class is in every step. Where they are silent, or differ from each other: features are standardised and divided by
    ``sqrt(D)``, which makes their mean squared length 1 and the learning rate independent of D; embeddings are
    divided by their length; W starts from 0, so that the order of the rows is the only randomness and directions in
    which no seen class lies stay silent; there is no weight decay, the epochs are the regularisation.

    Attributes:
        scaler: of the features.
        weights: ``(D, C)`` float32, ``W phi(y) / sqrt(D)`` for every class.
    """

    config: BilinearConfig

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Run the epochs.

        Raises:
            TrainingDiverged: W left the finite numbers.
        """
        config, phi = self.config, torch.from_numpy(unit(embeddings).astype(np.float32))
        self.scaler = FeatureScaler.fit("standard", features)
        classes, targets = np.unique(labels, return_inverse=True)
        lr = (sorted(config.lrs)[len(config.lrs) // 2] if config.lr is None else config.lr) * config.margin
        seen, own = phi[torch.from_numpy(classes)], torch.from_numpy(targets)
        shrink = float(np.sqrt(self.scaler.dim))
        weight = torch.zeros(self.scaler.dim, phi.shape[1])
        for rows in _batches(len(labels), config, seed):
            x = torch.from_numpy(self.scaler.apply(read_rows(features, rows))) / shrink
            gradient = ranking_gradient(
                (x @ weight) @ seen.T, own[torch.from_numpy(rows)], config.margin, config.by_rank
            )
            weight.addmm_(x.T, gradient @ seen, alpha=-lr / len(rows))
        if not bool(torch.isfinite(weight).all()):
            raise TrainingDiverged(f"{config.name}'s weights are NaN or infinite", "finite numbers", "Lower model.lr")
        self.weights = ((weight @ phi.T) / shrink).numpy()

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return compatibilities ``(n, C)``."""
        return self.scaler.apply(block) @ self.weights


def ranking_loss(scores: Tensor, labels: Tensor, margin: float, by_rank: bool) -> Tensor:
    """Return the loss of each row, ``(n,)``.

    The hinges ``max(0, margin + F(x, y) - F(x, y_own))`` of the other classes, added up (Frome et al. 2013, Eq. 1);
    or, by rank, their sum times ``l_r / r``, where r is the number of hinges above 0 and ``l_r = 1 + 1/2 + ... +
    1/r`` (Akata et al. 2013, after Usunier et al. 2009), which weights the top of the ranking most.

    Args:
        scores: ``(n, S)``.
        labels: ``(n,)`` columns of the own classes.
        margin: by how much the own class should win.
        by_rank: ALE's weights.
    """
    hinges = _hinges(scores, labels, margin)
    return hinges.sum(dim=1) * _row_weights(hinges, by_rank)


def ranking_gradient(scores: Tensor, labels: Tensor, margin: float, by_rank: bool) -> Tensor:
    """Return the gradient ``(n, S)`` of :func:`ranking_loss` by the scores; the rank counts as constant."""
    hinges = _hinges(scores, labels, margin)
    gradient = (hinges > 0).to(scores) * _row_weights(hinges, by_rank).unsqueeze(1)
    return gradient.scatter_(1, labels.unsqueeze(1), -gradient.sum(dim=1, keepdim=True))


def _hinges(scores: Tensor, labels: Tensor, margin: float) -> Tensor:
    own = labels.unsqueeze(1)
    return (scores - scores.gather(1, own) + margin).clamp(min=0).scatter(1, own, 0.0)


def _row_weights(hinges: Tensor, by_rank: bool) -> Tensor:
    if not by_rank:
        return hinges.new_ones(len(hinges))
    rank = (hinges > 0).sum(dim=1)
    harmonic = (1 / torch.arange(1, hinges.shape[1] + 1, dtype=torch.float64)).cumsum(0).to(hinges)
    # A row without a violation has no hinge to be weighed.
    return harmonic[rank.clamp(min=1) - 1] / rank.clamp(min=1)


def _batches(n_rows: int, config: BilinearConfig, seed: int) -> Iterator[np.ndarray]:
    for epoch in range(config.epochs):
        order = rng.stream(seed, "ranking batches", epoch).permutation(n_rows)
        for start in range(0, n_rows, config.batch_size):
            yield order[start : start + config.batch_size]
