"""The contents of a saved predictor's ``classifier.json``, checked against the model and the head beside it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError
from fgen.features.encoder_record import IMAGE_ENCODER, EncoderRecord
from fgen.io.atomic import expect_only
from fgen.io.reading import nearest_sibling
from fgen.models.base.generator import FeatureGenerator

FORMAT = "fgen-zero-shot-classifier"
VERSION = 1
#: The stored type of text labels: a NumPy type would hold the width of the widest label too.
TEXT = "text"
#: The files and folders of a saved predictor, by folder.
CONTENTS = {
    ".": ("classifier.json", "model", "head"),
    "model": ("model.json", "model.safetensors"),
    "head": ("head.json", "head.safetensors"),
}


def storable_labels(labels: np.ndarray) -> list[int | float | str]:
    """Return labels ``(C,)`` as JSON can hold them.

    Raises:
        InputError: JSON can't hold one of them.
    """
    values = [label.item() if isinstance(label, np.generic) else label for label in labels.tolist()]
    for label in values:
        kept = type(label) in (bool, int, str) or (type(label) is float and math.isfinite(label))
        if labels.dtype.kind not in "biufUTO" or not kept or not str(label).isprintable():
            expected = "text or finite numbers, which JSON can hold"
            raise InputError(f"the label {label!r} is of type {labels.dtype}", expected, "Fit with such labels")
    return values


def restored_fields(content: Mapping[str, Any], model: FeatureGenerator, head: Any) -> dict[str, Any]:
    """Return the fields of a predictor that its JSON file holds, if they fit its model and its head.

    Raises:
        InputError: another format, or values that no saved predictor has. LookupError, TypeError, ValueError: likewise.
    """
    if (content["format"], content["format_version"]) != (FORMAT, VERSION):
        raise InputError(f"the format is {content['format']} {content['format_version']}", f"{FORMAT} {VERSION}")
    parameters, gamma = content["parameters"], content["gamma"]
    if not isinstance(parameters, dict):
        raise InputError(f"parameters is {parameters!r}", "the constructor's, by name")
    labels = _labels(content, model)
    seen, ids = np.asarray(content["seen"]), np.arange(len(model.class_embeddings))
    if seen.dtype.kind != "i" or not len(seen) or not np.array_equal(seen, np.intersect1d(seen, ids)):
        raise InputError(f"seen is {content['seen']}", f"ascending ids of classes, from 0 to {len(ids) - 1}")
    if type(gamma) is not float or not math.isfinite(gamma):
        raise InputError(f"gamma is {gamma!r}", "a finite number")
    width = model.represent(np.zeros((0, model.scaler.dim), np.float32)).shape[1]
    if len(labels) != len(ids) or head.scaler.dim != width or not np.array_equal(head.classes_, ids):
        raise InputError("model and head beside it are of other classes or columns", "those that were saved with it")
    return {
        "labels": labels,
        "seen": seen,
        "gamma": gamma,
        "feature_names": _feature_names(content, model.scaler.dim),
        "parameters": parameters,
        IMAGE_ENCODER: EncoderRecord.from_json(content[IMAGE_ENCODER]) if IMAGE_ENCODER in content else None,
    }


def _labels(content: Mapping[str, Any], model: FeatureGenerator) -> np.ndarray:
    """Return the labels ``(C,)`` in their type, if they are the class names of the model."""
    kind = np.dtype(str if content["label_type"] == TEXT else content["label_type"])
    if kind.kind not in "biufO" and kind != np.dtype(str):
        raise InputError(f"label_type is {content['label_type']!r}", "that of the labels")
    labels = np.array(content["labels"], dtype=kind)
    names = tuple(str(label) for label in labels.tolist())
    if storable_labels(labels) != content["labels"] or names != model.class_names or len(set(names)) < len(names):
        raise InputError("labels aren't the names of the model beside it", "those that were saved with it")
    return labels


def _feature_names(content: Mapping[str, Any], dim: int) -> tuple[str, ...] | None:
    """Return the names of the D feature columns; None where the fit had none, and of older files."""
    names = content.get("feature_names")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != dim or not all(isinstance(name, str) for name in names):
        raise InputError(f"feature_names is {str(names)[:60]}", f"the names of {dim} columns")
    return tuple(names)


def expect_stored(path: Path) -> None:
    """Refuse a folder without ``classifier.json``.

    Raises:
        InputError: it has none; the message says what may have been meant.
    """
    if not (path / "classifier.json").exists():
        hint = nearest_sibling(path)
        if path.exists():
            hint = "fgen.load_model reads a model" if (path / "model.json").exists() else "Name another folder"
        raise InputError(f"{path} holds no classifier.json", "a folder that ZeroShotClassifier.save() wrote", hint)


def expect_replaceable(path: Path) -> None:
    """Refuse to replace a folder that holds anything but a saved predictor.

    Raises:
        InputError: it does.
    """
    for folder, names in CONTENTS.items():
        expect_only(path / folder, names)
    if path.exists() and any(path.iterdir()) and not (path / "classifier.json").is_file():
        raise InputError(f"{path} holds {next(path.iterdir()).name!r} and no classifier", "a new folder")
