"""Baselines in a predictor: what generates nothing and scores raw features itself."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fgen.baselines.base import EmbeddingBaseline
from fgen.errors import InputError
from fgen.features.rows import Features
from fgen.features.scaling import FeatureScaler


class BaselineScores:
    """A fitted baseline as a :class:`~fgen.inference.predictor.Predictor` takes it, for its model and its head.

    Attributes:
        baseline: fitted.
        scaler: no scaling, but the number of columns and the length of the rows of the fit.
    """

    has_own_space: ClassVar[bool] = False

    def __init__(self, baseline: EmbeddingBaseline, features: Features) -> None:
        self.baseline, self.scaler = baseline, FeatureScaler.fit("none", features)

    def scores(self, features: Features, n_classes: int) -> np.ndarray:
        """Return scores ``(N, C)`` float32 of raw features ``(N, D)``."""
        return self.baseline.scores(features)

    def save(self, path: str | Path) -> None:
        """Raise an InputError: baselines have no stored form."""
        raise self._refusal("can't be saved")

    def stored_form(self) -> Any:
        """Raise an InputError: baselines are no formula of weights."""
        raise self._refusal("can't be exported or extended")

    def _refusal(self, what: str) -> InputError:
        expected, remedy = "a generator as method", "Fit again where it is needed: a baseline takes seconds"
        return InputError(f"{self.baseline.config.name!r} is a baseline, which {what}", expected, remedy)
