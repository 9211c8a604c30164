"""Prediction from raw features: a trained model, its head and its calibration in one object."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.special import logsumexp

from fgen.classifiers.base import predict_calibrated
from fgen.classifiers.registry import load_head
from fgen.compute.device import cpu_threads
from fgen.errors import InputError
from fgen.experiment.heads import represented
from fgen.features.rows import Features, as_rows
from fgen.inference import storage
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
    """

    model: FeatureGenerator
    head: Any
    labels: np.ndarray
    seen: np.ndarray
    gamma: float
    threads: int | None = None
    feature_names: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

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
