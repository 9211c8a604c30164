"""Training and scoring of the two heads of a bank: over seen and unseen classes, and over the unseen alone."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from fgen.classifiers.base import Head, HeadConfig
from fgen.classifiers.pseudo_labels import most_confident_rows
from fgen.classifiers.registry import load_head
from fgen.classifiers.storage import StoredHead
from fgen.compute.device import choose_device, matrix_precision
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import evenly_spaced
from fgen.experiment.records import Predictions
from fgen.features.class_scores import GroupBest, best_of, rows_at_once
from fgen.features.rows import ConcatRows, MappedRows, SelectedRows
from fgen.features.scaled_rows import fits_memory
from fgen.features.scaling import FeatureScaler
from fgen.metrics.accuracy import GZSLScores, mean_accuracy, per_class_accuracy, scores_of
from fgen.metrics.gamma import HeldOut

Represent = Callable[[np.ndarray], np.ndarray]
Score = Callable[[np.ndarray], np.ndarray]
#: Training rows that a head predicts at most, to see whether it learned them.
FITTED_ROWS = 1000
log = logging.getLogger("fgen")


@dataclass(frozen=True)
class ScoredRows:
    """What the scores of test rows decide before calibration; scores ``(N, C)`` themselves aren't kept.

    Attributes:
        rows: ``(N,)`` row numbers in the data set.
        best: decides among all classes.
        zsl: ``(N,)`` ids that decide among the unseen classes alone.
    """

    dataset: ZSLDataset
    rows: np.ndarray
    best: GroupBest
    zsl: np.ndarray

    def at(self, gamma: float) -> tuple[GZSLScores, Predictions]:
        """Return T1, U, S, H, AUSUC and the predictions after calibrated stacking (Chao et al. 2016).

        Args:
            gamma: subtracted from the seen classes' scores.
        """
        seen, unseen, labels = self.dataset.seen, self.dataset.unseen, self.dataset.labels[self.rows]
        result = scores_of(labels, self.best, seen=seen, unseen=unseen, gamma=gamma)
        of_unseen = np.isin(labels, unseen)
        zsl = np.where(of_unseen, self.zsl, -1)
        per_class = per_class_accuracy(labels[of_unseen], zsl[of_unseen], unseen)
        result = replace(result, T1=mean_accuracy(per_class), per_class_T1=per_class)
        return result.as_reported(), Predictions(self.rows, labels, self.best.predict(gamma), zsl)

    def held_out(self) -> HeldOut:
        """Return what decides about the rows at any gamma."""
        return HeldOut.of_best(self.dataset.labels[self.rows], self.best, self.dataset.seen)


@dataclass(frozen=True)
class KeptScores:
    """Scores of test rows before calibration.

    Attributes:
        rows: ``(N,)`` row numbers in the data set.
        scores: ``(N, C)`` that decide among all classes.
        zsl_scores: ``(N, C)`` that decide among the unseen classes alone.
    """

    dataset: ZSLDataset
    rows: np.ndarray
    scores: np.ndarray
    zsl_scores: np.ndarray

    @property
    def decided(self) -> ScoredRows:
        """What the scores decide."""
        best = GroupBest.of(self.scores, len(self.rows), self.dataset.seen, self.dataset.unseen)
        return ScoredRows(self.dataset, self.rows, best, best_of(self.zsl_scores, self.dataset.unseen)[0])


@dataclass(frozen=True)
class RowScorer:
    """What scores the test rows of a data set.

    Attributes:
        features: ``(N, D)`` of the test rows, in the order of :func:`tested_rows`.
        score: returns scores ``(n, C)`` of some rows ``(n, D)`` by class id.
        zsl_score: likewise, for the choice among the unseen classes; None leaves it to ``score``.
    """

    dataset: ZSLDataset
    features: Any
    score: Score
    zsl_score: Score | None = None

    def decided(self) -> ScoredRows:
        """Score block by block, and return what the scores decide."""
        dataset, rows, step = self.dataset, tested_rows(self.dataset), rows_at_once(self.dataset.n_classes)
        best, zsl = [], []
        for start in range(0, max(len(rows), 1), step):
            block = self.features[start : start + step]
            best.append(GroupBest.of(self.score(block), len(block), dataset.seen, dataset.unseen, first=start))
            own = self.zsl_score
            zsl.append(best[-1].unseen if own is None else best_of(own(block), dataset.unseen)[0])
        return ScoredRows(dataset, rows, GroupBest.of_blocks(best), np.concatenate(zsl))

    def kept(self) -> KeptScores:
        """Score all rows, and return the scores."""
        scores = self.score(self.features)
        zsl_scores = scores if self.zsl_score is None else self.zsl_score(self.features)
        return KeptScores(self.dataset, tested_rows(self.dataset), scores, zsl_scores)


def tested_rows(dataset: ZSLDataset) -> np.ndarray:
    """Return the row numbers ``(N,)`` of ``test_seen`` and ``test_unseen``, in this order."""
    return np.concatenate([dataset.splits["test_seen"], dataset.splits["test_unseen"]])


@dataclass(frozen=True)
class Heads:
    """Trained classifiers.

    Attributes:
        gzsl: over seen and unseen classes, trained on real seen and synthetic unseen features.
        zsl: over the unseen classes, trained on their synthetic features (and shots) alone; None leaves it to
            ``gzsl``. Both may have seen pseudo-labelled test rows too, in the transductive setting.
    """

    gzsl: Any
    zsl: Any | None = None

    def save(self, gzsl: Path, zsl: Path) -> None:
        """Write each head to its folder; scikit-learn's can only be pickled, and so aren't kept."""
        for head, folder in ((self.zsl, zsl), (self.gzsl, gzsl)):  # where gzsl's is, the other is whole
            if isinstance(head, StoredHead):
                head.save(folder)

    @classmethod
    def load(cls, gzsl: Path, zsl: Path) -> Self:
        """Read what :meth:`save` wrote."""
        return cls(load_head(gzsl), load_head(zsl) if zsl.exists() else None)

    def score(self, dataset: ZSLDataset, represent: Represent | None = None) -> ScoredRows:
        """Score the data set's test rows, which are read once, block by block."""
        return self.scorer(dataset, represent).decided()

    def scorer(self, dataset: ZSLDataset, represent: Represent | None = None) -> RowScorer:
        """Return what scores the data set's test rows."""
        features = represented(SelectedRows(dataset.features, tested_rows(dataset)), represent)
        zsl = None if self.zsl is None else partial(self.zsl.scores, n_classes=dataset.n_classes)
        return RowScorer(dataset, features, partial(self.gzsl.scores, n_classes=dataset.n_classes), zsl)


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained.

    Attributes:
        config: a classifier's config; a batch size of None becomes the number of synthetic rows of an unseen class, as
            published.
        with_real: False leaves the real rows of seen classes out, but for the scaling that is fitted on them.
        pseudo_share: the transductive setting's second stage (LisGAN): each head is trained again with that share of
            the unlabelled test rows, the most confident ones, under its own predictions. ``gzsl`` chooses among the
            test rows of seen and unseen classes, ``zsl`` among those of unseen ones.
        precision: of training's matrix products on a CPU, see :func:`fgen.compute.device.matrix_precision`; scores are
            float32's, and so is all of an accelerator, whose time a head's products don't take.
        device: where they are trained.
        sample_weight: weights ``(N,)`` of the data set's rows in ``gzsl``, where a synthetic row has 1; None for none.
    """

    config: HeadConfig
    seed: int = 0
    with_real: bool = True
    pseudo_share: float = 0.0
    precision: str = "auto"
    device: str = "auto"
    sample_weight: np.ndarray | None = None

    def matmul_precision(self) -> AbstractContextManager[None]:
        """Return the context that heads are trained in; an accelerator's are float32."""
        device = choose_device(self.device)
        return matrix_precision(self.precision if device.type == "cpu" else "highest", device)


