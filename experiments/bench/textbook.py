"""What fgen's engine is measured against: f-CLSWGAN and the field's final classifier as clean, idiomatic PyTorch.

The published code's shape without its silly parts: no label loop in Python, no host round trips, no
generator graph in the critic's steps. Nothing here is clever: `torch.optim.Adam` with its defaults, one pass each for
real, fake and interpolated rows, the penalty by double backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Generator(nn.Module):
    """``[z; a]`` to features."""

    def __init__(self, noise_dim: int, embedding_dim: int, hidden_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(noise_dim + embedding_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, feature_dim)

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        """``(B, Z)`` and ``(B, A)`` to ``(B, D)``."""
        hidden = F.leaky_relu(self.fc1(torch.cat([noise, attributes], dim=1)), 0.2)
        return F.relu(self.fc2(hidden))


class Critic(nn.Module):
    """``[x; a]`` to a score."""

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(feature_dim + embedding_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, 1)

    def forward(self, features: Tensor, attributes: Tensor) -> Tensor:
        """``(B, D)`` and ``(B, A)`` to ``(B, 1)``."""
        return self.fc2(F.leaky_relu(self.fc1(torch.cat([features, attributes], dim=1)), 0.2))


class Source(Protocol):
    """Where a step's batches and random numbers come from; the tests replay fgen's."""

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(B, D)``, attributes ``(B, A)`` and labels ``(B,)``."""

    def noise(self, n_rows: int) -> Tensor:
        """``(n_rows, Z)`` for the critic's or the generator's next pass."""

    def alpha(self, n_rows: int) -> Tensor:
        """``(n_rows, 1)`` for the critic's next interpolates."""


class RandomSource:
    """The textbook's own: a random permutation's first rows, and torch's global generator."""

    def __init__(
        self, features: Tensor, labels: Tensor, attributes: Tensor, *, noise_dim: int, batch_size: int = 64
    ) -> None:
        self.features, self.labels, self.attributes = features, labels, attributes
        self.noise_dim, self.batch_size = noise_dim, batch_size

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Source`."""
        rows = torch.randperm(len(self.features), device=self.features.device)[: self.batch_size]
        labels = self.labels[rows]
        return self.features[rows], self.attributes[labels], labels

    def noise(self, n_rows: int) -> Tensor:
        """See :class:`Source`."""
        return torch.randn(n_rows, self.noise_dim, device=self.features.device)

    def alpha(self, n_rows: int) -> Tensor:
        """See :class:`Source`."""
        return torch.rand(n_rows, 1, device=self.features.device)


class CLSWGAN:
    """The training loop's state: both networks, the frozen classifier and two Adams."""

    def __init__(
        self,
        generator: Generator,
        critic: Critic,
        classifier: nn.Linear,
        *,
        lr: float = 1e-4,
        gp_weight: float = 10.0,
        cls_weight: float = 0.01,
        critic_steps: int = 5,
    ) -> None:
        self.generator, self.critic, self.classifier = generator, critic, classifier
        self.gp_weight, self.cls_weight, self.critic_steps = gp_weight, cls_weight, critic_steps
        self.classifier.requires_grad_(False)
        self.critic_adam = torch.optim.Adam(critic.parameters(), lr=lr, betas=(0.5, 0.999))
        self.generator_adam = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))

    def step(self, source: Source) -> dict[str, Tensor]:
        """Five critic updates and one of the generator; the last value of each loss."""
        self.critic.requires_grad_(True)
        for _ in range(self.critic_steps):
            real, attributes, labels = source.batch()
            with torch.no_grad():
                fake = self.generator(source.noise(len(real)), attributes)
            self.critic_adam.zero_grad()
            distance = self.critic(fake, attributes).mean() - self.critic(real, attributes).mean()
            penalty = self.gp_weight * self.penalty(real, fake, attributes, source.alpha(len(real)))
            (distance + penalty).backward()
            self.critic_adam.step()

        self.critic.requires_grad_(False)
        self.generator_adam.zero_grad()
        fake = self.generator(source.noise(len(labels)), attributes)
        adversarial = -self.critic(fake, attributes).mean()
        classification = self.cls_weight * F.cross_entropy(self.classifier(fake), labels)
        (adversarial + classification).backward()
        self.generator_adam.step()
        losses = {"critic": distance, "gradient_penalty": penalty}
        losses |= {"adversarial": adversarial, "classification": classification}
        return {name: loss.detach() for name, loss in losses.items()}

    def penalty(self, real: Tensor, fake: Tensor, attributes: Tensor, alpha: Tensor) -> Tensor:
        """Gulrajani et al. 2017, Eq. 3, by double backward."""
        mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        scores = self.critic(mixed, attributes)
        (slope,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True, retain_graph=True)
        return ((slope.norm(2, dim=1) - 1) ** 2).mean()


def initialise(network: nn.Module) -> None:
    """The lineage's start: weights from N(0, 0.02), biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            nn.init.zeros_(layer.bias)


def scale_minmax(features: Tensor, fitted_on: Tensor) -> Tensor:
    """To [0, 1], column by column."""
    low, high = fitted_on.amin(0), fitted_on.amax(0)
    return (features - low) / torch.where(high > low, high - low, 1.0)


def train_classifier(
    features: Tensor, labels: Tensor, n_classes: int, *, batch_size: int, epochs: int = 25, lr: float = 1e-3
) -> nn.Linear:
    """The field's final classifier: ``epochs`` of Adam over shuffled rows, batch = features per unseen class.

    Args:
        features: ``(N, D)`` scaled.
        labels: ``(N,)`` in [0, n_classes).
    """
    model = nn.Linear(features.shape[1], n_classes).to(features.device)
    initialise(model)
    adam = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.5, 0.999))
    for _ in range(epochs):
        for rows in shuffled(len(features), batch_size, features.device):
            adam.zero_grad()
            F.cross_entropy(model(features[rows]), labels[rows]).backward()
            adam.step()
    return model


def shuffled(n_rows: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Row numbers in random order, a batch at a time."""
    yield from torch.randperm(n_rows, device=device).split(batch_size)
