"""What a training step costs at the least: its matrix products and Adam's passes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.bench.sizes import Size
from fgen.compute.matmul import product, to_matmul_dtype
from fgen.nn.adam import Adam

CRITIC_STEPS = 5


def products_of_step(size: Size) -> list[tuple[int, int, int, str]]:
    """The matrix products that a step of f-CLSWGAN can't do without: rows, inner length, columns, and how the right
    factor lies: ``"T"`` as a layer's weight does in its forward pass, ``"N"`` as it does on the way back.

    They are those of :mod:`fgen.nn.critic_gradients`, which are fewer than autograd's.
    """
    rows, dim, hidden, seen = size.batch_size, size.feature_dim, size.hidden_dim, size.n_seen
    condition, inputs = size.embedding_dim, size.noise_dim + size.embedding_dim
    critic = [
        (2 * rows, dim, hidden, "T"),  # real and fake rows
        (rows, condition, hidden, "T"),  # their classes
        (rows, hidden, dim, "N"),  # the gradient in the interpolates
        (rows, dim, hidden, "T"),  # and the penalty's way back
        (hidden, 3 * rows, dim, "N"),  # the weights' gradients
        (hidden, rows, condition, "N"),
    ]
    fakes = [(CRITIC_STEPS * rows, inputs, hidden, "T"), (CRITIC_STEPS * rows, hidden, dim, "T")]
    generator = [
        (rows, inputs, hidden, "T"),
        (rows, hidden, dim, "T"),
        (rows, dim + condition, hidden, "T"),  # the critic's opinion
        (rows, hidden, dim, "N"),  # and its gradient
        (rows, dim, seen, "T"),  # the classifier's
        (rows, seen, dim, "N"),
        (dim, rows, hidden, "N"),  # the weights' gradients
        (rows, dim, hidden, "N"),
        (hidden, rows, inputs, "N"),
    ]
    return [*fakes, *CRITIC_STEPS * critic, *generator]


def bare_step(size: Size, device: torch.device) -> Callable[[], None]:
    """:func:`products_of_step` and Adam's passes on random numbers: about the least that a step can cost.

    Factors are rounded beforehand; no bias, activation, loss, or draw is counted. float32 products of few rows are
    done the other way round, as :mod:`fgen.nn.critic_gradients` does them; on a GPU, results and factors of an odd
    inner length lie by columns, see :func:`fgen.compute.matmul.set_weight_layout`; products are made one by one.
    """
    products = products_of_step(size)
    factors = {torch.float32: {sizes: _factors(*sizes, device) for sizes in set(products)}}
    factors[torch.bfloat16] = {p: (a.bfloat16(), b.bfloat16()) for p, (a, b) in factors[torch.float32].items()}
    critic, generator = _shapes(size)
    adams = [*CRITIC_STEPS * [_adam(critic, device)], _adam(generator, device)]
    probe = torch.empty(0, device=device)

    @torch.no_grad()
    def step() -> None:
        own = factors[to_matmul_dtype(probe).dtype]
        for sizes in products:
            left, right = own[sizes]
            few_rows = left.dtype == torch.float32 and len(left) <= CRITIC_STEPS * size.batch_size
            if few_rows or (left.is_cuda and right.shape[1] % 8):
                product(right.T, left.T)
            else:
                product(left, right)
        for optimiser in adams:
            optimiser.step()

    return _captured(step) if device.type == "cuda" else step


def bytes_of_step(size: Size) -> int:
    """The memory traffic of :func:`bare_step` in float32, were each factor and each result of a product moved once:
    what a GPU's cache keeps from one product to the next saves some of it."""
    of_products = sum(m * k + k * n + m * n for m, k, n, _ in products_of_step(size))
    critic, generator = _shapes(size)
    # Adam reads the gradient, and reads and writes the parameter and its two moments.
    return 4 * (of_products + 7 * (CRITIC_STEPS * _count(critic) + _count(generator)))


def copy_of(n_bytes: int, device: torch.device) -> Callable[[], object]:
    """A copy that reads half of so many bytes and writes as many."""
    source = torch.zeros(n_bytes // 8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph, in the precision of its first call."""
    graphs: list[torch.cuda.CUDAGraph] = []

    def run() -> None:
        if not graphs:
            step()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            graphs.append(graph)
        graphs[0].replay()

    return run


def _shapes(size: Size) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Of the critic's weights, and of the generator's."""
    hidden, dim = size.hidden_dim, size.feature_dim
    critic = [(hidden, dim + size.embedding_dim), (1, hidden)]
    return critic, [(hidden, size.noise_dim + size.embedding_dim), (dim, hidden)]


def _count(shapes: list[tuple[int, int]]) -> int:
    return sum(rows * columns for rows, columns in shapes)


def _factors(rows: int, inner: int, columns: int, lies: str, device: torch.device) -> tuple[Tensor, Tensor]:
    odd = device.type == "cuda" and inner % 8 > 0
    left = torch.randn(inner, rows, device=device).T if odd else torch.randn(rows, inner, device=device)
    if lies == "T" and not odd:
        return left, torch.randn(columns, inner, device=device).T
    return left, torch.randn(inner, columns, device=device)


def _adam(shapes: list[tuple[int, int]], device: torch.device) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return Adam(parameters)
