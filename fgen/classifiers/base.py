"""Base class of all heads: checked training rows, scores by class id, calibrated predictions."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fgen.compute.device import choose_device, cpu_if_no_memory, matrix_precision
from fgen.config import Limit, build, check_limits, to_mapping
from fgen.errors import InputError
from fgen.features.checks import as_ids, as_weights
from fgen.features.class_scores import NO_CANDIDATE as NO_CANDIDATE
from fgen.features.class_scores import predict_classes
from fgen.features.rows import Features, as_rows
from fgen.features.scaled_rows import CPU, CentredRows, fits_memory
from fgen.features.scaling import FeatureScaler, Kind

#: Limits of the settings of all heads.
LIMITS = {
    "epochs|batch_size": Limit(lambda n: n >= 1, "a whole number of at least 1"),
    "lr": Limit(lambda x: 0 < x < 10, "a number above 0 and below 10"),
    "beta1": Limit(lambda x: 0 <= x < 1, "a number from 0 to below 1"),
    "weight_decay|logit_adjustment": Limit(lambda x: 0 <= x < np.inf, "a number of at least 0"),
    "seen_weight|prior_ratio|C|max_iter|n_neighbors": Limit(lambda x: 0 < x < np.inf, "a number above 0"),
    "whitening": Limit(lambda x: 1e-6 <= x < np.inf, "a share of at least 1e-6, or none", "1.0 is a good start"),
    "temperature": Limit(lambda x: 1e-6 <= x < np.inf, "a number of at least 1e-6"),
}


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Settings that all heads share.

    Attributes:
        scaling: of the features, fitted on the real rows in an experiment.
    """

    name: ClassVar[str]

    scaling: Kind = "minmax"

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)

    def build(self) -> Head:
        """Return an untrained head."""
        raise NotImplementedError

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Settings that have no effect, given the others."""
        return ()

    @property
    def remedy(self) -> str:
        """Advice for a head that fails to learn its own training rows."""
        return "another classifier.scaling"

    @property
    def needs_seen_rows(self) -> bool:
        """True if a head of unseen classes alone needs real rows of seen classes too."""
        return False

    def candidates(self) -> tuple[Self, ...]:
        """Return what is chosen from on validation classes; each head may start from the one before it."""
        return (self,)

    @property
    def takes_sample_weight(self) -> bool:
        """True if rows may have weights in training."""
        return False

    def expect_weights_allowed(self) -> None:
        """Refuse weights of rows where training takes none."""
        if not self.takes_sample_weight:
            expected = "a head that takes weights: 'softmax', 'logistic', 'linear_svm', or an estimator whose fit does"
            raise InputError(f"sample_weight is given, and {self.name!r} takes no weights of rows", expected)

    def for_bank(self, n_per_class: int) -> Self:
        """Return the settings for a bank with ``n_per_class`` synthetic rows of an unseen class."""
        return self

    def check_fit(self, seen: Any | None) -> None:
        """Refuse to train where a setting is left open, or needs ``seen`` and that is None."""

    def row_weights(self, targets: Tensor, is_seen: Tensor) -> Tensor:
        """Return the weights ``(N, 1)`` of the rows in the loss, of mean 1.

        Args:
            targets: ``(N,)`` positions of the rows' classes.
            is_seen: ``(K,)`` bool, the classes that are seen.
        """
        return torch.ones(len(targets), 1)


@dataclass(frozen=True, eq=False)
class HeadProblem:
    """Frozen description of what a head learns: checked rows of candidate classes.

    Heads that learn the same problem share the copy of its rows.

    Attributes:
        features: ``(N, D)`` raw.
        labels: ``(N,)`` int64 class ids.
        classes: ``(K,)`` ascending ids of the candidates.
        is_seen: ``(K,)`` bool, the candidates that are seen classes; none where the caller didn't name them.
        config: settings of the heads, among which only the penalty may differ.
        scaler: the scaling of the features.
        seed, device, progress: as in :meth:`Head.fit`.
        sample_weight: ``(N,)`` float64 weights of the rows, or None.
    """

    features: Features
    labels: np.ndarray
    classes: np.ndarray
    is_seen: Tensor
    config: HeadConfig
    scaler: FeatureScaler
    seed: int
    device: str
    progress: bool
    sample_weight: np.ndarray | None = None

    @cached_property
    def place(self) -> torch.device:
        """The device, or the CPU where a GPU lacks memory for a scaled copy, if one is kept, and two logit matrices."""
        shape = (len(self.labels), self.scaler.dim)
        copied = shape[0] * shape[1] if fits_memory(shape, torch.float32) else 0
        return cpu_if_no_memory(choose_device(self.device), 4 * (copied + 2 * shape[0] * len(self.classes)) + (1 << 30))

    @cached_property
    def targets(self) -> Tensor:
        """``(N,)`` positions of the rows' classes in :attr:`classes`, on :attr:`place`."""
        return torch.from_numpy(np.searchsorted(self.classes, self.labels)).to(self.place)

    @cached_property
    def row_weights(self) -> Tensor:
        """``(N, 1)`` weights of the rows in the loss, of mean 1, on :attr:`place`."""
        weights = self.config.row_weights(self.targets.cpu(), self.is_seen)
        if self.sample_weight is not None:
            weighted = weights.double() * torch.from_numpy(self.sample_weight).unsqueeze(1)
            weights = (weighted / weighted.mean()).float()
        return weights.to(self.place)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Keyword arguments of an estimator's ``fit``: ``sample_weight``, where rows have weights."""
        return {} if self.sample_weight is None else {"sample_weight": self.sample_weight}

    @cached_property
    def centred_rows(self) -> CentredRows:
        """The scaled rows minus a vector near their weighted mean, on :attr:`place`; made once for all heads."""
        return CentredRows(self.features, self.scaler, self.row_weights)


