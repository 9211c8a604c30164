"""What all encoders of texts and of pictures have in common: their protocols, and the record that data keep of one."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch

from fgen.errors import InputError


@dataclass(frozen=True)
class EncoderRecord:
    """What a data set, a bank or a run remembers of the encoder that its rows come from.

    Attributes:
        name: as ``--encoder`` takes it, such as ``"efficientnet-lite0"`` or ``"torchvision:resnet50"``.
        weights: SHA-256 of the weights, 64 hexadecimal digits; empty where they aren't known, as of a callable.
        dim: number of columns of what it returns.
        preprocessing: what is done to an input before the network sees it, as JSON can hold it.
    """

    name: str
    weights: str
    dim: int
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the record as one line of JSON; equal records give equal text."""
        return json.dumps({key: getattr(self, key) for key in self.__dataclass_fields__}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: it is no such text.
        """
        try:
            record = cls(**json.loads(text))
            fits = isinstance(record.preprocessing, dict) and isinstance(record.dim, int)
            if not fits or not isinstance(record.name, str) or not isinstance(record.weights, str):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            raise InputError(f"{text[:60]!r} is no record of an encoder", "name, weights, dim, preprocessing") from None
        return record


@runtime_checkable
class TextEncoder(Protocol):
    """An encoder of texts: of class names, descriptions or pages."""

    record: EncoderRecord

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts; a batch size of 1 gives a text the same bytes."""
        ...


class ImageEncoder(ABC):
    """An encoder of pictures: what its weights want done to a picture, then a network.

    A picture is given as ``(H, W, 3)`` uint8, RGB and upright, as :func:`fgen.encoders.pictures.read_picture` returns
    it. Its features don't depend on the pictures beside it: each batch is filled up to ``batch_size``.
    """

    record: EncoderRecord
    #: Pictures that the network sees at once.
    batch_size: ClassVar[int] = 8

    @abstractmethod
    def preprocess(self, picture: np.ndarray) -> np.ndarray:
        """Return the network's input of one picture, float32, of one shape for all pictures."""

    @abstractmethod
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features ``(n, D)`` of a batch of inputs."""

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features ``(N, D)`` float32 of N pictures."""
        rows = np.empty((len(pictures), self.record.dim), np.float32)
        for start in range(0, len(pictures), self.batch_size):
            inputs = [self.preprocess(picture) for picture in pictures[start : start + self.batch_size]]
            filled = np.stack(inputs + inputs[-1:] * (self.batch_size - len(inputs)))
            with torch.inference_mode():
                rows[start : start + len(inputs)] = self.forward(torch.from_numpy(filled))[: len(inputs)].numpy()
        return rows
