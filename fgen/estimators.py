"""The scikit-learn door: one object that learns seen classes and predicts classes it never saw.

Without scikit-learn the class still works; with ``fgen[sklearn]`` it is a full estimator (clone, pipelines,
``cross_val_score``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgen.classifiers.base import predict_calibrated
from fgen.data.access import as_rows
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError, did_you_mean
from fgen.models import MODELS
from fgen.protocol import choose_epochs, chosen_model, embedding_config, fit, new_heads, representation, synthetic_rows
from fgen.settings import ExperimentConfig

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:

    class BaseEstimator:  # type: ignore[no-redef]
        """What of scikit-learn's base class works without it."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """The constructor's arguments."""
            return {name: getattr(self, name) for name in PARAMETERS}

        def set_params(self, **parameters: Any) -> Any:
            """Set constructor arguments."""
            for name, value in parameters.items():
                if name not in PARAMETERS:
                    raise InputError(f"parameter {name!r} is unknown", f"one of {', '.join(PARAMETERS)}")
                setattr(self, name, value)
            return self

    class ClassifierMixin:  # type: ignore[no-redef]
        """The default score of a classifier."""

        def score(self, X: Any, y: Any) -> float:
            """Share of rows that are right."""
            return float(np.mean(self.predict(X) == np.asarray(y)))  # type: ignore[attr-defined]


PARAMETERS = (
    "class_embeddings",
    "classes",
    "method",
    "model",
    "classifier",
    "embedding_norm",
    "embedding_scale",
    "n_per_class",
    "calibrate",
    "train",
    "random_state",
    "verbose",
)


class ZeroShotClassifier(ClassifierMixin, BaseEstimator):
    """Generator, bank and head behind one estimator: fit on seen classes, predict seen and unseen ones.

    Args:
        class_embeddings: ``(C, A)`` array of descriptions, labels being its row numbers; or ``{label: (A,)}``.
            Classes without a row in ``fit`` are the unseen ones.
        classes: C labels of the rows of ``class_embeddings``, where it is an array and labels aren't row numbers.
        method: a key of ``fgen.MODELS``.
        model: settings of the method, for example ``{"epochs": 30}``.
        classifier: settings of the head; ``name`` is a key of ``fgen.CLASSIFIERS``, by default "softmax".
        embedding_norm, embedding_scale: see :class:`fgen.encoders.fusion.EmbeddingConfig`.
        n_per_class: features generated for each unseen class.
        calibrate: choose the number of epochs and the handicap of the seen classes on a fifth of the seen classes,
            held out in a training of its own, which doubles the time. Without it a generator's head sees few rows as
            unseen. With fewer than 3 seen classes, or 5 rows in each, there is nothing to hold out, and a warning.
        train: device, threads, precision.
        random_state: seed of every random number.
        verbose: show bars.

    Attributes:
        classes_: ``(C,)`` labels, in the order of the class embeddings.
        seen_, unseen_: labels with and without training rows.
        generator_: the trained model, see :meth:`fgen.models.base.FeatureGenerator.generate`.
        gamma_: what is subtracted from the seen classes' log-probabilities.
    """

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        classes: Sequence[Any] | None = None,
        method: str = "clswgan",
        model: Mapping[str, Any] | None = None,
        classifier: Mapping[str, Any] | None = None,
        embedding_norm: str = "l2",
        embedding_scale: float = 10.0,
        n_per_class: int = 100,
        calibrate: bool = True,
        train: Mapping[str, Any] | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.classes = classes
        self.method = method
        self.model = model
        self.classifier = classifier
        self.embedding_norm = embedding_norm
        self.embedding_scale = embedding_scale
        self.n_per_class = n_per_class
        self.calibrate = calibrate
        self.train = train
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> ZeroShotClassifier:
        """Learn from features ``(N, D)`` and labels ``(N,)`` of the seen classes.

        Raises:
            InputError: labels without a description, shapes that don't match, numbers that aren't finite.
        """
        self.classes_, embeddings = self._described()
        index = {label: k for k, label in enumerate(self.classes_.tolist())}
        labels = np.asarray(y)
        if labels.ndim != 1:
            raise InputError(f"y has shape {labels.shape}", "(N,), a label for each row of X")
        try:
            unknown = [label for label in dict.fromkeys(labels.tolist()) if label not in index]
        except TypeError:
            raise InputError("y holds labels that are no numbers or text", "a label for each row of X") from None
        if unknown:
            expected = "labels that class_embeddings describes"
            raise InputError(f"y holds the label {unknown[0]!r}", expected, _remedy(unknown[0], list(index)))
        ids = np.array([index[label] for label in labels.tolist()], dtype=np.int64)
        names = [str(label) for label in self.classes_.tolist()]
        dataset = ZSLDataset(X, ids, embeddings, class_names=names, seed=self.random_state)
        config = self._config()
        seed = self.random_state
        settings, self.gamma_ = config.model, 0.0
        if self.calibrate and len(dataset.unseen) and _can_hold_out(dataset):
            choice = choose_epochs(config, dataset, seed, progress=self.verbose)
            settings, self.gamma_ = chosen_model(config, dataset, choice), float(choice["gamma"])
            config = config.with_choice(choice)
        elif len(config.head_candidates()) > 1:
            raise InputError(
                "classifier.l2 holds several penalties, and there is nothing to choose by",
                "one of them, or calibrate=True and rows to hold out",
            )
        model = settings.build(embedding_config(config, dataset))
        self.generator_ = fit(model, config, dataset, seed, None, self.verbose)
        bank = synthetic_rows(config, dataset, self.generator_, seed)
        self.heads_ = new_heads(config, dataset, self.generator_, *bank, seed, with_zsl=False)
        self.seen_, self.unseen_ = self.classes_[dataset.seen], self.classes_[dataset.unseen]
        self._seen_ids = dataset.seen
        self.n_features_in_ = dataset.feature_dim
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-probabilities ``(N, C)``, the seen classes' lowered by ``gamma_``."""
        scores = self._scores(X)
        scores[:, self._seen_ids] -= self.gamma_
        return scores

    def _scores(self, X: Any) -> np.ndarray:
        """Log-probabilities ``(N, C)`` as the head gives them."""
        if not hasattr(self, "heads_"):
            raise InputError("the classifier isn't fitted", "fit() before predicting")
        represent = representation(self.generator_)
        try:
            shape = tuple(np.shape(X))
        except ValueError:
            raise InputError("X has rows of several lengths", f"(N, {self.n_features_in_}), as in fit()") from None
        if len(shape) != 2 or shape[1] != self.n_features_in_:
            raise InputError(f"X has shape {shape}", f"(N, {self.n_features_in_}), as in fit()")
        features = np.asarray(as_rows(X), dtype=np.float32)
        return self.heads_.gzsl.scores(features if represent is None else represent(features), len(self.classes_))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``(N, C)`` of :attr:`classes_`; rows add up to 1."""
        scores = self.decision_function(X).astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label ``(N,)``, among seen and unseen classes."""
        scores = self._scores(X)
        ids = np.arange(len(self.classes_))
        return self.classes_[predict_calibrated(scores, ids, self.gamma_, self._seen_ids)]

    def _described(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels ``(C,)`` and embeddings ``(C, A)``."""
        given = self.class_embeddings
        if given is None:
            raise InputError("class_embeddings is missing", "a matrix (C, A), or a dict from label to embedding")
        if isinstance(given, Mapping):
            if self.classes is not None:
                raise InputError("class_embeddings is a dict, and classes is given", "one of them: its keys are labels")
            labels = _labels(list(given))
            if labels.shape != (len(given),):
                raise InputError(f"class_embeddings has the key {next(iter(given))!r}", "numbers or text")
            return labels, _matrix(list(given.values()))
        embeddings = _matrix(given)
        labels = np.arange(len(embeddings)) if self.classes is None else _labels(self.classes)
        if labels.shape != (len(embeddings),):
            raise InputError(f"classes has shape {labels.shape}", f"({len(embeddings)},), one for each embedding")
        return labels, embeddings

    def _config(self) -> ExperimentConfig:
        for name in ("model", "classifier", "train"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Mapping):
                raise InputError(f"{name} is {given!r}", "a dict of settings, such as {'name': 'knn'} of a classifier")
        named = (self.model or {}).get("name", self.method)
        if named != self.method:
            raise InputError(f"model names {named!r}, and method {self.method!r}", "the method alone")
        if self.method not in MODELS:  # a baseline has no features to give away
            raise InputError(f"model.name is {self.method!r}", f"one of {', '.join(MODELS)}")
        sections = {
            "dataset": {
                "path": "(arrays in memory)",
                "embedding_norm": self.embedding_norm,
                "embedding_scale": self.embedding_scale,
            },
            "model": {"name": self.method} | dict(self.model or {}),
            "classifier": dict(self.classifier or {}),
            "bank": {"n_per_class": self.n_per_class},
            "train": dict(self.train or {}),
            "protocol": {"calibrate": True, "seeds": [self.random_state]},
        }
        config = ExperimentConfig.from_mapping(sections)
        if config.model.sees_test_rows:
            raise InputError(
                f"{self.method} is set to the transductive setting, and there are no unlabelled rows here",
                "the inductive setting",
                "Leave transductive out, or use fgen.run or make_model",
            )
        return config


def _remedy(label: Any, known: list[Any]) -> str:
    """What to do about a label of ``y`` that no class has."""
    described = next((other for other in known if str(other) == str(label)), None)
    if described is not None:
        return f"There is {described!r}, of another type"
    if isinstance(label, str) and known == list(range(len(known))):
        return "Name the rows of class_embeddings by classes=[...], or give a dict"
    return did_you_mean(str(label), (other for other in known if isinstance(other, str))) or "Describe it, or drop it"


def _labels(given: Any) -> np.ndarray:
    """Labels ``(C,)``, of one kind."""
    try:
        labels = np.asarray(given)
    except ValueError:
        raise InputError("the labels of the classes are of several lengths", "numbers or text") from None
    if labels.dtype.kind in "US" and labels.ndim == 1 and not all(isinstance(label, str | bytes) for label in given):
        kinds = ", ".join(dict.fromkeys(type(label).__name__ for label in given))  # NumPy makes text of them all
        raise InputError(f"the labels of the classes are {kinds}", "numbers or text, all of one kind")
    return labels


def _matrix(rows: Any) -> np.ndarray:
    try:
        return np.asarray(rows.detach() if hasattr(rows, "detach") else rows, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(
            "class_embeddings isn't a matrix", "a row of numbers for each class, all of the same length"
        ) from None


def _can_hold_out(dataset: ZSLDataset) -> bool:
    """Whether classes, and rows of the other classes, can be spared to calibrate on; warns if not."""
    task = dataset.validation() if len(dataset.splits["val"]) else None
    if task is not None and len(task.seen) > 1 and len(task.splits["test_seen"]):
        return True
    warnings.warn(
        f"{len(dataset.seen)} seen classes with {len(dataset.labels)} rows are too few to calibrate on: "
        "seen classes have no handicap, and all epochs are trained",
        stacklevel=3,
    )
    return False
