"""The multimodal door: an encoder of pictures and one of texts, trained together, as one zero-shot classifier."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from fgen.baselines.multimodal import MultimodalConfig
from fgen.errors import InputError
from fgen.estimators import multimodal_storage as storage
from fgen.estimators.base import BaseEstimator, ClassifierMixin, NotFitted, Size
from fgen.estimators.image_text_rows import ImageRows, class_rows
from fgen.estimators.towers import EndToEndConfig, Towers
from fgen.estimators.training import calibrated, described_rows, trained_predictor
from fgen.experiment.config import Recipe
from fgen.experiment.steps import Task
from fgen.features.frames import check_columns, column_names
from fgen.inference.predictor import Predictor
from fgen.training.hooks import NO_HOOK

#: Arguments that are settings of the scorer and of its training.
SETTINGS = tuple(field.name for field in fields(MultimodalConfig) if field.name != "epoch_choices")
#: Arguments that ``repr`` shows by their size.
LARGE = ("text_encoder", "image_encoder", "class_embeddings", "class_texts", "classes")


class MultimodalZeroShotClassifier(ClassifierMixin, BaseEstimator):
    """Classifier of seen and unseen classes that scores pairs of a picture and a class's text.

    Two encoders and a fusion layer are trained on the seen classes, by the contrastive loss of CLIP (Radford et al.
    2021) over the distinct classes of a batch and by the cross-entropy over all seen classes. The number of epochs and
    ``gamma_`` are chosen on held-out seen classes, as in :class:`fgen.ZeroShotClassifier`.

    An encoder is a module of torch, of which a copy is trained too; or an object with ``encode``, such as those of
    ``fgen.encoders``, which stays as it is; or None where ``fit`` has features, or classes have embeddings.

    Args:
        text_encoder: a module takes what ``tokenizer`` returns, and returns ``(n, A)``; ``encode`` takes texts.
        image_encoder: a module takes pictures as a tensor ``(n, ...)`` float32, and returns ``(n, D)``; ``encode``
            takes pictures as ``fit`` has them. Two networks are one module, :class:`fgen.nn.multimodal.SideBySide`.
        fusion: "cosine" of two projections (two-tower), "concat" and an MLP, "bilinear" or "gated"; see
            :mod:`fgen.nn.multimodal`.
        class_embeddings, classes: as of :class:`fgen.ZeroShotClassifier`, where there is no text encoder.
        class_texts: ``{label: text}``, or ``{label: [text, ...]}`` with as many templates for each class, whose unit
            vectors are averaged; where there is a text encoder.
        tokenizer: a callable from a list of texts to token ids ``(n, T)``, to a tuple of tensors, or to a mapping with
            ``input_ids`` and ``attention_mask``; one of transformers fills up and cuts texts by itself.
        preprocess: a callable from one picture to a tensor or an array; None takes ``X`` as it is.
        joint_dim, epochs, batch_size, lr, weight_decay, contrastive_weight, classification_weight: see
            :class:`fgen.baselines.multimodal.MultimodalConfig`; epochs of None are chosen, 3, 10 or 30.
        encoder_lr: learning rate of encoders that are modules; 0 leaves them as they are.
        embedding_norm: see :class:`fgen.features.class_embeddings.EmbeddingConfig`.
        calibrate: choose ``gamma_``, and epochs of None, on held-out seen classes.
        device: where modules are trained and used, such as "cpu" or "cuda"; "auto" takes a GPU where there is one.
        random_state: seed of every random number, a whole number of at least 0.

    Attributes:
        module_: the trained :class:`fgen.nn.multimodal.ImageTextScorer`, in evaluation mode.
        classes_: ``(C,)`` labels, in the order of the class embeddings or texts.
        seen_, unseen_: labels with and without training rows.
        gamma_: what is subtracted from the seen classes' scores.
        calibration_: what it rests on, see :class:`fgen.ZeroShotClassifier`.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> X, y = data.split("trainval")
        >>> classifier = fgen.MultimodalZeroShotClassifier(
        ...     fusion="concat", class_embeddings=data.class_embeddings, joint_dim=16, epochs=2, calibrate=False
        ... ).fit(X, y)
        >>> unseen_rows, _ = data.split("test_unseen")
        >>> classifier.predict_proba(unseen_rows).shape == (len(unseen_rows), 25)
        True
    """

    def __init__(
        self,
        text_encoder: Any = None,
        image_encoder: Any = None,
        *,
        fusion: str = "cosine",
        class_embeddings: Any = None,
        class_texts: Mapping[Any, str | Sequence[str]] | None = None,
        classes: Sequence[Any] | None = None,
        tokenizer: Any = None,
        preprocess: Any = None,
        joint_dim: int = 256,
        epochs: int | None = None,
        batch_size: int = 64,
        lr: float = 1e-3,
        encoder_lr: float = 1e-4,
        weight_decay: float = 1e-2,
        contrastive_weight: float = 1.0,
        classification_weight: float = 1.0,
        embedding_norm: str = "l2",
        calibrate: bool = True,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.fusion = fusion
        self.class_embeddings = class_embeddings
        self.class_texts = class_texts
        self.classes = classes
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.joint_dim = joint_dim
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.encoder_lr = encoder_lr
        self.weight_decay = weight_decay
        self.contrastive_weight = contrastive_weight
        self.classification_weight = classification_weight
        self.embedding_norm = embedding_norm
        self.calibrate = calibrate
        self.device = device
        self.random_state = random_state

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return what scikit-learn prints of an estimator, with sizes in place of encoders and descriptions."""
        given = self.get_params(deep=False)
        shown = {name: Size(given[name]) for name in LARGE if given[name] is not None}
        return super(type(self), type(self)(**(given | shown))).__repr__(N_CHAR_MAX)

    def fit(self, X: Any, y: Any) -> Self:
        """Train on pictures or features X of N examples, and their labels y ``(N,)`` of the seen classes.

        Args:
            X: features ``(N, D)``; or with an image encoder pictures, as ``preprocess`` or the encoder takes them.
            y: labels, each with an embedding or a text.

        Raises:
            InputError: labels without a description, texts without an encoder or the reverse, shapes that don't match,
                numbers that aren't finite, modules that return no matrix.
        """
        images = ImageRows.of(X, self.image_encoder, self.preprocess)
        described, text_shape = self._described()
        dataset, labels = described_rows(described, images.rows, y, stacklevel=3)
        task = Task(self._recipe(images.shape, text_shape), dataset, int(self.random_state))
        gamma, calibration = 0.0, None
        if self.calibrate:
            task, gamma, calibration = calibrated(task, None, NO_HOOK, stacklevel=3)
        own = {"labels": labels, "gamma": gamma, "feature_names": column_names(X)}
        self.predictor_ = trained_predictor(task, None, NO_HOOK, **own)
        self.calibration_ = calibration
        self._embeddings = None if self.class_texts else dataset.class_embeddings
        return self

    def _described(self) -> tuple[Self, tuple[int, int, int] | None]:
        """Return the estimator with rows of numbers as its class embeddings, and the shape of those of token ids.

        Raises:
            InputError: texts without an encoder, or embeddings with one.
        """
        wrong = "class_texts" if self.text_encoder is None else "class_embeddings"
        if getattr(self, wrong) is not None:
            found = f"{wrong} is given, and text_encoder is {'None' if self.text_encoder is None else 'set'}"
            raise InputError(found, "class_texts with a text encoder, or class_embeddings without one")
        if self.text_encoder is None:
            return self, None
        described = copy.copy(self)
        described.class_embeddings, shape = class_rows(self.class_texts, self.text_encoder, self.tokenizer)
        return described, shape

    def _recipe(self, image_shape: tuple[int, ...] | None, text_shape: tuple[int, int, int] | None) -> Recipe:
        """Return the settings as a recipe; shapes are those that modules take, None without one."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        norm = self.embedding_norm if text_shape is None else "none"
        given = {name: value for name, value in settings.items() if value is not None}
        recipe = Recipe.from_mapping(
            {
                "model": {"name": "multimodal", **given},
                "embedding": {"norm": norm, "scale": 1.0},
                "protocol": {"calibrate": True},
            }
        )
        image = self.image_encoder if image_shape is not None else None
        text = self.text_encoder if text_shape is not None else None
        towers = Towers(image, image_shape, text, text_shape)
        own = {field.name: getattr(recipe.model, field.name) for field in fields(recipe.model)}
        config = EndToEndConfig(**own, towers=towers, encoder_lr=self.encoder_lr, device=self.device)
        return replace(recipe, model=config)

    # Attributes of a fitted estimator; before fit() they don't exist, as scikit-learn's rules have it.

    classes_ = property(attrgetter("predictor_.labels"))
    module_ = property(attrgetter("predictor_.head.baseline.scorer"))
    gamma_ = property(attrgetter("predictor_.gamma"))
    n_features_in_ = property(attrgetter("predictor_.model.scaler.dim"))

    @property
    def seen_(self) -> np.ndarray:
        """Labels with training rows."""
        return self.classes_[self.predictor_.seen]

    @property
    def unseen_(self) -> np.ndarray:
        """Labels without training rows."""
        return np.delete(self.classes_, self.predictor_.seen)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return scores ``(N, C)`` of the pairs, the seen classes' lowered by ``gamma_``.

        Of two classes return ``(N,)``, as scikit-learn has it: the second's minus the first's.
        """
        predictor, scores = self._scored(X)
        scores = predictor.calibrated(scores)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities ``(N, C)`` of :attr:`classes_`: the softmax of the scores."""
        predictor, scores = self._scored(X)
        return predictor.probabilities(scores)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label ``(N,)``, among seen and unseen classes."""
        predictor, scores = self._scored(X)
        return predictor.labels[predictor.class_ids(scores)]

    def _scored(self, X: Any) -> tuple[Predictor, np.ndarray]:
        """Return what predicts, and its scores ``(N, C)`` before calibration.

        Raises:
            InputError: pictures or features of another shape than in training. NotFitted: no fit yet.
        """
        predictor = self._predictor()
        check_columns(X, predictor.feature_names, type(self).__name__, stacklevel=4)
        images = ImageRows.of(X, self.image_encoder, self.preprocess)
        fitted = predictor.head.baseline.config.towers.image_shape
        if images.shape != fitted:
            raise InputError(f"pictures have shape {images.shape}", f"{fitted}, as in fit()")
        return predictor, predictor.scores(images.rows)

    def _predictor(self) -> Predictor:
        if not hasattr(self, "predictor_"):
            raise NotFitted("the classifier isn't fitted", "fit() before predicting or saving")
        return self.predictor_

    def save(self, path: str | Path) -> None:
        """Write the fitted classifier to a folder: safetensors and JSON, nothing pickled.

        Of encoders that are modules it holds the weights, not the code: :meth:`load` asks for a module of the same
        kind. Other encoders, ``tokenizer`` and ``preprocess`` aren't kept. An older classifier of that name is replaced
        in one move.

        Raises:
            InputError: labels that no JSON can hold, or a folder that holds something else. NotFitted: no fit yet.
        """
        kept = {name: getattr(self, name) for name in (*SETTINGS, "encoder_lr", "embedding_norm", "device")}
        kept |= {"calibrate": bool(self.calibrate), "random_state": int(self.random_state)}
        storage.write(path, self._predictor(), kept, self.class_texts, self._embeddings)

    @classmethod
    def load(
        cls,
        path: str | Path,
        text_encoder: Any = None,
        image_encoder: Any = None,
        *,
        tokenizer: Any = None,
        preprocess: Any = None,
        device: str | None = None,
    ) -> Self:
        """Read a classifier that :meth:`save` wrote; it predicts what the saved one did, and can be fitted again.

        Args:
            path: its folder.
            text_encoder, image_encoder: modules of the kind that were trained, of which copies get the stored
                weights; or the objects with ``encode`` that were given.
            tokenizer: for another fit; what it made of the classes' texts is stored.
            preprocess: as in training.
            device: another one than in training.

        Raises:
            InputError: no such folder, damaged files, a module that is missing or that the weights don't fit.
        """
        modules = {"text": text_encoder, "image": image_encoder}
        given = {name: encoder for name, encoder in modules.items() if isinstance(encoder, nn.Module)}
        predictor, described, kept = storage.read(path, given.get("image"), given.get("text"), device)
        own = {"text_encoder": text_encoder, "image_encoder": image_encoder, "tokenizer": tokenizer}
        loaded = cls(**own, preprocess=preprocess, **described, **kept)
        loaded.predictor_, loaded._embeddings = predictor, loaded.class_embeddings
        return loaded
