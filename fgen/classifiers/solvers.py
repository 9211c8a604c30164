"""The softmax head's solvers: Adam in batches, and L-BFGS to the minimum.

Features stay where they are and indices are shuffled; the gradient is written down, so no graph is built. Both
solvers work in place on ``weight (K, D)`` and ``bias (K,)``, in whose precision they calculate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgen import rng
from fgen.data.access import Features, expect_rows, read_rows
from fgen.data.scaling import FeatureScaler

if TYPE_CHECKING:
    from fgen.classifiers.softmax import SoftmaxConfig

#: Scaled features are kept in memory up to this many bytes, and scaled batch by batch beyond it.
IN_MEMORY = 2 << 30
#: Beyond it rows are asked for so many rows before their turn, which keeps a disk busy with many requests at once.
ROWS_AHEAD = 512
#: Rows whose logits L-BFGS holds at once.
BLOCK_ROWS = 8192
#: L-BFGS ends when no entry of the gradient is larger than this; 600 classes of 1,280 features take 25 to 40 passes.
LBFGS_GRADIENT = 1e-5
LBFGS_STEPS = 500


def initial_parameters(n_classes: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The lineage's start: weights from N(0, 0.02), biases 0; float32."""
    numbers = rng.stream(seed, "head init").standard_normal((n_classes, dim), dtype=np.float32)
    return torch.from_numpy(numbers) * 0.02, torch.zeros(n_classes)


def train_adam(
    rows: ScaledRows,
    targets: Tensor,
    row_weights: Tensor,
    weight: Tensor,
    bias: Tensor,
    config: SoftmaxConfig,
    seed: int,
    *,
    offsets: Tensor | None = None,
    progress: bool = False,
) -> None:
    """Minimise the batches' mean weighted cross-entropy; ``targets (N,)`` index classes, ``row_weights (N, 1)``.

    ``offsets (K,)`` are added to the logits here and never again, see :func:`fgen.classifiers.seen_bias.log_prior`.
    """
    weight.grad, bias.grad = to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
    betas = (config.beta1, 0.999)
    adam = torch.optim.Adam([weight, bias], lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)
    size = min(config.batch_size or 64, len(targets))
    features, logits, slopes = (weight.new_empty(size, n) for n in (weight.shape[1], len(bias), len(bias)))
    for epoch in tqdm(range(config.epochs), desc="head", unit="epoch", disable=not progress):
        order = torch.from_numpy(rng.stream(seed, "head batches", epoch).permutation(len(targets)))
        for index, batch in enumerate(order.split(size)):
            rows.expect(order, index * size, size)
            n = len(batch)
            x = rows.take(batch, out=features[:n])
            torch.addmm(bias if offsets is None else bias + offsets, x, weight.T, out=logits[:n])
            slope = cross_entropy_slope(logits[:n], targets[batch], row_weights[batch] / n, out=slopes[:n])
            torch.mm(slope.T, x, out=to_weight)
            torch.sum(slope, dim=0, out=to_bias)
            adam.step()
    weight.grad = bias.grad = None


def train_lbfgs(
    rows: ScaledRows, targets: Tensor, row_weights: Tensor, weight: Tensor, bias: Tensor, l2: float
) -> None:
    """Minimise the mean weighted cross-entropy plus ``l2 / 2 |W|^2`` over all rows.

    The steps are taken on ``W (x - m) + c`` with m the rows' weighted mean: the same problem, as the biases
    ``b = c - W m`` bear no penalty, but one whose weights and biases don't pull at each other. It halves the passes
    (from 49 to 25 on emoji with l2 = 1e-3, from 67 to 35 with 1e-4). Whitening the features beyond that saves none,
    nor does a longer history or a start at the classes' log-frequencies.
    """
    mean = torch.zeros_like(weight[0])
    for start, x in rows.blocks():
        mean.addmv_(x.T, row_weights[start : start + len(x), 0].to(x))
    mean /= row_weights.sum()
    row_weights = row_weights / len(targets)
    bias.addmv_(weight, mean)
    weight.grad, bias.grad = to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)

    def objective() -> Tensor:
        torch.mul(weight, l2, out=to_weight)
        to_bias.zero_()
        loss = l2 / 2 * weight.double().square().sum()
        shifted = bias - weight @ mean
        for start, x in rows.blocks():
            block = slice(start, start + len(x))
            logits = torch.addmm(shifted, x, weight.T)
            losses = torch.nn.functional.cross_entropy(logits, targets[block], reduction="none")
            loss += torch.dot(losses, row_weights[block, 0].to(losses)).double()
            slope = cross_entropy_slope(logits, targets[block], row_weights[block], out=torch.empty_like(logits))
            to_weight.addmm_(slope.T, x)
            to_bias.add_(slope.sum(dim=0))
        to_weight.addr_(to_bias, mean, alpha=-1)
        return loss

    torch.optim.LBFGS(
        [weight, bias],
        max_iter=LBFGS_STEPS,
        max_eval=2 * LBFGS_STEPS,
        tolerance_grad=LBFGS_GRADIENT,
        history_size=10,
        line_search_fn="strong_wolfe",
    ).step(objective)
    bias.addmv_(weight, mean, alpha=-1)
    weight.grad = bias.grad = None


def cross_entropy_slope(logits: Tensor, targets: Tensor, row_weights: Tensor, out: Tensor) -> Tensor:
    """``row_weights * (softmax(logits) - one-hot)``, the derivative of the weighted cross-entropy; ``(n, K)``."""
    torch.softmax(logits, dim=1, out=out)
    out.scatter_add_(1, targets.unsqueeze(1), out.new_full((len(targets), 1), -1.0))
    return out.mul_(row_weights)


class ScaledRows:
    """Scaled rows by index: from one scaled copy where that is small, else read and scaled batch by batch.

    Args:
        features: ``(N, D)`` raw.
        scaler: their scaling.
        dtype: of the scaled rows.

    Raises:
        InputError: a feature isn't finite.
    """

    def __init__(self, features: Features, scaler: FeatureScaler, dtype: torch.dtype = torch.float32) -> None:
        self._features, self._scaler, self._dtype = features, scaler, dtype
        n_rows, dim = features.shape
        fits = n_rows * dim * dtype.itemsize <= IN_MEMORY
        self._scaled = torch.empty(n_rows, dim, dtype=dtype) if fits else None
        for start, scaled in scaler.blocks(features):
            if self._scaled is not None:
                self._scaled[start : start + len(scaled)] = torch.from_numpy(scaled)

    def expect(self, order: Tensor, start: int, size: int) -> None:
        """Have rows fetched that will be taken soon, as ``order (N,)`` is walked in batches and stands at ``start``."""
        if self._scaled is None:
            first = 0 if start == 0 else start + ROWS_AHEAD
            expect_rows(self._features, order[first : start + ROWS_AHEAD + size].numpy())

    def take(self, rows: Tensor, out: Tensor) -> Tensor:
        """Rows by number ``(n,)``, written to ``out (n, D)``."""
        if self._scaled is not None:
            return torch.index_select(self._scaled, 0, rows, out=out)
        return out.copy_(torch.from_numpy(self._scaler.apply(read_rows(self._features, rows.numpy()))))

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Consecutive blocks of rows, each with the number of its first."""
        if self._scaled is not None:
            for i, block in enumerate(self._scaled.split(BLOCK_ROWS)):
                yield i * BLOCK_ROWS, block
            return
        for start, scaled in self._scaler.blocks(self._features):
            yield start, torch.from_numpy(scaled).to(self._dtype)
