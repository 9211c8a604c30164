"""The gradients of a critic step, written down: the fast twin of :func:`fgen.models.losses.critic_terms`.

A critic with one hidden layer has an affine pre-activation, so the interpolate's is the interpolation of the real
and the fake one's and needs no product of its own; the class's part of it is shared by all three; LeakyReLU's second
derivative is zero almost everywhere, so the penalty's gradient is two more products. What is left is a forward
product of real and fake rows, the input gradient, its product back, and one product for all weight gradients, straight
into buffers that are allocated once: a fresh gradient of 39 MB in each step costs more in page faults than its product.

What has a number for each hidden unit and row lies unit by unit, ``(H, ..., B)``: a processor's threads share a product
of many rows better than one of a batch's few.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.machine import for_products
from fgen.models.nets import SLOPE, Critic

#: As in :mod:`fgen.models.losses`: keeps the length's derivative finite where the gradient vanishes.
TINY = 1e-12


@torch.no_grad()
def critic_gradients(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    alpha: Tensor,
    gp_weight: float | Tensor,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Write ``.grad`` of the critic's parameters for ``scale * (E[D(fake)] - E[D(real)]) + gp_weight * penalty``.

    Args:
        real, fake: ``(B, D)``.
        condition: ``(B, A)``, of real and fake rows alike.
        alpha: ``(B, 1)`` in [0, 1], the share of ``real`` in the interpolate.

    Returns:
        ``scale * (E[D(fake)] - E[D(real)])``, and the penalty without its weight; two scalars.
    """
    n_rows, dim = real.shape
    weight, out = for_products(critic.hidden.weight), critic.out.weight
    of_features, of_class = weight[:, :dim], weight[:, dim:]
    condition = condition.to(weight.dtype)
    rows = real.new_empty(3 * n_rows, dim, dtype=weight.dtype)
    rows[:n_rows], rows[n_rows : 2 * n_rows] = real, fake
    shared = (of_class @ condition.T).to(real.dtype).add_(critic.hidden.bias.unsqueeze(1))

    hidden = (of_features @ rows[: 2 * n_rows].T).to(real.dtype).view(-1, 2, n_rows).add_(shared.unsqueeze(1))
    mixed = torch.lerp(hidden[:, 1], hidden[:, 0], alpha.T)
    sign = scale / n_rows
    deltas = real.new_empty(len(weight), 3, n_rows, dtype=weight.dtype)
    deltas[:, :2] = _before_activation((out.T * sign).unsqueeze(2), hidden)
    deltas[:, 0].neg_()
    deltas[:, 2] = _before_activation(out.T, mixed)
    activated = F.leaky_relu_(hidden, SLOPE)
    moved = (activated[:, 1].sum(dim=1) - activated[:, 0].sum(dim=1)) * sign
    distance = moved @ out[0]

    gradient = _to_rows(deltas[:, 2], of_features).to(real.dtype)
    lengths = (gradient.square().sum(dim=1, keepdim=True) + TINY).sqrt_()
    penalty = (lengths - 1).square_().mean()
    pull = torch.mul(gradient, (lengths - 1) / lengths * (2 / n_rows * gp_weight), out=rows[2 * n_rows :])
    pulled = _before_activation((of_features @ pull.T).to(real.dtype), mixed)

    to_weight, to_bias, to_out, to_out_bias = (_buffer(p) for p in critic.parameters())
    both = deltas[:, 0] + deltas[:, 1]
    # Products of rounded factors are rounded too: they take the place of the rounded weights, whose part is done.
    products = to_weight if weight.dtype == to_weight.dtype else weight
    torch.mm(deltas.flatten(1), rows, out=products[:, :dim])
    torch.mm(both, condition, out=products[:, dim:])
    if products is weight:
        to_weight.copy_(products)
    torch.sum(both, dim=1, dtype=to_bias.dtype, out=to_bias)
    torch.add(pulled.sum(dim=1), moved, out=to_out[0])
    to_out_bias.zero_()
    return distance, penalty


def _before_activation(gradient: Tensor, pre_activation: Tensor) -> Tensor:
    """A gradient after the LeakyReLU to the one before it."""
    return torch.ops.aten.leaky_relu_backward(gradient.expand_as(pre_activation), pre_activation, SLOPE, False)


def _to_rows(deltas: Tensor, weight: Tensor) -> Tensor:
    """``deltas.T @ weight``, from ``(H, B)`` to ``(B, D)``.

    Of float32 the transposed product is faster, as above; of bfloat16 it is slower, for another library multiplies it.
    """
    return deltas.T @ weight if weight.dtype == torch.bfloat16 else (weight.T @ deltas).T


def _buffer(parameter: Tensor) -> Tensor:
    """The parameter's gradient, allocated at the first step and overwritten ever after."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
