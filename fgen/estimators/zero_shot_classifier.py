"""The scikit-learn door: one object that learns seen classes and predicts classes it never saw.

Without scikit-learn the class still works; with ``fgen[sklearn]`` it is a full estimator (clone, pipelines,
``cross_val_score``).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from fgen.config import build
from fgen.errors import InputError
from fgen.estimators.base import BaseEstimator, ClassifierMixin, NotFitted
from fgen.estimators.recipe import storable_parameters
from fgen.estimators.settings import SettingsMixin
from fgen.estimators.training import calibrated, described_rows, new_task, trained_predictor
from fgen.experiment.heads import Heads
from fgen.features.checks import as_array
from fgen.features.frames import check_columns, column_names
from fgen.features.rows import as_rows
from fgen.inference.baseline import BaselineScores
from fgen.inference.extend import add_classes
from fgen.inference.predictor import Predictor
from fgen.io.consistent_read import current
from fgen.io.reading import guarded_read
from fgen.models.base.generator import FeatureGenerator
from fgen.training.hooks import EpochHook, OnEpoch
from fgen.training.loop import TrainConfig


class ZeroShotClassifier(ClassifierMixin, SettingsMixin, BaseEstimator):
    """Classifier of seen and unseen classes: a generator of features and a head that is trained on what it generates.

    Do not use it in ensembles of scikit-learn that number labels anew (VotingClassifier, StackingClassifier,
    BaggingClassifier). They pass labels 0 to K - 1 for the K classes that have rows. If labels are row numbers of
    ``class_embeddings``, each class is then trained with another class's description, without an error; a dict of
    embeddings refuses such labels. These ensembles can't predict unseen classes either. Fit several classifiers
    yourself, and average ``predict_proba``. docs/scikit-learn.md of the checkout has a table of what works.

    Args:
        class_embeddings: ``(C, A)`` array of descriptions, labels being its row numbers; or ``{label: (A,)}``; or a
            table such as pandas' DataFrame, whose index holds the labels. Or several kinds of description: a dict
            from the kind's name to any of these, which is sorted by name. Classes without a row in ``fit`` are the
            unseen ones.
        classes: C labels of the rows of ``class_embeddings``, where it is an array and labels aren't row numbers.
        method: a key of ``fgen.MODELS``, the generators; or of ``fgen.BASELINES``, which generate nothing and have no
            ``classifier``; or "recommended", which chooses generator, head, preparation and ``n_per_class`` on
            held-out classes as :func:`fgen.recommended` does.
        model: settings of the method, for example ``{"epochs": 30}``. Searches and ``set_params`` reach each setting of
            ``model``, ``classifier`` and ``train`` by two underscores: ``model__epochs``, ``classifier__l2``.
        classifier: settings of the head; ``name`` is a key of ``fgen.CLASSIFIERS``, by default "softmax", whose
            ``solver`` is then "lbfgs" unless a setting of Adam's is given (``[classifier]`` in TOML is Adam's). Or an
            estimator, of scikit-learn or any with ``fit(X, y)``, and ``predict_proba(X)`` (its logarithm is the score)
            or ``decision_function(X)``. A copy of it is fitted to float32 rows and labels 0 to K - 1. The rows are
            scaled to 0 to 1 ("minmax"); ``{"estimator": LinearSVC(), "scaling": "standard"}`` scales them otherwise.
            A ``random_state`` of None becomes this one's, and torch is seeded with it. A text is never imported.
        embedding_norm, embedding_scale: see :class:`fgen.features.class_embeddings.EmbeddingConfig`.
        embedding_weights: ``{kind: weight}``, which multiply each kind after its norm; or "auto", which chooses them
            on held-out classes among 1 + 2 K candidates for K kinds, see :mod:`fgen.experiment.weights`.
        fusion: "concat", kinds side by side, as None is; or "average" of kinds with equally many columns.
        n_per_class: number of features to generate for each unseen class.
        calibrate: choose the number of epochs and ``gamma_`` on held-out seen classes. A fifth of the classes is held
            out, in one more training; of up to 12 seen classes each is held out alone, in a training for each, see
            :func:`fgen.metrics.gamma.choose`. Without it few rows are predicted as unseen classes. With fewer than 3
            seen classes, or fewer than 5 rows in each, nothing can be held out; a warning says so.
        train: device, threads, precision. The threads are used in prediction too: the scores of 1 and of 2 threads
            differ in their last digits, those after a training on 1 and on 2 threads by more.
        random_state: seed of every random number, a whole number of at least 0. None and a RandomState are refused,
            unlike elsewhere in scikit-learn, because the same settings give the same classifier.
        verbose: show progress bars.

    Other threads may predict, or train other classifiers, at the same time. Start other processes, do not fork them: a
    child that is forked from a process in which torch has used several threads may hang for ever. joblib and
    scikit-learn's ``n_jobs`` start them; with ``multiprocessing`` use ``get_context("spawn")``.

    Attributes:
        classes_: ``(C,)`` labels, in the order of the class embeddings.
        seen_, unseen_: labels with and without training rows.
        n_features_in_: D, the number of feature columns.
        feature_names_in_: ``(D,)`` names of the columns, if ``fit`` had a table whose column names are all text.
        generator_: the trained model, see :meth:`fgen.models.base.generator.FeatureGenerator.generate`; not of a
            baseline.
        gamma_: what is subtracted from the seen classes' log-probabilities, or from the scores of a baseline.
        calibration_: what ``gamma_`` rests on: a ``sentence``, ``n_classes`` and ``n_rows`` that were held out, and the
            T1, U, S, H to expect (``expected``, and ``uncalibrated``), each with ``mean``, ``low`` and ``high``. None
            without calibration, and of a baseline on many classes; a loaded classifier has it not.
        extension_: what :meth:`add_classes` changed, an :class:`fgen.inference.extend.Extension`; only after it.
        predictor_: all of these in one object, see :class:`fgen.inference.predictor.Predictor`.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> X, y = data.split("trainval")
        >>> classifier = fgen.ZeroShotClassifier(
        ...     data.class_embeddings,
        ...     method="flow",
        ...     model={"epochs": 2, "hidden_dim": 16},
        ...     classifier={"solver": "lbfgs"},
        ...     n_per_class=20,
        ...     calibrate=False,
        ... ).fit(X, y)
        >>> len(classifier.seen_), len(classifier.unseen_)
        (20, 5)
        >>> unseen_rows, _ = data.split("test_unseen")
        >>> classifier.predict_proba(unseen_rows).shape == (len(unseen_rows), 25)
        True
    """

    def __init__(
        self,
        class_embeddings: Any = None,
        *,
        classes: Sequence[Any] | None = None,
        method: str = "clswgan",
        model: Mapping[str, Any] | None = None,
        classifier: Any = None,
        embedding_norm: str = "l2",
        embedding_scale: float = 10.0,
        embedding_weights: Mapping[str, float] | str | None = None,
        fusion: str | None = None,
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
        self.embedding_weights = embedding_weights
        self.fusion = fusion
        self.n_per_class = n_per_class
        self.calibrate = calibrate
        self.train = train
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, on_epoch: OnEpoch | None = None) -> Self:
        """Learn from features ``(N, D)`` and labels ``(N,)`` of the seen classes.

        Args:
            X: features, one row for each example.
            y: their labels.
            sample_weight: ``(N,)`` weights of the rows in the training of the head, where a generated row has 1. A row
                of weight 0 is left out altogether; the generator, the scaling and the calibration's scores take each
                other row once. "softmax", "logistic" and "linear_svm" take weights, and estimators whose ``fit`` does;
                other heads, "recommended" and the baselines refuse them.
            on_epoch: called after each epoch, as :func:`fgen.run` does; phases are ``"selection"``, or
                ``"selection/fold-1"`` and so on, and ``"training"``. The trials of "recommended" are not told of.

        Raises:
            InputError: labels without a description, shapes that don't match, numbers that aren't finite.
        """
        recipe, hook = self._recipe(), EpochHook(on_epoch)
        recipe.classifier.build()  # what can't be trained is refused before the generator is
        dataset, labels = described_rows(self, X, y, sample_weight, stacklevel=3)
        task = new_task(self, recipe, dataset, sample_weight)
        gamma, calibration = 0.0, None
        if self.calibrate:
            task, gamma, calibration = calibrated(task, "selection" if self.verbose else None, hook, stacklevel=3)
        title = "training" if self.verbose else None
        fields = {"labels": labels, "gamma": gamma, "feature_names": column_names(X)}
        self.predictor_ = trained_predictor(task, title, hook.within("training"), **fields)
        self.calibration_ = calibration
        return self

    # Attributes of a fitted estimator; before fit() they don't exist, as scikit-learn's rules have it.

    classes_ = property(attrgetter("predictor_.labels"))
    n_features_in_ = property(attrgetter("predictor_.model.scaler.dim"))

    @property
    def generator_(self) -> FeatureGenerator:
        """Trained model that makes features; a baseline has none."""
        if isinstance(self.predictor_.model, BaselineScores):
            raise AttributeError(f"method {self.method!r} is a baseline, which makes no features")
        return self.predictor_.model

    @property
    def heads_(self) -> Heads:
        """Trained head over all classes, as ``heads_.gzsl``."""
        return Heads(self.predictor_.head)

    @property
    def seen_(self) -> np.ndarray:
        """Labels with training rows."""
        return self.classes_[self.predictor_.seen]

    @property
    def unseen_(self) -> np.ndarray:
        """Labels without training rows."""
        return np.delete(self.classes_, self.predictor_.seen)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """``(D,)`` names of the feature columns."""
        if self.predictor_.feature_names is None:
            raise AttributeError("the features had no column names in fit()")
        return np.array(self.predictor_.feature_names, dtype=object)

    @property
    def gamma_(self) -> float:
        """Number that is subtracted from the seen classes' log-probabilities."""
        return self.predictor_.gamma

    @gamma_.setter
    def gamma_(self, gamma: float) -> None:
        self.predictor_ = replace(self.predictor_, gamma=gamma)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return log-probabilities ``(N, C)``, the seen classes' lowered by ``gamma_``.

        Of two classes return ``(N,)``, as scikit-learn has it: the second's minus the first's, so positive for
        ``classes_[1]``. It warns, as all that predicts does, of rows that are much longer or shorter than those it was
        fitted to.
        """
        predictor, scores = self._scored(X)
        scores = predictor.calibrated(scores)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities ``(N, C)`` of :attr:`classes_`; rows add up to 1.

        Where scores are no log-probabilities, as of LinearSVC or the baseline "ridge", they are the scores' softmax:
        they rank classes, and aren't how often these are right.
        """
        predictor, scores = self._scored(X)
        return predictor.probabilities(scores)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label ``(N,)``, among seen and unseen classes."""
        predictor, scores = self._scored(X)
        return predictor.labels[predictor.class_ids(scores)]

    def _scored(self, X: Any) -> tuple[Predictor, np.ndarray]:
        """Return what predicts, and its log-probabilities ``(N, C)`` as the head gives them.

        Warnings name the line that called the public method.
        """
        predictor = self._predictor()
        check_columns(X, predictor.feature_names, type(self).__name__, stacklevel=4)
        scaler = predictor.model.scaler
        shape = tuple(X.shape) if hasattr(X, "shape") else as_array("X", X).shape
        if len(shape) != 2 or shape[1] != scaler.dim:
            told = f"X has {shape[-1]} features, but {type(self).__name__} is expecting {scaler.dim} features as input"
            remedy = told if len(shape) == 2 else "Reshape your data: X.reshape(1, -1) holds one row" if shape else ""
            raise InputError(f"X has shape {shape}", f"(N, {scaler.dim}), as in fit()", remedy)
        features = np.asarray(as_rows(X), dtype=np.float32)
        if odd := scaler.scale_warning(features):
            warnings.warn(f"{odd}: were both normalised alike?", stacklevel=3)
        return predictor, predictor.scores(features)

    def _predictor(self) -> Predictor:
        """Return what the last fit left, with the CPU threads that are set now.

        Raises:
            NotFitted: no fit yet. InputError: ``train`` is wrong.
        """
        if not hasattr(self, "predictor_"):
            raise NotFitted("the classifier isn't fitted", "fit() before predicting or saving")
        return replace(self.predictor_, threads=build(TrainConfig, dict(self.train or {}), "train").threads)

    def add_classes(self, names: Sequence[Any], embeddings: Any, *, n_per_class: int | None = None) -> Self:
        """Add classes that nobody has features of, without another training of the generator; also after :meth:`load`.

        Rows of the head, or prototypes of the cosine head, are learned for them from generated features of all classes.
        Those of other classes stay bit for bit. The new classes are unseen ones: ``gamma_`` isn't subtracted from them.
        What they cost the others is logged, and kept in ``extension_``. A later :meth:`fit` knows only
        ``class_embeddings``.

        Args:
            names: M labels, of the type of the other classes' labels.
            embeddings: ``(M, A)`` raw, of the kind that ``class_embeddings`` are; or a dict by kind.
            n_per_class: number of features to generate of each class to train on; by default the classifier's.

        Raises:
            InputError: a head without weights, as nearest neighbours or a forest; names that are known; embeddings of
                another width, or not finite. NotFitted: no fit yet.
        """
        number, seed = n_per_class or self.n_per_class, int(self.random_state)
        predictor = self._predictor()
        if isinstance(embeddings, Mapping):
            embeddings = predictor.model.embedding.side_by_side(embeddings)
        self.predictor_, self.extension_ = add_classes(predictor, names, embeddings, n_per_class=number, seed=seed)
        self.extension_.log()
        return self

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``W (C, D)``, ``b (C,)`` float64 and ``classes (C,)``, of raw features and with ``gamma_`` inside.

        ``classes[(X @ W.T + b).argmax(1)]`` is :meth:`predict`, and the softmax of ``X @ W.T + b`` is
        :meth:`predict_proba`.

        Raises:
            InputError: scaling or head isn't affine; :meth:`to_torch` and :meth:`to_onnx` take every method.
        """
        return self._predictor().to_numpy()

    def to_torch(self, *, generator: bool = False) -> nn.Module:
        """Return a module of torch: raw features ``(N, D)`` to the logarithm of :meth:`predict_proba`.

        Args:
            generator: return the generator in its place: raw class embeddings ``(N, A)`` and noise ``(N, Z)`` to raw
                features ``(N, D)``.

        Raises:
            InputError: a head that is no formula of weights, as nearest neighbours.
        """
        return self._predictor().to_torch(generator=generator)

    def to_onnx(self, path: str | Path, *, generator: bool = False, overwrite: bool = False) -> None:
        """Write an ``.onnx`` file: ``features (N, D)`` to ``probabilities (N, C)`` and ``class_id (N,)``.

        N is free. The labels are the file's metadata ``classes``, in JSON. onnxruntime runs the file before it takes
        its place, and its probabilities are those of :meth:`predict_proba`.

        Args:
            path: the file.
            generator: write the generator in its place, see :meth:`to_torch`.
            overwrite: replace an existing file.

        Raises:
            InputError: a head that is no formula of weights, labels that no JSON can hold, an existing file.
            MissingExtra: ``fgen[onnx]`` isn't installed.
        """
        self._predictor().to_onnx(path, generator=generator, overwrite=overwrite)

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier to a folder: safetensors and JSON, nothing pickled.

        It holds the model (which ``fgen.load_model`` reads as well), the head, the labels, and the settings as they
        are now; an older classifier of that name is replaced in one move. An estimator given as ``classifier`` is kept
        if it is linear, as numbers: the loaded classifier predicts the same, and is fitted again with
        ``set_params(classifier=...)`` alone.

        Raises:
            InputError: no fit yet, a baseline, another estimator or labels that no JSON can hold, settings that have
                become wrong since the fit, or a folder that holds something else.
        """
        predictor = self._predictor()
        replace(predictor, parameters=storable_parameters(self.get_params(deep=False))).save(path)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read a classifier that :meth:`save` wrote; it predicts what the saved one did, and can be fitted again.

        Its ``class_embeddings`` are the matrix ``(C, A)`` of the fit, or a dict of it by kind, and its ``classes`` the
        labels, even if a dict from label was given.

        Args:
            path: its folder.
            device: where ``generator_`` will generate.

        Raises:
            InputError: no such folder, files that are damaged or no classifier's, or no such device.
        """
        predictor = Predictor.load(path, device)
        rows, model = np.arange(len(predictor.labels)), predictor.model
        plain = predictor.labels.dtype == rows.dtype and np.array_equal(predictor.labels, rows)
        classes: Any = None if plain else predictor.labels
        with guarded_read(current(Path(path)) / "classifier.json", "classifier"):
            embeddings: Any = model.class_embeddings
            if model.embedding.kinds:
                embeddings = model.embedding.split(embeddings)
            loaded = cls(embeddings, classes=classes, **predictor.parameters)
            loaded._recipe()
        loaded.predictor_ = predictor
        return loaded
