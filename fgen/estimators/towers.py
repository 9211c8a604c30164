"""Encoders that are users' modules, trained with the fusion layer: rows of numbers become their inputs again.

Data sets, folds and selection know rows alone. A picture is therefore a row of its numbers, and a class a row of its
token ids.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from fgen import rng
from fgen.baselines.multimodal import Multimodal, MultimodalConfig, scaled_embeddings, scaled_features
from fgen.classifiers.any_estimator import torch_seed
from fgen.compute.device import choose_device
from fgen.errors import InputError
from fgen.features.rows import Features
from fgen.nn.multimodal import ImageTextScorer, make_fusion, unit


class ImageTower(nn.Module):
    """A module of pictures, applied to rows; what it returns gets length 1.

    Args:
        module: from ``(n, *shape)`` float32 to ``(n, D)``.
        shape: of a picture.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``(n, D)`` of rows ``(n, numbers of a picture)``."""
        return unit(_matrix("image_encoder", self.module(rows.view(-1, *self.shape)), len(rows)))


class TextTower(nn.Module):
    """A module of token ids, applied to rows; of several templates the unit vectors are averaged.

    Args:
        module: from its arguments, each ``(n, L)`` int64, such as token ids and mask, to ``(n, A)``.
        shape: numbers of templates, of arguments, and of tokens L.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``(C, A)`` at length 1 of rows ``(C, numbers of a class)``."""
        n_templates, n_arguments, length = self.shape
        arguments = rows.view(len(rows) * n_templates, n_arguments, length).long().unbind(1)
        vectors = unit(_matrix("text_encoder", self.module(*arguments), len(rows) * n_templates))
        return unit(vectors.view(len(rows), n_templates, -1).mean(dim=1))


class Towers:
    """Modules to be trained, and the shapes of what they take; None for one that there isn't.

    Configs are copied deeply in selection, and this isn't: each training copies the modules itself.
    """

    def __init__(
        self,
        image: nn.Module | None = None,
        image_shape: tuple[int, ...] | None = None,
        text: nn.Module | None = None,
        text_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.image, self.image_shape, self.text, self.text_shape = image, image_shape, text, text_shape

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def image_tower(self) -> ImageTower | None:
        """Return a copy of the module of pictures."""
        if self.image is None or self.image_shape is None:
            return None
        return ImageTower(copy.deepcopy(self.image), self.image_shape)

    def text_tower(self) -> TextTower | None:
        """Return a copy of the module of texts."""
        if self.text is None or self.text_shape is None:
            return None
        return TextTower(copy.deepcopy(self.text), self.text_shape)


@dataclass(frozen=True, kw_only=True)
class EndToEndConfig(MultimodalConfig):
    """Settings of a scorer whose encoders may be modules.

    Attributes:
        towers: the modules.
        encoder_lr: their learning rate; 0 leaves them as they are.
        device: of the training.
    """

    towers: Towers = field(default_factory=Towers)
    encoder_lr: float = 1e-4
    device: str = "cpu"


class EndToEnd(Multimodal, config=EndToEndConfig):
    """The baseline with users' modules as its encoders, trained by the same losses."""

    config: EndToEndConfig

    @property
    def device(self) -> torch.device:
        """Where the scorer is."""
        return choose_device(self.config.device)

    @property
    def rows_at_once(self) -> int:
        """The number of rows that are scored together: no more pictures than in training."""
        most = super().rows_at_once
        return most if self.config.towers.image is None else min(most, self.config.batch_size)

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Run the epochs; what modules draw from torch, as dropout does, follows from the seed.

        Raises:
            TrainingDiverged: a parameter left the finite numbers.
        """
        if self.config.towers.image is None and self.config.towers.text is None:
            return super().learn(features, labels, embeddings, seed)  # other threads may draw from torch meanwhile
        with torch_seed(rng.subseed(seed, "modules")):
            return super().learn(features, labels, embeddings, seed)

    def new_scorer(self, features: Features, embeddings: np.ndarray) -> ImageTextScorer:
        """Return copies of the modules with an untrained fusion layer; without a module rows are rescaled."""
        towers = self.config.towers
        image = towers.image_tower() or scaled_features(features)
        text = towers.text_tower() or scaled_embeddings(embeddings)
        feature, embedding = (torch.from_numpy(np.array(rows[:1], np.float32)) for rows in (features, embeddings))
        return self.joined(image, text, feature, embedding)

    def joined(self, image: nn.Module, text: nn.Module, feature: Tensor, embedding: Tensor) -> ImageTextScorer:
        """Return both encoders with a fusion layer for what they return of one row each."""
        with torch.no_grad():
            image_dim, text_dim = image.eval()(feature).shape[1], text.eval()(embedding).shape[1]
        return ImageTextScorer(image, text, make_fusion(self.config.fusion, image_dim, text_dim, self.config.joint_dim))

    def parameter_groups(self, scorer: ImageTextScorer) -> list[dict[str, object]]:
        """Return what AdamW moves, and how fast; parameters that need no gradient stay."""
        encoders = nn.ModuleList([scorer.image_encoder, scorer.text_encoder])
        if not self.config.encoder_lr:
            encoders.requires_grad_(False)
        moved = [parameter for parameter in encoders.parameters() if parameter.requires_grad]
        groups = super().parameter_groups(scorer)
        return [*groups, {"params": moved, "lr": self.config.encoder_lr}] if moved else groups


def _matrix(name: str, found: Any, n_rows: int) -> Tensor:
    """Return what a module returned, if it is a tensor ``(n, D)``.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(found, Tensor):
        remedy = "Wrap it in a module that returns one vector for each row, such as the mean over tokens"
        raise InputError(f"{name} returned {type(found).__name__}", f"a tensor ({n_rows}, D)", remedy)
    if found.ndim != 2 or len(found) != n_rows:
        raise InputError(f"{name} returned a tensor of shape {tuple(found.shape)}", f"({n_rows}, D)")
    return found
