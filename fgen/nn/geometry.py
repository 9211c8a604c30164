"""Lengths and distances of rows, differentiable."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def l2_normalise(rows: Tensor, shortest: float = 1e-12) -> Tensor:
    """Return rows ``(N, A)`` divided by their length, or by ``shortest`` if they are shorter."""
    return F.normalize(rows, dim=1, eps=shortest)


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return ``|a - b|^2`` of all pairs ``(N, M)`` of rows ``(N, A)`` and ``(M, A)``, at least 0."""
    lengths = rows.square().sum(dim=1, keepdim=True) + others.square().sum(dim=1)
    return (lengths - 2 * rows @ others.T).clamp_min(0)
