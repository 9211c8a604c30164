"""The banks of the table: of each recipe a generator for the validation task and one for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import fgen
from experiments.compare import AWA1_BASE, AWA1_NETS, OURS, configure
from fgen.experiment.steps import Task, fit, new_model
from fgen.features.scaling import FeatureScaler
from fgen.models.base.generator import FeatureGenerator

#: Features of so few columns are taken whole.
FEW_COLUMNS = 512

#: Name of a bank -> experiment and overrides.
Banks = dict[str, tuple[str, list[str]]]

PRIOR_ALONE = ["model.truncation=0", "model.epochs=1"]
EMOJI: Banks = {
    "f-CLSWGAN": ("xian2018_clswgan_emoji", []),
    "f-CLSWGAN + matching": ("fgen2026_clswgan-matching_emoji", []),
    "flow": ("fgen2026_flow_emoji", []),
    "priorgan": (OURS, []),
    "its prior alone": (OURS, PRIOR_ALONE),
}
AWA1: Banks = {
    "f-CLSWGAN": (AWA1_BASE, ["model.class_mean_weight=0"]),
    "f-CLSWGAN + matching": (AWA1_BASE, []),
    "flow": (AWA1_BASE, [f'model={{name="flow",{AWA1_NETS},steps=200}}']),
    "priorgan": ("fgen2026_priorgan_awa1_zsl", []),
    "its prior alone": ("fgen2026_priorgan_awa1_zsl", PRIOR_ALONE),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A zero-shot task, the validation task or the whole, and a generator that was trained on its training rows.

    Attributes:
        dataset: the task.
        config: the recipe.
        seed: of the generator and of the bank.
        folder: where the trained generator is kept.
    """

    dataset: fgen.ZSLDataset
    config: fgen.ExperimentConfig
    seed: int
    folder: Path

    @cached_property
    def model(self) -> FeatureGenerator:
        """The trained generator; it is read where it was trained before."""
        path = self.folder / "model"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            task = Task(self.config, self.dataset, self.seed)
            fit(task, new_model(task), checkpoint=self.folder / "checkpoint").save(path)
        return fgen.load_model(path)

    @cached_property
    def real(self) -> tuple[np.ndarray, np.ndarray]:
        """Real training rows ``(N, D)``, raw, and their class ids."""
        return self.dataset.split("trainval")

    @cached_property
    def scaler(self) -> FeatureScaler:
        """Scaling of the features: roots of features that have no sign, as ResNet's, deviation 1 for signed ones."""
        features, _ = self.real
        return FeatureScaler.fit("standard" if features.min() < 0 else "sqrt", features)

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``(D,)`` and principal axes ``(D, D)`` of the scaled real rows, the leading first."""
        scaled = self.scaler.apply(self.real[0])
        _, vectors = np.linalg.eigh(np.cov(scaled.T))
        return scaled.mean(axis=0), vectors[:, ::-1].astype(np.float32)

    def prepare(self, features: np.ndarray, columns: int) -> np.ndarray:
        """Return raw rows ``(n, D)`` scaled, and so many principal components of them; 0 leaves all columns."""
        scaled = self.scaler.apply(features)
        if not columns or scaled.shape[1] <= FEW_COLUMNS:
            return scaled
        return (scaled - self.axes[0]) @ self.axes[1][:, :columns]

    def n_rows(self, ratio: float) -> int:
        """Return the number of generated rows of a class, as a multiple of the mean number of a seen class's rows."""
        return max(1, round(ratio * len(self.real[1]) / len(self.dataset.seen)))

    def training_rows(self, ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Return real rows of seen and generated rows of unseen classes ``(N, D)``, raw, and their class ids."""
        features, labels = self.real
        made, ids = self.model.generate(self.dataset.unseen, self.n_rows(ratio), seed=self.seed)
        return np.concatenate([features, made]), np.concatenate([labels, ids])

    def test_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the test rows ``(M, D)`` of seen and unseen classes, raw, and their class ids."""
        parts = [self.dataset.split(name) for name in ("test_seen", "test_unseen")]
        features, labels = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(labels)


def parts_of(experiment: str, overrides: Sequence[str], seed: int, folder: Path) -> tuple[Part, Part]:
    """Return the validation task and the whole one, with a recipe's generators."""
    config = configure(experiment, [*overrides, "train.threads=1"])
    config = replace(config, protocol=replace(config.protocol, seeds=(seed,)))
    dataset = config.dataset.load()
    validation = Part(dataset.validation(), config, seed, folder / "validation")
    return validation, Part(dataset, config, seed, folder / "whole")