class Head(ABC):
    """A classifier of features: raw features in, scores of classes out.

    Attributes:
        config: the settings.
        classes_: ``(K,)`` ascending ids of the classes that can be predicted.
        n_classes_: number of ids in the caller's numbering, candidates or not.
        scaler: the scaling of the features.
    """

    config_class: ClassVar[type[HeadConfig]]

    config: HeadConfig
    classes_: np.ndarray
    n_classes_: int
    scaler: FeatureScaler

    def __init__(self, config: HeadConfig | None = None, **overrides: Any) -> None:
        given = to_mapping(config or self.config_class())
        self.config = build(self.config_class, given | overrides, "classifier")

    def __repr__(self) -> str:
        name = type(self).__name__
        if not hasattr(self, "scaler"):
            return f"<{name}, not trained>"
        size = f"{len(self.classes_):,} classes over {self.scaler.dim:,} features"
        return f"<{name} of {size}, scaled by {self.scaler.kind!r}>"

    def fit(
        self,
        features: Features,
        labels: Any,
        *,
        classes: Any | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        scaler: FeatureScaler | None = None,
        seen: Any | None = None,
        start: Head | None = None,
        path: Sequence[Head] = (),
        device: str = "cpu",
        progress: bool = False,
        sample_weight: Any | None = None,
    ) -> Self:
        """Train on raw features.

        The softmax head multiplies in bfloat16 under ``torch.set_float32_matmul_precision("medium")`` where that is
        faster on the CPU.

        Args:
            features: ``(N, D)``: an array, a memory map, an open HDF5 dataset or a tensor.
            labels: ``(N,)`` class ids of at least 2 classes, in the caller's numbering, gaps allowed.
            classes: ids of all candidates; by default those in ``labels``. Heads other than softmax score a candidate
                without rows as :data:`NO_CANDIDATE`.
            n_classes: number of ids, candidates or not; by default up to the largest candidate.
            seed: names the initial weights and the order of the rows.
            scaling_rows: ``(M, D)`` raw features that the scaling is fitted on; by default ``features``.
            scaler: a scaling that is fitted already, of the kind that the config names; ``scaling_rows`` are not read.
            seen: ids of the seen classes, candidates or not. The softmax head's ``seen_weight`` and ``prior_ratio``
                need them; the cosine head takes the spread within classes from their rows.
            start: a head of another penalty on the same rows and classes, from which lbfgs needs fewer steps.
            path: heads of other penalties to train on the same rows in turn, each from the one before.
            device: where the softmax head is trained: ``"cpu"``, ``"cuda"``, or ``"auto"``. A GPU without enough
                memory leaves it to the CPU. A trained head is on the CPU.
            progress: show a bar.
            sample_weight: ``(N,)`` of the rows, at least 0; the softmax head divides them by their mean.

        Raises:
            InputError: shapes or ids that don't match, fewer than 2 classes, features that aren't finite, ``seen``
                missing where the config needs it, several penalties, or weights that the head doesn't take.
            TrainingDiverged: the weights aren't finite.
        """
        features = as_rows(features)
        labels, classes, n_classes = checked_labels(labels, len(features), classes, n_classes)
        heads: list[Head] = [self, *path]
        for head in heads:
            head.config.check_fit(seen)
            if sample_weight is not None:
                head.config.expect_weights_allowed()
        is_seen = torch.from_numpy(seen_mask(classes, () if seen is None else seen))
        if scaler is None:
            scaler = FeatureScaler.fit(self.config.scaling, features if scaling_rows is None else as_rows(scaling_rows))
        if (scaler.kind, scaler.dim) != (self.config.scaling, features.shape[1]):
            found = f"the scaling is {scaler.kind!r} and has {scaler.dim} columns"
            raise InputError(found, f"{self.config.scaling!r} and {features.shape[1]}, as config and features have")
        weights = None if sample_weight is None else as_weights("sample_weight", sample_weight, len(labels))
        problem = HeadProblem(features, labels, classes, is_seen, self.config, scaler, seed, device, progress, weights)
        for before, head in zip([start, *heads[:-1]], heads, strict=True):
            head.classes_ = head.learn(problem, before)
            head.scaler, head.n_classes_ = scaler, n_classes
        return self

    @abstractmethod
    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Train, and return the ascending ids ``(K,)`` of the classes that can be predicted.

        Args:
            problem: what to learn.
            start: see :meth:`fit`; heads without iterations ignore it.
        """

    @abstractmethod
    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return scores ``(n, K)`` of scaled rows ``(n, D)``."""

    def decision_function(self, features: Features) -> np.ndarray:
        """Return scores ``(N, K)`` float32 of raw features ``(N, D)``, in the order of :attr:`classes_`.

        Warns, as :meth:`predict` does, if the rows are much longer or shorter than those of the training.

        Raises:
            InputError: the head isn't trained, or the features don't fit it or aren't finite.
        """
        return self._scores_with_warning(features)

    def _scores_with_warning(self, features: Features) -> np.ndarray:
        """Return :meth:`candidate_scores`; a warning names the line that called the public method."""
        scores = self.candidate_scores(features)
        if odd := self.scaler.scale_warning(as_rows(features)):
            warnings.warn(f"{odd}: were both normalised alike?", stacklevel=3)
        return scores

    def candidate_scores(self, features: Features) -> np.ndarray:
        """Return what :meth:`decision_function` returns, without its warning."""
        self.require_trained()
        features = as_rows(features)
        if features.shape[1] != self.scaler.dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.scaler.dim}, as in training")
        result = np.empty((len(features), len(self.classes_)), dtype=np.float32)
        with matrix_precision("highest", CPU):  # whatever torch is set to
            for start, scaled in self.scaler.blocks(features):
                result[start : start + len(scaled)] = self.block_scores(scaled)
        return result

    def scores(self, features: Features, n_classes: int | None = None) -> np.ndarray:
        """Return scores ``(N, n_classes)`` float32 by class id; :data:`NO_CANDIDATE` for classes that are none."""
        scores = self.candidate_scores(features)
        n_classes = self.n_classes_ if n_classes is None else n_classes
        if n_classes <= self.classes_[-1]:
            raise InputError(f"n_classes is {n_classes}", f"more than the largest class id, {self.classes_[-1]}")
        result = np.full((len(scores), n_classes), NO_CANDIDATE, dtype=np.float32)
        # A probability of 0 has the logarithm -inf; a candidate stays above what is none.
        result[:, self.classes_] = np.maximum(scores, NO_CANDIDATE / 10)
        return result

    def predict(self, features: Features, gamma: float = 0.0, seen: Any | None = None) -> np.ndarray:
        """Return the class id with the best score for each row, ``(N,)``.

        Args:
            features: ``(N, D)`` raw.
            gamma: subtracted from the scores of ``seen`` classes (calibrated stacking, Chao et al. 2016), in the unit
                of the head's scores: nats, shares of votes or distances.
            seen: ids of the seen classes; needed for a gamma other than 0.
        """
        return predict_calibrated(self._scores_with_warning(features), self.classes_, gamma, seen)

    def stored_form(self) -> Any:
        """Return the head as a formula of tensors, a :class:`fgen.classifiers.storage.StoredHead`.

        Raises:
            InputError: it has no such form, as nearest neighbours, or isn't trained.
        """
        found = f"the head {self.config.name!r} is no formula of weights"
        raise InputError(found, "'softmax' or 'cosine' as classifier's name, or a linear estimator")

    def require_trained(self) -> None:
        """Raise an InputError if the head isn't trained."""
        if not hasattr(self, "scaler"):
            raise InputError("the head hasn't been trained", "fit() first")


