"""The field's final classifier: multinomial softmax regression on real and synthetic features.

Features stay where they are and indices are shuffled; the gradient is written down, so no graph is built.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from fgen import rng
from fgen.config import build, to_mapping
from fgen.data.atomic import replace_directory, write_json
from fgen.data.dataset import Features, iter_blocks, read_rows
from fgen.data.scaling import FeatureScaler, Kind
from fgen.errors import InputError

FORMAT = "fgen-softmax"
VERSION = 1
#: Scaled features are kept in memory up to this size, and scaled batch by batch beyond it.
IN_MEMORY = 2 << 30
#: The score of a class that is no candidate: below any log-probability, and finite, so that sums and differences are.
NO_CANDIDATE = -1e6


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig:
    """Settings of the softmax head; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        epochs: passes over the rows.
        batch_size: None means 64, or in an experiment the number of features per unseen class, as published.
        beta1: Adam's first decay; the second is 0.999.
        weight_decay: L2 penalty on the weights, added to the gradient.
        scaling: of the features, fitted on the real rows in an experiment.
        class_weight: ``"balanced"`` weighs every class alike however many rows it has.
    """

    name: ClassVar[str] = "softmax"

    epochs: int = 25
    lr: float = 1e-3
    batch_size: int | None = None
    beta1: float = 0.5
    weight_decay: float = 0.0
    scaling: Kind = "minmax"
    class_weight: Literal["none", "balanced"] = "none"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key} is {value}", "a whole number of at least 1")
        if not 0 < self.lr < 10:
            raise InputError(f"lr is {self.lr}", "a number above 0 and below 10")
        if not 0 <= self.beta1 < 1:
            raise InputError(f"beta1 is {self.beta1}", "a number from 0 to below 1")
        if not self.weight_decay >= 0:
            raise InputError(f"weight_decay is {self.weight_decay}", "a number of at least 0")

    def build(self) -> SoftmaxClassifier:
        """An untrained head."""
        return SoftmaxClassifier(self)


class SoftmaxClassifier:
    """``P(y | x) = softmax(W x + b)``, trained with Adam.

    Attributes:
        classes_: ``(K,)`` ascending class ids; the rows of the weights.
        weight, bias: ``(K, D)`` and ``(K,)``, on scaled features.
    """

    def __init__(self, config: SoftmaxConfig | None = None, **overrides: Any) -> None:
        self.config = replace(config or SoftmaxConfig(), **overrides)

    def fit(
        self,
        features: Features,
        labels: np.ndarray,
        *,
        classes: np.ndarray | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        progress: bool = False,
    ) -> SoftmaxClassifier:
        """Train on raw features ``(N, D)`` with class ids ``(N,)``.

        Args:
            classes: ids of all candidates; by default those in ``labels``.
            seed: names the initial weights and the order of the rows.
            scaling_rows: ``(M, D)`` raw features that the scaling is fitted on; by default ``features``.

        Raises:
            InputError: shapes that don't match, fewer than 2 classes, numbers that aren't finite.
        """
        labels = np.asarray(labels)
        if labels.shape != (len(features),) or labels.dtype.kind not in "iu" or not len(labels):
            raise InputError(f"labels has shape {labels.shape} and type {labels.dtype}", f"({len(features)},) integers")
        self.classes_ = np.unique(labels if classes is None else classes).astype(np.int64)
        if len(self.classes_) < 2:
            raise InputError("there is 1 class to tell apart", "at least 2")
        stray = np.setdiff1d(labels, self.classes_)
        if stray.size:
            raise InputError(f"labels hold the class {stray[0]}, which isn't in classes", "only candidates")
        self.scaler = FeatureScaler.fit(self.config.scaling, features if scaling_rows is None else scaling_rows)
        targets = torch.from_numpy(np.searchsorted(self.classes_, labels))
        self._train(_ScaledRows(features, self.scaler), targets, seed, progress)
        return self

    def _train(self, rows: _ScaledRows, targets: torch.Tensor, seed: int, progress: bool) -> None:
        config = self.config
        n_rows, n_classes = len(targets), len(self.classes_)
        numbers = rng.stream(seed, "head init").standard_normal((n_classes, self.scaler.dim), dtype=np.float32)
        self.weight = torch.from_numpy(numbers) * 0.02
        self.bias = torch.zeros(n_classes)
        parameters = [self.weight, self.bias]
        self.weight.grad, self.bias.grad = torch.empty_like(self.weight), torch.empty_like(self.bias)
        adam = torch.optim.Adam(
            parameters, lr=config.lr, betas=(config.beta1, 0.999), weight_decay=config.weight_decay, fused=True
        )
        weights = self._row_weights(targets)
        size = min(config.batch_size or 64, n_rows)
        for epoch in tqdm(range(config.epochs), desc="head", unit="epoch", disable=not progress):
            order = torch.from_numpy(rng.stream(seed, "head batches", epoch).permutation(n_rows))
            for batch in order.split(size):
                x = rows[batch]
                # d(mean cross-entropy) / d logits = (softmax - one-hot) / B
                slope = torch.addmm(self.bias, x, self.weight.T).softmax(dim=1)
                slope[torch.arange(len(batch)), targets[batch]] -= 1
                slope *= weights[batch] / len(batch)
                torch.mm(slope.T, x, out=self.weight.grad)
                torch.sum(slope, dim=0, out=self.bias.grad)
                adam.step()
        self.weight.grad = self.bias.grad = None
        if not bool(torch.isfinite(self.weight).all()):
            raise InputError("the head's weights are NaN or infinite", "finite features", "Lower classifier.lr")

    def _row_weights(self, targets: torch.Tensor) -> torch.Tensor:
        """``(N, 1)`` with mean 1."""
        if self.config.class_weight == "none":
            return torch.ones(len(targets), 1)
        counts = torch.bincount(targets, minlength=len(self.classes_))
        return (len(targets) / (counts.count_nonzero() * counts[targets])).float().unsqueeze(1)

    def decision_function(self, features: Features) -> np.ndarray:
        """Log-probabilities ``(N, K)`` of raw features ``(N, D)``, in the order of :attr:`classes_`."""
        if not hasattr(self, "weight"):
            raise InputError("the head hasn't been trained", "fit() or load() first")
        if features.shape[1] != self.scaler.dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.scaler.dim}, as in training")
        result = np.empty((len(features), len(self.classes_)), dtype=np.float32)
        start = 0
        for block in iter_blocks(features):
            logits = torch.addmm(self.bias, torch.from_numpy(self.scaler.apply(block)), self.weight.T)
            result[start : start + len(block)] = logits.log_softmax(dim=1).numpy()
            start += len(block)
        return result

    def scores(self, features: Features, n_classes: int) -> np.ndarray:
        """Log-probabilities ``(N, n_classes)`` by class id; :data:`NO_CANDIDATE` for classes that are none."""
        result = np.full((len(features), n_classes), NO_CANDIDATE, dtype=np.float32)
        result[:, self.classes_] = self.decision_function(features)
        return result

    def predict_proba(self, features: Features) -> np.ndarray:
        """Probabilities ``(N, K)``, in the order of :attr:`classes_`."""
        return np.exp(self.decision_function(features))

    def predict(self, features: Features) -> np.ndarray:
        """The most probable class id of each row, ``(N,)``."""
        return self.classes_[self.decision_function(features).argmax(axis=1)]

    def save(self, path: str | Path) -> None:
        """Write the head to a folder: safetensors and JSON, nothing pickled."""
        tensors = {
            "weight": self.weight,
            "bias": self.bias,
            "classes": torch.from_numpy(self.classes_),
            "feature.offset": torch.from_numpy(self.scaler.offset),
            "feature.scale": torch.from_numpy(self.scaler.scale),
        }
        description = {"format": FORMAT, "format_version": VERSION, "config": to_mapping(self.config)}
        with replace_directory(path) as folder:
            save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "head.safetensors")
            write_json(folder / "head.json", description)

    @classmethod
    def load(cls, path: str | Path) -> SoftmaxClassifier:
        """Read a head that :meth:`save` wrote.

        Raises:
            InputError: no such folder, or damaged files.
        """
        path = Path(path)
        try:
            description = json.loads((path / "head.json").read_text(encoding="utf-8"))
            if (description["format"], description["format_version"]) != (FORMAT, VERSION):
                raise ValueError(f"format {description['format']} {description['format_version']}")
            tensors = load_file(path / "head.safetensors")
            head = cls(build(SoftmaxConfig, description["config"], "classifier"))
            head.weight, head.bias = tensors["weight"], tensors["bias"]
            head.classes_ = tensors["classes"].numpy()
            offset, scale = tensors["feature.offset"].numpy(), tensors["feature.scale"].numpy()
            if head.weight.shape != (len(head.classes_), len(offset)) or head.bias.shape != head.classes_.shape:
                raise ValueError("shapes that don't fit together")
            head.scaler = FeatureScaler(head.config.scaling, offset, scale)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no readable head ({error})", "a folder with head.json and head.safetensors"
            ) from None
        return head


class _ScaledRows:
    """Scaled rows by index: from one scaled copy where that is small, else read and scaled batch by batch."""

    def __init__(self, features: Features, scaler: FeatureScaler) -> None:
        self._features, self._scaler = features, scaler
        self._scaled: torch.Tensor | None = None
        n_rows, dim = features.shape
        if 4 * n_rows * dim <= IN_MEMORY:
            self._scaled = torch.empty(n_rows, dim)
            start = 0
            for block in iter_blocks(features):
                self._scaled[start : start + len(block)] = torch.from_numpy(scaler.apply(block))
                start += len(block)
            if not bool(torch.isfinite(self._scaled.sum())):
                raise InputError("features hold NaN or infinities", "finite numbers")

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        if self._scaled is not None:
            return self._scaled[rows]
        return torch.from_numpy(self._scaler.apply(read_rows(self._features, rows.numpy())))
