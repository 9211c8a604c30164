"""The softmax head by Adam in batches, and what both of its solvers share.

Features stay where they are and indices are shuffled; the gradient is written down, so no graph is built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgen import rng
from fgen.compute.matmul import add_product, matmul_operand, product
from fgen.errors import InputError
from fgen.features.scaled_rows import CPU, ScaledRows

#: Rows that stay on disk are asked for so many rows before their turn: a disk works best at many requests at once.
ROWS_AHEAD = 512


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Settings of :func:`train_adam`; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        epochs: passes over the rows.
        lr: Adam's learning rate.
        batch_size: None means 64, or in an experiment the number of features per unseen class, as published.
        beta1: Adam's first decay; the second is 0.999.
        weight_decay: this times weights and biases is added to their gradient.
    """

    epochs: int = 25
    lr: float = 1e-3
    batch_size: int | None = None
    beta1: float = 0.5
    weight_decay: float = 0.0

    def check_adam(self) -> None:
        """Refuse values out of range."""
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key} is {value}", "a whole number of at least 1")
        if not 0 < self.lr < 10:
            raise InputError(f"lr is {self.lr}", "a number above 0 and below 10")
        if not 0 <= self.beta1 < 1:
            raise InputError(f"beta1 is {self.beta1}", "a number from 0 to below 1")
        if not 0 <= self.weight_decay < np.inf:
            raise InputError(f"weight_decay is {self.weight_decay}", "a number of at least 0")


def initial_parameters(n_classes: int, dim: int, seed: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """The lineage's start: weights from N(0, 0.02), biases 0; float32."""
    numbers = rng.stream(seed, "head init").standard_normal((n_classes, dim), dtype=np.float32)
    return (torch.from_numpy(numbers) * 0.02).to(device), torch.zeros(n_classes, device=device)


def train_adam(
    rows: ScaledRows,
    targets: Tensor,
    row_weights: Tensor,
    parameters: tuple[Tensor, Tensor],
    config: AdamConfig,
    seed: int,
    offsets: Tensor | None = None,
    progress: bool = False,
) -> None:
    """Minimise the batches' mean weighted cross-entropy, in place.

    Args:
        rows: the features ``(N, D)``.
        targets: ``(N,)`` indices of classes.
        row_weights: ``(N, 1)``.
        parameters: weights ``(K, D)`` and biases ``(K,)``, which are changed.
        config: the settings.
        seed: names the order of the rows.
        offsets: ``(K,)`` added to the logits in training alone, see :func:`fgen.classifiers.seen_bias.log_prior`.
        progress: show a bar.
    """
    weight, bias = parameters
    weight.grad, bias.grad = to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
    betas = (config.beta1, 0.999)
    adam = torch.optim.Adam([weight, bias], lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)
    size = min(config.batch_size or 64, len(targets))
    features, logits, gradients = (weight.new_empty(size, n) for n in (weight.shape[1], len(bias), len(bias)))
    for epoch in tqdm(range(config.epochs), desc="head", unit="epoch", disable=not progress):
        order = rng.stream(seed, "head batches", epoch).permutation(len(targets))
        for start in range(0, len(order), size):
            rows.prefetch(order[start + ROWS_AHEAD if start else 0 : start + ROWS_AHEAD + size])
            numbers = order[start : start + size]
            batch, n = torch.from_numpy(numbers).to(weight.device), len(numbers)
            x = rows.take(numbers, out=features[:n])
            factor, shift = matmul_operand(x), bias if offsets is None else bias + offsets
            add_product(shift, factor, matmul_operand(weight).T, out=logits[:n])
            gradient = cross_entropy_gradient(logits[:n], targets[batch], row_weights[batch] / n, out=gradients[:n])
            product(matmul_operand(gradient).T, factor, out=to_weight)
            torch.sum(gradient, dim=0, out=to_bias)
            adam.step()
    weight.grad = bias.grad = None


def cross_entropy_gradient(logits: Tensor, targets: Tensor, row_weights: Tensor, out: Tensor) -> Tensor:
    """``row_weights * (softmax(logits) - one-hot)``, the derivative of the weighted cross-entropy; ``(n, K)``."""
    torch.softmax(logits, dim=1, out=out)
    out.scatter_add_(1, targets.unsqueeze(1), out.new_full((len(targets), 1), -1.0))
    return out.mul_(row_weights)
