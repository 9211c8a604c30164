"""Which feature-matching terms a config switches on, and what they need to know of the real rows."""

from __future__ import annotations

import torch
from torch import Tensor

from fgen.models.base.config import ModelConfig
from fgen.nn import matching
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms


class FeatureMatching:
    """The switched-on terms between generated features and the real rows of the same classes.

    Any method can take any of them: they need features with a graph and the batch that these were made for.

    Args:
        config: the weights; a weight of 0 costs nothing.
        data: the real rows, read here only for what a term needs: class means, soul samples, a linear map back
            to the embeddings.
        seed: names the start of the soul samples' k-means.

    Attributes:
        class_means: ``(S, D)`` scaled, or None where no term needs them.
    """

    def __init__(self, config: ModelConfig, data: TrainingSet, seed: int) -> None:
        self.config = config
        self.class_means = data.class_means() if config.class_mean_weight or config.pivot_weight else None
        self.souls: Tensor | None = None
        if config.soul_weight or config.soul_mean_weight:
            self.souls = data.soul_samples(config.n_souls, seed)
        self.regression = data.regression() if config.cycle_weight else None

    def terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Each switched-on term, weighted.

        Args:
            fake: ``(B, D)`` scaled, generated for ``batch.labels``.
            batch: the real rows of the same classes.
        """
        config, terms = self.config, {}
        if self.class_means is not None and config.class_mean_weight:
            gap = matching.class_mean_matching(fake, batch.labels, self.class_means)
            terms["class_mean"] = config.class_mean_weight * gap
        if self.class_means is not None and config.pivot_weight:
            terms["pivot"] = config.pivot_weight * matching.pivot(fake, batch.labels, self.class_means)
        if config.moment_weight:
            terms["moment"] = config.moment_weight * matching.moment_matching(fake, batch.features)
        if config.mmd_weight:
            terms["mmd"] = config.mmd_weight * matching.mmd(fake, batch.features)
        if config.coral_weight:
            terms["coral"] = config.coral_weight * matching.coral(fake, batch.features)
        if self.souls is not None and config.soul_weight:
            terms["soul"] = config.soul_weight * matching.soul_samples(fake, batch.labels, self.souls)
        if self.souls is not None and config.soul_mean_weight:
            terms["soul_mean"] = config.soul_mean_weight * matching.soul_means(fake, batch.labels, self.souls)
        if config.contrastive_weight:
            rows, labels = torch.cat([batch.features, fake]), torch.cat([batch.labels, batch.labels])
            contrast = matching.supervised_contrastive(rows, labels, config.temperature)
            terms["contrastive"] = config.contrastive_weight * contrast
        if self.regression is not None:
            slope, offset = self.regression
            regressed = torch.addmm(offset, fake, slope)
            terms["cycle"] = config.cycle_weight * matching.cycle(regressed, batch.condition)
        return terms
