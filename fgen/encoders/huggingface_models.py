"""Encoders of pictures by the networks of Hugging Face's transformers, from a folder or by name."""

from pathlib import Path
from typing import Any

import torch

from fgen.encoders.network import NetworkEncoder
from fgen.encoders.weights import built, read_weights
from fgen.errors import InputError, first_line, require

#: The layer after the last block. Weights of a classifier don't hold it, and the library then draws it at random.
POOLER = "pooler."


class PooledFeatures(torch.nn.Module):
    """The features of a network of transformers.

    Args:
        model: as ``AutoModel`` loads it.
        pooling: ``"projection"`` (a model of pictures and texts: its space), ``"pooler"`` (what the model itself calls
            pooled), ``"cls"`` (the first token) or ``"mean"`` (over a feature map).
    """

    def __init__(self, model: Any, pooling: str) -> None:
        super().__init__()
        self.model, self.pooling = model, pooling

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features ``(n, D)`` of a batch."""
        if self.pooling == "projection":
            found = self.model.get_image_features(pixel_values=batch)
            projected: torch.Tensor = getattr(found, "pooler_output", found)  # a tensor in transformers 4
            return projected
        output = self.model(pixel_values=batch)
        if self.pooling == "pooler":
            return output.pooler_output.flatten(1)  # (n, D, 1, 1) of a convolutional network
        last: torch.Tensor = output.last_hidden_state
        return last.mean(dim=(2, 3)) if self.pooling == "mean" else last[:, 0]


def huggingface_encoder(source: str, weights: str | Path | None = None) -> NetworkEncoder:
    """Return an encoder by a network of transformers.

    Args:
        source: a folder with ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``; or a name, which
            the library downloads.
        weights: file of another state dict.

    Raises:
        InputError: the folder isn't one, or the weights don't fit. MissingExtra: without ``fgen[vision]``.
    """
    library = require("transformers", "vision", f"the encoder hf:{source}")
    processors = require("transformers.models.auto.image_processing_auto", "vision", f"the encoder hf:{source}")
    state = None if weights is None else read_weights(weights)
    options = {"local_files_only": Path(source).is_dir(), "trust_remote_code": False}
    try:
        processor = processors.AutoImageProcessor.from_pretrained(source, **options)
        model, report = built(
            lambda: library.AutoModel.from_pretrained(
                source, state_dict=state, use_safetensors=True, output_loading_info=True, **options
            )
        )
    except Exception as error:  # the library raises many types
        found = f"transformers can't read the network {source!r} ({first_line(error)})"
        expected = "a folder with config.json, model.safetensors and preprocessor_config.json, or a name and a network"
        raise InputError(found, expected) from None
    missing = sorted(report["missing_keys"])
    if others := [key for key in missing if not key.startswith(POOLER)]:
        raise InputError(f"the weights of {source} lack {others[0]!r} and {len(others) - 1} more", "all of its tensors")
    pooling = _pooling(model, missing)
    preprocessing = processor.to_dict() | {"pooling": pooling}
    return NetworkEncoder(
        f"hf:{source}",
        PooledFeatures(model, pooling),
        lambda picture: processor(images=picture, return_tensors="pt")["pixel_values"][0],
        preprocessing,
    )


def _pooling(model: Any, missing: list[str]) -> str:
    """Return which features of a model are used, see :class:`PooledFeatures`."""
    if hasattr(model, "get_image_features"):
        return "projection"
    size = getattr(model.config, "image_size", 224)
    with torch.inference_mode():
        output = model.eval()(pixel_values=torch.zeros(1, 3, size, size))
    if getattr(output, "pooler_output", None) is not None and not missing:
        return "pooler"
    return "mean" if output.last_hidden_state.ndim == 4 else "cls"
