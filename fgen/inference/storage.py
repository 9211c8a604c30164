"""A fitted :class:`fgen.ZeroShotClassifier` on disk: its model, its head and a JSON file; nothing pickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgen.classifiers.registry import load_head
from fgen.classifiers.storage import StoredHead
from fgen.compute.device import choose_device
from fgen.errors import InputError
from fgen.io.atomic import expect_only, replace_directory, write_json
from fgen.io.consistent_read import read_folder
from fgen.io.reading import guarded_read, nearest_sibling, read_json
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

FORMAT = "fgen-zero-shot-classifier"
VERSION = 1
#: A type of labels: NumPy's would be as wide as the widest, or wider.
TEXT = "text"
#: What a saved classifier's folder, and the folders in it, hold.
CONTENTS = {
    ".": ("classifier.json", "model", "head"),
    "model": ("model.json", "model.safetensors"),
    "head": ("head.json", "head.safetensors"),
}


@dataclass(frozen=True)
class StoredFit:
    """What a fit leaves.

    Attributes:
        labels: ``(C,)`` of the classes, as the user has them.
        seen: ids of the classes that had rows.
        gamma: what is subtracted from their scores.
        feature_names: ``(D,)`` of the features' columns, where they had names.
    """

    model: FeatureGenerator
    head: Any
    labels: np.ndarray
    seen: np.ndarray
    gamma: float
    feature_names: tuple[str, ...] | None = None


def write_classifier(path: Path, fitted: StoredFit, parameters: Mapping[str, Any]) -> None:
    """Write a folder, in place of an older one as a whole.

    Args:
        parameters: of the constructor, but for embeddings and labels, as JSON can hold them.

    Raises:
        InputError: a head of scikit-learn's or labels that no JSON can hold; a folder that holds something else.
    """
    if not isinstance(fitted.head, StoredHead):
        kept = "'softmax' or 'cosine' as classifier's name"
        raise InputError(f"the head {fitted.head.config.name!r} is scikit-learn's and can only be pickled", kept)
    description = {
        "format": FORMAT,
        "format_version": VERSION,
        "labels": _storable(fitted.labels),
        "label_type": TEXT if fitted.labels.dtype.kind in "UT" else fitted.labels.dtype.str,
        "seen": fitted.seen.tolist(),
        "gamma": fitted.gamma,
        "parameters": dict(parameters),
    }
    if fitted.feature_names is not None:
        description["feature_names"] = list(fitted.feature_names)
    with replace_directory(path, _expect_classifier) as folder:
        fitted.model.save(folder / "model")
        fitted.head.save(folder / "head")
        write_json(folder / "classifier.json", description)


def read_classifier(path: Path, device: str) -> tuple[StoredFit, dict[str, Any]]:
    """What :func:`write_classifier` was given, the model on ``device``.

    Raises:
        InputError: no such folder, files that are damaged or no classifier's, or no such device.
    """
    choose_device(device)
    return read_folder(path, lambda folder: _read_classifier(folder, device))


def _read_classifier(path: Path, device: str) -> tuple[StoredFit, dict[str, Any]]:
    file = path / "classifier.json"
    if not file.exists():
        hint = nearest_sibling(path)
        if path.exists():
            hint = "fgen.load_model reads a model" if (path / "model.json").exists() else "Name another folder"
        raise InputError(f"{path} holds no classifier.json", "a folder that ZeroShotClassifier.save() wrote", hint)
    model, head = load_model(path / "model", device), load_head(path / "head")
    with guarded_read(file, "classifier"):
        content = read_json(file)
        if (content["format"], content["format_version"]) != (FORMAT, VERSION):
            raise InputError(f"the format is {content['format']} {content['format_version']}", f"{FORMAT} {VERSION}")
        parameters = content["parameters"]
        if not isinstance(parameters, dict):
            raise InputError(f"parameters is {parameters!r}", "the constructor's, by name")
        return _stored_fit(content, model, head), parameters


def _storable(labels: np.ndarray) -> list[int | float | str]:
    """Labels ``(C,)`` as JSON can hold them."""
    values = [label.item() if isinstance(label, np.generic) else label for label in labels.tolist()]
    for label in values:
        kept = type(label) in (bool, int, str) or (type(label) is float and math.isfinite(label))
        if labels.dtype.kind not in "biufUTO" or not kept or not str(label).isprintable():
            expected = "text or finite numbers, which JSON can hold"
            raise InputError(f"the label {label!r} is of type {labels.dtype}", expected, "Fit with such labels")
    return values


def _stored_fit(content: Mapping[str, Any], model: FeatureGenerator, head: Any) -> StoredFit:
    """Labels, seen classes and gamma of a saved classifier with its model and head, if they fit these."""
    kind = np.dtype(str if content["label_type"] == TEXT else content["label_type"])
    if kind.kind not in "biufO" and kind != np.dtype(str):
        raise InputError(f"label_type is {content['label_type']!r}", "that of the labels")
    labels = np.array(content["labels"], dtype=kind)
    names = tuple(str(label) for label in labels.tolist())
    if _storable(labels) != content["labels"] or names != model.class_names or len(set(names)) < len(names):
        raise InputError("labels aren't the names of the model beside it", "those that were saved with it")
    seen, gamma = np.asarray(content["seen"]), content["gamma"]
    ids = np.arange(len(model.class_embeddings))
    if seen.dtype.kind != "i" or not len(seen) or not np.array_equal(seen, np.intersect1d(seen, ids)):
        raise InputError(f"seen is {content['seen']}", f"ascending ids of classes, from 0 to {len(ids) - 1}")
    if type(gamma) is not float or not math.isfinite(gamma):
        raise InputError(f"gamma is {gamma!r}", "a finite number")
    width = model.represent(np.zeros((0, model.scaler.dim), np.float32)).shape[1]
    if len(labels) != len(ids) or head.scaler.dim != width or not np.array_equal(head.classes_, ids):
        raise InputError("model and head beside it are of other classes or columns", "those that were saved with it")
    return StoredFit(model, head, labels, seen, gamma, _stored_columns(content, model.scaler.dim))


def _stored_columns(content: Mapping[str, Any], dim: int) -> tuple[str, ...] | None:
    """The names of the features' columns, where the classifier was fitted with some; older files have none."""
    names = content.get("feature_names")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) != dim or not all(isinstance(name, str) for name in names):
        raise InputError(f"feature_names is {str(names)[:60]}", f"the names of {dim} columns")
    return tuple(names)


def _expect_classifier(path: Path) -> None:
    """Refuse to have a folder replaced that holds anything but a saved classifier."""
    for folder, names in CONTENTS.items():
        expect_only(path / folder, names)
    if path.exists() and any(path.iterdir()) and not (path / "classifier.json").is_file():
        raise InputError(f"{path} holds {next(path.iterdir()).name!r} and no classifier", "a new folder")
