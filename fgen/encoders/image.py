"""Encoders of pictures by name."""

from pathlib import Path

import numpy as np

from fgen.encoders.base import ImageEncoder
from fgen.encoders.efficientnet import LITE0, SIZES, efficientnet_encoder
from fgen.encoders.image_features import encode_images
from fgen.encoders.pictures import SUFFIXES, central_square, open_picture, read_picture
from fgen.errors import InputError, did_you_mean

__all__ = ["SUFFIXES", "ImageEncoder", "encode_images", "image_encoder", "read_image", "read_picture"]


def image_encoder(spec: str, weights: str | Path | None = None) -> ImageEncoder:
    """Return an encoder of pictures by name.

    Args:
        spec: ``"efficientnet-lite0"``, ``"efficientnet-lite1"`` or ``"efficientnet-lite2"``.
        weights: file of its weights, ``.safetensors`` or a state dict of ``torch.save``; by default those of its
            package.

    Raises:
        InputError: an unknown name, or weights that don't fit. MissingExtra: the encoder's library isn't installed.
    """
    if spec in SIZES:
        return efficientnet_encoder(spec, weights)
    raise InputError(f"the encoder is {spec!r}", f"one of {', '.join(SIZES)}", did_you_mean(spec, SIZES))


def read_image(path: str | Path) -> np.ndarray:
    """Return the central square of a picture as ``(224, 224, 3)`` uint8, as EfficientNet-Lite0 sees it."""
    return np.asarray(central_square(open_picture(path), SIZES[LITE0]))
