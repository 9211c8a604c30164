"""Encoders of pictures made of a torch module or a function, and a transform of pictures."""

import copy
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch

from fgen.compute.device import cpu_threads
from fgen.encoders.base import EncoderRecord, ImageEncoder
from fgen.encoders.pictures import central_square
from fgen.encoders.weights import weights_digest
from fgen.errors import require

#: Height and width of what a function is given by default.
SIZE = 224


class NetworkEncoder(ImageEncoder):
    """Encoder of pictures by a torch module.

    Args:
        name: as :func:`fgen.encoders.image.image_encoder` takes it.
        network: takes a batch ``(n, 3, H, W)`` float32 and returns features ``(n, D)``. It is put into evaluation mode
            and channels-last memory format.
        transform: returns the input ``(3, H, W)`` float32 of a Pillow image of mode RGB.
        preprocessing: what the transform does, as JSON can hold it.
        digest: of the weights; by default that of the module's tensors.
    """

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        transform: Callable[[Any], torch.Tensor],
        preprocessing: Mapping[str, Any],
        digest: str | None = None,
    ) -> None:
        self._transform = transform
        self.network = network.eval().requires_grad_(False)
        for parameter in network.parameters():
            if parameter.ndim == 4:  # of a convolution
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)
        with cpu_threads(1), torch.inference_mode():
            dim = self.forward(transform(blank_picture())[None]).shape[1]
        plain = json.loads(json.dumps(preprocessing, default=str))  # tuples are lists there, as when a record is read
        self.record = EncoderRecord(name, digest or weights_digest(network), dim, plain)

    def preprocess(self, picture: Any) -> torch.Tensor:
        """Return what the transform makes of a picture."""
        return self._transform(picture)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the network's features of a batch."""
        features: torch.Tensor = self.network(batch.contiguous(memory_format=torch.channels_last))
        return features

    def to(self, device: str) -> Self:
        """Return a copy of the encoder with a copy of the network on another device."""
        other = copy.copy(self)
        other.network, other.device = copy.deepcopy(self.network).to(device), torch.device(device)
        return other


class FunctionEncoder(ImageEncoder):
    """Encoder of pictures by any callable.

    Its record holds no hash of weights: give a function that has changed another name, or features that were kept of
    the older one are taken for its own.

    Args:
        function: takes a batch ``(n, 3, H, W)`` float32 and returns features ``(n, D)``, a tensor or an array. One
            thread calls it at a time.
        name: of the function, in the record.
        transform: returns the input ``(3, H, W)`` float32 of a Pillow image of mode RGB. By default the central square
            is scaled to 224 x 224 by bicubic interpolation, and values to 0 to 1.
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor], Any],
        *,
        name: str,
        transform: Callable[[Any], torch.Tensor] | None = None,
    ) -> None:
        self._function, self._turn = function, threading.Lock()
        self._transform = unit_square if transform is None else transform
        dim = self.forward(self.preprocess(blank_picture())[None]).shape[1]
        preprocessing = {"crop": "central square", "size": SIZE, "interpolation": "bicubic"}
        self.record = EncoderRecord(name, "", dim, preprocessing if transform is None else {})

    def preprocess(self, picture: Any) -> torch.Tensor:
        """Return what the transform makes of a picture."""
        return self._transform(picture)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the function's features of a batch."""
        with self._turn:
            return torch.as_tensor(self._function(batch))

    def to(self, device: str) -> Self:
        """Return the encoder itself: where a function calculates is its own affair."""
        return self


def unit_square(picture: Any) -> torch.Tensor:
    """Return the central square of a Pillow image as ``(3, 224, 224)`` float32, from 0 to 1."""
    return torch.from_numpy(np.asarray(central_square(picture, SIZE)).astype(np.float32) / 255).permute(2, 0, 1)


def blank_picture() -> Any:
    """Return a black Pillow image, to see what an encoder makes of a picture."""
    return require("PIL.Image", "image", "an image encoder").new("RGB", (256, 256))