def seen_mask(classes: np.ndarray, seen: Any) -> np.ndarray:
    """Return ``(K,)`` bool: which of the ids ``classes (K,)`` are among the ids ``seen``."""
    return np.isin(classes, as_ids("seen", seen, least=0))


def checked_labels(
    labels: Any, n_rows: int, classes: Any | None, n_classes: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return labels ``(N,)``, ascending candidates ``(K,)`` and the number of ids, checked against each other."""
    labels = as_ids("labels", labels)
    candidates = np.unique(labels if classes is None else as_ids("classes", classes))
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
    return labels, candidates, int(n_classes or largest + 1)


def predict_calibrated(scores: np.ndarray, classes: np.ndarray, gamma: float, seen: Any | None) -> np.ndarray:
    """Return the ids ``(N,)`` with the best score after subtracting ``gamma`` from seen classes, ties as in scoring."""
    if seen is None and gamma != 0:
        raise InputError(f"gamma is {gamma} without seen", "the ids of the seen classes", "Give seen, or gamma=0")
    is_seen = seen_mask(classes, () if seen is None else seen)
    if is_seen.all() or not is_seen.any():
        return classes[scores.argmax(axis=1)]
    return classes[predict_classes(scores, seen=np.flatnonzero(is_seen), unseen=np.flatnonzero(~is_seen), gamma=gamma)]
