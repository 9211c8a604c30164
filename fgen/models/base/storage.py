"""Stored models: a folder with ``model.safetensors`` and ``model.json``; nothing is pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fgen.compute.matmul import set_weight_layout
from fgen.config import to_mapping
from fgen.errors import InputError
from fgen.features.class_embeddings import EmbeddingConfig, EmbeddingPreprocessor
from fgen.features.scaling import FeatureScaler
from fgen.io import stored_folder
from fgen.models.base.config import ModelConfig

FORMAT = "fgen-model"
Network = TypeVar("Network", bound=nn.Module)


class StoredModel:
    """State of a model that is saved: settings, networks, scalings and class embeddings.

    Attributes:
        config, embedding: the settings of the method and of the class embeddings.
        networks: the networks by role. Their buffers (a penalty's adaptive weight) are saved and resumed too.
        device: of the networks.
        class_embeddings: ``(C, A)`` raw, as given to ``fit``.
        class_names: C names, or None.
        preprocessor, scaler: fitted on the seen classes' embeddings and on the training rows.
        history: a row for each epoch of training; it isn't saved.
        n_seen: S, the number of classes with training rows.
    """

    class_embeddings: np.ndarray
    preprocessor: EmbeddingPreprocessor
    scaler: FeatureScaler
    n_seen: int

    def __init__(self, config: ModelConfig, embedding: EmbeddingConfig | None = None) -> None:
        self.config = config
        self.embedding = embedding or EmbeddingConfig()
        self.networks = nn.ModuleDict()
        self.device = torch.device("cpu")
        self.class_names: tuple[str, ...] | None = None
        self.history: list[dict[str, float]] = []

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self.networks:
            return f"<{name}, not trained>"
        n_classes, width = self.class_embeddings.shape
        size = sum(p.numel() for p in self.networks.parameters())
        sizes = f"{self.scaler.dim:,} features from {width:,} embedding columns"
        return (
            f"<{name} of {sizes}; {self.n_seen:,} of {n_classes:,} classes seen; {size:,} parameters on {self.device}>"
        )

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return the networks by role, not yet initialised."""
        raise NotImplementedError

    def make_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> None:
        """Create the networks on the model's device, not yet initialised."""
        self.networks = nn.ModuleDict(self.build_networks(feature_dim, embedding_dim, n_seen)).to(self.device)
        set_weight_layout(self.networks)
        self.n_seen = n_seen

    def network(self, role: str, kind: type[Network]) -> Network:
        """Return the network of a role, which is of that kind."""
        network = self.networks[role]
        assert isinstance(network, kind)
        return network

    def save(self, path: str | Path) -> None:
        """Write the model to a directory; an existing model of that name is replaced as a whole."""
        if not self.networks:
            raise InputError("the model hasn't been trained", "fit() before save()")
        arrays = {
            "class_embeddings": self.class_embeddings,
            "embedding.offset": self.preprocessor.offset,
            "embedding.scale": self.preprocessor.scale,
        } | {f"feature.{key}": array for key, array in self.scaler.to_arrays().items()}
        tensors = {key: torch.from_numpy(np.array(array, dtype=np.float32)) for key, array in arrays.items()}
        tensors |= {f"network.{key}": value for key, value in self.networks.state_dict().items()}
        description = {
            "method": self.config.name,
            "config": to_mapping(self.config),
            "embedding": to_mapping(self.embedding),
            "class_names": self.class_names,
            "n_seen": self.n_seen,
            "feature_scaling": self.scaler.kind,
        }
        stored_folder.write(path, "model", FORMAT, description, tensors)

    def restore(self, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore what :meth:`save` wrote of a model with the same settings.

        Raises:
            LookupError, TypeError, ValueError, RuntimeError: no such model can have written it.
        """
        self.class_embeddings = tensors["class_embeddings"].numpy()
        self.class_names = _class_names(description["class_names"], len(self.class_embeddings))
        self.preprocessor = EmbeddingPreprocessor(
            self.embedding, tensors["embedding.offset"].numpy(), tensors["embedding.scale"].numpy()
        )
        scaling = {key: tensor.numpy() for key, tensor in stored_folder.part(tensors, "feature.").items()}
        self.scaler = FeatureScaler.from_arrays(description["feature_scaling"], scaling)
        n_seen, networks = description["n_seen"], stored_folder.part(tensors, "network.")
        if type(n_seen) is not int or not 0 < n_seen <= len(self.class_embeddings):
            raise ValueError(f"n_seen is {n_seen!r}, of {len(self.class_embeddings)} classes")
        dims = self.scaler.dim, self.preprocessor.dim, n_seen
        self._expect_networks(networks, dims)
        self.device = device
        self.make_networks(*dims)
        self.networks.load_state_dict(networks)

    def _expect_networks(self, found: Mapping[str, Tensor], dims: tuple[int, int, int]) -> None:
        """Refuse tensors of other names or shapes than networks of these dimensions have.

        The networks are built on the meta device, without memory: a description that claims too much allocates nothing.
        """
        longest = max((side for tensor in found.values() for side in tensor.shape), default=0)
        # Large values of these would take time or memory in an outline.
        for name, limit in (("n_layers", len(found)), ("n_timesteps", longest)):
            if getattr(self.config, name, 0) > limit:
                raise ValueError(f"{name} is {getattr(self.config, name)}, more than the tensors have")
        with torch.device("meta"):
            outline = self.build_networks(*dims)
        expected = {key: value.shape for key, value in nn.ModuleDict(outline).state_dict().items()}
        for key in sorted(expected.keys() | found.keys()):
            if key not in found or key not in expected:
                raise ValueError(f"{key} is {'unknown' if key in found else 'missing'}")
            if found[key].shape != expected[key]:
                raise ValueError(f"{key} has shape {tuple(found[key].shape)}, its config says {tuple(expected[key])}")


def _class_names(names: Any, n_classes: int) -> tuple[str, ...] | None:
    """Return the class names in a description, after a check of their type and number."""
    if names is None:
        return None
    kept = isinstance(names, list) and all(isinstance(name, str | int | float) for name in names)
    if not kept or len(names) != n_classes:
        raise ValueError(f"class_names are no {n_classes} names")
    return tuple(str(name) for name in names)  # earlier versions stored numbers
