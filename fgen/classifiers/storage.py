"""Heads on disk: a folder with ``head.safetensors`` and ``head.json``; nothing pickled."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.base import Head, checked_labels
from fgen.compute.device import matrix_precision
from fgen.config import build, to_mapping
from fgen.errors import InputError
from fgen.features.rows import Features
from fgen.features.scaled_rows import CPU
from fgen.features.scaling import FeatureScaler
from fgen.io import stored_folder


class StoredHead(Head):
    """A head that can be saved.

    Attributes:
        format: its name in ``head.json``.
        stored: name of each of its tensors in the file -> the attribute that holds it.
        stored_type: the type of these tensors.
    """

    format: ClassVar[str]
    stored: ClassVar[dict[str, str]]
    stored_type: ClassVar[torch.dtype] = torch.float32

    @staticmethod
    def formula(head: Any, scaled: Tensor) -> Tensor:
        """Return scores ``(n, K)`` of scaled rows ``(n, D)``.

        Args:
            head: what has the head's tensors and ``config`` as attributes: the head itself, or a module of torch's.
            scaled: the rows.
        """
        raise NotImplementedError

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return scores ``(n, K)`` of scaled rows ``(n, D)``."""
        return self.formula(self, torch.from_numpy(scaled)).numpy()

    def stored_form(self) -> Self:
        """Return the head itself."""
        return self

    def extended(self, features: Features, labels: np.ndarray, new: np.ndarray) -> Self:
        """Return a head with new classes too. What it holds of its own classes stays, bit for bit.

        Args:
            features: ``(N, D)`` raw rows of old and new classes.
            labels: ``(N,)`` ids of their classes.
            new: ``(M,)`` ascending ids of the new classes, above those of the others.

        Raises:
            InputError: the head's scores can't take a class more.
        """
        self.require_trained()
        head = copy(self)
        head.classes_, head.n_classes_ = np.concatenate([self.classes_, new]), int(new[-1]) + 1
        targets = np.where(np.isin(labels, new), np.searchsorted(new, labels) + 1, 0)
        with matrix_precision("highest", CPU):
            vars(head).update(self.extended_tensors(features, targets))
        return head

    def extended_tensors(self, features: Features, targets: np.ndarray) -> dict[str, Tensor]:
        """Return the tensors that differ in a head with M new classes, by attribute.

        Args:
            features: ``(N, D)`` raw rows.
            targets: ``(N,)``, 0 for rows of old classes, 1 to M for those of new ones.
        """
        raise NotImplementedError

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each stored tensor, from the classes, the scaler and the config."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the head to a folder: safetensors and JSON, nothing pickled; equal heads are equal bytes.

        An older head of that name is replaced as a whole.

        Raises:
            InputError: no training yet, or a folder with other files.
        """
        self.require_trained()
        tensors = {name: getattr(self, attribute) for name, attribute in self.stored.items()}
        arrays = {f"feature.{key}": array for key, array in self.scaler.to_arrays().items()}
        tensors |= {key: torch.from_numpy(array) for key, array in (arrays | {"classes": self.classes_}).items()}
        description = {"config": to_mapping(self.config), "n_classes": self.n_classes_}
        stored_folder.write(path, "head", self.format, description, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a head that :meth:`save` wrote.

        Raises:
            InputError: no such folder, or files that are damaged or no such head's.
        """
        return stored_folder.read(path, "head", {cls.format: cls.restored})

    @classmethod
    def restored(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return the head that a folder describes.

        Raises:
            LookupError, TypeError, ValueError: no training can have made it.
        """
        head = cls(build(cls.config_class, description["config"], "classifier"))
        classes = tensors["classes"].numpy()
        if classes.dtype != np.int64 or classes.ndim != 1 or not (np.diff(classes) > 0).all():
            raise InputError("classes are no ascending ids", "distinct int64")
        _, head.classes_, head.n_classes_ = checked_labels(classes, len(classes), None, description["n_classes"])
        scaling = {key: tensor.numpy() for key, tensor in stored_folder.part(tensors, "feature.").items()}
        head.scaler = FeatureScaler.from_arrays(head.config.scaling, scaling)
        for name, shape in head.stored_shapes().items():
            tensor = tensors[name]
            if tensor.shape != shape or tensor.dtype != cls.stored_type or not bool(torch.isfinite(tensor).all()):
                found = f"{name} has shape {tuple(tensor.shape)}, {tensor.dtype}"
                raise InputError(found, f"{shape} finite {cls.stored_type}".replace("torch.", ""))
            setattr(head, cls.stored[name], tensor)
        return head
