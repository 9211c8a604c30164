"""Gaussian distributions of the features of classes, to be read without drawing rows."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fgen import rng
from fgen.errors import InputError
from fgen.features.rows import Features, as_rows
from fgen.features.scaling import FeatureScaler


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """Gaussians ``N(mean_k, (1 + uncertainty_k) covariance)`` of the scaled features of K classes, in float64.

    The scaled space is that of ``scaler.apply``. Its map to the raw space is linear, except for the kind ``"sqrt"``,
    whose Gaussians are those of the features' signed roots.

    Attributes:
        mean: ``(K, D)`` expected mean feature of each class.
        covariance: ``(D, D)`` of rows about the mean of their class, the same for all classes.
        uncertainty: ``(K,)`` how far the class's true mean may lie from ``mean``: the covariance of their difference,
            as a multiple of ``covariance``.
        scaler: from raw to scaled features.
    """

    mean: np.ndarray = field(repr=False)
    covariance: np.ndarray = field(repr=False)
    uncertainty: np.ndarray
    scaler: FeatureScaler = field(repr=False)

    def sample(self, n_per_class: int, *, seed: int) -> np.ndarray:
        """Draw independent rows ``(K * n_per_class, D)`` of the Gaussians, raw and float32, class by class.

        A larger ``n_per_class`` extends a smaller one.

        Args:
            n_per_class: at least 1.
            seed: with the position of the class in ``mean`` the only source of noise.
        """
        if n_per_class < 1:
            raise InputError(f"n_per_class is {n_per_class}", "a whole number of at least 1")
        variances, axes = self._principal_axes
        factor = np.sqrt(variances)[:, None] * axes.T
        rows = []
        for k, (mean, uncertainty) in enumerate(zip(self.mean, self.uncertainty, strict=True)):
            noise = rng.stream(seed, "gaussian rows", k).standard_normal((n_per_class, len(mean)))
            rows.append(self.scaler.invert(mean + np.sqrt(1 + uncertainty) * (noise @ factor)))
        return np.concatenate(rows).astype(np.float32)

    def log_density(self, features: Features, *, shrinkage: float = 1.0) -> np.ndarray:
        """Return the log density ``(N, K)`` float64 of raw rows ``(N, D)`` under each class, in the scaled space.

        Args:
            features: read block by block.
            shrinkage: this share of the mean variance is added to every variance, as ``whitening`` of the cosine head
                does: a covariance of fewer rows than columns has directions of variance 0.

        Raises:
            InputError: features of another width, or that aren't finite.
        """
        features = as_rows(features)
        if features.shape[1] != self.scaler.dim:
            raise InputError(f"features have {features.shape[1]} columns", f"{self.scaler.dim}, as in training")
        result = np.empty((len(features), len(self.mean)))
        for start, block in self.scaler.blocks(features):
            result[start : start + len(block)] = self.scaled_log_density(block, shrinkage)
        return result

    def scaled_log_density(self, scaled: np.ndarray, shrinkage: float) -> np.ndarray:
        """Return :meth:`log_density` ``(n, K)`` of scaled rows ``(n, D)``.

        In the covariance's principal axes, the covariance ``(1 + uncertainty_k) covariance + floor I`` of every class
        is diagonal.
        """
        spread, axes = self._principal_axes
        variances = np.outer(1 + self.uncertainty, spread) + shrinkage * max(spread.mean(), 1e-12)
        centre = self.mean.mean(axis=0)  # near the rows: squares of what lies far from 0 would lose their digits
        rows, means = (scaled - centre) @ axes, (self.mean - centre) @ axes
        distances = np.square(rows) @ (1 / variances).T - 2 * rows @ (means / variances).T
        distances += (np.square(means) / variances).sum(axis=1)
        return -0.5 * (distances + np.log(2 * np.pi * variances).sum(axis=1))

    @cached_property
    def _principal_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the covariance's eigenvalues ``(D,)``, at least 0, and its eigenvectors ``(D, D)``, columns."""
        variances, axes = np.linalg.eigh(self.covariance)
        return np.maximum(variances, 0), axes
