"""Linear heads in the space of raw features, and the ``.npz`` files that hold them: ``W``, ``b``, ``classes``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fgen.classifiers.linear_scores import LinearScores
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.classifiers.storage import StoredHead
from fgen.errors import InputError
from fgen.features.checks import as_matrix
from fgen.features.scaling import FeatureScaler
from fgen.io.atomic import new_file
from fgen.io.npz import Archive
from fgen.io.reading import guarded_read
from fgen.models.base.generator import FeatureGenerator

#: Links of linear scores after which ``softmax(W x + b)`` is what is predicted.
SOFTMAX_LINKS = ("none", "softmax")


@dataclass(frozen=True, eq=False)
class LinearHead:
    """``argmax_k W_k x + b_k`` of raw features x, whose softmax is the probabilities.

    Attributes:
        weight, bias: ``(K, D)`` and ``(K,)``, float32 or float64.
        classes: ``(K,)`` labels of the rows, text or numbers.
        handicap: ``(K,)``, what of ``bias`` is calibration: gamma was subtracted from the seen classes. It is 0 where
            nothing is known of it.
    """

    weight: np.ndarray
    bias: np.ndarray
    classes: np.ndarray
    handicap: np.ndarray

    @classmethod
    def folded(cls, model: FeatureGenerator, head: StoredHead, handicap: np.ndarray, labels: np.ndarray) -> Self:
        """Return a head with its scaling and its calibration inside, float64.

        Args:
            model: whose space the head lives in.
            head: over some or all of C classes.
            handicap: ``(C,)`` that is subtracted from the scores.
            labels: ``(C,)``.

        Raises:
            InputError: what comes before the scores isn't affine; all of it is named.
        """
        if bent := _not_affine(model, head):
            expected = "a linear head over raw features, scaled by 'minmax', 'standard' or not at all"
            found = f"{' and '.join(bent)} {'is' if len(bent) == 1 else 'are'} not affine, so there are no W and b"
            raise InputError(found, expected, "to_torch() and to_onnx(), in the shell --format torch or onnx, do it")
        assert isinstance(head, SoftmaxClassifier | LinearScores)
        weight, bias = on_raw(head.weight.double().numpy(), head.bias.double().numpy(), head.scaler)
        own = handicap[head.classes_]
        return cls(weight, bias - own, labels[head.classes_], own)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return ``W x + b``, ``(N, K)`` float64, of raw features ``(N, D)``."""
        return features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write an ``.npz`` of ``W``, ``b``, ``classes`` and, where it isn't 0, ``handicap``; nothing is pickled.

        Raises:
            InputError: labels that are no text or numbers, an existing file, or the disk refuses.
        """
        labels = np.array(self.classes.tolist())
        if labels.dtype.kind not in "iufU":
            raise InputError(f"the classes' labels are of type {self.classes.dtype}", "text or numbers of one kind")
        arrays: dict[str, Any] = {"W": self.weight, "b": self.bias, "classes": labels}
        if self.handicap.any():
            arrays["handicap"] = self.handicap
        with new_file(Path(path), overwrite=overwrite) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read such a file, of fgen or anyone.

        Raises:
            InputError: no such file, arrays that are missing, of Python objects or that don't fit each other.
        """
        path = Path(path)
        with guarded_read(path, ".npz"), Archive(path) as archive:
            arrays = {name: archive[name] for name in ("W", "b", "classes")}
            size = len(arrays["b"]) if arrays["b"].ndim == 1 else 0
            handicap = archive["handicap"] if "handicap" in archive.members else np.zeros(size)
            return cls.of(**arrays, handicap=handicap)

    @classmethod
    def of(cls, W: np.ndarray, b: np.ndarray, classes: np.ndarray, handicap: np.ndarray) -> Self:
        """Return a head of arrays that fit each other.

        Raises:
            InputError: shapes that don't match, numbers that aren't finite, labels that are there twice.
        """
        precision = np.float32 if getattr(W, "dtype", None) == np.float32 else np.float64
        weight = as_matrix("W", W, "(K, D), a row of weights for each class", dtype=precision)
        for name, given in (("b", b), ("classes", classes), ("handicap", handicap)):
            if given.shape != (len(weight),):
                raise InputError(f"{name} has shape {given.shape}", f"({len(weight)},), as W has rows")
        bias, lowered = (as_matrix(name, x[None], dtype=precision)[0] for name, x in (("b", b), ("handicap", handicap)))
        names = [str(label) for label in classes.tolist()]
        if classes.dtype.kind not in "iufUTO" or len(set(names)) < len(names):
            found = f"classes are of type {classes.dtype}, {len(set(names))} of {len(names)} distinct"
            raise InputError(found, "distinct labels, text or numbers")
        return cls(weight, bias, classes, lowered)


def affine_scaling(scaler: FeatureScaler) -> FeatureScaler:
    """Return a scaling that is affine: itself, or for ``"sqrt"`` the minmax scaling of the same training rows."""
    if scaler.kind != "sqrt":
        return scaler
    low, high = (scaler.invert(np.full((1, scaler.dim), end, np.float32))[0] for end in (0, 1))
    span = high - low
    return FeatureScaler("minmax", low, np.where(span > np.finfo(np.float32).tiny, span, np.float32(1)), scaler.length)


def on_raw(weight: np.ndarray, bias: np.ndarray, scaler: FeatureScaler) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(K, D)`` and ``(K,)`` float64 on raw features, for those on features scaled by an affine scaling."""
    weight = weight / scaler.scale.astype(np.float64)
    return weight, bias - weight @ scaler.offset.astype(np.float64)


def on_scaled(weight: np.ndarray, bias: np.ndarray, scaler: FeatureScaler) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse of :func:`on_raw`."""
    scaled = weight.astype(np.float64) * scaler.scale
    return scaled, bias + weight.astype(np.float64) @ scaler.offset


def _not_affine(model: FeatureGenerator, head: StoredHead) -> list[str]:
    """Return the names of what comes before the scores and isn't affine."""
    link = getattr(head.config, "link", "softmax")
    linear = isinstance(head, SoftmaxClassifier | LinearScores) and link in SOFTMAX_LINKS
    parts = {
        f"{model.config.name}'s map to the space of its heads": model.has_own_space,
        f"the scaling {head.scaler.kind!r}": head.scaler.kind == "sqrt",
        f"the head {head.config.name!r}" + (f" with link {link!r}" if link == "sigmoids" else ""): not linear,
    }
    return [name for name, is_bent in parts.items() if is_bent]
