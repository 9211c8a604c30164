"""The field's final classifier: multinomial softmax regression on real and synthetic features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.adam import AdamConfig, initial_parameters, train_adam
from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.lbfgs import train_lbfgs
from fgen.classifiers.seen_bias import log_prior, row_weights
from fgen.classifiers.storage import StoredHead
from fgen.errors import InputError, TrainingDiverged
from fgen.features.rows import Features
from fgen.features.scaled_rows import ScaledRows

Solver = Literal["adam", "lbfgs"]
ClassWeight = Literal["none", "balanced"]


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig(AdamConfig, HeadConfig):
    """Settings of the softmax head; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        solver: ``"adam"`` is the recipe, with the settings of :class:`~fgen.classifiers.adam.AdamConfig`;
            ``"lbfgs"`` goes to the minimum of the mean cross-entropy plus ``l2 / 2 |W|^2``, which is convex: no seed,
            no epochs, no learning rate.
        l2: the penalty of lbfgs; it leaves the biases alone. Of several, a run chooses one on its validation classes,
            where it chooses the number of epochs.
        class_weight: ``"balanced"`` weighs every class alike however many rows it has.
        seen_weight: a row of a seen class counts this much in the loss, beside 1 for a row of an unseen class (ZSML's
            released code: .1 on AWA2); it comes on top of ``class_weight``.
        logit_adjustment: zero-shot logit adjustment (Chen et al. 2022): training minimises the cross-entropy of
            ``W x + b + logit_adjustment * a`` with ``a_c = log p(c | seen or unseen) + log p0(seen or unseen)``, and
            the trained head scores by ``W x + b``. 1 is the paper's, 0 leaves it out. The paper's own classifier has
            no biases. Here they can take the offsets over: with ``"lbfgs"`` they do so entirely, so that the head
            is the plain one with ``a`` taken from its scores, a calibrated stacking by class in which
            ``log(prior_ratio)`` stands for gamma; ``"adam"`` is nearer to the paper.
        prior_ratio: ``p0(seen) / p0(unseen)``, the paper's ratio (CUB 30, SUN 60, aPY 300, AWA2 1000): the larger,
            the more unseen classes are answered. None takes the rows' own.
    """

    name: ClassVar[str] = "softmax"

    solver: Solver = "adam"
    l2: float | tuple[float, ...] = 1e-4
    class_weight: ClassWeight = "none"
    seen_weight: float = 1.0
    logit_adjustment: float = 0.0
    prior_ratio: float | None = None

    def __post_init__(self) -> None:
        HeadConfig.__post_init__(self)
        self.check_adam()
        if isinstance(self.l2, list | np.ndarray):
            object.__setattr__(self, "l2", tuple(map(float, self.l2)))
        if not 0 <= self.logit_adjustment < np.inf:
            raise InputError(f"logit_adjustment is {self.logit_adjustment}", "a number of at least 0")
        if not self.penalties or not all(0 <= penalty < np.inf for penalty in self.penalties):
            raise InputError(f"l2 is {self.l2}", "a number of at least 0, or a list of some")
        if len(set(self.penalties)) < len(self.penalties):
            raise InputError(f"l2 is {list(self.penalties)}", "different penalties")
        if len(self.penalties) > 1 and self.solver != "lbfgs":
            raise InputError(f"l2 holds {len(self.penalties)} penalties", "one, or solver = 'lbfgs'")
        for key, options in (("solver", Solver), ("class_weight", ClassWeight)):
            if getattr(self, key) not in get_args(options):
                raise InputError(f"{key} is {getattr(self, key)!r}", f"one of {', '.join(get_args(options))}")

        for key in ("seen_weight", "prior_ratio"):
            value = getattr(self, key)
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{key} is {value}", "a number above 0")
        if self.prior_ratio is not None and not self.logit_adjustment:
            raise InputError(
                f"prior_ratio is {self.prior_ratio}, and nothing uses it",
                "a logit_adjustment above 0",
                "Set logit_adjustment = 1 as well",
            )

    @property
    def penalties(self) -> tuple[float, ...]:
        """``l2`` as a tuple, the largest first."""
        return tuple(sorted(self.l2, reverse=True)) if isinstance(self.l2, tuple) else (self.l2,)

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """The settings of the other solver."""
        return ("epochs", "lr", "batch_size", "beta1", "weight_decay") if self.solver == "lbfgs" else ("l2",)

    @property
    def remedy(self) -> str:
        """More training, or less penalty."""
        if self.solver == "lbfgs":
            return "a lower classifier.l2, or another classifier.scaling"
        return "more classifier.epochs, classifier.scaling = 'standard', or classifier.solver = 'lbfgs'"

    def candidates(self) -> tuple[SoftmaxConfig, ...]:
        """One for each penalty."""
        return tuple(replace(self, l2=penalty) for penalty in self.penalties)

    def for_bank(self, n_per_class: int) -> SoftmaxConfig:
        """With the published batch size, where none is set."""
        return self if self.batch_size is not None else replace(self, batch_size=n_per_class)

    def check_fit(self, seen: Any | None) -> None:
        """Refuse several penalties, and a missing ``seen`` where training has to know which classes are seen."""
        if seen is None and (self.seen_weight != 1 or self.prior_ratio is not None):
            raise InputError("seen_weight or prior_ratio is set, without seen", "the ids of the seen classes")
        if len(self.penalties) > 1:
            hint = "fgen run chooses among several; elsewhere name one, as with --set classifier.l2=0.001"
            raise InputError(f"l2 holds {len(self.penalties)} penalties", "one to train with", hint)

    def row_weights(self, targets: Tensor, is_seen: Tensor) -> Tensor:
        """Return the weights ``(N, 1)`` that ``class_weight`` and ``seen_weight`` give the rows."""
        balanced = self.class_weight == "balanced"
        return row_weights(targets, is_seen, balanced=balanced, seen_weight=self.seen_weight)

    def build(self) -> SoftmaxClassifier:
        """An untrained head."""
        return SoftmaxClassifier(self)


class SoftmaxClassifier(StoredHead):
    """``P(y | x) = softmax(W x + b)`` on scaled features; scores are log-probabilities.

    Args:
        config: the settings; the field's recipe by default.
        overrides: fields of :class:`SoftmaxConfig` to change.

    Attributes:
        classes_: ``(K,)`` ascending class ids, the rows of the weights.
        n_classes_: how many ids there are in the caller's numbering, candidates or not.
        weight, bias: ``(K, D)`` and ``(K,)`` float32, on scaled features.
        scaler: the scaling of the features.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> features, labels = data.split("trainval")
        >>> head = fgen.SoftmaxClassifier(solver="lbfgs").fit(features, labels)
        >>> bool((head.predict(features) == labels).mean() > 0.9)
        True
    """

    config_class: ClassVar[type[HeadConfig]] = SoftmaxConfig
    format: ClassVar[str] = "fgen-softmax"
    stored: ClassVar[dict[str, str]] = {"weight": "weight", "bias": "bias"}

    config: SoftmaxConfig
    weight: Tensor
    bias: Tensor

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Minimise the loss; weights and biases are those of all candidates."""
        config, classes, place = self.config, problem.classes, problem.place
        targets, weights, progress = problem.targets, problem.row_weights, problem.progress
        offsets = None
        if config.logit_adjustment:
            prior = log_prior(targets.cpu(), problem.is_seen, config.prior_ratio)
            offsets = (config.logit_adjustment * prior).to(place)
        if config.solver == "adam":
            rows = ScaledRows(problem.features, problem.scaler, place)
            if not rows.in_memory:
                for _ in problem.scaler.blocks(
                    problem.features
                ):  # a row that isn't finite is named before the training
                    pass
            weight, bias = initial_parameters(len(classes), problem.scaler.dim, problem.seed, place)
            train_adam(rows, targets, weights, (weight, bias), config, problem.seed, offsets, progress)
        else:
            begin, (l2,) = _start(start, problem, offsets), config.penalties
            weight, bias = train_lbfgs(
                problem.centred_rows, targets, weights, len(classes), l2, start=begin, progress=progress
            )
            if offsets is not None:  # biases bear no penalty: this minimum is the one without offsets, shifted
                bias -= offsets
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise TrainingDiverged(
                "the head's weights are NaN or infinite",
                "finite numbers",
                "Choose another classifier.scaling, or lower classifier.lr",
            )
        self.weight, self.bias = weight.cpu(), bias.cpu()
        return classes

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Return log-probabilities ``(n, K)`` of scaled rows ``(n, D)``; no prior is added here."""
        return torch.addmm(self.bias, torch.from_numpy(scaled), self.weight.T).log_softmax(dim=1).numpy()

    def predict_proba(self, features: Features) -> np.ndarray:
        """Return probabilities ``(N, K)`` in the order of :attr:`classes_`."""
        return np.exp(self._scores_with_warning(features))

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """``(K, D)`` and ``(K,)``."""
        return {"weight": (len(self.classes_), self.scaler.dim), "bias": (len(self.classes_),)}


def _start(head: Head | None, problem: HeadProblem, offsets: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return the weights and biases of ``head`` for a training to which ``offsets (K,)`` belong."""
    if head is None:
        return None
    head.require_trained()
    same = np.array_equal(head.classes_, problem.classes) and head.scaler.dim == problem.scaler.dim
    if not (isinstance(head, SoftmaxClassifier) and same):
        raise InputError("start was trained on other classes or columns", "a softmax head of the same")
    weight, bias = head.weight.to(problem.place), head.bias.to(problem.place)
    return weight, bias if offsets is None else bias + offsets
