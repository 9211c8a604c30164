"""The terms that published code computes class by class in Python, beside fgen's form of them.

Each loop is written from the formula, in the shape that the released code has, and differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.nn import matching
from fgen.nn.comparator import Comparator
from fgen.nn.networks import SLOPE

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
    many = random(n_classes, ROWS_PER_CLASS, feature_dim).requires_grad_(True)
    labels = torch.randint(n_classes, (batch_size,), generator=draw).to(device)
    souls, means = random(n_classes, 3, feature_dim), random(n_classes, feature_dim)
    embeddings = random(n_classes, embedding_dim)
    neighbours, similarities = matching.semantic_neighbours(embeddings, embeddings, N_NEIGHBOURS)
    compare = Comparator(feature_dim, embedding_dim, hidden_dim).to(device, dtype)

    def lisgan() -> Tensor:
        turns = many.transpose(0, 1)
        return matching.soul_means_of_turns(turns, souls) + matching.soul_samples(fake, labels, souls)

    def lsrgan() -> Tensor:
        drift = matching.semantic_regularisation(fake, labels, means, neighbours, similarities, below=0.01, above=0.01)
        return matching.pivot(fake, labels, means) + drift

    return [
        Twins("LisGAN's souls", lambda: lisgan_loops(many.flatten(0, 1), fake, labels, souls), lisgan, (fake, many)),
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

    As released: distances to all souls of all classes, in a loop the nearest soul of every class to every row, and of
    these each row's own; the rows' labels written and read back class by class, into the matrix that averages them.

    Args:
        many: ``(S * 20, D)``, by class.
        fake: ``(B, D)``; ``labels (B,)``; ``souls (S, K, D)``.
    """
    n_classes = len(souls)
    written, mapped = labels.new_empty(len(many)), labels.new_empty(len(many))
    for c in range(n_classes):
        written[c * ROWS_PER_CLASS : (c + 1) * ROWS_PER_CLASS] = c
    for c in range(n_classes):
        mapped[written == c] = c
    averaging = many.new_zeros(n_classes, len(many))
    for c in range(n_classes):
        members = (mapped == c).nonzero().squeeze(1)
        averaging[c, members] = 1 / len(members)
    of_means = _to_own_souls(averaging @ many, torch.arange(n_classes, device=many.device), souls)
    return of_means + _to_own_souls(fake, labels, souls)


def _to_own_souls(rows: Tensor, labels: Tensor, souls: Tensor) -> Tensor:
    n_classes, n_souls, _ = souls.shape
    every = souls.flatten(0, 1)
    distances = (rows**2).sum(1, keepdim=True) + (every**2).sum(1) - 2 * rows @ every.T
    nearest = labels.new_empty(len(rows), n_classes)
    for c in range(n_classes):
        own = slice(c * n_souls, (c + 1) * n_souls)
        nearest[:, c] = distances[:, own].detach().min(1).indices + own.start
    return distances.gather(1, nearest).gather(1, labels.unsqueeze(1)).mean()


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
