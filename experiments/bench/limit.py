"""What a training step costs at the least: its matrix products and Adam's passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.bench.sizes import Size
from fgen.models.nets import for_products

CRITIC_STEPS = 5


def bare_step(size: Size, device: torch.device) -> Callable[[], None]:
    """The products that a step of f-CLSWGAN can't do without, of random factors that lie where a step has them.

    A step is counted as :mod:`fgen.models.closed_form` needs it, which is fewer products than autograd's. Factors are
    rounded beforehand, results lie the way that is fastest, and no bias, activation, loss, or draw is counted.
    """
    rows, dim, hidden, seen = size.batch_size, size.feature_dim, size.hidden_dim, size.n_seen
    condition, inputs = size.embedding_dim, size.noise_dim + size.embedding_dim
    critic = [
        (2 * rows, dim, hidden),  # real and fake rows
        (rows, condition, hidden),  # their classes
        (rows, hidden, dim),  # the gradient in the interpolates
        (rows, dim, hidden),  # and the penalty's way back
        (hidden, 3 * rows, dim),  # the weights' gradients
        (hidden, rows, condition),
    ]
    fakes = [(CRITIC_STEPS * rows, inputs, hidden), (CRITIC_STEPS * rows, hidden, dim)]
    generator = [
        (rows, inputs, hidden),
        (rows, hidden, dim),
        (rows, dim + condition, hidden),  # the critic's opinion
        (rows, hidden, dim),  # and its gradient
        (rows, dim, seen),  # the classifier's
        (rows, seen, dim),
        (dim, rows, hidden),  # the weights' gradients
        (rows, dim, hidden),
        (hidden, rows, inputs),
    ]
    products = [*fakes, *CRITIC_STEPS * critic, *generator]
    factors = {torch.float32: {shape: _factors(shape, device) for shape in set(products)}}
    factors[torch.bfloat16] = {s: (a.bfloat16(), b.bfloat16()) for s, (a, b) in factors[torch.float32].items()}
    adams = [
        *CRITIC_STEPS * [_adam([(hidden, dim + condition), (1, hidden)], device)],
        _adam([(hidden, inputs), (dim, hidden)], device),
    ]
    probe = torch.empty(0, device=device)

    @torch.no_grad()
    def run() -> None:
        own = factors[for_products(probe).dtype]
        for shape in products:
            left, right = own[shape]
            if left.dtype == torch.float32 and len(left) <= CRITIC_STEPS * rows:
                torch.mm(right.T, left.T)
            else:
                torch.mm(left, right)
        for adam in adams:
            adam.step()

    return run


def _factors(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    n, inner, m = shape
    return torch.randn(n, inner, device=device), torch.randn(m, inner, device=device).T


def _adam(shapes: list[tuple[int, int]], device: torch.device) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return torch.optim.Adam(parameters, fused=True)