def train_heads(
    recipe: HeadRecipe,
    task: ZSLDataset,
    synthetic: np.ndarray,
    synthetic_labels: np.ndarray,
    *,
    represent: Represent | None = None,
    space: str = "raw",
    scaler: FeatureScaler | None = None,
    with_zsl: bool = True,
) -> list[Heads]:
    """Train on the task's real seen rows and synthetic rows (Xian et al. 2018, section 3.2).

    Args:
        synthetic: ``(M, D)``, of unseen classes and, where wanted, of seen ones.
        synthetic_labels: ``(M,)`` class ids.
        represent: the method's map from raw features to the space of its heads; None is the identity.
        space: where ``synthetic`` lives; raw, or already where the heads do.
        scaler: the scaling of the heads' features, fitted on the real seen rows; None fits it.
        with_zsl: also train the head over the unseen classes.

    Returns:
        Heads for each of the config's candidates; each starts from the one before it.
    """
    if len(synthetic_labels):
        of_unseen = synthetic_labels[np.isin(synthetic_labels, task.unseen)]
        n_per_class = int(np.bincount(of_unseen if len(of_unseen) else synthetic_labels).max())
        recipe = replace(recipe, config=recipe.config.for_bank(n_per_class))

    def own_rows(numbers: np.ndarray) -> Any:
        return represented(SelectedRows(task.features, numbers), represent)

    rows = task.splits["trainval"]
    real = own_rows(rows)
    if represent is not None and space == "raw":
        synthetic = represent(synthetic)
    if scaler is None:
        with recipe.matmul_precision():
            scaler = FeatureScaler.fit(recipe.config.scaling, real)
    known = {"scaler": scaler, "seen": task.seen}
    kept = np.flatnonzero(np.isin(task.labels[rows], task.unseen) | recipe.with_real)
    everything = ConcatRows([real if recipe.with_real else SelectedRows(real, kept), synthetic])
    labels = np.concatenate([task.labels[rows][kept], synthetic_labels])
    unlabelled = own_rows(tested_rows(task)) if recipe.pseudo_share else None
    candidates = np.union1d(task.seen, np.unique(synthetic_labels))
    weights = None
    if recipe.sample_weight is not None:
        weights = np.concatenate([recipe.sample_weight[rows][kept], np.ones(len(synthetic_labels))])
    gzsl = _train(recipe, everything, labels, unlabelled, classes=candidates, sample_weight=weights, **known)
    of_unseen = np.flatnonzero(np.isin(labels, task.unseen))  # synthetic rows, and shots
    # A whitened head of the unseen classes alone would lack the real rows that show the spread.
    if not with_zsl or recipe.config.needs_seen_rows or len(np.unique(labels[of_unseen])) < 2:
        return [Heads(head) for head in gzsl]
    unlabelled = own_rows(task.splits["test_unseen"]) if recipe.pseudo_share else None
    zsl = _train(recipe, SelectedRows(everything, of_unseen), labels[of_unseen], unlabelled, **known)
    return [Heads(*pair) for pair in zip(gzsl, zsl, strict=True)]


