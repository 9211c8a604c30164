"""What all encoders of texts and of pictures have in common: their protocols."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch

from fgen.compute.device import cpu_threads
from fgen.errors import InputError, require
from fgen.features.encoder_record import EncoderRecord as EncoderRecord


@runtime_checkable
class TextEncoder(Protocol):
    """An encoder of texts: of class names, descriptions or pages."""

    @property
    def record(self) -> EncoderRecord:
        """What data remember of the encoder."""
        ...

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts; a batch size of 1 gives a text the same bytes."""
        ...


class ImageEncoder(ABC):
    """An encoder of pictures: what its weights want done to a picture, then a network.

    The features of a picture don't depend on the pictures beside it: a batch always has ``batch_size`` inputs, the last
    one repeated where there are fewer, and a CPU calculates it on one thread.

    Attributes:
        record: name, weights, dim and preprocessing.
        batch_size: pictures that the network sees at once.
        device: where the network is.
    """

    record: EncoderRecord
    batch_size: int = 8
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def preprocess(self, picture: Any) -> torch.Tensor:
        """Return the network's input of a Pillow image of mode RGB: float32, of one shape for all pictures."""

    @abstractmethod
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features ``(n, D)`` of a batch of inputs on the encoder's device."""

    @abstractmethod
    def to(self, device: str) -> Self:
        """Return a copy of the encoder on another device."""

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features ``(N, D)`` float32 of N pictures.

        Args:
            pictures: each ``(H, W, 3)`` uint8, RGB and upright, as :func:`fgen.encoders.pictures.read_picture` returns
                it; sizes may differ.

        Raises:
            InputError: the network returns numbers that aren't finite, or of another shape.
        """
        opened = require("PIL.Image", "image", "an image encoder").fromarray
        rows = np.empty((len(pictures), self.record.dim), np.float32)
        for start in range(0, len(pictures), self.batch_size):
            inputs = [self.preprocess(opened(picture)) for picture in pictures[start : start + self.batch_size]]
            rows[start : start + len(inputs)] = self.encode_inputs(inputs)
        return rows

    def encode_inputs(self, inputs: Sequence[torch.Tensor]) -> np.ndarray:
        """Return the features ``(n, D)`` float32 of at most ``batch_size`` inputs of the network."""
        if not inputs:
            return np.empty((0, self.record.dim), np.float32)
        missing = self.batch_size - len(inputs)
        with cpu_threads(1), torch.inference_mode():
            batch = torch.stack([*inputs, *(inputs[-1] for _ in range(missing))]).to(self.device)
            rows = self.forward(batch)[: len(inputs)].float().cpu().numpy()
        if rows.shape != (len(inputs), self.record.dim) or not np.isfinite(rows).all():
            found = f"{self.record.name} makes features of shape {rows.shape}, not all of them finite"
            raise InputError(found, f"finite ones, {self.record.dim} for each picture", "Are the weights its own?")
        return rows
