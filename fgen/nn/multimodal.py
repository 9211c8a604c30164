"""Scores of image-text pairs: an encoder of pictures, an encoder of texts, a fusion layer and the contrastive loss.

A class is a text. The layers learn from seen classes which picture and which text belong together, and score texts of
unseen classes too.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.errors import InputError

Fusion = Literal["cosine", "concat", "bilinear", "gated"]
#: CLIP's temperature at the start, and the largest factor of a cosine (Radford et al. 2021, section 2.5).
FIRST_TEMPERATURE, LARGEST_FACTOR = 0.07, 100.0


class LearnedFactor(nn.Module):
    """A factor of scores, learned as its logarithm: CLIP's inverse temperature, at most 100.

    The parameter is the difference from the logarithm at the start, so that it begins at 0 as biases do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_change = nn.Parameter(torch.zeros(()))

    def forward(self, scores: Tensor) -> Tensor:
        """Return the scores times the factor."""
        return scores * (self.log_change.exp() / FIRST_TEMPERATURE).clamp(max=LARGEST_FACTOR)


class CosineFusion(nn.Module):
    """Cosine of two linear projections, the two-tower model (CLIP, Radford et al. 2021, Fig. 3).

    Args:
        image_dim, text_dim: D and A, the lengths of what the encoders return.
        joint_dim: length of the projections.
    """

    def __init__(self, image_dim: int, text_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, joint_dim, bias=False)
        self.text = nn.Linear(text_dim, joint_dim, bias=False)
        self.factor = LearnedFactor()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return scores ``(N, C)`` of images ``(N, D)`` and texts ``(C, A)``."""
        return self.factor(unit(self.image(images)) @ unit(self.text(texts)).T)


class BilinearFusion(nn.Module):
    """``F(x, t) = x' W t`` (Frome et al. 2013; Akata et al. 2013); arguments as of :class:`CosineFusion`."""

    def __init__(self, image_dim: int, text_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(image_dim, text_dim))
        nn.init.xavier_uniform_(self.weight)
        self.factor = LearnedFactor()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return scores ``(N, C)`` of images ``(N, D)`` and texts ``(C, A)``."""
        return self.factor(images @ self.weight @ texts.T)


class ConcatFusion(nn.Module):
    """``w' relu(W [x; t] + b)``, an MLP over both side by side, as of a relation network (Sung et al. 2018).

    ``W [x; t]`` is a sum of an image's and a text's part, which are calculated once each and not for each pair.
    Arguments as of :class:`CosineFusion`; ``joint_dim`` is the width of the hidden layer.
    """

    def __init__(self, image_dim: int, text_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, joint_dim)
        self.text = nn.Linear(text_dim, joint_dim, bias=False)
        self.out = nn.Linear(joint_dim, 1, bias=False)
        self.factor = LearnedFactor()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return scores ``(N, C)`` of images ``(N, D)`` and texts ``(C, A)``."""
        hidden = F.relu(self.image(images).unsqueeze(1) + self.text(texts))
        return self.factor(self.out(hidden).squeeze(2))


