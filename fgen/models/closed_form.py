"""The gradients of a critic step, written down: the fast twin of :func:`fgen.models.losses.critic_terms`.

A critic with one hidden layer has an affine pre-activation, so the interpolate's is the interpolation of the real
and the fake one's and needs no product of its own; the class's part of it is shared by all three; LeakyReLU's second
derivative is zero almost everywhere, so the penalty's gradient is two more products. What is left is a forward
product of real and fake rows, the input gradient, its product back, and one product for all weight gradients, straight
into buffers that are allocated once: a fresh gradient of 39 MB in each step costs more in page faults than its product.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
    weight, out = critic.hidden.weight, critic.out.weight
    of_features, of_class = weight[:, :dim], weight[:, dim:]
    rows = real.new_empty(3 * n_rows, dim)
    torch.cat([real, fake], out=rows[: 2 * n_rows])
    shared = torch.addmm(critic.hidden.bias, condition, of_class.T)

    hidden = (rows[: 2 * n_rows] @ of_features.T).view(2, n_rows, -1).add_(shared)
    mixed = torch.lerp(hidden[1], hidden[0], alpha)
    slopes = _slopes(hidden)
    activated = hidden.mul_(slopes).view(2 * n_rows, -1)
    scores = activated @ out[0]
    sign = scale / n_rows
    distance = (scores[n_rows:].sum() - scores[:n_rows].sum()) * sign

    deltas = real.new_empty(3 * n_rows, weight.shape[0])
    torch.mul(slopes.view(2 * n_rows, -1), out[0] * sign, out=deltas[: 2 * n_rows])
    deltas[:n_rows].neg_()
    mask = _slopes(mixed)
    torch.mul(mask, out[0], out=deltas[2 * n_rows :])
    gradient = deltas[2 * n_rows :] @ of_features
    lengths = (gradient.square().sum(dim=1, keepdim=True) + TINY).sqrt_()
    penalty = (lengths - 1).square_().mean()
    pull = torch.mul(gradient, (lengths - 1) / lengths * (2 / n_rows * gp_weight), out=rows[2 * n_rows :])

    to_weight, to_bias, to_out, to_out_bias = (_buffer(p) for p in (weight, critic.hidden.bias, out, critic.out.bias))
    torch.mm(deltas.T, rows, out=to_weight[:, :dim])
    both = deltas[:n_rows] + deltas[n_rows : 2 * n_rows]
    torch.mm(both.T, condition, out=to_weight[:, dim:])
    torch.sum(both, dim=0, out=to_bias)
    from_penalty = (pull @ of_features.T).mul_(mask).sum(dim=0)
    torch.add(from_penalty, (activated[n_rows:].sum(dim=0) - activated[:n_rows].sum(dim=0)) * sign, out=to_out[0])
    to_out_bias.zero_()
    return distance, penalty


def _slopes(pre_activation: Tensor) -> Tensor:
    """LeakyReLU's derivative, elementwise."""
    return torch.where(pre_activation > 0, pre_activation.new_ones(()), pre_activation.new_full((), SLOPE))


def _buffer(parameter: Tensor) -> Tensor:
    """The parameter's gradient, allocated at the first step and overwritten ever after."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
