"""DAP: direct attribute prediction, one probabilistic classifier for each attribute (Lampert et al. 2009, 2014)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from fgen.baselines.base import BaselineConfig, EmbeddingBaseline
from fgen.errors import InputError
from fgen.features.rows import Features, numbered_blocks
from fgen.features.statistics import Moments, moments

#: Number of rows whose logits are in memory at once.
BLOCK_ROWS = 4096
#: L-BFGS ends when no entry of the gradient, in whitened coordinates, is larger than this, or after so many steps.
GRADIENT = 1e-3
STEPS = 100


@dataclass(frozen=True, kw_only=True)
class DapConfig(BaselineConfig):
    """Settings of DAP.

    Attributes:
        l2: the penalty ``l2 / 2 |w|^2`` of each regression on centred features of mean variance 1, beside its mean
            log-loss; None lets the protocol choose one of ``l2s`` on validation classes, and is 0.1 elsewhere.
        l2s: what is chosen from.
    """

    name: ClassVar[str] = "dap"
    open_fields: ClassVar[tuple[str, ...]] = ("l2",)

    l2: float | None = None
    l2s: tuple[float, ...] = (0.01, 0.1)


class Dap(EmbeddingBaseline, config=DapConfig):
    """``log p(y | x) = sum_m log p(a_m(y) | x) - log p(a_m(y))``, up to a constant of the row.

    An embedding's column is an attribute that a class has where it lies above the column's mean over seen classes;
    columns that don't vary over them are left out. ``p(a_m)`` is the share of the seen classes that have it, the
    paper's estimate. ``p(a_m | x)`` is logistic regression, which needs no second fit to be a probability, where the
    paper calibrates SVMs. Attributes are taken as independent, so hundreds of correlated columns make posteriors far
    too sure: scores are ranks, not probabilities.

    Attributes:
        mean: ``(D,)`` of all rows.
        weights, biases: ``(D, M)`` and ``(M,)`` float32, of the M attributes kept, on features less ``mean``.
        evidence: ``(M, C)``, what a class gains from each attribute's logit: 1 where it has the attribute, else 0.
        offsets: ``(C,)``, minus the log-prior of the class's attributes.
    """

    config: DapConfig

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Fit all attributes at once."""
        known = moments(features, labels)
        attributes = binarise(embeddings, known.classes)
        scale = np.sqrt(known.variances.mean() or 1.0)
        seen = attributes[known.classes]
        has = torch.from_numpy(seen[np.searchsorted(known.classes, labels)].astype(np.float32))
        l2 = 0.1 if self.config.l2 is None else self.config.l2
        weights, biases = fit_logistic(features, has, known, scale, l2)
        self.mean, self.weights, self.biases = known.mean.astype(np.float32), weights / np.float32(scale), biases
        prior = seen.mean(axis=0)
        self.evidence = attributes.T.astype(np.float32)
        self.offsets = -(attributes @ np.log(prior) + ~attributes @ np.log1p(-prior))

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return log-posteriors ``(n, C)`` up to a constant of the row, with the normaliser of each attribute."""
        logits = torch.from_numpy((block - self.mean) @ self.weights + self.biases)
        # log sigmoid(z) - log sigmoid(-z) = z, so a class adds the logits of what it has to what all share.
        shared = logsigmoid(-logits).double().sum(dim=1, keepdim=True).numpy()
        return logits.numpy() @ self.evidence + shared + self.offsets


def binarise(embeddings: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return ``(C, M)`` bool: which embeddings ``(C, A)`` exceed the mean of the ``seen``, in columns that vary.

    Raises:
        InputError: no column varies.
    """
    attributes = embeddings > embeddings[seen].mean(axis=0)
    share = attributes[seen].mean(axis=0)
    varies = (share > 0) & (share < 1)
    if not varies.any():
        raise InputError("the embeddings of the classes with rows are all alike", "an attribute that tells them apart")
    return attributes[:, varies]


def fit_logistic(
    features: Features, has: Tensor, known: Moments, scale: float, l2: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights ``(D, M)`` and biases ``(M,)`` of M logistic regressions on ``(features - mean) / scale``.

    Each minimises its mean log-loss plus ``l2 / 2 |w|^2``; L-BFGS minimises their sum. No Hessian is larger than
    that of ``p = 1/2`` (Böhning & Lindsay 1988); the coordinates are those in which that one is the identity.

    Args:
        features: ``(N, D)`` raw, read block by block in every step.
        has: ``(N, M)`` float32, 1 or 0.
        known: moments of the features.
        scale: what centred features are divided by.
        l2: the penalty.
    """
    curvature = known.variances / (4 * scale**2) + l2
    whiten = torch.from_numpy((known.directions / np.sqrt(curvature)).astype(np.float32))
    mean = known.mean.astype(np.float32)
    share = has.mean(dim=0)
    weights, biases = torch.zeros(len(mean), has.shape[1]), torch.logit(share) / 2
    weights.grad, biases.grad = to_weights, to_biases = torch.zeros_like(weights), torch.zeros_like(biases)

    def objective() -> Tensor:
        raw = whiten @ weights
        loss, to_raw = l2 / 2 * raw.double().square().sum(), l2 * raw
        to_biases.zero_()
        for start, block in _scaled_blocks(features, mean, scale):
            target = has[start : start + len(block)]
            logits = torch.addmm(2 * biases, block, raw)
            loss += (softplus(logits) - target * logits).sum().double() / len(has)
            gradient = (logits.sigmoid_() - target) / len(has)
            to_raw.addmm_(block.T, gradient)
            to_biases.add_(gradient.sum(dim=0), alpha=2)
        torch.mm(whiten.T, to_raw, out=to_weights)
        return loss

    torch.optim.LBFGS(
        [weights, biases],
        max_iter=STEPS,
        max_eval=2 * STEPS,
        tolerance_grad=GRADIENT,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    ).step(objective)
    return (whiten @ weights).numpy(), (2 * biases).numpy()


def _scaled_blocks(features: Features, mean: np.ndarray, scale: float) -> Iterator[tuple[int, Tensor]]:
    for first, rows in numbered_blocks(features):
        for start in range(0, len(rows), BLOCK_ROWS):
            part = rows[start : start + BLOCK_ROWS]
            yield first + start, torch.from_numpy((part - mean) / np.float32(scale))
