"""Scores of the semantic prior alone under the whitened cosine head, in closed form, for many settings.

A run with ``priorgan``, ``truncation = 0`` and the head ``cosine`` with whitening gives the same scores. Here what a
data set and a scaling decide is computed once for all settings, and no network is trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.cosine import CosineConfig, l2_normalise, whitening_matrix
from fgen.data.dataset import ZSLDataset
from fgen.experiment.heads import RowScorer, ScoredRows, tested_rows
from fgen.features.class_embeddings import EmbeddingConfig, EmbeddingPreprocessor, Norm
from fgen.features.rows import SelectedRows
from fgen.features.scaling import FeatureScaler, Kind
from fgen.features.statistics import class_means, within_class_scatter
from fgen.nn.nystroem_prior import prior_class


@dataclass(frozen=True)
class PriorSetting:
    """Settings of the prior alone.

    Attributes:
        scaling: of the features, for the prior and for the head.
        norm: of the class embeddings.
        width, alpha: the kernel's width and the ridge penalty, see
            :class:`~fgen.models.priorgan.PriorGANConfig`.
    """

    scaling: Kind
    norm: Norm
    width: float
    alpha: float


class WhitenedTask:
    """Rows and class means of a data set, scaled and whitened by the covariance within its seen classes.

    Args:
        dataset: the data set; its trainval rows are learned from, its test rows scored.
        scaling: of the features.
        head: gives the share of the mean variance that is added before whitening.
    """

    def __init__(self, dataset: ZSLDataset, scaling: Kind, head: CosineConfig) -> None:
        rows = SelectedRows(dataset.features, dataset.splits["trainval"])
        labels = dataset.labels[dataset.splits["trainval"]]
        scaler = FeatureScaler.fit(scaling, rows)
        self.dataset, self.head = dataset, head
        self.classes, means = class_means(scaler.blocks(rows), labels)
        scatter = within_class_scatter(scaler.blocks(rows), np.searchsorted(self.classes, labels), means)
        whitening = whitening_matrix(torch.from_numpy(scatter / len(labels)), head.whitening or 1.0)
        self.means, self.whitening = torch.from_numpy(means).float(), whitening.float()
        self.whitened_means = self.means @ self.whitening
        self.tested = _whitened(scaler, SelectedRows(dataset.features, tested_rows(dataset)), self.whitening)

    def score(self, prepared: np.ndarray, setting: PriorSetting) -> ScoredRows:
        """Return the scores of the test rows where unseen classes have the means that the prior predicts.

        Args:
            prepared: ``(C, A)`` class embeddings by the setting's norm.
            setting: the prior's width and penalty.
        """
        widths, embeddings = self.dataset.embedding_widths, torch.from_numpy(prepared)
        prior = prior_class(len(self.classes))(
            len(self.classes), sum(widths), self.means.shape[1], widths, alpha=setting.alpha, width=setting.width
        )
        prior.fit(embeddings[self.classes], self.means)
        unseen = np.setdiff1d(self.dataset.unseen, self.classes)  # classes with shots have a mean
        predicted = prior(embeddings[unseen])
        if setting.scaling == "sqrt":  # as priorgan's output has it
            predicted = predicted.relu()
        means = torch.cat([self.whitened_means, predicted @ self.whitening])
        centre = means.mean(dim=0)
        prototypes, rows = l2_normalise(means - centre), l2_normalise(self.tested - centre)
        scores = torch.full((len(rows), self.dataset.n_classes), NO_CANDIDATE)
        scores[:, np.concatenate([self.classes, unseen])] = rows @ prototypes.T / self.head.temperature
        return RowScorer(self.dataset, scores.numpy(), lambda scores: scores).decided()


def scored_priors(
    dataset: ZSLDataset, settings: Sequence[PriorSetting], head: CosineConfig
) -> Iterator[tuple[PriorSetting, ScoredRows]]:
    """Yield each setting with the scores of the data set's test rows; settings of one scaling share the whitening."""
    for scaling in dict.fromkeys(setting.scaling for setting in settings):
        task = WhitenedTask(dataset, scaling, head)
        for norm in dict.fromkeys(setting.norm for setting in settings):
            config = EmbeddingConfig(norm=norm, widths=dataset.embedding_widths)
            prepared = EmbeddingPreprocessor.fit(config, dataset.class_embeddings[dataset.seen])
            embeddings = prepared(dataset.class_embeddings)
            for setting in settings:
                if (setting.scaling, setting.norm) == (scaling, norm):
                    yield setting, task.score(embeddings, setting)


def _whitened(scaler: FeatureScaler, rows: SelectedRows, whitening: Tensor) -> Tensor:
    """Return scaled rows ``(N, D)`` times the whitening matrix ``(D, D)``."""
    return torch.cat([torch.from_numpy(scaled) @ whitening for _, scaled in scaler.blocks(rows)])
