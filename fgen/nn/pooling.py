"""Pooling of a Transformer's outputs: one vector of the vectors of a text's tokens."""

from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["cls", "mean", "attention"]


class ClsPooling(nn.Module):
    """The vector of the first token, as of BERT's ``[CLS]`` (Devlin et al. 2019)."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``(n, A)`` of the vectors ``(n, T, A)`` of tokens; the mask is not looked at."""
        return hidden[:, 0]


class MeanPooling(nn.Module):
    """The mean of the tokens' vectors (Reimers & Gurevych 2019)."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``(n, A)`` of the vectors ``(n, T, A)`` of tokens; a mask ``(n, T)`` of 0 is padding."""
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


class AttentionPooling(nn.Module):
    """A weighted mean of the tokens' vectors, with weights by their product with a learned query (Lin et al. 2017).

    The query begins at zero, so that an untrained layer returns the mean.

    Args:
        dim: A, the length of a vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return ``(n, A)`` of the vectors ``(n, T, A)`` of tokens; a mask ``(n, T)`` of 0 is padding."""
        scores = (hidden @ self.query) / hidden.shape[-1] ** 0.5
        weights = scores.masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1)
        return (weights.unsqueeze(-1) * hidden).sum(dim=1)


def make_pooling(kind: Pooling, dim: int) -> nn.Module:
    """Return the layer of a kind, for vectors of length ``dim``."""
    if kind == "attention":
        return AttentionPooling(dim)
    return MeanPooling() if kind == "mean" else ClsPooling()
