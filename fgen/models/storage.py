"""Models on disk: a directory with ``model.safetensors`` and ``model.json``; nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fgen.config import build, to_mapping
from fgen.data.atomic import expect_only, replace_directory, write_json
from fgen.data.scaling import FeatureScaler
from fgen.encoders.fusion import EmbeddingConfig, EmbeddingPreprocessor
from fgen.errors import InputError
from fgen.machine import choose_device

if TYPE_CHECKING:
    from fgen.models.base import FeatureGenerator

FORMAT = "fgen-model"
VERSION = 1


def save_model(model: FeatureGenerator, path: Path) -> None:
    """Write a trained model; an existing directory of the same name is replaced in one move."""
    if not model.networks:
        raise InputError("the model hasn't been trained", "fit() before save()")
    tensors = {f"network.{key}": value.cpu().contiguous() for key, value in model.networks.state_dict().items()}
    arrays = {
        "class_embeddings": model.class_embeddings,
        "embedding.offset": model.preprocessor.offset,
        "embedding.scale": model.preprocessor.scale,
    } | {f"feature.{key}": array for key, array in model.scaler.to_arrays().items()}
    tensors |= {key: torch.from_numpy(np.array(array, dtype=np.float32)) for key, array in arrays.items()}
    description = {
        "format": FORMAT,
        "format_version": VERSION,
        "method": model.config.name,
        "config": to_mapping(model.config),
        "embedding": to_mapping(model.embedding),
        "class_names": model.class_names,
        "n_seen": model.n_seen,
        "feature_scaling": model.scaler.kind,
    }
    expect_only(path, ("model.json", "model.safetensors"))
    with replace_directory(path) as directory:
        (directory / "model.safetensors").write_bytes(save(tensors))
        write_json(directory / "model.json", description)


def load_model(path: str | Path, device: str = "cpu") -> FeatureGenerator:
    """Read a model that :meth:`FeatureGenerator.save` wrote.

    Args:
        path: its directory.
        device: where it will generate.

    Raises:
        InputError: no such directory, a damaged file, a method or version this fgen doesn't know, or no such device.
    """
    from fgen.models import MODELS

    path, chosen = Path(path), choose_device(device)
    try:
        description = json.loads((path / "model.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "model.safetensors")
        if (description["format"], description["format_version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {description['format']} {description['format_version']}")
        config = build(MODELS[description["method"]], description["config"], "model")
        model = config.build(build(EmbeddingConfig, description["embedding"], "embedding"))
        model.device = chosen
        model.class_names = None if description["class_names"] is None else tuple(description["class_names"])
        model.class_embeddings = tensors["class_embeddings"].numpy()
        model.preprocessor = EmbeddingPreprocessor(
            model.embedding, tensors["embedding.offset"].numpy(), tensors["embedding.scale"].numpy()
        )
        of_features = {key: value.numpy() for key, value in tensors.items() if key.startswith("feature.")}
        scaling = {key.removeprefix("feature."): array for key, array in of_features.items()}
        model.scaler = FeatureScaler.from_arrays(description["feature_scaling"], scaling)
        model.make_networks(len(tensors["feature.offset"]), model.class_embeddings.shape[1], description["n_seen"])
        networks = {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        model.networks.load_state_dict(networks)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        inner = next((file for where in ("*", "seeds/*/model") for file in path.glob(f"{where}/model.json")), None)
        raise InputError(
            f"{path} is no readable model ({reason})",
            "a directory with model.json and model.safetensors, as model.save() writes it",
            f"There is {inner.parent}" if inner is not None else "",
        ) from None
    return model