class GatedFusion(nn.Module):
    """``w' (z * tanh(W x) + (1 - z) * tanh(V t))`` with ``z = sigmoid(U [x; t])`` (Arevalo et al. 2017, Eq. 1).

    Arguments as of :class:`CosineFusion`; ``joint_dim`` is the length of the gated vector.
    """

    def __init__(self, image_dim: int, text_dim: int, joint_dim: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(image_dim, joint_dim), nn.Linear(text_dim, joint_dim)
        self.image_gate = nn.Linear(image_dim, joint_dim)
        self.text_gate = nn.Linear(text_dim, joint_dim, bias=False)
        self.out = nn.Linear(joint_dim, 1, bias=False)
        self.factor = LearnedFactor()

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return scores ``(N, C)`` of images ``(N, D)`` and texts ``(C, A)``."""
        gate = torch.sigmoid(self.image_gate(images).unsqueeze(1) + self.text_gate(texts))
        image, text = torch.tanh(self.image(images)).unsqueeze(1), torch.tanh(self.text(texts))
        return self.factor(self.out(torch.lerp(text.expand_as(gate), image.expand_as(gate), gate)).squeeze(2))


FUSIONS: dict[Fusion, Callable[[int, int, int], nn.Module]] = {
    "cosine": CosineFusion,
    "concat": ConcatFusion,
    "bilinear": BilinearFusion,
    "gated": GatedFusion,
}


def make_fusion(name: str, image_dim: int, text_dim: int, joint_dim: int) -> nn.Module:
    """Return an untrained fusion layer by its name in :data:`FUSIONS`.

    Raises:
        InputError: another name.
    """
    if name not in get_args(Fusion):
        raise InputError(f"fusion is {name!r}", f"one of {', '.join(FUSIONS)}")
    return FUSIONS[name](image_dim, text_dim, joint_dim)  # type: ignore[index]


class ImageTextScorer(nn.Module):
    """Two encoders and a fusion layer: scores of each image with each text.

    Args:
        image_encoder: module from pictures ``(N, ...)`` to ``(N, D)``; None takes features ``(N, D)`` as they are.
        text_encoder: module from texts, such as token ids ``(C, T)``, to ``(C, A)``; None takes class embeddings
            ``(C, A)`` as they are. Texts that are a tuple of tensors, such as ids and mask, are its several arguments.
        fusion: module from ``(N, D)`` and ``(C, A)`` to scores ``(N, C)``, such as :func:`make_fusion` returns.

    Example:
        >>> scorer = ImageTextScorer(None, None, make_fusion("concat", 16, 8, 32))
        >>> scorer(torch.zeros(5, 16), torch.zeros(3, 8)).shape
        torch.Size([5, 3])
    """

    def __init__(self, image_encoder: nn.Module | None, text_encoder: nn.Module | None, fusion: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder or nn.Identity()
        self.text_encoder = text_encoder or nn.Identity()
        self.fusion = fusion

    def forward(self, images: Tensor, texts: Any) -> Tensor:
        """Return scores ``(N, C)`` of pictures or features and of texts or class embeddings."""
        encoded = self.text_encoder(*texts) if isinstance(texts, tuple) else self.text_encoder(texts)
        scores: Tensor = self.fusion(self.image_encoder(images), encoded)
        return scores


class SideBySide(nn.Module):
    """Several encoders of the same input, their outputs side by side: feature-level late fusion of networks.

    The projection of the fusion layer that follows is the joint layer over all of them.

    Args:
        encoders: modules from one input ``(N, ...)`` to ``(N, D1)``, ``(N, D2)`` and so on.
    """

    def __init__(self, *encoders: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(N, D1 + D2 + ...)``."""
        return torch.cat([encoder(inputs) for encoder in self.encoders], dim=1)


class Rescale(nn.Module):
    """``(rows - offset) / scale``, column by column, with numbers that are stored and not trained.

    Args:
        dim: number of columns; offset and scale, both ``(dim,)``, begin at 0 and 1.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Return rescaled rows ``(n, dim)``."""
        return (rows - self.offset) / self.scale


def unit(rows: Tensor) -> Tensor:
    """Return rows ``(n, D)`` at length 1; near 0 they are divided by 1e-6, so that gradients stay finite."""
    return F.normalize(rows, dim=1, eps=1e-6)


def contrastive(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the symmetric InfoNCE loss of images and the distinct texts of a batch (Radford et al. 2021, Fig. 3).

    The mean of two cross-entropies: of each image over the texts, and of each text over the images. A text that has
    several images in the batch takes the mean of their log-probabilities; with one image each it is CLIP's loss.

    Args:
        scores: ``(B, K)`` of images and texts.
        targets: ``(B,)`` the text of each image; each of the K texts has one at least.
    """
    own = F.one_hot(targets, scores.shape[1]).to(scores.dtype)
    of_texts = -((scores.log_softmax(dim=0) * own).sum(dim=0) / own.sum(dim=0)).mean()
    return (F.cross_entropy(scores, targets) + of_texts) / 2
