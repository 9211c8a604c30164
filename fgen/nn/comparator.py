"""CE-GZSL's comparator of all pairs of rows and classes, without storing a tensor of their number."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fgen.nn.networks import SLOPE, Linear

#: Pre-activations ``rows x classes x hidden`` that are computed at a time: on a CPU 2 MiB, which fit into its cache;
#: elsewhere 128 MiB, since small operations leave a GPU idle.
COMPARED_CPU, COMPARED = 1 << 19, 1 << 25


class Comparator(nn.Module):
    """The paper's F: how well an embedded feature and a class description go together, for all pairs at once.

    The released code runs an MLP on each pair ``[h; a]``. Its first layer is linear, so that it is a sum of a part of
    h and a part of a; these are computed once for each row and once for each class, and only their sums for each
    pair. The output has no bias: it would be the same for all classes, and their softmax forgets it.
    """

    def __init__(self, embedded_dim: int, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.of_embedded = Linear(embedded_dim, hidden_dim)
        self.of_class = Linear(embedding_dim, hidden_dim, bias=False)
        self.out = Linear(hidden_dim, 1, bias=False)

    def forward(self, embedded: Tensor, classes: Tensor) -> Tensor:
        """Return scores ``(B, S)`` of h ``(B, E)`` and class embeddings ``(S, A)``."""
        scores: Tensor = Compared.apply(self.of_embedded(embedded), self.of_class(classes), self.out.weight[0])
        return scores


class Compared(torch.autograd.Function):
    """``sum_h w_h LeakyReLU(r_bh + c_sh)``, ``(B, S)``, of rows r ``(B, H)``, columns c ``(S, H)`` and w ``(H,)``.

    Its gradient is all in the slopes ``m_bsh`` of the LeakyReLU. With g that of the scores, ``R_b = sum_s g_bs m_bs``
    and ``C_s = sum_b g_bs m_bs``, it is ``w R`` in r, ``w C`` in c, and, since ``LeakyReLU(x) = m x``,
    ``sum_b r_b R_b + sum_s c_s C_s`` in w. No pair is stored: a batch of 2,048 with 150 classes would have 2.5 GB of
    them, and reading them again takes longer than computing them again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
        """Return what the class says."""
        ctx.save_for_backward(rows, columns, weight)
        scores = rows.new_empty(len(rows), len(columns))
        for own, other, pairs in _blocks(rows, columns):
            scores[own, other] = F.leaky_relu_(pairs, SLOPE) @ weight
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what the class says."""
        rows, columns, weight = ctx.saved_tensors
        learns = any(ctx.needs_input_grad[1:])  # in the generator's step the comparator stays as it is
        of_rows, of_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        for own, other, pairs in _blocks(rows, columns):
            share = gradient[own, other].unsqueeze(2).expand_as(pairs)
            slopes = torch.ops.aten.leaky_relu_backward(share, pairs, SLOPE, False)
            of_rows[own] += slopes.sum(dim=1)
            if learns:
                of_columns[other] += slopes.sum(dim=0)
        if not learns:
            return of_rows.mul_(weight), None, None
        of_weight = (rows * of_rows).sum(dim=0) + (columns * of_columns).sum(dim=0)
        return of_rows.mul_(weight), of_columns.mul_(weight), of_weight


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield slices of rows and columns and their sums ``(b, s, H)``, which the next ones overwrite."""
    held = COMPARED_CPU if rows.device.type == "cpu" else COMPARED
    width = max(1, min(len(columns), held // rows.shape[1]))
    width = -(-len(columns) // -(-len(columns) // width))  # as many blocks, all about as wide
    height = max(1, held // (width * rows.shape[1]))
    pairs = rows.new_empty(height, width, rows.shape[1])
    for i in range(0, len(rows), height):
        for j in range(0, len(columns), width):
            own, other = rows[i : i + height].unsqueeze(1), columns[j : j + width]
            block = pairs[: len(own), : len(other)]
            yield slice(i, i + height), slice(j, j + width), torch.add(own, other, out=block)
