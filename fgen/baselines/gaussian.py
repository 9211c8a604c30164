"""Gaussian baseline: kernel ridge predicts the unseen classes' means, and Bayes' rule decides between Gaussians."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from fgen.baselines.base import BaselineConfig, EmbeddingBaseline
from fgen.features.distribution import FeatureDistribution
from fgen.features.rows import Features
from fgen.features.scaling import FeatureScaler, Kind
from fgen.features.statistics import class_means, within_class_scatter
from fgen.nn.nystroem_prior import prior_class


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(BaselineConfig):
    """Settings of the Gaussians; those of the prior have priorgan's defaults.

    Attributes:
        prior_alpha: ridge penalty of the prior, relative to the kernel's mean diagonal.
        prior_width: of the prior's kernels, relative to the median squared distance of seen classes.
        feature_scaling: the space in which classes are Gaussians; ``"sqrt"`` suits averaged activations.
        shrinkage: share of the mean variance that is added to all variances; None lets the protocol choose one of
            ``shrinkages`` on validation classes, and is 1 elsewhere.
        shrinkages: what is chosen from.
        uncertainty: weight of the prior's own variance in the unseen classes' covariances; 1 takes it as it is. On
            the validation classes of emoji, each with its best shrinkage of .1 to 3, 0, .3 and 1 have T1 .377, .383
            and .373 and H .354, .345 and .326, without gamma.
    """

    name: ClassVar[str] = "gaussian"
    open_fields: ClassVar[tuple[str, ...]] = ("shrinkage",)

    prior_alpha: float = 1.0
    prior_width: float = 0.3
    feature_scaling: Kind = "standard"
    shrinkage: float | None = None
    shrinkages: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    uncertainty: float = 0.3


class GaussianBaseline(EmbeddingBaseline, config=GaussianConfig):
    """``log N(x; m_k, (1 + u_k) C + shrinkage * mean(diag C) I)`` of scaled features, for all classes alike likely.

    C is the covariance of the seen rows about the mean of their class. A seen class has the mean of its ``n_k`` rows,
    which is off by ``C / n_k``: ``u_k = 1 / n_k``. An unseen class has the mean that kernel ridge predicts from its
    embedding, and ``u_k`` is ``uncertainty`` times the prior's predictive variance over the mean of C's diagonal. This
    is the prior of ``priorgan`` without the adversarial part.

    Attributes:
        distribution: the Gaussians of all C classes.
    """

    config: GaussianConfig
    distribution: FeatureDistribution

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Fit the prior to the class means, and measure the covariance within classes."""
        config, scaler = self.config, FeatureScaler.fit(self.config.feature_scaling, features)
        classes, means = class_means(scaler.blocks(features), labels)
        positions = np.searchsorted(classes, labels)
        covariance = within_class_scatter(scaler.blocks(features), positions, means) / len(labels)
        condition = torch.from_numpy(embeddings)
        shape = len(classes), embeddings.shape[1], scaler.dim
        prior = prior_class(len(classes))(
            *shape, self.widths, alpha=config.prior_alpha, width=config.prior_width
        ).double()
        prior.fit(condition[classes], torch.from_numpy(means), self.kind_weights)
        mean = prior(condition).numpy()
        variance = prior.predictive_variance(condition).numpy()
        uncertainty = config.uncertainty * variance / max(covariance.diagonal().mean(), 1e-12)
        mean[classes], uncertainty[classes] = means, 1 / np.bincount(positions)
        self.distribution = FeatureDistribution(mean, covariance, uncertainty, scaler)

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return log densities ``(n, C)``, in nats."""
        shrinkage = 1.0 if self.config.shrinkage is None else self.config.shrinkage
        return self.distribution.scaled_log_density(self.distribution.scaler.apply(block), shrinkage)
