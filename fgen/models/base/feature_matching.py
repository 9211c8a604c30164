"""Feature-matching terms that a config switches on, with the statistics of the real rows that they need."""

from collections.abc import Callable, Container

import torch
from torch import Tensor

from fgen.models.base.config import ModelConfig
from fgen.nn import matching
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms


class FeatureMatching:
    """Feature-matching terms between generated features and the real rows of the same classes.

    Any method can take any of them: they need features with a graph and the batch that these were made for.

    Args:
        config: the weights; a weight of 0 costs nothing.
        data: the real rows, read here only for what a term needs: class means, soul samples, a linear map back
            to the embeddings.
        seed: names the start of the soul samples' k-means.

        without: names of terms that the method computes itself.

    Attributes:
        weights: of the switched-on terms, by name.
        class_means, souls, regression: of the real rows, see :class:`~fgen.training.training_set.TrainingSet`; each is
            set if a term needs it.
    """

    class_means: Tensor
    souls: Tensor
    regression: tuple[Tensor, Tensor]

    def __init__(self, config: ModelConfig, data: TrainingSet, seed: int, without: Container[str] = ()) -> None:
        self.temperature = config.temperature
        weights = {name: getattr(config, f"{name}_weight") for name in TERMS if name not in without}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if config.class_mean_weight or config.pivot_weight:
            self.class_means = data.class_means()
        if config.soul_weight or config.soul_mean_weight:
            self.souls = data.soul_samples(config.n_souls, seed)
        if "cycle" in self.weights:
            self.regression = data.regression()

    def terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Return the terms that are switched on, each multiplied by its weight.

        Args:
            fake: ``(B, D)`` scaled, generated for ``batch.labels``.
            batch: the real rows of the same classes.
        """
        return {name: weight * TERMS[name](self, fake, batch) for name, weight in self.weights.items()}

    def contrastive(self, fake: Tensor, batch: Batch) -> Tensor:
        """Return the contrast of real and generated rows together."""
        rows, labels = torch.cat([batch.features, fake]), torch.cat([batch.labels, batch.labels])
        return matching.supervised_contrastive(rows, labels, self.temperature)

    def cycle(self, fake: Tensor, batch: Batch) -> Tensor:
        """Return the distance of the embeddings from the linear map of generated features."""
        slope, offset = self.regression
        return matching.cycle(torch.addmm(offset, fake, slope), batch.condition)


#: The terms by name, unweighted; ``NAME_weight`` of a config switches one on. Their order decides the last bits.
TERMS: dict[str, Callable[[FeatureMatching, Tensor, Batch], Tensor]] = {
    "class_mean": lambda own, fake, batch: matching.class_mean_matching(fake, batch.labels, own.class_means),
    "pivot": lambda own, fake, batch: matching.pivot(fake, batch.labels, own.class_means),
    "moment": lambda own, fake, batch: matching.moment_matching(fake, batch.features),
    "mmd": lambda own, fake, batch: matching.mmd(fake, batch.features),
    "coral": lambda own, fake, batch: matching.coral(fake, batch.features),
    "soul": lambda own, fake, batch: matching.soul_samples(fake, batch.labels, own.souls),
    "soul_mean": lambda own, fake, batch: matching.soul_means(fake, batch.labels, own.souls),
    "contrastive": FeatureMatching.contrastive,
    "cycle": FeatureMatching.cycle,
}
