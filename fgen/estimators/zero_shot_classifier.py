"""The scikit-learn door: one object that learns seen classes and predicts classes it never saw.

Without scikit-learn the class still works; with ``fgen[sklearn]`` it is a full estimator (clone, pipelines,
``cross_val_score``).
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from fgen.baselines import BASELINES
from fgen.classifiers.base import predict_calibrated
from fgen.compute.device import cpu_threads
from fgen.config import build
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError, did_you_mean
from fgen.experiment.config import Recipe
from fgen.experiment.heads import Heads
from fgen.experiment.protocol import choose_epochs, chosen_model
from fgen.experiment.steps import Task, fit, new_heads, new_model, representation, synthetic_rows
from fgen.features.checks import as_array
from fgen.features.frames import check_columns, column_names, row_labels
from fgen.features.labels import class_ids, described_classes, names_of, one_based_warning, unusual_embeddings_warning
from fgen.features.rows import as_rows
from fgen.inference.storage import StoredFit, read_classifier, write_classifier
from fgen.io.consistent_read import current
from fgen.io.reading import guarded_read
from fgen.models.registry import MODELS
from fgen.training.loop import TrainConfig

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import NotFittedError
except ImportError:

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """What scikit-learn raises where an estimator isn't fitted."""

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

        def __repr__(self, N_CHAR_MAX: int = 700) -> str:
            """The constructor's arguments that are set."""
            given = (f"{name}={value!r}" for name, value in self.get_params().items() if value is not None)
            return f"{type(self).__name__}({', '.join(given)})"

    class ClassifierMixin:  # type: ignore[no-redef]
        """The default score of a classifier."""

        def score(self, X: Any, y: Any) -> float:
            """Share of rows that are right."""
            return float(np.mean(self.predict(X) == np.asarray(y)))  # type: ignore[attr-defined]


#: No gamma is chosen where all classes have fewer rows, of which one each would be held out.
FEWEST_ROWS = 5


