"""scikit-learn's classifiers as heads on a bank: logistic regression, linear SVM, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax

from fgen.classifiers.base import Head, HeadConfig, checked_labels, fitted_scaler
from fgen.errors import InputError, require
from fgen.features.rows import Features, as_rows


@dataclass(frozen=True, kw_only=True)
class SklearnConfig(HeadConfig):
    """What the scikit-learn heads share; scikit-learn itself is imported when one is trained."""

    module: ClassVar[str]

    def build(self) -> SklearnHead:
        """An untrained head.

        Raises:
            MissingExtra: scikit-learn isn't installed.
        """
        self.sklearn()
        return SklearnHead(self)

    def sklearn(self) -> Any:
        """The part of scikit-learn that holds the estimator."""
        return require(self.module, "sklearn", f"the {self.name!r} classifier")

    def estimator(self, seed: int) -> Any:
        """An untrained scikit-learn estimator."""
        raise NotImplementedError

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """``(n, K)``: the larger the likelier."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LogisticConfig(SklearnConfig):
    """Multinomial logistic regression by L-BFGS; its scores are log-probabilities.

    Attributes:
        C: inverse of the L2 penalty; l2 = 1 / (C N) of the softmax head's ``lbfgs`` is the same problem.
        max_iter: L-BFGS steps at most.
    """

    name: ClassVar[str] = "logistic"
    module: ClassVar[str] = "sklearn.linear_model"

    C: float = 1.0
    max_iter: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "C", "max_iter")

    def estimator(self, seed: int) -> Any:
        """``sklearn.linear_model.LogisticRegression``."""
        return self.sklearn().LogisticRegression(C=self.C, max_iter=self.max_iter, random_state=seed)

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Log-probabilities, finite where scikit-learn's own take the logarithm of 0."""
        logits = estimator.decision_function(features)
        # With two classes scikit-learn gives one column, the second's log-odds.
        return log_softmax(np.stack([0 * logits, logits], axis=1) if logits.ndim == 1 else logits, axis=1)


@dataclass(frozen=True, kw_only=True)
class LinearSVMConfig(SklearnConfig):
    """One-against-rest linear support vector machine; its scores are distances to the planes, not probabilities.

    Attributes:
        C: inverse of the L2 penalty.
        max_iter: steps at most.
    """

    name: ClassVar[str] = "linear_svm"
    module: ClassVar[str] = "sklearn.svm"

    C: float = 1.0
    max_iter: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "C", "max_iter")

    def estimator(self, seed: int) -> Any:
        """``sklearn.svm.LinearSVC``."""
        return self.sklearn().LinearSVC(C=self.C, max_iter=self.max_iter, random_state=seed)

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Signed distances to the planes, up to the planes' scale."""
        signed = estimator.decision_function(features)
        # With two classes scikit-learn gives one column, positive for the second.
        return np.stack([-signed, signed], axis=1) if signed.ndim == 1 else signed


@dataclass(frozen=True, kw_only=True)
class KNNConfig(SklearnConfig):
    """Nearest neighbours; the score of a class is its share of the votes, a neighbour's vote being 1 / distance.

    Attributes:
        n_neighbors: neighbours asked, or all rows where there are fewer.
    """

    name: ClassVar[str] = "knn"
    module: ClassVar[str] = "sklearn.neighbors"

    n_neighbors: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "n_neighbors")

    def estimator(self, seed: int) -> Any:
        """``sklearn.neighbors.KNeighborsClassifier``."""
        return self.sklearn().KNeighborsClassifier(n_neighbors=self.n_neighbors, weights="distance")

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Shares of the votes, in [0, 1]."""
        estimator.n_neighbors = min(self.n_neighbors, estimator.n_samples_fit_)
        return estimator.predict_proba(features)


class SklearnHead(Head):
    """The interface of :class:`fgen.classifiers.softmax.SoftmaxClassifier` over a scikit-learn estimator.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: how many ids there are in the caller's numbering.
        scaler: the scaling of the features.
        estimator: the trained scikit-learn object.
    """

    def __init__(self, config: SklearnConfig) -> None:
        self.config = config

    def fit(
        self,
        features: Features,
        labels: Any,
        *,
        classes: Any | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        seen: Any | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> SklearnHead:
        """Train on raw features ``(N, D)`` with class ids ``(N,)``; a scaled copy is held in memory.

        Arguments and errors as in :meth:`fgen.classifiers.softmax.SoftmaxClassifier.fit`, but for three: a class
        of ``classes`` without a row can't be learnt by scikit-learn, and is scored as no candidate; ``seen`` and
        ``device`` make no difference; there is no bar.
        """
        features = as_rows(features)
        labels, _, n_classes = checked_labels(labels, len(features), classes, n_classes)
        scaler = fitted_scaler(self.config.scaling, features, scaling_rows)
        scaled = np.concatenate([block for _, block in scaler.blocks(features)])
        self.estimator = self.config.estimator(seed).fit(scaled, labels)
        self.scaler, self.classes_, self.n_classes_ = scaler, self.estimator.classes_, n_classes
        return self

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Scores ``(n, K)``, the larger the likelier, see the configs."""
        return self.config.scores(self.estimator, scaled)

    def save(self, path: str | Path) -> None:
        """Not possible: scikit-learn's objects can only be pickled, and fgen never unpickles."""
        raise InputError(
            f"the {self.config.name!r} classifier can't be saved: scikit-learn's objects are only ever pickled",
            "a head of safetensors and JSON",
            "Use the classifier 'softmax' or 'cosine'",
        )


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < np.inf:
            raise InputError(f"{name} is {getattr(config, name)}", "a number above 0")
