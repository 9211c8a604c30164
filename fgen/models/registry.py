"""Registry of the methods by name. A new method is a file of its own and a line here, or a package of its own.

>>> fgen.MODELS["clswgan"](cls_weight=0.1).cls_weight
0.1
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from fgen.compute.device import choose_device
from fgen.config import build
from fgen.errors import InputError, did_you_mean
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.io import stored_folder
from fgen.models import (  # noqa: F401 - a method's class enters itself into the list
    cadavae,
    cegzsl,
    clswgan,
    cycle,
    diffusion,
    flow,
    free,
    fvaegan,
    gazsl,
    lisgan,
    lsrgan,
    priorgan,
    tfvaegan,
    zsml,
)
from fgen.models.base.generator import FeatureGenerator
from fgen.models.base.storage import FORMAT
from fgen.models.plugins import Methods

MODELS = Methods(dict(sorted(FeatureGenerator.methods.items())))


def make_model(name: str, *, embedding: EmbeddingConfig | None = None, **overrides: Any) -> FeatureGenerator:
    """Return an untrained model of a method.

    Args:
        name: a key of ``MODELS``.
        embedding: how class embeddings are prepared; by default they are taken as they are.
        overrides: fields of the method's config, for example ``epochs=30``.

    Raises:
        InputError: an unknown method or setting (the nearest known one is named), or a value out of range.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> features, labels = data.split("trainval")
        >>> model = fgen.make_model("clswgan", steps=5, hidden_dim=16)
        >>> model = model.fit(features, labels, data.class_embeddings, seed=0)
        >>> rows, ids = model.generate(data.unseen, n_per_class=2, seed=0)
        >>> rows.shape == (2 * len(data.unseen), data.feature_dim)
        True
    """
    if not isinstance(name, str) or name not in MODELS:
        hint = did_you_mean(str(name), MODELS) or "Baselines, which generate nothing, are in fgen.BASELINES"
        raise InputError(f"model {name!r} is unknown", f"one of {', '.join(MODELS)}", hint)
    return build(MODELS[name], overrides, "model").build(embedding)


def load_model(path: str | Path, device: str = "cpu") -> FeatureGenerator:
    """Read a model that :meth:`FeatureGenerator.save` wrote.

    Args:
        path: its directory.
        device: where it will generate.

    Raises:
        InputError: no such directory, a damaged file, a method or version this fgen doesn't know, or no such device.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> model = fgen.make_model("flow", epochs=1, hidden_dim=16)
        >>> model.fit(*data.split("trainval"), data.class_embeddings, seed=0).save("model")
        >>> features, labels = fgen.load_model("model").generate(data.unseen[:2], n_per_class=3, seed=0)
        >>> features.shape == (6, data.feature_dim)
        True
    """
    chosen = choose_device(device)

    def restored(description: dict[str, Any], tensors: dict[str, Tensor]) -> FeatureGenerator:
        if description["method"] not in MODELS:
            raise ValueError(f"the method {description['method']!r} is neither fgen's nor of an installed package")
        config = build(MODELS[description["method"]], description["config"], "model")
        model: FeatureGenerator = config.build(build(EmbeddingConfig, description["embedding"], "embedding"))
        model.restore(description, tensors, chosen)
        return model

    return stored_folder.read(path, "model", {FORMAT: restored})
