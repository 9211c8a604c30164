"""Prediction from raw features: a trained model, its head and its calibration in one object."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from torch import nn

from fgen.classifiers.base import predict_calibrated
from fgen.classifiers.registry import load_head
from fgen.compute.device import cpu_threads
from fgen.errors import InputError
from fgen.experiment.heads import represented
from fgen.features.encoder_record import IMAGE_ENCODER, EncoderRecord
from fgen.features.rows import Features, as_rows
from fgen.inference import storage
from fgen.inference.export import EXAMPLES, Probabilities, expect_suffix, export_generator, write_onnx, write_torch
from fgen.inference.linear_head import LinearHead
from fgen.inference.torch_module import GeneratorModule, PredictorModule
from fgen.io.atomic import replace_directory, write_json
from fgen.io.consistent_read import read_folder
from fgen.io.reading import guarded_read, read_json
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")

#: Rows whose classes are sorted at once.
SORTED_ROWS = 16384


@dataclass(frozen=True, eq=False)
class Predictor:
    """All that prediction needs after training: raw features in, classes out.

    Attributes:
        model: the generator, whose ``represent`` maps raw features to the space of the head.
        head: a classifier over the class ids 0 to C - 1, or some of them.
        labels: ``(C,)`` of the classes by id, as the user has them: names or numbers.
        seen: ids of the classes from whose scores ``gamma`` is subtracted (calibrated stacking, Chao et al. 2016).
        gamma: in nats.
        threads: CPU threads of prediction; None leaves torch's choice. They aren't saved.
        feature_names: ``(D,)`` of the feature columns, where they had names.
        parameters: of the estimator that was fitted, as JSON can hold them.
        image_encoder: what made the features of pictures that the model was trained on, where it is known.
    """

    model: FeatureGenerator
    head: Any
    labels: np.ndarray
    seen: np.ndarray
    gamma: float
    threads: int | None = None
    feature_names: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    image_encoder: EncoderRecord | None = None

    def name(self, class_id: int) -> str:
        """Return the label of a class as text."""
        return str(self.labels[class_id])

    def scores(self, features: Features) -> np.ndarray:
        """Return log-probabilities ``(N, C)`` of raw features ``(N, D)`` by class id, before calibration.

        Classes that the head doesn't know have :data:`fgen.classifiers.base.NO_CANDIDATE`.

        Raises:
            InputError: another number of columns than in training, or features that aren't finite.
        """
        features = as_rows(features)
        expect_width(features.shape[1], self.model)
        with cpu_threads(self.threads):
            rows = represented(features, self.model.represent) if self.model.has_own_space else features
            return self.head.scores(rows, len(self.labels))

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return :meth:`scores` ``(N, C)`` with those of the seen classes lowered by ``gamma``."""
        scores = scores.copy()
        scores[:, self.seen] -= self.gamma
        return scores

    def class_ids(self, scores: np.ndarray) -> np.ndarray:
        """Return the id ``(N,)`` of each row's best class after calibration, from :meth:`scores` ``(N, C)``."""
        return predict_calibrated(scores, np.arange(len(self.labels)), self.gamma, self.seen)

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Return class ids ``(N,)`` and their calibrated log-probabilities ``(N,)`` of raw features ``(N, D)``.

        Logs a warning if the features seem to be normalised differently from the training features.
        """
        ids, scores, _ = self.top(features)
        return ids[:, 0], scores[:, 0]

    def top(self, features: Features, k: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the K most probable classes of raw features ``(N, D)``, the most probable first.

        Args:
            features: a warning is logged if they seem to be normalised differently from the training features.
            k: K is this number, or that of the classes that the head knows if there are fewer.

        Returns:
            class ids ``(N, K)``, their calibrated log-probabilities ``(N, K)``, and their probabilities ``(N, K)``
            after calibration among all classes.
        """
        features = as_rows(features)
        scores = self.scores(features)
        if odd := self.model.scaler.scale_warning(features):
            log.warning("%s: are they scaled as the run's were?", odd)
        k, starts = min(k, len(self.head.classes_)), range(0, max(len(scores), 1), SORTED_ROWS)
        blocks = [self._best(scores[start : start + SORTED_ROWS], k) for start in starts]
        ids, best, shares = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return ids, best, shares

    def _best(self, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what :meth:`top` does of some rows' :meth:`scores` ``(n, C)``."""
        calibrated = self.calibrated(scores.astype(np.float64))
        order = -calibrated
        order[np.arange(len(scores)), self.class_ids(scores)] = -np.inf  # it comes first, however ties are sorted
        ids = np.argsort(order, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(calibrated, ids, axis=1)
        return ids, best, np.exp(best - logsumexp(calibrated, axis=1, keepdims=True))

    @property
    def handicap(self) -> np.ndarray:
        """Return what is subtracted from the scores of each class, ``(C,)``: ``gamma``, or 0 for those not seen."""
        return np.where(np.isin(np.arange(len(self.labels)), self.seen), self.gamma, 0.0)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities ``(N, C)`` float64 by class id, from :meth:`scores` ``(N, C)``."""
        return softmax(self.calibrated(scores).astype(np.float64), axis=1)

    def linear_head(self) -> LinearHead:
        """Return scaling, head and calibration as one linear head over raw features.

        Raises:
            InputError: they aren't affine.
        """
        return LinearHead.folded(self.model, self.head.stored_form(), self.handicap, self.labels)

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``W (K, D)``, ``b (K,)`` float64 and ``classes (K,)`` of raw features, gamma inside ``b``.

        ``classes[(X @ W.T + b).argmax(1)]`` is the prediction, and the softmax of ``X @ W.T + b`` the probabilities, of
        the K classes that the head knows.

        Raises:
            InputError: scaling or head isn't affine.
        """
        linear = self.linear_head()
        return linear.weight, linear.bias, linear.classes

    def to_torch(self, *, generator: bool = False) -> nn.Module:
        """Return a module of torch: raw features ``(N, D)`` to calibrated log-probabilities ``(N, C)``.

        Args:
            generator: return the generator in its place, class embeddings and noise to features, see
                :class:`fgen.inference.torch_module.GeneratorModule`.

        Raises:
            InputError: a head that is no formula of weights, as nearest neighbours.
        """
        if generator:
            return GeneratorModule(self.model)
        return PredictorModule(self.model, self.head.stored_form(), self.handicap)

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a file that runs without fgen, as its name ends: ``.onnx``, ``.pt2`` of ``torch.export`` or ``.npz``.

        ONNX has the input ``features`` and the outputs ``probabilities (N, C)`` and ``class_id (N,)``, ``.pt2`` gives
        what :meth:`to_torch` does. Their metadata ``classes`` are the labels by id, in JSON. The ``.npz`` holds
        :meth:`to_numpy`.

        Raises:
            InputError: a head or labels that the format can't hold, another ending, or an existing file.
            MissingExtra: ONNX's libraries aren't installed.
        """
        if Path(path).suffix == ".npz":
            self.linear_head().save(path, overwrite=overwrite)
            return
        module, metadata = self.to_torch(), {"classes": storage.storable_labels(self.labels)}
        rows, _ = self.model.generate(np.resize(np.arange(len(self.labels)), EXAMPLES), 1, seed=0)
        inputs = {"features": torch.from_numpy(rows)}
        if Path(path).suffix == ".onnx":
            module, outputs = Probabilities(module), ["probabilities", "class_id"]
            expected = self.probabilities(self.scores(rows))
            write_onnx(module, inputs, outputs, expected, path, metadata=metadata, overwrite=overwrite)
        else:
            write_torch(module, inputs, path, metadata=metadata, overwrite=overwrite)

    def to_onnx(self, path: str | Path, *, generator: bool = False, overwrite: bool = False) -> None:
        """Write an ``.onnx`` file that onnxruntime was tried on, as :meth:`export` does, or of the generator.

        Raises:
            InputError, MissingExtra: as :meth:`export` has it.
        """
        expect_suffix(path, ".onnx")
        write = partial(export_generator, self.model) if generator else self.export
        write(path, overwrite=overwrite)

    def save(self, path: str | Path) -> None:
        """Write a folder: safetensors and JSON, nothing pickled. An older one of that name is replaced in one move.

        Raises:
            InputError: a head of scikit-learn's or labels that no JSON can hold; a folder that holds something else.
        """
        description = {
            "format": storage.FORMAT,
            "format_version": storage.VERSION,
            "labels": storage.storable_labels(self.labels),
            "label_type": storage.TEXT if self.labels.dtype.kind in "UT" else self.labels.dtype.str,
            "seen": self.seen.tolist(),
            "gamma": float(self.gamma),
            "parameters": dict(self.parameters),
        }
        if self.feature_names is not None:
            description["feature_names"] = list(self.feature_names)
        if self.image_encoder is not None:
            description[IMAGE_ENCODER] = self.image_encoder.to_json()
        with replace_directory(path, storage.expect_replaceable) as folder:
            self.head.save(folder / "head")
            self.model.save(folder / "model")
            write_json(folder / "classifier.json", description)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote, the model on ``device``.

        Raises:
            InputError: no such folder, damaged files, or no such device.
        """
        return read_folder(Path(path), lambda folder: cls._load(folder, device))

    @classmethod
    def _load(cls, path: Path, device: str) -> Self:
        storage.expect_stored(path)
        model, head = load_model(path / "model", device), load_head(path / "head")
        with guarded_read(path / "classifier.json", "classifier"):
            return cls(model, head, **storage.restored_fields(read_json(path / "classifier.json"), model, head))


def expect_width(width: int, model: FeatureGenerator) -> None:
    """Refuse features of another number of columns than a model was trained on."""
    if width != model.scaler.dim:
        raise InputError(f"features have {width} columns", f"{model.scaler.dim}, as in training")
