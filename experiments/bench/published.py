"""The terms that published code computes class by class in Python, beside fgen's form of them.

Each loop is written from the formula, in the shape that the released code has (RECIPES 5.3), and differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.models import matching
from fgen.models.cegzsl import Comparator
from fgen.models.nets import SLOPE

#: LisGAN generates so many features of every seen class for its term on class means.
ROWS_PER_CLASS = 20
N_NEIGHBOURS = 20


@dataclass(frozen=True)
class Twins:
    """A term twice: as published, and as fgen has it; both take no argument and give a scalar with a graph.

    Attributes:
        leaves: what gradients are taken in.
    """

    name: str
    published: Callable[[], Tensor]
    fgen: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]


def all_twins(
    *,
    n_classes: int,
    feature_dim: int,
    embedding_dim: int,
    hidden_dim: int,
    batch_size: int = 64,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Twins]:
    """The table of twins on random data of these sizes."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64).to(device, dtype)

    fake = random(batch_size, feature_dim).requires_grad_(True)
    many = random(n_classes * ROWS_PER_CLASS, feature_dim).requires_grad_(True)
    labels = torch.randint(n_classes, (batch_size,), generator=draw).to(device)
    everyone = torch.arange(n_classes, device=device)
    souls, means = random(n_classes, 3, feature_dim), random(n_classes, feature_dim)
    embeddings = random(n_classes, embedding_dim)
    neighbours, similarities = matching.semantic_neighbours(embeddings, embeddings, N_NEIGHBOURS)
    compare = Comparator(feature_dim, embedding_dim, hidden_dim).to(device, dtype)

    def lisgan() -> Tensor:
        averages = many.view(n_classes, ROWS_PER_CLASS, -1).mean(1)
        return matching.soul_samples(averages, everyone, souls) + matching.soul_samples(fake, labels, souls)

    def lsrgan() -> Tensor:
        drift = matching.semantic_regularisation(fake, labels, means, neighbours, similarities, below=0.01, above=0.01)
        return matching.pivot(fake, labels, means) + drift

    return [
        Twins("LisGAN's souls", lambda: lisgan_loops(many, fake, labels, souls), lisgan, (fake, many)),
        Twins(
            "LsrGAN's pivot and SR-loss",
            lambda: lsrgan_loops(fake, labels, means, neighbours, similarities, 0.01),
            lsrgan,
            (fake,),
        ),
        Twins(
            "CE-GZSL's comparator",
            lambda: F.cross_entropy(comparator_loop(fake, embeddings, compare) / 0.1, labels),
            lambda: F.cross_entropy(compare(fake, embeddings) / 0.1, labels),
            (fake, *compare.parameters()),
        ),
    ]


def lisgan_loops(many: Tensor, fake: Tensor, labels: Tensor, souls: Tensor) -> Tensor:
    """Each class's mean of 20 generated rows to its nearest soul, and each generated row to its own.

    Args:
        many: ``(S * 20, D)``, by class.
        fake: ``(B, D)``; ``labels (B,)``; ``souls (S, K, D)``.
    """
    n_classes = len(souls)
    of_means = many.new_zeros(())
    for c, rows in enumerate(many.split(ROWS_PER_CLASS)):  # a slice's gradient would be as large as the whole
        of_means = of_means + ((rows.mean(0) - souls[c]) ** 2).sum(1).min()
    of_rows = fake.new_zeros(())
    for c in range(n_classes):
        for row in (labels == c).nonzero().flatten():
            of_rows = of_rows + ((fake[row] - souls[c]) ** 2).sum(1).min()
    return of_means / n_classes + of_rows / len(fake)


def lsrgan_loops(
    fake: Tensor, labels: Tensor, means: Tensor, neighbours: Tensor, similarities: Tensor, tolerance: float
) -> Tensor:
    """Distance of each class's generated to its real mean, and its cosines to its neighbours' means, one by one.

    Args:
        fake: ``(B, D)``; ``labels (B,)``; ``means (S, D)``; ``neighbours`` and ``similarities (S, k)``.
    """
    pivot = drift = fake.new_zeros(())
    present = labels.unique().tolist()
    for c in present:
        average = fake[labels == c].mean(0)
        pivot = pivot + (average - means[c]).norm()
        for neighbour, wanted in zip(neighbours[c], similarities[c], strict=True):
            cosine = F.cosine_similarity(average, means[neighbour], dim=0)
            drift = drift + (F.relu(cosine - wanted - tolerance) + F.relu(wanted - tolerance - cosine)) ** 2
    return pivot / len(present) + drift / (len(present) * neighbours.shape[1])


def comparator_loop(features: Tensor, embeddings: Tensor, comparator: Comparator) -> Tensor:
    """``F([h; a])`` of every row with all classes, row by row as released; ``(B, S)``.

    Args:
        features: ``(B, D)``; ``embeddings (S, A)``.
        comparator: whose weights are taken, side by side as one layer on pairs.
    """
    weight = torch.cat([comparator.of_embedded.weight, comparator.of_class.weight], dim=1)
    scores = []
    for row in features:
        pairs = torch.cat([row.expand(len(embeddings), -1), embeddings], dim=1)
        hidden = F.leaky_relu(F.linear(pairs, weight, comparator.of_embedded.bias), SLOPE)
        scores.append(comparator.out(hidden).squeeze(1))
    return torch.stack(scores)
