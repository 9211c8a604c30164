"""What every head does alike, whoever trains it: labels against candidates, scores by class id, calibrated answers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import numpy as np

from fgen.compute.device import matrix_precision
from fgen.errors import InputError
from fgen.features.checks import as_ids
from fgen.features.rows import Features, as_rows
from fgen.features.scaled_rows import CPU
from fgen.features.scaling import FeatureScaler, Kind
from fgen.metrics.calibration import predict_classes

#: The score of a class that is no candidate: below any log-probability a row can have, yet finite, so that margins
#: between scores (calibrated stacking, AUSUC) are numbers where -inf - -inf would be NaN.
NO_CANDIDATE = -1e30


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What the settings of all heads share.

    Attributes:
        scaling: of the features, fitted on the real rows in an experiment.
    """

    name: ClassVar[str]

    scaling: Kind = "minmax"

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Kind):
            raise InputError(f"scaling is {self.scaling!r}", f"one of {', '.join(get_args(Kind))}")

    def build(self) -> Head:
        """An untrained head."""
        raise NotImplementedError

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Settings that have no effect beside the others."""
        return ()

    @property
    def remedy(self) -> str:
        """What to try where the head doesn't even learn its own rows."""
        return "another classifier.scaling"

    @property
    def needs_seen_rows(self) -> bool:
        """Whether real rows of seen classes teach more than these classes: a head of unseen ones alone lacks them."""
        return False

    def candidates(self) -> tuple[Self, ...]:
        """What is to be chosen from on validation classes, in an order in which each may start from the one before."""
        return (self,)

    def for_bank(self, n_per_class: int) -> Self:
        """The settings for a bank with so many synthetic rows of an unseen class."""
        return self


class Head:
    """A trained head: raw features in, scores of classes out.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that can be answered.
        n_classes_: how many ids there are in the caller's numbering, candidates or not.
        scaler: the scaling of the features.
    """

    classes_: np.ndarray
    n_classes_: int
    scaler: FeatureScaler

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Scores ``(n, K)`` of scaled rows ``(n, D)``."""
        raise NotImplementedError

    def decision_function(self, features: Features) -> np.ndarray:
        """Scores ``(N, K)`` float32 of raw features ``(N, D)``, in the order of :attr:`classes_`.

        It warns, as :meth:`predict` does, of rows that are much longer or shorter than those of the training.

        Raises:
            InputError: the head isn't trained, or the features don't fit it or aren't finite.
        """
        return self._told_scores(features)

    def _told_scores(self, features: Features) -> np.ndarray:
        """:meth:`candidate_scores`, with the warning where the public method's caller stands."""
        scores = self.candidate_scores(features)
        if odd := self.scaler.scale_warning(as_rows(features)):
            warnings.warn(f"{odd}: were both normalised alike?", stacklevel=3)
        return scores

    def candidate_scores(self, features: Features) -> np.ndarray:
        """What :meth:`decision_function` returns, without its warning."""
        self.require_trained()
        features = as_rows(features)
        if features.shape[1] != self.scaler.dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.scaler.dim}, as in training")
        result = np.empty((len(features), len(self.classes_)), dtype=np.float32)
        with matrix_precision("highest", CPU):  # whatever torch, or another thread, is set to
            for start, scaled in self.scaler.blocks(features):
                result[start : start + len(scaled)] = self.block_scores(scaled)
        return result

    def scores(self, features: Features, n_classes: int | None = None) -> np.ndarray:
        """Scores ``(N, n_classes)`` by class id; :data:`NO_CANDIDATE` for classes that are none."""
        result = self.candidate_scores(features)
        return by_class_id(result, self.classes_, self.n_classes_ if n_classes is None else n_classes)

    def predict(self, features: Features, gamma: float = 0.0, seen: Any | None = None) -> np.ndarray:
        """The best class id of each row, ``(N,)``.

        Args:
            features: ``(N, D)`` raw.
            gamma: subtracted from the scores of ``seen`` classes (calibrated stacking, Chao et al. 2016), in the unit
                of the head's own scores: nats here, shares of votes or distances there.
            seen: ids of the seen classes; needed for a gamma other than 0.
        """
        return predict_calibrated(self._told_scores(features), self.classes_, gamma, seen)

    def require_trained(self) -> None:
        """Refuse to go on without a training."""
        if not hasattr(self, "scaler"):
            raise InputError("the head hasn't been trained", "fit() first")


def fitted_scaler(kind: Any, features: Features, scaling_rows: Features | None) -> FeatureScaler:
    """The scaling fitted on ``scaling_rows (M, D)``, by default on ``features (N, D)`` themselves."""
    fitted_on = features if scaling_rows is None else as_rows(scaling_rows)
    if fitted_on.shape[1] != features.shape[1]:
        raise InputError(f"scaling_rows has {fitted_on.shape[1]} columns", f"{features.shape[1]}, as features has")
    return FeatureScaler.fit(kind, fitted_on)


def seen_mask(classes: np.ndarray, seen: Any) -> np.ndarray:
    """``(K,)`` which of the candidates are among the ids ``seen``."""
    return np.isin(classes, as_ids("seen", seen, least=0))


def checked_labels(
    labels: Any, n_rows: int, classes: Any | None, n_classes: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels ``(N,)``, ascending candidates ``(K,)`` and the number of ids, checked against each other."""
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
    is_seen = seen_mask(classes, () if seen is None else seen)
    if is_seen.all() or not is_seen.any():
        return classes[scores.argmax(axis=1)]
    return classes[predict_classes(scores, seen=np.flatnonzero(is_seen), unseen=np.flatnonzero(~is_seen), gamma=gamma)]
