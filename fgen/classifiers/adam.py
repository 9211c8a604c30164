"""Training of the softmax head by Adam in batches, and the loss's gradient, which both of its solvers use.

Row numbers are shuffled, not rows. The gradient is a formula, so autograd builds no graph.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgen import rng
from fgen.compute.matmul import add_product, matmul_operand, product
from fgen.features.scaled_rows import CPU, ScaledRows
from fgen.nn.adam import Adam

#: Number of rows that are read ahead from disk: a disk is fastest with many requests at once.
ROWS_AHEAD = 512


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Settings of :func:`train_adam`; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        epochs: passes over the rows.
        lr: Adam's learning rate.
        batch_size: None means 64, or in an experiment the number of features per unseen class, as published.
        beta1: Adam's first decay; the second is 0.999.
        weight_decay: multiplied by weights and biases and added to their gradient.
    """

    epochs: int = 25
    lr: float = 1e-3
    batch_size: int | None = None
    beta1: float = 0.5
    weight_decay: float = 0.0


def initial_parameters(n_classes: int, dim: int, seed: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Return weights ``(K, D)`` from N(0, 0.02) and biases ``(K,)`` of 0, float32, as the published code starts."""
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
    adam = Adam([weight, bias], lr=config.lr, betas=betas, weight_decay=config.weight_decay)
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
    """Return ``row_weights * (softmax(logits) - one-hot)`` ``(n, K)``: the gradient of the weighted cross-entropy."""
    torch.softmax(logits, dim=1, out=out)
    out.scatter_add_(1, targets.unsqueeze(1), out.new_full((len(targets), 1), -1.0))
    return out.mul_(row_weights)
