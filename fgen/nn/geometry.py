"""Distances of rows, differentiable."""

from torch import Tensor


def squared_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return ``|a - b|^2`` of all pairs ``(N, M)`` of rows ``(N, A)`` and ``(M, A)``, at least 0."""
    lengths = rows.square().sum(dim=1, keepdim=True) + others.square().sum(dim=1)
    return (lengths - 2 * rows @ others.T).clamp_min(0)
