"""Softmax head: multinomial softmax regression on real and synthetic features, the field's final classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.adam import AdamConfig, initial_parameters, train_adam
from fgen.classifiers.base import Head, HeadConfig, HeadProblem
from fgen.classifiers.lbfgs import Stop, train_lbfgs
from fgen.classifiers.new_rows import with_new_rows
from fgen.classifiers.seen_bias import log_prior, row_weights
from fgen.classifiers.storage import StoredHead
from fgen.errors import InputError, TrainingDiverged
from fgen.features.rows import Features
from fgen.features.scaled_rows import ScaledRows


@dataclass(frozen=True, kw_only=True)
class SoftmaxConfig(AdamConfig, HeadConfig):
    """Settings of the softmax head; defaults are the field's recipe (Xian et al. 2018, released code).

    Attributes:
        solver: ``"adam"`` is the recipe, with the settings of :class:`~fgen.classifiers.adam.AdamConfig`;
            ``"lbfgs"`` finds the minimum of the mean cross-entropy plus ``l2 / 2 |W|^2``, which is convex: no seed, no
            epochs, no learning rate.
        l2: the penalty of lbfgs on the weights; biases have none. Of several, a run chooses one on its validation
            classes, together with the number of epochs.
        tol: lbfgs ends where no entry of the gradient is larger.
        class_weight: ``"balanced"`` gives every class the same total weight, whatever its number of rows.
        seen_weight: weight in the loss of a row of a seen class; a row of an unseen class has 1 (ZSML's released code:
            .1 on AWA2). It multiplies ``class_weight``'s.
        logit_adjustment: zero-shot logit adjustment (Chen et al. 2022): training minimises the cross-entropy of
            ``W x + b + logit_adjustment * a`` with ``a_c = log p(c | seen or unseen) + log p0(seen or unseen)``, and
            the trained head scores by ``W x + b``. 1 is the paper's, 0 turns it off. The paper's classifier has no
            biases. Here biases can absorb the offsets. With ``"lbfgs"`` they do so entirely: the head is the plain one
            with ``a`` subtracted from its scores, a calibrated stacking by class with ``log(prior_ratio)`` as gamma.
            ``"adam"`` is nearer to the paper.
        prior_ratio: ``p0(seen) / p0(unseen)``, the paper's ratio (CUB 30, SUN 60, aPY 300, AWA2 1000): the larger,
            the more rows are predicted to be of unseen classes. None takes the training rows' ratio.
    """

    name: ClassVar[str] = "softmax"

    solver: Literal["adam", "lbfgs"] = "adam"
    l2: float | tuple[float, ...] = 1e-4
    tol: float = 1e-5
    class_weight: Literal["none", "balanced"] = "none"
    seen_weight: float = 1.0
    logit_adjustment: float = 0.0
    prior_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.l2, list | np.ndarray):
            object.__setattr__(self, "l2", tuple(map(float, self.l2)))
        if not self.penalties or not all(0 <= penalty < np.inf for penalty in self.penalties):
            raise InputError(f"l2 is {self.l2}", "a number of at least 0, or a list of some")
        if len(set(self.penalties)) < len(self.penalties):
            raise InputError(f"l2 is {list(self.penalties)}", "different penalties")
        if len(self.penalties) > 1 and self.solver != "lbfgs":
            raise InputError(f"l2 holds {len(self.penalties)} penalties", "one, or solver = 'lbfgs'")
        if not 0 < self.tol < np.inf:
            raise InputError(f"tol is {self.tol}", "a number above 0, such as 1e-5")
        if self.prior_ratio is not None and not self.logit_adjustment:
            raise InputError(
                f"prior_ratio is {self.prior_ratio}, and nothing uses it",
                "a logit_adjustment above 0",
                "Set logit_adjustment = 1 as well",
            )

    @property
    def penalties(self) -> tuple[float, ...]:
        """The values of ``l2``, the largest first."""
        return tuple(sorted(self.l2, reverse=True)) if isinstance(self.l2, tuple) else (self.l2,)

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Settings of the other solver."""
        return ("epochs", "lr", "batch_size", "beta1", "weight_decay") if self.solver == "lbfgs" else ("l2", "tol")

    @property
    def remedy(self) -> str:
        """Advice to train longer, or with a smaller penalty."""
        if self.solver == "lbfgs":
            return "a lower classifier.l2, or another classifier.scaling"
        return "more classifier.epochs, classifier.scaling = 'standard', or classifier.solver = 'lbfgs'"

    @property
    def takes_sample_weight(self) -> bool:
        """True, with both solvers."""
        return True

    def candidates(self) -> tuple[SoftmaxConfig, ...]:
        """Return a config for each penalty, the largest first."""
        return tuple(replace(self, l2=penalty) for penalty in self.penalties)

    def for_bank(self, n_per_class: int) -> SoftmaxConfig:
        """Return the settings with ``n_per_class`` as the batch size, as published, where none is set."""
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
        """Return an untrained head."""
        return SoftmaxClassifier(self)


class SoftmaxClassifier(StoredHead):
    """``P(y | x) = softmax(W x + b)`` on scaled features; scores are log-probabilities.

    Args:
        config: the settings; the field's recipe by default.
        overrides: fields of :class:`SoftmaxConfig` to change.

    Attributes:
        classes_: ``(K,)`` ascending class ids, the rows of the weights.
        n_classes_: number of ids in the caller's numbering, candidates or not.
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

    @property
    def stop(self) -> Stop:
        """Where lbfgs ends."""
        return Stop(self.config.tol)

    def learn(self, problem: HeadProblem, start: Head | None) -> np.ndarray:
        """Minimise the loss, over all candidates."""
        config, classes, place = self.config, problem.classes, problem.place
        targets, weights, progress = problem.targets, problem.row_weights, problem.progress
        offsets = None
        if config.logit_adjustment:
            prior = log_prior(targets.cpu(), problem.is_seen, config.prior_ratio)
            offsets = (config.logit_adjustment * prior).to(place)
        if config.solver == "adam":
            rows = ScaledRows(problem.features, problem.scaler, place)
            if not rows.in_memory:
                problem.scaler.check_finite(problem.features)
            weight, bias = initial_parameters(len(classes), problem.scaler.dim, problem.seed, place)
            train_adam(rows, targets, weights, (weight, bias), config, problem.seed, offsets, progress)
        else:
            begin, (l2,) = _start(start, problem, offsets), config.penalties
            weight, bias = train_lbfgs(
                problem.centred_rows, targets, len(classes), l2, stop=self.stop, start=begin, progress=progress
            )
            if offsets is not None:  # biases have no penalty: this is the minimum without offsets, shifted
                bias -= offsets
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise TrainingDiverged(
                "the head's weights are NaN or infinite",
                "finite numbers",
                "Choose another classifier.scaling, or lower classifier.lr",
            )
        self.weight, self.bias = weight.cpu(), bias.cpu()
        return classes

    @staticmethod
    def formula(head: Any, scaled: Tensor) -> Tensor:
        """Return log-probabilities ``(n, K)`` of scaled rows ``(n, D)``; the prior's offsets are left out."""
        return torch.addmm(head.bias, scaled, head.weight.T).log_softmax(dim=1)

    def extended_tensors(self, features: Features, targets: np.ndarray) -> dict[str, Tensor]:
        """Return weights and biases to which trained rows of the new classes are appended."""
        rows = with_new_rows(self.weight, self.bias, self.scaler, features, targets, min(self.config.penalties))
        return dict(zip(("weight", "bias"), rows, strict=True))

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
