"""Models on disk: a directory with ``model.safetensors`` and ``model.json``; nothing pickled."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fgen.config import build, to_mapping
from fgen.data.atomic import expect_only, replace_directory, write_json
from fgen.data.disk import read_json
from fgen.data.scaling import FeatureScaler
from fgen.data.steady import read_folder
from fgen.encoders.fusion import EmbeddingConfig, EmbeddingPreprocessor
from fgen.errors import InputError
from fgen.machine import choose_device

if TYPE_CHECKING:
    from fgen.models.base import FeatureGenerator

FORMAT = "fgen-model"
VERSION = 1


def save_model(model: FeatureGenerator, path: Path) -> None:
    """Write a trained model; an existing directory of the same name is replaced as a whole."""
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
    with replace_directory(path, partial(expect_only, names=("model.json", "model.safetensors"))) as directory:
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
    chosen = choose_device(device)
    return read_folder(Path(path), lambda folder: _load_model(folder, chosen))


def _load_model(path: Path, device: torch.device) -> FeatureGenerator:
    try:
        description = read_json(path / "model.json")
        tensors = load_file(path / "model.safetensors")
        model = _untrained(description, tensors)
        networks = {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        _expect_networks(model, networks)
        model.device = device
        model.make_networks(model.scaler.dim, model.class_embeddings.shape[1], model.n_seen)
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


def _untrained(description: dict[str, Any], tensors: dict[str, Tensor]) -> FeatureGenerator:
    """The model of a description, with all but its networks."""
    from fgen.models import MODELS

    if (description["format"], description["format_version"]) != (FORMAT, VERSION):
        raise ValueError(f"format {description['format']} {description['format_version']}")
    config = build(MODELS[description["method"]], description["config"], "model")
    model = config.build(build(EmbeddingConfig, description["embedding"], "embedding"))
    model.class_embeddings = tensors["class_embeddings"].numpy()
    model.class_names = _class_names(description["class_names"], len(model.class_embeddings))
    model.preprocessor = EmbeddingPreprocessor(
        model.embedding, tensors["embedding.offset"].numpy(), tensors["embedding.scale"].numpy()
    )
    of_features = {key: value.numpy() for key, value in tensors.items() if key.startswith("feature.")}
    scaling = {key.removeprefix("feature."): array for key, array in of_features.items()}
    model.scaler = FeatureScaler.from_arrays(description["feature_scaling"], scaling)
    model.n_seen = description["n_seen"]
    if type(model.n_seen) is not int or not 0 < model.n_seen <= len(model.class_embeddings):
        raise ValueError(f"n_seen is {model.n_seen!r}, of {len(model.class_embeddings)} classes")
    return model


def _class_names(names: Any, n_classes: int) -> tuple[str, ...] | None:
    """The names in a description, if they can be those of so many classes."""
    if names is None:
        return None
    kept = isinstance(names, list) and all(isinstance(name, str | int | float) for name in names)
    if not kept or len(names) != n_classes:
        raise ValueError(f"class_names are no {n_classes} names")
    return tuple(str(name) for name in names)  # an earlier fgen took numbers, as if they were texts


def _expect_networks(model: FeatureGenerator, found: dict[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than the model's networks have, which are only outlined for it.

    So a description can claim what it likes: room is taken for what the tensors hold.
    """
    longest = max((side for tensor in found.values() for side in tensor.shape), default=0)
    for name, limit in (("n_layers", len(found)), ("n_timesteps", longest)):  # these take time or room in an outline
        if getattr(model.config, name, 0) > limit:
            raise ValueError(f"{name} is {getattr(model.config, name)}, more than the tensors have")
    with torch.device("meta"):
        outline = model.build_networks(model.scaler.dim, model.class_embeddings.shape[1], model.n_seen)
    expected = {key: value.shape for key, value in nn.ModuleDict(outline).state_dict().items()}
    for key in sorted(expected.keys() | found.keys()):
        if key not in found or key not in expected:
            raise ValueError(f"{key} is {'unknown' if key in found else 'missing'}")
        if found[key].shape != expected[key]:
            raise ValueError(f"{key} has shape {tuple(found[key].shape)}, its config says {tuple(expected[key])}")
