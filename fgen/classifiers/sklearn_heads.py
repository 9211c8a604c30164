"""Heads that wrap scikit-learn's classifiers: logistic regression, linear SVM, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.special import log_softmax

from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.linear_scores import LinearScores, LinearScoresConfig, Link
from fgen.errors import InputError, require


@dataclass(frozen=True, kw_only=True)
class SklearnConfig(HeadConfig):
    """Settings that scikit-learn's heads share; scikit-learn is imported when a head is built."""

    module: ClassVar[str]

    def build(self) -> SklearnHead:
        """Return an untrained head.

        Raises:
            MissingExtra: scikit-learn isn't installed.
        """
        self.sklearn()
        return SklearnHead(self)

    def sklearn(self) -> Any:
        """Return the module of scikit-learn that has the estimator."""
        return require(self.module, "sklearn", f"the {self.name!r} classifier")

    def estimator(self, seed: int) -> Any:
        """Return an untrained scikit-learn estimator."""
        raise NotImplementedError

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Return scores ``(n, K)``, higher for likelier classes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LinearConfig(SklearnConfig):
    """Settings that the linear heads share.

    Attributes:
        C: inverse of the L2 penalty.
        max_iter: the largest number of steps.
    """

    estimator_name: ClassVar[str]
    link: ClassVar[Link]

    C: float = 1.0
    max_iter: int = 1000

    @property
    def takes_sample_weight(self) -> bool:
        """True, as scikit-learn's linear models do."""
        return True

    def estimator(self, seed: int) -> Any:
        """Return an untrained linear estimator."""
        kind = getattr(self.sklearn(), self.estimator_name)
        return kind(C=self.C, max_iter=self.max_iter, random_state=seed)


@dataclass(frozen=True, kw_only=True)
class LogisticConfig(LinearConfig):
    """Multinomial logistic regression by L-BFGS; its scores are log-probabilities.

    The softmax head's ``lbfgs`` with l2 = 1 / (C N) is the same problem.
    """

    name: ClassVar[str] = "logistic"
    module: ClassVar[str] = "sklearn.linear_model"
    estimator_name: ClassVar[str] = "LogisticRegression"
    link: ClassVar[Link] = "softmax"

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Return log-probabilities, finite where scikit-learn's own take the logarithm of 0."""
        logits = estimator.decision_function(features)
        # With two classes scikit-learn gives one column, the second's log-odds.
        return log_softmax(np.stack([0 * logits, logits], axis=1) if logits.ndim == 1 else logits, axis=1)


@dataclass(frozen=True, kw_only=True)
class LinearSVMConfig(LinearConfig):
    """One-against-rest linear support vector machine; its scores are distances to the planes, not probabilities."""

    name: ClassVar[str] = "linear_svm"
    module: ClassVar[str] = "sklearn.svm"
    estimator_name: ClassVar[str] = "LinearSVC"
    link: ClassVar[Link] = "none"

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Return signed distances to the planes, up to the planes' scale."""
        signed = estimator.decision_function(features)
        # With two classes scikit-learn gives one column, positive for the second.
        return np.stack([-signed, signed], axis=1) if signed.ndim == 1 else signed


@dataclass(frozen=True, kw_only=True)
class KNNConfig(SklearnConfig):
    """Nearest neighbours; the score of a class is its share of the votes, each weighted by 1 / distance.

    Attributes:
        n_neighbors: number of neighbours that vote; all rows vote where there are fewer.
    """

    name: ClassVar[str] = "knn"
    module: ClassVar[str] = "sklearn.neighbors"

    n_neighbors: int = 20

    def estimator(self, seed: int) -> Any:
        """Return an untrained ``sklearn.neighbors.KNeighborsClassifier``."""
        return self.sklearn().KNeighborsClassifier(n_neighbors=self.n_neighbors, weights="distance")

    def scores(self, estimator: Any, features: np.ndarray) -> np.ndarray:
        """Return shares of the votes, in [0, 1]."""
        estimator.n_neighbors = min(self.n_neighbors, estimator.n_samples_fit_)
        return estimator.predict_proba(features)


class SklearnHead(Head):
    """Head over a scikit-learn estimator.

    Attributes:
        classes_: ``(K,)`` ascending ids of the classes that had rows.
        n_classes_: number of ids in the caller's numbering.
        scaler: the scaling of the features.
        estimator: the trained scikit-learn object.
    """

    config: SklearnConfig

    def __init__(self, config: SklearnConfig) -> None:
        self.config = config

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Fit the estimator; a scaled copy of the rows is held in memory."""
        scaled = np.concatenate([block for _, block in problem.scaler.blocks(problem.features)])
        self.estimator = self.config.estimator(problem.seed).fit(scaled, problem.labels, **problem.weights)
        return self.estimator.classes_

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return the config's scores ``(n, K)``, higher for likelier classes."""
        return self.config.scores(self.estimator, scaled)

    def stored_form(self) -> Any:
        """Return a linear estimator as its weights.

        Raises:
            InputError: nearest neighbours, or no training yet.
        """
        if not isinstance(self.config, LinearConfig):
            return super().stored_form()
        self.require_trained()
        config = LinearScoresConfig(scaling=self.config.scaling, estimator=repr(self.estimator), link=self.config.link)
        form = LinearScores.linked(self.estimator, config)
        form.classes_, form.n_classes_, form.scaler = self.classes_, self.n_classes_, self.scaler
        return form

    def save(self, path: str | Path) -> None:
        """Raise an InputError: scikit-learn's objects can only be pickled, and fgen never unpickles."""
        kept = "'softmax' or 'cosine' as classifier's name"
        raise InputError(f"the head {self.config.name!r} is scikit-learn's and can only be pickled", kept)
