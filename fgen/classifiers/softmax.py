"""The field's final classifier: multinomial softmax regression on real and synthetic features.

Features stay where they are and indices are shuffled; the gradient is written down, so no graph is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from fgen import rng
from fgen.config import build, to_mapping
from fgen.data.atomic import replace_directory, write_json
from fgen.data.dataset import Features, read_rows
from fgen.data.disk import reading
from fgen.data.scaling import FeatureScaler, Kind, as_rows
from fgen.errors import InputError, TrainingDiverged
from fgen.scores.accuracy import predict_classes

FORMAT = "fgen-softmax"
VERSION = 1
#: Scaled features are kept in memory up to this many bytes, and scaled batch by batch beyond it.
IN_MEMORY = 2 << 30
#: Rows whose logits L-BFGS holds at once.
BLOCK_ROWS = 8192
#: The score of a class that is no candidate: below any log-probability a row can have, yet finite, so that margins
#: between scores (calibrated stacking, AUSUC) are numbers where -inf - -inf would be NaN.
NO_CANDIDATE = -1e30
#: L-BFGS ends when no entry of the gradient is larger than this; 600 classes of 1,280 features take about 25 passes.
LBFGS_GRADIENT = 1e-5
LBFGS_STEPS = 500

Solver = Literal["adam", "lbfgs"]
ClassWeight = Literal["none", "balanced"]


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig:
    """Settings of the softmax head; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        epochs: passes over the rows (adam).
        lr: Adam's learning rate.
        batch_size: None means 64, or in an experiment the number of features per unseen class, as published (adam).
        beta1: Adam's first decay; the second is 0.999.
        weight_decay: this times weights and biases is added to their gradient (adam).
        scaling: of the features, fitted on the real rows in an experiment.
        solver: ``"adam"`` is the recipe; ``"lbfgs"`` goes to the minimum of the mean cross-entropy plus
            ``l2 / 2 |W|^2``, which is convex: no seed, no epochs, no learning rate.
        l2: the penalty of lbfgs; it leaves the biases alone.
        class_weight: ``"balanced"`` weighs every class alike however many rows it has.
    """

    name: ClassVar[str] = "softmax"

    epochs: int = 25
    lr: float = 1e-3
    batch_size: int | None = None
    beta1: float = 0.5
    weight_decay: float = 0.0
    scaling: Kind = "minmax"
    solver: Solver = "adam"
    l2: float = 1e-4
    class_weight: ClassWeight = "none"

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key} is {value}", "a whole number of at least 1")
        if not 0 < self.lr < 10:
            raise InputError(f"lr is {self.lr}", "a number above 0 and below 10")
        if not 0 <= self.beta1 < 1:
            raise InputError(f"beta1 is {self.beta1}", "a number from 0 to below 1")
        for key in ("weight_decay", "l2"):
            if not 0 <= getattr(self, key) < np.inf:
                raise InputError(f"{key} is {getattr(self, key)}", "a number of at least 0")
        for key, options in (("scaling", Kind), ("solver", Solver), ("class_weight", ClassWeight)):
            if getattr(self, key) not in get_args(options):
                raise InputError(f"{key} is {getattr(self, key)!r}", f"one of {', '.join(get_args(options))}")

    def build(self) -> SoftmaxClassifier:
        """An untrained head."""
        return SoftmaxClassifier(self)


class SoftmaxClassifier:
    """``P(y | x) = softmax(W x + b)`` on scaled features.

    Args:
        config: the settings; the field's recipe by default.
        overrides: fields of :class:`SoftmaxConfig` to change.

    Attributes:
        classes_: ``(K,)`` ascending class ids, the rows of the weights.
        n_classes_: how many ids there are in the caller's numbering, candidates or not.
        weight, bias: ``(K, D)`` and ``(K,)`` float32, on scaled features.
        scaler: the scaling of the features.
    """

    def __init__(self, config: SoftmaxConfig | None = None, **overrides: Any) -> None:
        self.config = build(SoftmaxConfig, to_mapping(config or SoftmaxConfig()) | overrides, "classifier")

    def fit(
        self,
        features: Features,
        labels: Any,
        *,
        classes: Any | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        progress: bool = False,
    ) -> SoftmaxClassifier:
        """Train on raw features.

        Args:
            features: ``(N, D)``: an array, a memory map, an open HDF5 dataset or a tensor.
            labels: ``(N,)`` class ids of at least 2 classes, in the caller's numbering, gaps allowed.
            classes: ids of all candidates; by default those in ``labels``.
            n_classes: how many ids there are, candidates or not; by default up to the largest candidate.
            seed: names the initial weights and the order of the rows.
            scaling_rows: ``(M, D)`` raw features that the scaling is fitted on; by default ``features``.
            progress: show a bar.

        Raises:
            InputError: shapes or ids that don't match, fewer than 2 classes, features that aren't finite.
            TrainingDiverged: the weights left the finite numbers.
        """
        features = as_rows(features)
        labels, classes, n_classes = checked_labels(labels, len(features), classes, n_classes)
        fitted_on = features if scaling_rows is None else as_rows(scaling_rows)
        if fitted_on.shape[1] != features.shape[1]:
            raise InputError(f"scaling_rows has {fitted_on.shape[1]} columns", f"{features.shape[1]}, as features has")
        scaler = FeatureScaler.fit(self.config.scaling, fitted_on)
        targets = torch.from_numpy(np.searchsorted(classes, labels))
        weights = _row_weights(targets) if self.config.class_weight == "balanced" else torch.ones(len(targets), 1)
        rows = ScaledRows(features, scaler)
        if self.config.solver == "adam":
            weight, bias = initial_parameters(len(classes), scaler.dim, seed)
            train_adam(rows, targets, weights, weight, bias, self.config, seed, progress=progress)
        else:
            weight, bias = torch.zeros(len(classes), scaler.dim), torch.zeros(len(classes))
            train_lbfgs(rows, targets, weights, weight, bias, self.config.l2)
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise TrainingDiverged("the head's weights are NaN or infinite", "finite features", "Lower classifier.lr")
        self.weight, self.bias, self.scaler, self.classes_, self.n_classes_ = weight, bias, scaler, classes, n_classes
        return self

    def decision_function(self, features: Features) -> np.ndarray:
        """Log-probabilities ``(N, K)`` float32 of raw features ``(N, D)``, in the order of :attr:`classes_`.

        Raises:
            InputError: the head isn't trained, or the features don't fit it or aren't finite.
        """
        self._require_trained()
        features = as_rows(features)
        if features.shape[1] != self.scaler.dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.scaler.dim}, as in training")
        result = np.empty((len(features), len(self.classes_)), dtype=np.float32)
        for start, scaled in self.scaler.blocks(features):
            logits = torch.addmm(self.bias, torch.from_numpy(scaled), self.weight.T)
            result[start : start + len(scaled)] = logits.log_softmax(dim=1).numpy()
        return result

    def scores(self, features: Features, n_classes: int | None = None) -> np.ndarray:
        """Log-probabilities ``(N, n_classes)`` by class id; :data:`NO_CANDIDATE` for classes that are none."""
        self._require_trained()
        n_classes = self.n_classes_ if n_classes is None else n_classes
        return by_class_id(self.decision_function(features), self.classes_, n_classes)

    def predict_proba(self, features: Features) -> np.ndarray:
        """Probabilities ``(N, K)`` in the order of :attr:`classes_`."""
        return np.exp(self.decision_function(features))

    def predict(self, features: Features, gamma: float = 0.0, seen: Any | None = None) -> np.ndarray:
        """The most probable class id of each row, ``(N,)``.

        Args:
            features: ``(N, D)`` raw.
            gamma: subtracted from the log-probabilities of ``seen`` classes (calibrated stacking, Chao et al. 2016).
            seen: ids of the seen classes; needed for a gamma other than 0.
        """
        return predict_calibrated(self.decision_function(features), self.classes_, gamma, seen)

    def save(self, path: str | Path) -> None:
        """Write the head to a folder: safetensors and JSON, nothing pickled; equal heads are equal bytes.

        An older folder of that name is replaced in one move.
        """
        self._require_trained()
        tensors = {"weight": self.weight, "bias": self.bias, "classes": torch.from_numpy(self.classes_)}
        tensors |= {f"feature.{key}": torch.from_numpy(array) for key, array in self.scaler.to_arrays().items()}
        description = {"format": FORMAT, "format_version": VERSION, "config": to_mapping(self.config)}
        with replace_directory(path) as folder:
            content = save({key: value.contiguous() for key, value in tensors.items()})
            (folder / "head.safetensors").write_bytes(content)
            write_json(folder / "head.json", description | {"n_classes": self.n_classes_})

    @classmethod
    def load(cls, path: str | Path) -> SoftmaxClassifier:
        """Read a head that :meth:`save` wrote.

        Raises:
            InputError: no such folder, or files that are damaged or no head's.
        """
        with reading(Path(path) / "head.json", "head"):
            description = json.loads((Path(path) / "head.json").read_text(encoding="utf-8"))
            if (description["format"], description["format_version"]) != (FORMAT, VERSION):
                raise InputError(
                    f"the format is {description['format']} {description['format_version']}", f"{FORMAT} {VERSION}"
                )
            head = cls(build(SoftmaxConfig, description["config"], "classifier"))
        with reading(Path(path) / "head.safetensors", "safetensors"):
            tensors = load_file(Path(path) / "head.safetensors")
            arrays = {key: tensors[f"feature.{key}"].numpy() for key in ("offset", "scale")}
            head.scaler = FeatureScaler.from_arrays(head.config.scaling, arrays)
            head.weight, head.bias, head.classes_ = tensors["weight"], tensors["bias"], tensors["classes"].numpy()
            _check_loaded(head)
            _, _, head.n_classes_ = checked_labels(head.classes_, len(head.classes_), None, description["n_classes"])
        return head

    def _require_trained(self) -> None:
        if not hasattr(self, "weight"):
            raise InputError("the head hasn't been trained", "fit() or load() first")


# The solvers. Both work in place on ``weight (K, D)`` and ``bias (K,)``, in whose precision they calculate.


def initial_parameters(n_classes: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """The lineage's start: weights from N(0, 0.02), biases 0; float32."""
    numbers = rng.stream(seed, "head init").standard_normal((n_classes, dim), dtype=np.float32)
    return torch.from_numpy(numbers) * 0.02, torch.zeros(n_classes)


