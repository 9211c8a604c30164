"""Decision-level fusion of several ZeroShotClassifiers, over one matrix of features or one for each."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from operator import attrgetter
from typing import Any, Self

import numpy as np

from fgen.baselines import BASELINES
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.estimators.base import BaseEstimator, ClassifierMixin, NotFitted
from fgen.estimators.training import calibrated, described_rows, new_task, trained_predictor
from fgen.experiment.fused import choose_fusion
from fgen.experiment.heads import KeptScores
from fgen.experiment.selection import held_out_scores, too_few_to_hold_out
from fgen.experiment.steps import Task
from fgen.features.class_embeddings import expect_weights
from fgen.inference.fused import FusedPredictor, features_of_members
from fgen.metrics.decision_fusion import RULES, ScoreFusion
from fgen.training.hooks import NO_HOOK


class DecisionFusion(ClassifierMixin, BaseEstimator):
    """Classifier that fuses the calibrated probabilities of several classifiers of the same classes.

    Members may differ in anything: in the class embeddings, the method, the head, or the image network whose features
    they get. ``fit`` trains copies of them. What is fitted of the fusion, and ``gamma_``, rests on held-out seen
    classes alone: each member chooses as :class:`fgen.ZeroShotClassifier` does, is trained once more on the held-out
    tasks, and its scores of the held-out rows make its probabilities, see :mod:`fgen.metrics.decision_fusion`.

    Args:
        members: two or more :class:`fgen.ZeroShotClassifier` over the same labels in the same order. Each chooses as
            with ``calibrate=True``, whatever it is set to.
        rule: "mean" of the probabilities; "weighted" mean; normalised "product"; or "stacked", a product with an
            exponent for each member that is fitted to held-out rows.
        weights: of the "weighted" mean, one for each member; None chooses them on held-out rows.

    Attributes:
        classes_: ``(C,)`` labels.
        fusion_: the fitted :class:`fgen.metrics.decision_fusion.ScoreFusion`.
        gamma_: number that is subtracted from the seen classes' fused log-probabilities.
        predictor_: the fused members, see :class:`fgen.inference.fused.FusedPredictor`.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> X, y = data.split("trainval")
        >>> two = [fgen.ZeroShotClassifier(data.class_embeddings, method=name) for name in ("ridge", "eszsl")]
        >>> fused = fgen.DecisionFusion(two, rule="weighted").fit(X, y)
        >>> fused.predict_proba(X[:3]).shape, len(fused.fusion_.weights)
        ((3, 25), 2)
    """

    def __init__(
        self, members: Sequence[Any] = (), *, rule: str = "mean", weights: Sequence[float] | None = None
    ) -> None:
        self.members = members
        self.rule = rule
        self.weights = weights

    def fit(self, X: Any, y: Any) -> Self:
        """Train the members and the fusion.

        Args:
            X: features ``(N, D)`` for all members; or a list of one matrix ``(N, D_k)`` for each, whose rows are the
                same examples in the same order.
            y: ``(N,)`` labels of seen classes.

        Raises:
            InputError: fewer than two members, members of other classes, a rule that nothing can be fitted for, or what
                :meth:`fgen.ZeroShotClassifier.fit` refuses.
        """
        self._check()
        parts = features_of_members(X, len(self.members))
        tasks, labels = zip(*map(_task, self.members, parts, [y] * len(parts)), strict=True)
        if not all(np.array_equal(own, labels[0]) for own in labels):
            raise InputError("members describe other classes, or in another order", "the same labels in the same order")
        told = _nothing_held_out(tasks[0].dataset)
        if told:
            fusion, gamma = self._plain(told), 0.0
        else:
            tasks = tuple(calibrated(task, None, NO_HOOK, stacklevel=3)[0] for task in tasks)
            held = [_held_out(task, tasks[0]) for task in tasks]
            fusion, choice = choose_fusion(tasks[0], self.rule, held, self.weights)  # type: ignore[arg-type]
            gamma = float(choice["gamma"])
        predictors = tuple(trained_predictor(task, None, NO_HOOK, labels=labels[0], gamma=0.0) for task in tasks)
        self.predictor_ = FusedPredictor.of(predictors, fusion, gamma)
        return self

    def _check(self) -> None:
        """Refuse arguments that don't fit together."""
        if len(self.members) < 2 or not all(hasattr(one, "class_embeddings") for one in self.members):
            raise InputError(f"members are {list(self.members)!r:.60}", "two or more fgen.ZeroShotClassifier")
        if self.rule not in RULES:
            raise InputError(f"rule is {self.rule!r}", f"one of {', '.join(RULES)}")
        if self.weights is not None:
            if self.rule != "weighted" or len(self.weights) != len(self.members):
                expected = f"{len(self.members)}, one for each member, with the rule 'weighted'"
                raise InputError(f"there are {len(self.weights)} weights, and the rule is {self.rule!r}", expected)
            expect_weights("weights", dict(enumerate(self.weights)))

    def _plain(self, told: str) -> ScoreFusion:
        """Return a fusion of the members' own probabilities, where there is nothing to fit one to."""
        if self.rule == "stacked" or (self.rule == "weighted" and self.weights is None):
            raise InputError(f"rule is {self.rule!r}, and {told}", "the rule 'mean' or 'product', or weights")
        warnings.warn(f"{told}: probabilities are fused as they are", stacklevel=3)
        return ScoreFusion.plain(self.rule, len(self.members), self.weights)  # type: ignore[arg-type]

    classes_ = property(attrgetter("predictor_.labels"))
    fusion_ = property(attrgetter("predictor_.fusion"))
    gamma_ = property(attrgetter("predictor_.gamma"))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return fused probabilities ``(N, C)`` of :attr:`classes_`, of features as :meth:`fit` takes them."""
        predictor = self._fitted()
        return predictor.probabilities(predictor.scores(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label ``(N,)``, among seen and unseen classes."""
        predictor = self._fitted()
        return predictor.labels[predictor.class_ids(predictor.scores(X))]

    def _fitted(self) -> FusedPredictor:
        if not hasattr(self, "predictor_"):
            raise NotFitted("the fusion isn't fitted", "fit() before predicting")
        return self.predictor_


def _task(member: Any, X: Any, y: Any) -> tuple[Task, np.ndarray]:
    """Return the task of training a copy of a member, and the labels of the classes."""
    member = deepcopy(member)
    recipe = member._recipe()
    recipe.classifier.build()
    dataset, labels = described_rows(member, X, y, stacklevel=5)
    return new_task(member, recipe, dataset), labels


def _nothing_held_out(dataset: ZSLDataset) -> str:
    """Return why no class can be held out, else ""."""
    return too_few_to_hold_out(dataset) if len(dataset.unseen) else "all classes have rows"


def _held_out(task: Task, first: Task) -> list[KeptScores]:
    """Return a member's scores of the rows that are held out by the first member's seed, by fold."""
    model = task.recipe.model
    choice = {"settings": asdict(model)} if model.name in BASELINES else {"epochs": model.epochs}
    same_rows = replace(task, seed=first.seed, dataset=task.dataset.with_split_seed(first.seed))
    return held_out_scores(same_rows, choice)
