"""Heads on disk: a folder with ``head.safetensors`` and ``head.json``; nothing pickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from fgen.classifiers.base import Head, checked_labels
from fgen.config import build, to_mapping
from fgen.errors import InputError
from fgen.features.scaling import FeatureScaler
from fgen.io.atomic import expect_only, replace_directory, write_json
from fgen.io.reading import guarded_read, read_json

VERSION = 1


class StoredHead(Head):
    """A head that can be saved.

    Attributes:
        format: its name in ``head.json``.
        stored: name of each of its tensors in the file -> the attribute that holds it.
    """

    format: ClassVar[str]
    stored: ClassVar[dict[str, str]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def save(self, path: str | Path) -> None:
        """Write the head to a folder: safetensors and JSON, nothing pickled; equal heads are equal bytes.

        An older head of that name is replaced as a whole.

        Raises:
            InputError: no training yet, or a folder with other files.
        """
        self.require_trained()
        tensors = {name: getattr(self, attribute) for name, attribute in self.stored.items()}
        tensors["classes"] = torch.from_numpy(self.classes_)
        tensors |= {f"feature.{key}": torch.from_numpy(array) for key, array in self.scaler.to_arrays().items()}
        description = {"format": self.format, "format_version": VERSION, "config": to_mapping(self.config)}
        with replace_directory(path, partial(expect_only, names=("head.json", "head.safetensors"))) as folder:
            content = save({key: value.contiguous() for key, value in tensors.items()})
            (folder / "head.safetensors").write_bytes(content)
            write_json(folder / "head.json", description | {"n_classes": self.n_classes_})


H = TypeVar("H", bound=StoredHead)


@contextmanager
def reading_head(path: str | Path, head_class: type[H], config_class: Any) -> Iterator[tuple[H, dict[str, Tensor]]]:
    """A head with its config, classes and scaling as they were written, and all tensors, to take its own from.

    Whatever is raised in the block is the tensors' fault, and names their file.

    Raises:
        InputError: no such folder, files that are damaged, or a head of another format.
    """
    with guarded_read(Path(path) / "head.json", "head"):
        description = read_json(Path(path) / "head.json")
        found, expected = (description["format"], description["format_version"]), (head_class.format, VERSION)
        if found != expected:
            raise InputError(f"the format is {found[0]} {found[1]}", f"{expected[0]} {expected[1]}")
        head = head_class(build(config_class, description["config"], "classifier"))
    with guarded_read(Path(path) / "head.safetensors", "safetensors"):
        tensors = load_file(Path(path) / "head.safetensors")
        classes = tensors["classes"].numpy()
        if classes.dtype != np.int64 or classes.ndim != 1 or not (np.diff(classes) > 0).all():
            raise InputError("classes are no ascending ids", "distinct int64")
        _, head.classes_, head.n_classes_ = checked_labels(classes, len(classes), None, description["n_classes"])
        of_features = {key: value.numpy() for key, value in tensors.items() if key.startswith("feature.")}
        arrays = {key.removeprefix("feature."): array for key, array in of_features.items()}
        head.scaler = FeatureScaler.from_arrays(head.config.scaling, arrays)
        yield head, tensors


def require_shape(name: str, tensor: Tensor, *shape: int) -> Tensor:
    """The tensor, if it can come from a training: what it holds is used without further checks."""
    if tensor.shape != shape or tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, {tensor.dtype}", f"{shape} finite float32")
    return tensor