def train_adam(
    rows: ScaledRows,
    targets: Tensor,
    row_weights: Tensor,
    weight: Tensor,
    bias: Tensor,
    config: SoftmaxConfig,
    seed: int,
    *,
    progress: bool = False,
) -> None:
    """Minimise the batches' mean weighted cross-entropy; ``targets (N,)`` index classes, ``row_weights (N, 1)``."""
    weight.grad, bias.grad = to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
    betas = (config.beta1, 0.999)
    adam = torch.optim.Adam([weight, bias], lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)
    size = min(config.batch_size or 64, len(targets))
    features, logits, slopes = (weight.new_empty(size, n) for n in (weight.shape[1], len(bias), len(bias)))
    for epoch in tqdm(range(config.epochs), desc="head", unit="epoch", disable=not progress):
        order = torch.from_numpy(rng.stream(seed, "head batches", epoch).permutation(len(targets)))
        for batch in order.split(size):
            n = len(batch)
            x = rows.take(batch, out=features[:n])
            torch.addmm(bias, x, weight.T, out=logits[:n])
            slope = cross_entropy_slope(logits[:n], targets[batch], row_weights[batch] / n, out=slopes[:n])
            torch.mm(slope.T, x, out=to_weight)
            torch.sum(slope, dim=0, out=to_bias)
            adam.step()
    weight.grad = bias.grad = None


