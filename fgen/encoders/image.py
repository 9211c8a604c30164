"""Encoders of pictures by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fgen.encoders.base import ImageEncoder
from fgen.encoders.efficientnet import LITE0, SIZES, efficientnet_encoder
from fgen.encoders.feature_pyramid import pyramid_encoder
from fgen.encoders.huggingface_models import huggingface_encoder
from fgen.encoders.image_features import encode_images
from fgen.encoders.network import NetworkEncoder
from fgen.encoders.open_clip_models import open_clip_encoder
from fgen.encoders.pictures import SUFFIXES, central_square, open_picture, read_picture
from fgen.encoders.timm_models import timm_encoder
from fgen.encoders.top_down_pyramid import described_encoder, read_feature_pyramid
from fgen.encoders.torchvision_models import torchvision_encoder
from fgen.errors import InputError, did_you_mean

__all__ = ["SUFFIXES", "ImageEncoder", "encode_images", "image_encoder", "read_image", "read_picture"]


#: What a name begins with -> its encoder of what follows, and of a file of weights.
LIBRARIES: dict[str, Callable[[str, str | Path | None], NetworkEncoder]] = {
    "torchvision": torchvision_encoder,
    "timm": timm_encoder,
    "hf": huggingface_encoder,
    "open_clip": open_clip_encoder,
}
#: What :func:`image_encoder` takes, for messages and help.
NAMES = (
    *SIZES, "torchvision:NAME", "timm:NAME", "hf:FOLDER", "open_clip:FOLDER", "pyramid:ENCODER", "fpn:FILE"
)  # fmt: skip


def image_encoder(spec: str, weights: str | Path | None = None) -> ImageEncoder:
    """Return an encoder of pictures by name.

    Args:
        spec: ``"efficientnet-lite0"``, ``"efficientnet-lite1"`` or ``"efficientnet-lite2"``, whose weights are in
            packages; ``"torchvision:resnet50"`` or ``"timm:NAME"``, any network of these libraries; ``"hf:FOLDER"``, a
            network of transformers; ``"open_clip:FOLDER"``, the image tower of a CLIP model; ``"pyramid:ENCODER"``, the
            pooled maps of several stages of one of these; ``"fpn:FILE"``, a trained pyramid. Preprocessing is that of
            the weights.
        weights: file of its weights, ``.safetensors`` or a state dict of ``torch.save``; by default those of the
            package or folder, or those that the library downloads.

    Raises:
        InputError: an unknown name, or weights that don't fit. MissingExtra: the encoder's library isn't installed.
    """
    kind, _, inner = spec.partition(":")
    if kind == "pyramid":
        return pyramid_encoder(_network(inner, weights))
    if kind == "fpn":
        return read_feature_pyramid(inner, _network(described_encoder(inner).name, weights))
    return _network(spec, weights)


def _network(spec: str, weights: str | Path | None) -> NetworkEncoder:
    library, _, name = spec.partition(":")
    if spec in SIZES:
        return efficientnet_encoder(spec, weights)
    if name and library in LIBRARIES:
        return LIBRARIES[library](name, weights)
    raise InputError(f"the encoder is {spec!r}", f"one of {', '.join(NAMES)}", did_you_mean(spec, NAMES))


def read_image(path: str | Path) -> np.ndarray:
    """Return the central square of a picture as ``(224, 224, 3)`` uint8, as EfficientNet-Lite0 sees it."""
    return np.asarray(central_square(open_picture(path), SIZES[LITE0]))
