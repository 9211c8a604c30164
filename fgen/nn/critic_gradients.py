"""Closed-form gradients of a critic step: the fast twin of :func:`fgen.nn.losses.critic_terms`.

A critic with one hidden layer has an affine pre-activation. The pre-activation of an interpolate is therefore the
interpolation of those of the real and the fake row, without a product. All three share the class's part. The second
derivative of LeakyReLU is zero almost everywhere, so the penalty's gradient takes two more products. What is left is a
forward product of real and fake rows, the input gradient, its product back, and one product for all weight gradients.
The latter writes to buffers that are allocated once: page faults for 39 MB in each step take longer than the product.

Tensors over hidden units and rows have the shape ``(H, ..., B)``: a CPU's threads share a product of many rows better
than one of a batch's few.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.compute.matmul import SideStream, matmul_dtype, product, to_matmul_dtype
from fgen.nn.networks import SLOPE, Critic

#: As in :mod:`fgen.nn.losses`: keeps the length's derivative finite where the gradient vanishes.
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
    dtype, sign = matmul_dtype(real.dtype), scale / n_rows
    # Two side streams run beside the large products: the step soon waits for `ahead`, and later for `aside`.
    ahead, aside = (SideStream(real.device, dtype, index) for index in range(2))
    to_weight, to_bias, to_out, to_out_bias = (_buffer(p) for p in critic.parameters())
    out = critic.out.weight
    rows = real.new_empty(3 * n_rows, dim, dtype=dtype)
    with ahead:
        rows[:n_rows], rows[n_rows : 2 * n_rows] = real, fake
        classes = condition.T.to(dtype, memory_format=torch.contiguous_format)  # of an odd width, were they by rows
    with aside:
        slopes = out.T.unsqueeze(2) * _constants((-sign, sign, 1.0), real.dtype, real.device).unsqueeze(1)
        strength = _number(2 / n_rows * gp_weight, real)
    weight = to_matmul_dtype(critic.hidden.weight)
    of_features, of_class = weight[:, :dim], weight[:, dim:]
    ahead.join()

    with ahead:
        shared = product(of_class, classes).to(real.dtype).add_(critic.hidden.bias.unsqueeze(1))
    of_rows = product(of_features, rows[: 2 * n_rows].T)
    aside.join()
    ahead.join()
    hidden = real.new_empty(len(weight), 3, n_rows)
    torch.add(of_rows.view(-1, 2, n_rows), shared.unsqueeze(1), out=hidden[:, :2])
    mixed = torch.lerp(hidden[:, 1], hidden[:, 0], alpha.T, out=hidden[:, 2])
    deltas = _before_activation(slopes, hidden).to(dtype)
    # On a CPU products of bfloat16 are bfloat16 too: they overwrite the copied weights, which nothing reads after the
    # last of these products, for a CPU has no side streams.
    products = to_weight if dtype == to_weight.dtype or weight.is_cuda else weight
    with aside:
        both = deltas[:, 0] + deltas[:, 1]
        product(both, classes.T, out=products[:, dim:])
        torch.sum(both, dim=1, dtype=to_bias.dtype, out=to_bias)
        of_real, of_fake = F.leaky_relu_(hidden[:, :2], SLOPE).sum(dim=2).unbind(dim=1)
        moved = (of_fake - of_real) * sign

    gradient = _to_rows(deltas[:, 2], of_features).to(real.dtype)
    lengths = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min_(TINY**0.5)
    pull = torch.mul(gradient, torch.addcdiv(strength, strength, lengths, value=-1), out=rows[2 * n_rows :])
    with ahead:
        pulled = _before_activation(product(of_features, pull.T).to(real.dtype), mixed).sum(dim=1)
        aside.join()
        torch.add(pulled, moved, out=to_out[0])
    with aside:
        distance = moved @ out[0]
        to_out_bias.zero_()
        penalty = (lengths - 1).square_().mean()
    product(deltas.flatten(1), rows, out=products[:, :dim])
    aside.join()
    ahead.join()
    if products is weight:
        to_weight.copy_(products)
    return distance, penalty


def _before_activation(gradient: Tensor, pre_activation: Tensor) -> Tensor:
    """Return the gradient before the LeakyReLU for the one after it."""
    return torch.ops.aten.leaky_relu_backward(gradient.expand_as(pre_activation), pre_activation, SLOPE, False)


def _number(value: float | Tensor, like: Tensor) -> Tensor:
    """Return a number as a scalar tensor with the dtype and device of ``like``."""
    return value.to(like.dtype) if isinstance(value, Tensor) else _constants((value,), like.dtype, like.device)


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers on a device. The first step copies them, since a captured step can't copy from the host."""
    return torch.tensor(values, dtype=dtype, device=device)


def _to_rows(deltas: Tensor, weight: Tensor) -> Tensor:
    """Return ``deltas.T @ weight`` ``(B, D)`` of deltas ``(H, B)``.

    Of float32 the transposed product is faster, as above; of bfloat16 it is slower, for another library multiplies it.
    """
    return product(deltas.T, weight) if weight.dtype == torch.bfloat16 else product(weight.T, deltas).T


def _buffer(parameter: Tensor) -> Tensor:
    """Return the parameter's gradient, which the first step allocates and later ones overwrite."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