def train_lbfgs(
    rows: ScaledRows, targets: Tensor, row_weights: Tensor, weight: Tensor, bias: Tensor, l2: float
) -> None:
    """Minimise the mean weighted cross-entropy plus ``l2 / 2 |W|^2`` over all rows."""
    weight.grad, bias.grad = to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
    row_weights = row_weights / len(targets)

    def objective() -> Tensor:
        torch.mul(weight, l2, out=to_weight)
        to_bias.zero_()
        loss = l2 / 2 * weight.double().square().sum()
        for start, x in rows.blocks():
            block = slice(start, start + len(x))
            logits = torch.addmm(bias, x, weight.T)
            losses = torch.nn.functional.cross_entropy(logits, targets[block], reduction="none")
            loss += torch.dot(losses, row_weights[block, 0].to(losses)).double()
            slope = cross_entropy_slope(logits, targets[block], row_weights[block], out=torch.empty_like(logits))
            to_weight.addmm_(slope.T, x)
            to_bias.add_(slope.sum(dim=0))
        return loss

    torch.optim.LBFGS(
        [weight, bias],
        max_iter=LBFGS_STEPS,
        max_eval=2 * LBFGS_STEPS,
        tolerance_grad=LBFGS_GRADIENT,
        history_size=10,
        line_search_fn="strong_wolfe",
    ).step(objective)
    weight.grad = bias.grad = None


def cross_entropy_slope(logits: Tensor, targets: Tensor, row_weights: Tensor, out: Tensor) -> Tensor:
    """``row_weights * (softmax(logits) - one-hot)``, the derivative of the weighted cross-entropy; ``(n, K)``."""
    torch.softmax(logits, dim=1, out=out)
    out.scatter_add_(1, targets.unsqueeze(1), out.new_full((len(targets), 1), -1.0))
    return out.mul_(row_weights)


