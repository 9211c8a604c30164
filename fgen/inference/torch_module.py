"""A predictor, and the generator in it, as modules of torch that hold all their numbers.

They have every preparation inside: raw features or raw class embeddings in, whatever the method, the scaling and the
head. All sizes but the number of rows are fixed, so that torch.compile, torch.export and ONNX take them as they are.
"""

from collections.abc import Callable
from copy import copy, deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.storage import StoredHead
from fgen.features.class_embeddings import EmbeddingPreprocessor
from fgen.features.scaling import FeatureScaler, apply_scaling, invert_scaling
from fgen.models.base.generator import FeatureGenerator


class Scaling(nn.Module):
    """A :class:`~fgen.features.scaling.FeatureScaler` whose numbers are buffers."""

    offset: Tensor
    scale: Tensor

    def __init__(self, scaler: FeatureScaler) -> None:
        super().__init__()
        self.kind = scaler.kind
        self.register_buffer("offset", torch.tensor(scaler.offset))
        self.register_buffer("scale", torch.tensor(scaler.scale))

    def forward(self, features: Tensor) -> Tensor:
        """Return raw rows ``(N, D)`` scaled."""
        return apply_scaling(self.kind, features, self.offset, self.scale)

    def invert(self, features: Tensor) -> Tensor:
        """Return raw rows of scaled ``(N, D)``."""
        return invert_scaling(self.kind, features, self.offset, self.scale)


class EmbeddingPreparation(nn.Module):
    """An :class:`~fgen.features.class_embeddings.EmbeddingPreprocessor` whose numbers are buffers."""

    offset: Tensor
    scale: Tensor

    def __init__(self, preprocessor: EmbeddingPreprocessor) -> None:
        super().__init__()
        self.config = preprocessor.config
        self.register_buffer("offset", torch.tensor(preprocessor.offset))
        self.register_buffer("scale", torch.tensor(preprocessor.scale))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return prepared embeddings of raw ``(N, A)``."""
        prepared = (embeddings - self.offset) * self.scale
        config, factors = self.config, self.config.factors
        if config.norm == "l2" or factors is not None:
            kinds = list(prepared.split(config.widths or (prepared.shape[1],), dim=1))
            if config.norm == "l2":
                kinds = [F.normalize(kind, eps=torch.finfo(kind.dtype).tiny) for kind in kinds]
            if factors is not None:
                kinds = [kind * factor for kind, factor in zip(kinds, factors, strict=True)]
            prepared = torch.stack(kinds).sum(dim=0) if config.averages else torch.cat(kinds, dim=1)
        return prepared * config.scale


class HeadModule(nn.Module):
    """A head whose tensors are buffers, with a score for every class.

    Args:
        head: a head as a formula of tensors.
        n_classes: C; classes that the head doesn't know have :data:`~fgen.classifiers.base.NO_CANDIDATE`.
    """

    columns: Tensor

    def __init__(self, head: StoredHead, n_classes: int) -> None:
        super().__init__()
        self.config, self.formula = head.config, head.formula
        self.scaling = Scaling(head.scaler)
        for attribute in head.stored.values():
            self.register_buffer(attribute, getattr(head, attribute).detach().float().clone())
        columns = np.full(n_classes, len(head.classes_))
        columns[head.classes_] = np.arange(len(head.classes_))
        self.knows_all = len(head.classes_) == n_classes
        self.register_buffer("columns", torch.from_numpy(columns), persistent=not self.knows_all)

    def forward(self, rows: Tensor) -> Tensor:
        """Return scores ``(N, C)`` by class id of rows ``(N, D)`` in the space of the head."""
        scores = self.formula(self, self.scaling(rows))
        if self.knows_all:
            return scores
        return F.pad(scores, (0, 1), value=NO_CANDIDATE)[:, self.columns]


class PredictorModule(nn.Module):
    """Raw features ``(N, D)`` to calibrated log-probabilities ``(N, C)``, float32, in the order of the class ids.

    Its numbers are buffers, but for the method's own networks, if its heads have a space of their own. Their parameters
    are frozen; ``requires_grad_(True)`` has them learn.

    Args:
        model: the generator, whose map to the heads' space stands in front.
        head: the head, as a formula of tensors.
        handicap: ``(C,)``, what is subtracted from the classes' scores.
    """

    handicap: Tensor

    def __init__(self, model: FeatureGenerator, head: StoredHead, handicap: np.ndarray) -> None:
        super().__init__()
        self.head = HeadModule(head, len(handicap))
        self.register_buffer("handicap", torch.from_numpy(handicap.astype(np.float32)))
        if model.has_own_space:
            no_rows = torch.zeros(0, model.scaler.dim)
            self._model = with_used_networks(model, lambda used: used.represent_scaled(no_rows))
            self.networks, self.scaling = self._model.networks, Scaling(model.scaler)

    def forward(self, features: Tensor) -> Tensor:
        """Return log-probabilities ``(N, C)`` of raw features ``(N, D)``."""
        if hasattr(self, "_model"):
            features = self._model.represent_scaled(self.scaling(features))
        return (self.head(features) - self.handicap).log_softmax(dim=1)


class GeneratorModule(nn.Module):
    """Raw class embeddings ``(N, A)`` and noise ``(N, Z)`` of N(0, 1) to raw features ``(N, D)``, float32.

    All preparation of embeddings, and the inverse of the features' scaling, are inside. A method that generates in
    several steps, as flow and diffusion, has all of them inside. The networks' parameters are frozen.

    Args:
        model: trained.
    """

    def __init__(self, model: FeatureGenerator) -> None:
        super().__init__()
        self.preparation, self.scaling = EmbeddingPreparation(model.preprocessor), Scaling(model.scaler)
        noise, condition = torch.zeros(1, model.noise_dim), torch.zeros(1, model.preprocessor.dim)
        self._model = with_used_networks(model, lambda used: used.synthesise(noise, condition))
        self.networks = self._model.networks

    def forward(self, class_embeddings: Tensor, noise: Tensor) -> Tensor:
        """Return a row of features for each row of class embeddings and noise."""
        return self.scaling.invert(self._model.synthesise(noise, self.preparation(class_embeddings)))


class _NotedNetworks(nn.ModuleDict):
    """Networks by role, of which is noted which are used."""

    def __init__(self, networks: nn.ModuleDict) -> None:
        super().__init__(dict(networks.items()))
        self.used: set[str] = set()

    def __getitem__(self, role: str) -> nn.Module:
        self.used.add(role)
        return super().__getitem__(role)


@torch.no_grad()
def with_used_networks(model: FeatureGenerator, formula: Callable[[FeatureGenerator], object]) -> FeatureGenerator:
    """Return a copy of a model with those networks alone that a formula uses, copied to the CPU and frozen."""
    copied = copy(model)
    copied.device = torch.device("cpu")
    copied.networks = noted = _NotedNetworks(deepcopy(model.networks).cpu())
    formula(copied)
    copied.networks = nn.ModuleDict({role: noted[role] for role in sorted(noted.used)}).requires_grad_(False)
    return copied
