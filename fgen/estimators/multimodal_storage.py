"""The folder of a saved multimodal classifier: ``multimodal.json`` and ``multimodal.safetensors``."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fgen.errors import InputError, first_line
from fgen.estimators.towers import EndToEnd, EndToEndConfig, Towers
from fgen.inference.baseline import BaselineScores
from fgen.inference.predictor import Predictor
from fgen.inference.storage import TEXT, storable_labels
from fgen.io import stored_folder
from fgen.io.reading import guarded_read
from fgen.nn.multimodal import Rescale

NAME, FORM = "multimodal", "fgen-multimodal-classifier"


def write(
    path: str | Path,
    predictor: Predictor,
    parameters: Mapping[str, Any],
    texts: Mapping[Any, Any] | None,
    embeddings: np.ndarray | None,
) -> None:
    """Write a folder; equal classifiers are equal bytes.

    Args:
        path: the folder.
        predictor: whose head is the scorer.
        parameters: of the constructor, as JSON can hold them.
        texts: of the classes, in their order.
        embeddings: ``(C, A)`` raw, of classes without texts.

    Raises:
        InputError: labels that no JSON can hold, or a folder that holds something else.
    """
    baseline, labels = predictor.head.baseline, predictor.labels
    towers = baseline.config.towers
    description = {
        "labels": storable_labels(labels),
        "label_type": TEXT if labels.dtype.kind in "UT" else labels.dtype.str,
        "seen": predictor.seen.tolist(),
        "gamma": float(predictor.gamma),
        "feature_names": None if predictor.feature_names is None else list(predictor.feature_names),
        "length": predictor.model.scaler.length,
        "feature_dim": baseline.feature_dim,
        "image_shape": towers.image_shape,
        "text_shape": towers.text_shape,
        "texts": None if texts is None else [[own] if isinstance(own, str) else list(own) for own in texts.values()],
        "parameters": dict(parameters),
    }
    # Copies, for the weights of two parts of a module may be one tensor, which safetensors refuses.
    tensors = {f"scorer.{name}": tensor.detach().clone() for name, tensor in baseline.scorer.state_dict().items()}
    tensors["rows"] = baseline.rows
    if embeddings is not None:
        tensors["class_embeddings"] = torch.tensor(embeddings)
    stored_folder.write(path, NAME, FORM, description, tensors)


def read(
    path: str | Path, image: nn.Module | None, text: nn.Module | None, device: str | None
) -> tuple[Predictor, dict[str, Any], dict[str, Any]]:
    """Return what predicts, what describes the classes, and the other parameters of the constructor.

    Args:
        path: the folder.
        image, text: modules like those that were trained; None where there was none.
        device: another one than in training.

    Raises:
        InputError: no such folder, damaged files, a module that is missing or that the weights don't fit.
    """
    description, tensors = stored_folder.read(path, NAME, {FORM: lambda description, tensors: (description, tensors)})
    for name, module, shape in (("image", image, "image_shape"), ("text", text, "text_shape")):
        if (module is None) != (description.get(shape) is None):
            had = "no module" if module is not None else "a module, whose code isn't stored"
            expected = f"load(path, {name}_encoder=...) as in training"
            raise InputError(f"the classifier was trained with {had} as {name}_encoder", expected)
    with guarded_read(Path(path) / f"{NAME}.json", "classifier"):
        return _restored(description, tensors, Towers(image, text=text), device)


def _restored(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], modules: Towers, device: str | None
) -> tuple[Predictor, dict[str, Any], dict[str, Any]]:
    parameters = dict(content["parameters"]) | ({"device": device} if device else {})
    labels = np.array(content["labels"], dtype=str if content["label_type"] == TEXT else content["label_type"])
    seen = np.array(content["seen"], dtype=np.int64)
    if len(labels) != len(tensors["rows"]) or not np.array_equal(seen, np.intersect1d(seen, np.arange(len(labels)))):
        raise ValueError("labels, seen classes and rows don't fit each other")
    shapes = [None if content[name] is None else tuple(content[name]) for name in ("image_shape", "text_shape")]
    known = {field.name: parameters[field.name] for field in fields(EndToEndConfig) if field.name in parameters}
    config = EndToEndConfig(**known, towers=Towers(modules.image, shapes[0], modules.text, shapes[1]))
    baseline = _restored_baseline(config, int(content["feature_dim"]), tensors)
    scores = BaselineScores(baseline, np.zeros((1, baseline.feature_dim or 1), np.float32))
    scores.scaler = replace(scores.scaler, length=content["length"])
    names = None if content["feature_names"] is None else tuple(content["feature_names"])
    own = {"labels": labels, "seen": seen, "gamma": float(content["gamma"]), "feature_names": names}
    described: dict[str, Any] = {}
    if content["texts"] is not None:
        described["class_texts"] = dict(zip(labels.tolist(), content["texts"], strict=True))
    if "class_embeddings" in tensors:
        described |= {"class_embeddings": tensors["class_embeddings"].numpy(), "classes": labels}
    return Predictor(scores, scores, **own), described, parameters  # type: ignore[arg-type]


def _restored_baseline(config: EndToEndConfig, feature_dim: int, tensors: Mapping[str, Tensor]) -> EndToEnd:
    """Return the baseline with the stored weights.

    Raises:
        InputError: a module of another kind.
    """
    baseline, rows = EndToEnd(config), tensors["rows"]
    image = config.towers.image_tower() or Rescale(feature_dim)
    text = config.towers.text_tower() or Rescale(rows.shape[1])
    scorer = baseline.joined(image, text, torch.zeros(1, feature_dim), rows[:1])
    try:
        scorer.load_state_dict(stored_folder.part(dict(tensors), "scorer."))
    except RuntimeError as error:
        found = f"the stored weights don't fit the encoders ({first_line(error)})"
        raise InputError(found, "modules of the kind that were trained") from None
    baseline.feature_dim, baseline.n_classes = feature_dim, len(rows)
    baseline.use(scorer.to(baseline.device), rows)
    return baseline
