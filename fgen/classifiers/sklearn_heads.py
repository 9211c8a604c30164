"""scikit-learn's classifiers as heads on a bank: logistic regression, linear SVM, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fgen.classifiers.softmax import NO_CANDIDATE
from fgen.data.dataset import Features, iter_blocks
from fgen.data.scaling import FeatureScaler, Kind
from fgen.errors import InputError, require


@dataclass(frozen=True, kw_only=True)
class SklearnConfig:
    """What the scikit-learn heads share."""

    name: ClassVar[str]
    scaling: Kind = "minmax"

    def build(self) -> SklearnHead:
        """An untrained head."""
        return SklearnHead(self)

    def estimator(self, seed: int) -> Any:
        """The scikit-learn estimator."""
        raise NotImplementedError

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """``(n, K)``: the larger the likelier."""
        return estimator.decision_function(features)


@dataclass(frozen=True, kw_only=True)
class LogisticConfig(SklearnConfig):
    """Multinomial logistic regression by L-BFGS; ``C`` is the inverse of the L2 penalty."""

    name: ClassVar[str] = "logistic"
    C: float = 1.0
    max_iter: int = 200

    def estimator(self, seed: int) -> Any:
        """``sklearn.linear_model.LogisticRegression``."""
        linear_model = require("sklearn.linear_model", "sklearn", f"the classifier {self.name!r}")
        return linear_model.LogisticRegression(C=self.C, max_iter=self.max_iter, random_state=seed)

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Log-probabilities."""
        return estimator.predict_log_proba(features)


@dataclass(frozen=True, kw_only=True)
class LinearSVMConfig(SklearnConfig):
    """One-against-rest linear support vector machine; ``C`` is the inverse of the L2 penalty."""

    name: ClassVar[str] = "linear_svm"
    C: float = 1.0

    def estimator(self, seed: int) -> Any:
        """``sklearn.svm.LinearSVC``."""
        svm = require("sklearn.svm", "sklearn", f"the classifier {self.name!r}")
        return svm.LinearSVC(C=self.C, random_state=seed)


@dataclass(frozen=True, kw_only=True)
class KNNConfig(SklearnConfig):
    """Nearest neighbours, votes weighted by closeness."""

    name: ClassVar[str] = "knn"
    n_neighbors: int = 20

    def estimator(self, seed: int) -> Any:
        """``sklearn.neighbors.KNeighborsClassifier``."""
        neighbors = require("sklearn.neighbors", "sklearn", f"the classifier {self.name!r}")
        return neighbors.KNeighborsClassifier(n_neighbors=self.n_neighbors, weights="distance")

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """The share of the votes."""
        return estimator.predict_proba(features)


class SklearnHead:
    """The interface of :class:`fgen.classifiers.softmax.SoftmaxClassifier` over a scikit-learn estimator."""

    def __init__(self, config: SklearnConfig) -> None:
        self.config = config

    def fit(
        self,
        features: Features,
        labels: np.ndarray,
        *,
        classes: np.ndarray | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
    ) -> SklearnHead:
        """Train on raw features ``(N, D)`` with class ids ``(N,)``; they are held in memory.

        ``classes`` without a row can't be learnt by scikit-learn and are never predicted.
        """
        self.scaler = FeatureScaler.fit(self.config.scaling, features if scaling_rows is None else scaling_rows)
        scaled = np.concatenate([self.scaler.apply(block) for block in iter_blocks(features)])
        if not np.isfinite(scaled).all():
            raise InputError("features hold NaN or infinities", "finite numbers")
        if len(np.unique(labels)) < 2:
            raise InputError("there is 1 class to tell apart", "at least 2")
        self.estimator = self.config.estimator(seed).fit(scaled, labels)
        self.classes_ = self.estimator.classes_
        return self

    def decision_function(self, features: Features) -> np.ndarray:
        """Scores ``(N, K)`` in the order of :attr:`classes_`; the larger the likelier."""
        blocks = [self.config.scores(self.estimator, self.scaler.apply(block)) for block in iter_blocks(features)]
        scores = np.concatenate(blocks)
        # With two classes scikit-learn gives one column, positive for the second.
        return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores

    def scores(self, features: Features, n_classes: int) -> np.ndarray:
        """Scores ``(N, n_classes)`` by class id."""
        result = np.full((len(features), n_classes), NO_CANDIDATE, dtype=np.float32)
        result[:, self.classes_] = np.maximum(self.decision_function(features), NO_CANDIDATE)
        return result

    def predict(self, features: Features) -> np.ndarray:
        """The best class id of each row, ``(N,)``."""
        return self.classes_[self.decision_function(features).argmax(axis=1)]

    def save(self, path: str | Path) -> None:
        """Not possible: scikit-learn's models can only be pickled, and fgen never unpickles."""
        raise InputError(
            f"the classifier {self.config.name!r} can't be saved without pickle", "classifier.name = 'softmax'"
        )