class ScaledRows:
    """Scaled rows by index: from one scaled copy where that is small, else read and scaled batch by batch.

    Args:
        features: ``(N, D)`` raw.
        scaler: their scaling.
        dtype: of the scaled rows.

    Raises:
        InputError: a feature isn't finite.
    """

    def __init__(self, features: Features, scaler: FeatureScaler, dtype: torch.dtype = torch.float32) -> None:
        self._features, self._scaler, self._dtype = features, scaler, dtype
        n_rows, dim = features.shape
        fits = n_rows * dim * dtype.itemsize <= IN_MEMORY
        self._scaled = torch.empty(n_rows, dim, dtype=dtype) if fits else None
        for start, scaled in scaler.blocks(features):
            if self._scaled is not None:
                self._scaled[start : start + len(scaled)] = torch.from_numpy(scaled)

    def take(self, rows: Tensor, out: Tensor) -> Tensor:
        """Rows by number ``(n,)``, written to ``out (n, D)``."""
        if self._scaled is not None:
            return torch.index_select(self._scaled, 0, rows, out=out)
        return out.copy_(torch.from_numpy(self._scaler.apply(read_rows(self._features, rows.numpy()))))

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Consecutive blocks of rows, each with the number of its first."""
        if self._scaled is not None:
            for i, block in enumerate(self._scaled.split(BLOCK_ROWS)):
                yield i * BLOCK_ROWS, block
            return
        for start, scaled in self._scaler.blocks(self._features):
            yield start, torch.from_numpy(scaled).to(self._dtype)


# What every head shares, whoever trains it.


def checked_labels(
    labels: Any, n_rows: int, classes: Any | None, n_classes: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels ``(N,)``, ascending candidates ``(K,)`` and the number of ids, checked against each other."""
    labels = np.asarray(labels)
    candidates = np.unique(labels if classes is None else np.asarray(classes))
    for name, ids in (("labels", labels), ("classes", candidates)):
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size or ids.min() < 0:
            raise InputError(f"{name} has shape {ids.shape} and type {ids.dtype}", "class ids, whole numbers from 0 on")
    if len(labels) != n_rows:
        raise InputError(f"there are {len(labels)} labels", f"{n_rows}, one for each row of features")
    if len(np.unique(labels)) < 2:
        raise InputError(f"all rows are of class {labels[0]}", "at least 2 classes to tell apart")
    stray = np.setdiff1d(labels, candidates)
    if stray.size:
        raise InputError(f"labels hold the class {stray[0]}, which isn't in classes", "only candidates")
    largest = int(candidates[-1])
    if n_classes is not None and not n_classes > largest:
        raise InputError(f"n_classes is {n_classes}", f"more than the largest class id, {largest}")
    return labels.astype(np.int64), candidates.astype(np.int64), int(n_classes or largest + 1)


def by_class_id(scores: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Scores ``(N, K)`` of ``classes (K,)`` as ``(N, n_classes)`` float32, :data:`NO_CANDIDATE` elsewhere."""
    if n_classes <= classes[-1]:
        raise InputError(f"n_classes is {n_classes}", f"more than the largest class id, {classes[-1]}")
    result = np.full((len(scores), n_classes), NO_CANDIDATE, dtype=np.float32)
    # A probability of 0 has the logarithm -inf; a candidate stays above what is none.
    result[:, classes] = np.maximum(scores, NO_CANDIDATE / 10)
    return result


def predict_calibrated(scores: np.ndarray, classes: np.ndarray, gamma: float, seen: Any | None) -> np.ndarray:
    """The class id ``(N,)`` with the best score after ``gamma`` is taken from the seen ones', ties as in scoring."""
    if seen is None and gamma != 0:
        raise InputError(f"gamma is {gamma} without seen", "the ids of the seen classes", "Give seen, or gamma=0")
    is_seen = np.isin(classes, [] if seen is None else np.asarray(seen))
    if is_seen.all() or not is_seen.any():
        return classes[scores.argmax(axis=1)]
    return classes[predict_classes(scores, seen=np.flatnonzero(is_seen), unseen=np.flatnonzero(~is_seen), gamma=gamma)]


def _row_weights(targets: Tensor) -> Tensor:
    """``(N, 1)`` with mean 1, so that the rows of every class that has some weigh the same in sum."""
    counts = torch.bincount(targets)
    return (len(targets) / (counts.count_nonzero() * counts[targets])).float().unsqueeze(1)


def _check_loaded(head: SoftmaxClassifier) -> None:
    """Refuse tensors that no training can have made; what they hold is used without further checks."""
    shapes = {"weight": (len(head.classes_), head.scaler.dim), "bias": (len(head.classes_),)}
    for name, shape in shapes.items():
        tensor = getattr(head, name)
        if tensor.shape != shape or tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name} has shape {tuple(tensor.shape)}, {tensor.dtype}", f"{shape} finite float32")
    if head.classes_.dtype != np.int64 or head.classes_.ndim != 1 or not (np.diff(head.classes_) > 0).all():
        raise InputError("classes are no ascending ids", "distinct int64")
