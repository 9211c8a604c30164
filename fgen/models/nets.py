"""The networks that the methods are made of, and how they are initialised."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen import rng

Output = Literal["relu", "sigmoid", "linear"]
SLOPE = 0.2


def activate(hidden: Tensor) -> Tensor:
    """LeakyReLU with the lineage's slope of 0.2."""
    return F.leaky_relu(hidden, SLOPE)


class Generator(nn.Module):
    """``[noise; condition]`` to features, one hidden layer (RECIPES 2.1: LeakyReLU, then ReLU)."""

    def __init__(self, noise_dim: int, embedding_dim: int, hidden_dim: int, feature_dim: int, output: Output) -> None:
        super().__init__()
        self.hidden = nn.Linear(noise_dim + embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, feature_dim)
        self.output = output

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Noise ``(B, Z)`` and class embeddings ``(B, A)`` to scaled features ``(B, D)``."""
        features = self.out(activate(self.hidden(torch.cat([noise, condition], dim=1))))
        if self.output == "relu":
            return F.relu(features)
        return torch.sigmoid(features) if self.output == "sigmoid" else features


class Critic(nn.Module):
    """``[features; condition]`` to one score, one hidden layer.

    Its first layer is affine, so the pre-activation of an interpolate is the interpolation of the
    pre-activations; :func:`fgen.models.losses.critic_terms` uses that.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.hidden = nn.Linear(feature_dim + embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, 1)

    def pre_activation(self, features: Tensor, condition: Tensor) -> Tensor:
        """``(B, H)`` before the LeakyReLU."""
        return self.hidden(torch.cat([features, condition], dim=1))

    def score(self, pre_activation: Tensor) -> Tensor:
        """``(B,)`` scores of pre-activations ``(B, H)``."""
        return self.out(activate(pre_activation)).squeeze(1)

    def input_gradient(self, pre_activation: Tensor) -> Tensor:
        """d score / d features ``(B, D)``, as a function of the weights that autograd can differentiate.

        LeakyReLU's derivative is constant almost everywhere, so the mask carries no gradient.
        """
        slopes = torch.where(pre_activation.detach() > 0, self.out.weight, SLOPE * self.out.weight)
        return slopes @ self.hidden.weight[:, : self.feature_dim]

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Features ``(B, D)`` and class embeddings ``(B, A)`` to scores ``(B,)``."""
        return self.score(self.pre_activation(features, condition))


def initialise(network: nn.Module, seed: int, name: str) -> None:
    """Weights from N(0, 0.02), biases 0 (the lineage's), from the stream of (seed, "init", name).

    Args:
        network: its linear layers are set in place.
        seed: the run's seed.
        name: the network's role, so that two networks start apart.
    """
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim < 2:
                parameter.zero_()
                continue
            numbers = rng.stream(seed, "init", name, key).standard_normal(tuple(parameter.shape), dtype=np.float32)
            parameter.copy_(torch.from_numpy(numbers) * 0.02)