class NotFitted(InputError, NotFittedError):
    """The classifier isn't fitted; with scikit-learn installed also its ``NotFittedError``."""


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

    Ensembles of scikit-learn that number labels anew (VotingClassifier, StackingClassifier, BaggingClassifier) aren't
    for it. They give their members 0 to K - 1 for the K classes that have rows: where labels are row numbers, classes
    are then learnt from other classes' descriptions, which can't be noticed here; a dict refuses such labels. Unseen
    classes they can't answer. Fit outside of them, and average ``predict_proba``.

    Args:
        class_embeddings: ``(C, A)`` array of descriptions, labels being its row numbers; or ``{label: (A,)}``; or a
            table such as pandas' DataFrame, whose index holds the labels. Classes without a row in ``fit`` are the
            unseen ones.
        classes: C labels of the rows of ``class_embeddings``, where it is an array and labels aren't row numbers.
        method: a key of ``fgen.MODELS``, the generators.
        model: settings of the method, for example ``{"epochs": 30}``.
        classifier: settings of the head; ``name`` is a key of ``fgen.CLASSIFIERS``, by default "softmax".
        embedding_norm, embedding_scale: see :class:`fgen.features.class_embeddings.EmbeddingConfig`.
        n_per_class: features generated for each unseen class.
        calibrate: choose the number of epochs and the handicap of the seen classes on a fifth of the seen classes,
            held out in a training of its own, which doubles the time. Without it a generator's head sees few rows as
            unseen. With fewer than 3 seen classes, or 5 rows in each, there is nothing to hold out, and a warning.
        train: device, threads, precision. The threads also hold for what predicts: the scores of 1 and of 2 threads
            differ in their last digits, and after a training on 1 or 2 by more.
        random_state: seed of every random number, a whole number of at least 0; unlike elsewhere in scikit-learn None
            and a RandomState are refused, since the same settings give the same classifier.
        verbose: show bars.

    Other threads may predict, and train others, at the same time. Other processes have to be started and not forked (as
    joblib and scikit-learn's ``n_jobs`` do): a child forked off a process in which torch has worked on several threads
    may hang for ever. With ``multiprocessing`` say ``get_context("spawn")``.

    Attributes:
        classes_: ``(C,)`` labels, in the order of the class embeddings.
        seen_, unseen_: labels with and without training rows.
        n_features_in_: D, the columns of the features.
        feature_names_in_: ``(D,)`` names of the columns, where ``fit`` had a table whose column names are all text.
        generator_: the trained model, see :meth:`fgen.models.base.generator.FeatureGenerator.generate`.
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
        recipe = self._recipe()
        described, embeddings = described_classes(self.class_embeddings, self.classes)
        ids = class_ids(y, described)
        by_row = self.classes is None and not isinstance(self.class_embeddings, Mapping)
        by_row = by_row and row_labels(self.class_embeddings) is None
        if by_row and (odd := one_based_warning(ids)):
            warnings.warn(odd, stacklevel=2)
        names = names_of(described)
        if odd := unusual_embeddings_warning(embeddings, names, ids):
            warnings.warn(odd, stacklevel=2)
        seed = int(self.random_state)
        dataset = ZSLDataset(X, ids, embeddings, class_names=names, seed=seed)
        task, gamma = Task(recipe, dataset, seed), 0.0
        if self.calibrate and len(dataset.unseen) and _can_hold_out(dataset):
            choice = choose_epochs(task, "selection" if self.verbose else None)
            recipe, gamma = recipe.with_choice(choice), float(choice["gamma"])
            task = replace(task, recipe=replace(recipe, model=chosen_model(task, choice)))
        elif len(recipe.candidates()) > 1:
            raise InputError(
                "classifier.l2 holds several penalties, and there is nothing to choose by",
                "one of them, or calibrate=True and rows to hold out",
            )
        model = fit(task, new_model(task), title="training" if self.verbose else None)
        heads = new_heads(task, model, *synthetic_rows(task, model), with_zsl=False)
        self._hold(StoredFit(model, heads.gzsl, described, dataset.seen, gamma, column_names(X)))
        return self

    def _hold(self, fitted: StoredFit) -> None:
        """All that a fitted one has, at once: what fails before this leaves the older fit as it was."""
        labels, unseen_ids = fitted.labels, np.setdiff1d(np.arange(len(fitted.labels)), fitted.seen)
        self.generator_, self.heads_ = fitted.model, Heads(fitted.head)
        self.gamma_, self.classes_, self._seen_ids = fitted.gamma, labels, fitted.seen
        self.seen_, self.unseen_ = labels[fitted.seen], labels[unseen_ids]
        self.n_features_in_ = fitted.model.scaler.dim
        if fitted.feature_names is not None:
            self.feature_names_in_ = np.array(fitted.feature_names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-probabilities ``(N, C)``, the seen classes' lowered by ``gamma_``.

        Of two classes it is, as scikit-learn has it, ``(N,)``: the second's less the first's, so positive for
        ``classes_[1]``. It warns, as all that predicts does, of rows that are much longer or shorter than those it was
        fitted to.
        """
        scores = self._calibrated(self._scores(X))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def _calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Log-probabilities ``(N, C)``, the seen classes' lowered by ``gamma_``."""
        scores[:, self._seen_ids] -= self.gamma_
        return scores

    def _scores(self, X: Any) -> np.ndarray:
        """Log-probabilities ``(N, C)`` as the head gives them."""
        self._require_fitted()
        check_columns(X, getattr(self, "feature_names_in_", None), type(self).__name__, stacklevel=4)
        represent = representation(self.generator_)
        shape = tuple(X.shape) if hasattr(X, "shape") else as_array("X", X).shape
        if len(shape) != 2 or shape[1] != self.n_features_in_:
            raise InputError(f"X has shape {shape}", f"(N, {self.n_features_in_}), as in fit()")
        features = np.asarray(as_rows(X), dtype=np.float32)
        if odd := self.generator_.scaler.scale_warning(features):
            warnings.warn(f"{odd}: were both normalised alike?", stacklevel=3)
        with cpu_threads(build(TrainConfig, dict(self.train or {}), "train").threads):
            return self.heads_.gzsl.scores(features if represent is None else represent(features), len(self.classes_))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``(N, C)`` of :attr:`classes_`; rows add up to 1."""
        scores = self._calibrated(self._scores(X)).astype(np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label ``(N,)``, among seen and unseen classes."""
        scores = self._scores(X)
        ids = np.arange(len(self.classes_))
        return self.classes_[predict_calibrated(scores, ids, self.gamma_, self._seen_ids)]

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier to a folder: safetensors and JSON, nothing pickled.

        It holds the model (which ``fgen.load_model`` reads as well), the head, the labels, and the settings as they
        are now; an older classifier of that name is replaced in one move.

        Raises:
            InputError: no fit yet, a head of scikit-learn's or labels that no JSON can hold, settings that have become
                wrong since the fit, or a folder that holds something else.
        """
        self._require_fitted()
        names = tuple(self.feature_names_in_.tolist()) if hasattr(self, "feature_names_in_") else None
        gamma, head = float(self.gamma_), self.heads_.gzsl
        fitted = StoredFit(self.generator_, head, self.classes_, self._seen_ids, gamma, names)
        write_classifier(Path(path), fitted, self._plain_parameters())

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read a classifier that :meth:`save` wrote; it predicts what the saved one did, and can be fitted again.

        Its ``class_embeddings`` are the matrix ``(C, A)`` of the fit and its ``classes`` the labels, even if a dict
        was given.

        Args:
            path: its folder.
            device: where ``generator_`` will generate.

        Raises:
            InputError: no such folder, files that are damaged or no classifier's, or no such device.
        """
        fitted, parameters = read_classifier(Path(path), device)
        rows = np.arange(len(fitted.labels))
        plain = fitted.labels.dtype == rows.dtype and np.array_equal(fitted.labels, rows)
        with guarded_read(current(Path(path)) / "classifier.json", "classifier"):
            labels: Any = None if plain else fitted.labels
            loaded = cls(class_embeddings=fitted.model.class_embeddings, classes=labels, **parameters)
            loaded._recipe()
        loaded._hold(fitted)
        return loaded

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """As scikit-learn prints an estimator, but for the embeddings and labels, of which it gives the number."""
        parameters = self.get_params(deep=False)
        shown = {
            name: _Size(parameters[name]) for name in ("class_embeddings", "classes") if parameters[name] is not None
        }
        return super(ZeroShotClassifier, type(self)(**(parameters | shown))).__repr__(N_CHAR_MAX)

    def _require_fitted(self) -> None:
        if not hasattr(self, "heads_"):
            raise NotFitted("the classifier isn't fitted", "fit() before predicting or saving")

    def _plain_parameters(self) -> dict[str, Any]:
        """The constructor's arguments, but for embeddings and labels, as JSON can hold them."""
        plain = self._recipe().to_mapping()
        sections = {
            name: None if given is None else {key: plain[name][key] for key in given if key in plain[name]}
            for name, given in (("model", self.model), ("classifier", self.classifier), ("train", self.train))
        }
        return sections | {
            "method": self.method,
            "embedding_norm": plain["embedding"]["norm"],
            "embedding_scale": plain["embedding"]["scale"],
            "n_per_class": plain["bank"]["n_per_class"],
            "calibrate": bool(self.calibrate),
            "random_state": int(self.random_state),
            "verbose": bool(self.verbose),
        }

    def _recipe(self) -> Recipe:
        """Return the settings as a recipe.

        Raises:
            InputError: one that is wrong, or a method that needs rows of unseen classes.
        """
        if isinstance(self.model, str):
            expected = "a dict of settings, such as {'epochs': 30}, the generator's name being the method"
            raise InputError(f"model is {self.model!r}", expected, _method_remedy(self.model))
        for name in ("model", "classifier", "train"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Mapping):
                raise InputError(f"{name} is {given!r}", "a dict of settings, such as {'name': 'knn'} of a classifier")
        named = (self.model or {}).get("name", self.method)
        for where, name in (("method", self.method), ("model['name']", named)):
            if not isinstance(name, str) or name not in MODELS:
                expected = f"one of the generators {', '.join(MODELS)}"
                raise InputError(f"{where} is {name!r}", expected, _method_remedy(name))
        if named != self.method:
            found = f"model['name'] is {named!r}, and method {self.method!r}"
            raise InputError(found, "the generator's name as method", _method_remedy(named))
        seed = self.random_state
        if not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 2**63:
            expected, remedy = "a whole number from 0 to 2**63 - 1", "The same number gives the same classifier"
            raise InputError(f"random_state is {seed!r}", expected, remedy)
        sections = {
            "embedding": {"norm": self.embedding_norm, "scale": self.embedding_scale},
            "model": {"name": self.method} | dict(self.model or {}),
            "classifier": dict(self.classifier or {}),
            "bank": {"n_per_class": self.n_per_class},
            "train": dict(self.train or {}),
            "protocol": {"calibrate": True},
        }
        recipe = Recipe.from_mapping(sections)
        if recipe.model.sees_test_rows:
            raise InputError(
                f"{self.method} is set to the transductive setting, and there are no unlabelled rows here",
                "the inductive setting",
                "Leave transductive out, or use fgen.run or make_model",
            )
        return recipe


class _Size:
    """What :func:`repr` gives of an argument too long to read."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __repr__(self) -> str:
        kind, given = type(self.given).__name__, self.given
        if hasattr(given, "shape"):
            return f"<{kind} {tuple(given.shape)}>"
        return f"<{kind} of {len(given)}>" if hasattr(given, "__len__") else repr(given)


def _method_remedy(name: Any) -> str:
    """What to do about a name that was given in place of a generator's, or elsewhere than as ``method``."""
    of_baseline = "a baseline, which makes no features and is run by `fgen run`"
    if not isinstance(name, str):
        return ""
    if name in MODELS:
        return f"Pass method={name!r}"
    if name in BASELINES:
        return f"{name!r} is {of_baseline}"

    def shown(near: str) -> str:
        return f"method={near!r}" if near in MODELS else f"{near!r}, {of_baseline}"

    return did_you_mean(name, [*MODELS, *BASELINES], show=shown)


def _can_hold_out(dataset: ZSLDataset) -> bool:
    """Whether classes, and rows of the other classes, can be spared to calibrate on; warns if not."""
    task = dataset.validation() if len(dataset.splits["val"]) else None
    fullest = np.bincount(dataset.labels).max()
    if task is not None and len(task.seen) > 1 and fullest >= FEWEST_ROWS and len(task.splits["test_seen"]):
        return True
    warnings.warn(
        f"{len(dataset.seen)} seen classes with {len(dataset.labels)} rows are too few to calibrate on: "
        "seen classes have no handicap, and all epochs are trained",
        stacklevel=3,
    )
    return False
