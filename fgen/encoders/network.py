"""Encoder of pictures made of a torch module and a transform of pictures."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch

from fgen.compute.device import cpu_threads
from fgen.encoders.base import EncoderRecord, ImageEncoder
from fgen.encoders.weights import weights_digest
from fgen.errors import require


class NetworkEncoder(ImageEncoder):
    """Encoder of pictures by a torch module.

    Args:
        name: as :func:`fgen.encoders.image.image_encoder` takes it.
        network: takes a batch ``(n, 3, H, W)`` float32 and returns features ``(n, D)``. It is put into evaluation mode
            and channels-last memory format.
        transform: returns the input ``(3, H, W)`` float32 of a Pillow image of mode RGB.
        preprocessing: what the transform does, as JSON can hold it.
    """

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        transform: Callable[[Any], torch.Tensor],
        preprocessing: Mapping[str, Any],
    ) -> None:
        self._transform = transform
        self.network = network.eval().requires_grad_(False)
        for parameter in network.parameters():
            if parameter.ndim == 4:  # of a convolution
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)
        blank = require("PIL.Image", "image", "an image encoder").new("RGB", (256, 256))
        with cpu_threads(1), torch.inference_mode():
            dim = self.forward(transform(blank)[None]).shape[1]
        plain = json.loads(json.dumps(preprocessing, default=str))  # tuples are lists there, as when a record is read
        self.record = EncoderRecord(name, weights_digest(network), dim, plain)

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
