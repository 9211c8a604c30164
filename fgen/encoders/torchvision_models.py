"""Encoders of pictures by the classifiers of torchvision, such as ResNet and VGG."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fgen.encoders.network import NetworkEncoder
from fgen.encoders.weights import built, downloaded, load_weights, read_weights
from fgen.errors import InputError, did_you_mean, require

#: What networks have to be told that their released weights were trained with.
OPTIONS = {name: {"transform_input": True, "init_weights": False} for name in ("googlenet", "inception_v3")}


def torchvision_encoder(name: str, weights: str | Path | None = None) -> NetworkEncoder:
    """Return an encoder by a network whose last linear layer is left out.

    The preprocessing is that of the released weights that the file is, told by its hash, and of the network's default
    weights where it is another file.

    Args:
        name: as torchvision calls the network, such as ``"resnet50"`` (D = 2048) or ``"vgg16"`` (D = 4096).
        weights: file of a state dict, with or without the last layer; by default torchvision downloads its own.

    Raises:
        InputError: an unknown name, weights that don't fit or can't be downloaded. MissingExtra: without
            ``fgen[vision]``.
    """
    spec = f"torchvision:{name}"
    models = require("torchvision.models", "vision", f"the encoder {spec}")
    if name not in (known := models.list_models(module=models)):
        raise InputError(f"torchvision has no classifier {name!r}", "one of its models", did_you_mean(name, known))
    released = models.get_model_weights(name)
    chosen = released.DEFAULT if weights is None else _recognised(Path(weights), released)
    state = read_weights(weights) if weights is not None else downloaded(spec, chosen.get_state_dict)
    network = built(lambda: models.get_model(name, weights=None, **OPTIONS.get(name, {})))
    head = remove_head(network, spec)
    load_weights(network, state, spec, unused=[head])
    transform = chosen.transforms()
    return NetworkEncoder(spec, network, transform, {"weights": str(chosen), **described(transform)})


def _recognised(path: Path, released: Any) -> Any:
    """Return which released weights a file holds, by the first digits of its SHA-256, which are in their address."""
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        for weights in released:
            found = re.search(r"-([0-9a-f]{8})\.pth$", weights.url)
            if found and digest.startswith(found[1]):
                return weights
    return released.DEFAULT


def remove_head(network: torch.nn.Module, spec: str) -> str:
    """Replace the last linear layer of a classifier by the identity; return the layer's name.

    Raises:
        InputError: it has none.
    """
    names = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    if not names:
        raise InputError(f"{spec} has no linear layer", "a classifier whose last layer is linear")
    parent, _, last = names[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, torch.nn.Identity())
    return names[-1]


def described(transform: Any) -> Mapping[str, Any]:
    """Return the settings of torchvision's preprocessing of a classifier."""
    return {
        "resize": transform.resize_size[0],
        "crop": transform.crop_size[0],
        "interpolation": transform.interpolation.value,
        "mean": transform.mean,
        "std": transform.std,
    }
