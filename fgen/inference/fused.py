"""Prediction by several members whose decisions are fused."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fgen.classifiers.registry import load_head
from fgen.data.bank import FeatureBank
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import SeedDirectory
from fgen.inference.linear_head import LinearHead
from fgen.inference.predictor import Predictor
from fgen.io.reading import guarded_read, read_json
from fgen.metrics.decision_fusion import ScoreFusion
from fgen.models.registry import load_model


@dataclass(frozen=True, eq=False, kw_only=True)
class FusedPredictor(Predictor):
    """Predictor over the members' scores. Its model and head are the first member's.

    Attributes:
        members: predictors over the same labels.
        fusion: of their scores.
    """

    members: tuple[Predictor, ...]
    fusion: ScoreFusion

    @classmethod
    def of(cls, members: tuple[Predictor, ...], fusion: ScoreFusion, gamma: float, **fields: Any) -> Self:
        """Return the fusion of members, which know the same labels in the same order."""
        first = members[0]
        own = (first.model, first.head, first.labels, first.seen, gamma, first.threads)
        return cls(*own, members=members, fusion=fusion, **fields)

    def scores(self, features: Any) -> np.ndarray:
        """Return fused log-probabilities ``(N, C)`` by class id, before gamma.

        Args:
            features: raw ``(N, D)`` for all members, or a list of one such matrix for each.

        Raises:
            InputError: another number of matrices, rows or columns than the members take.
        """
        parts = features_of_members(features, len(self.members))
        scores = [member.scores(part) for member, part in zip(self.members, parts, strict=True)]
        if len({len(part) for part in scores}) > 1:
            raise InputError(f"the members got {', '.join(str(len(part)) for part in scores)} rows", "the same rows")
        return self.fusion(scores, self.seen, np.arange(len(self.labels)))

    def linear_head(self) -> LinearHead:
        """Refuse: a fusion is no linear head."""
        raise self._refusal()

    def to_torch(self, *, generator: bool = False) -> Any:
        """Refuse: a fusion is several heads."""
        raise self._refusal()

    def save(self, path: Any) -> None:
        """Refuse: a fusion has no stored form; its run folder, or its members, have one."""
        raise self._refusal()

    def _refusal(self) -> InputError:
        return InputError("this is a fusion of several models", "one model", "Save or export its members")


def features_of_members(features: Any, n_members: int) -> list[Any]:
    """Return the matrix of each member: those of a list of matrices, or one for all."""
    if isinstance(features, list | tuple) and all(np.ndim(part) == 2 for part in features):
        if len(features) != n_members:
            raise InputError(f"there are {len(features)} matrices of features", f"one, or a list of {n_members}")
        return list(features)
    return [features] * n_members


def fused_predictor(folder: SeedDirectory, config: ExperimentConfig) -> FusedPredictor:
    """Return the predictor of a seed of a run with ``fusion = "decision"``.

    Raises:
        InputError: it isn't finished, or its members have no saved heads.
    """
    with guarded_read(folder.choice, "choice"):
        choice = read_json(folder.choice)
        fusion, gamma = ScoreFusion.from_dict(choice["fusion"]), float(choice["gamma"])
    members = [_member(folder.member(number), config) for number in range(len(fusion.weights))]
    return FusedPredictor.of(tuple(members), fusion, gamma)


def _member(folder: SeedDirectory, config: ExperimentConfig) -> Predictor:
    """Return the predictor of a member, without gamma."""
    if not folder.head.exists():
        raise InputError(f"{folder.path} has no saved head", "a finished run whose heads can be saved")
    model, head = load_model(folder.model), load_head(folder.head)
    with FeatureBank.open(folder.bank) as bank:
        seen = np.flatnonzero(bank.is_seen)
    names = model.class_names
    labels = np.arange(head.n_classes_) if names is None else np.array(names, dtype=object)
    return Predictor(model, head, labels, seen, 0.0, config.train.threads)