def _train(recipe: HeadRecipe, features: Any, labels: np.ndarray, unlabelled: Any | None, **known: Any) -> list[Head]:
    """Return a head for each of the config's candidates, trained in one stage, or in two with unlabelled rows."""
    candidates = recipe.config.candidates()
    if unlabelled is None:
        return _fit(recipe, candidates, features, labels, **known)
    heads: list[Head] = []
    for config in candidates:
        (first,) = _fit(recipe, [config], features, labels, start=heads[-1] if heads else None, **known)
        chosen, predictions = most_confident_rows(first, unlabelled, recipe.pseudo_share)
        more = ConcatRows([features, SelectedRows(unlabelled, chosen)])
        heads += _fit(recipe, [config], more, np.concatenate([labels, predictions]), **known)
    return heads


def _fit(
    recipe: HeadRecipe, configs: Sequence[HeadConfig], features: Any, labels: np.ndarray, **known: Any
) -> list[Head]:
    """Return heads that differ in their penalty, fitted to the same rows."""
    first, *path = [config.build() for config in configs]
    with recipe.matmul_precision():
        first.fit(features, labels, path=path, seed=recipe.seed, device=recipe.device, **known)
    return [first, *path]


def warn_of_a_poor_fit(heads: Heads, task: ZSLDataset, represent: Represent | None = None) -> None:
    """Warn where ``gzsl`` recognises less than a third of the real rows that it was trained on.

    Its scores then tell of the head and not of the features. Up to FITTED_ROWS evenly spaced rows are predicted.
    """
    rows = evenly_spaced(task.splits["trainval"], FITTED_ROWS)
    right = np.mean(heads.gzsl.predict(represented(task.rows(rows), represent)) == task.labels[rows])
    if right < 1 / 3:
        log.warning(
            "the head answers %.0f %% of its own training rows rightly, so scores say little of the features: try %s",
            100 * right,
            heads.gzsl.config.remedy,
        )


def represented(features: Any, represent: Represent | None) -> Any:
    """Return rows ``(N, D)`` where heads live, ``(N, D')``: at once where they are small, else block by block."""
    if represent is None:
        return features
    rows = MappedRows(features, represent)
    return rows[:] if fits_memory(rows.shape, torch.float32) else rows
