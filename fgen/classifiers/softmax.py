"""The field's final classifier: multinomial softmax regression on real and synthetic features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from fgen.classifiers.adam import AdamConfig, initial_parameters, train_adam
from fgen.classifiers.base import HeadConfig, checked_labels, fitted_scaler, seen_mask
from fgen.classifiers.lbfgs import train_lbfgs
from fgen.classifiers.seen_bias import log_prior, row_weights
from fgen.classifiers.storage import StoredHead
from fgen.compute.device import choose_device, cpu_if_no_memory
from fgen.config import build, to_mapping
from fgen.errors import InputError, TrainingDiverged
from fgen.features.rows import Features, as_rows
from fgen.features.scaled_rows import CentredRows, ScaledRows, fits_memory
from fgen.features.scaling import FeatureScaler

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

    @property
    def needs_seen(self) -> bool:
        """Whether training has to know which classes are seen."""
        return self.seen_weight != 1 or self.prior_ratio is not None

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
    """

    format: ClassVar[str] = "fgen-softmax"
    config_class: ClassVar[type[HeadConfig]] = SoftmaxConfig
    stored: ClassVar[dict[str, str]] = {"weight": "weight", "bias": "bias"}

    def __init__(self, config: SoftmaxConfig | None = None, **overrides: Any) -> None:
        super().__init__(build(SoftmaxConfig, to_mapping(config or SoftmaxConfig()) | overrides, "classifier"))

    def fit(
        self,
        features: Features,
        labels: Any,
        *,
        classes: Any | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        scaling_rows: Features | None = None,
        seen: Any | None = None,
        start: SoftmaxClassifier | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> SoftmaxClassifier:
        """Train on raw features.

        Products are in bfloat16 under ``torch.set_float32_matmul_precision("medium")`` where a CPU is faster so.

        Args:
            features: ``(N, D)``: an array, a memory map, an open HDF5 dataset or a tensor.
            labels: ``(N,)`` class ids of at least 2 classes, in the caller's numbering, gaps allowed.
            classes: ids of all candidates; by default those in ``labels``.
            n_classes: how many ids there are, candidates or not; by default up to the largest candidate.
            seed: names the initial weights and the order of the rows.
            scaling_rows: ``(M, D)`` raw features that the scaling is fitted on; by default ``features``.
            seen: ids of the seen classes, candidates or not; needed by ``seen_weight`` and ``prior_ratio`` alone.
            start: a head of another penalty on the same rows and classes, which lbfgs starts from: fewer steps.
            device: where it is trained: ``"cpu"``, ``"cuda"``, or ``"auto"``; a GPU without room leaves it to the CPU.
                The trained head lies on the CPU.
            progress: show a bar.

        Raises:
            InputError: shapes or ids that don't match, fewer than 2 classes, features that aren't finite, ``seen``
                missing where the config needs it, or several penalties.
            TrainingDiverged: the weights left the finite numbers.
        """
        features = as_rows(features)
        labels, classes, n_classes = checked_labels(labels, len(features), classes, n_classes)
        if self.config.needs_seen and seen is None:
            raise InputError("seen_weight or prior_ratio is set, without seen", "the ids of the seen classes")
        if (n_penalties := len(self.config.penalties)) > 1:
            hint = "fgen run chooses among several; elsewhere name one, as with --set classifier.l2=0.001"
            raise InputError(f"l2 holds {n_penalties} penalties", "one to train with", hint)
        is_seen = torch.from_numpy(seen_mask(classes, () if seen is None else seen))
        scaler = fitted_scaler(self.config.scaling, features, scaling_rows)
        place = _place(device, len(features), scaler.dim, len(classes))
        targets = torch.from_numpy(np.searchsorted(classes, labels))
        balanced = self.config.class_weight == "balanced"
        weights = row_weights(targets, is_seen, balanced=balanced, seen_weight=self.config.seen_weight).to(place)
        offsets = None
        if self.config.logit_adjustment:
            offsets = (self.config.logit_adjustment * log_prior(targets, is_seen, self.config.prior_ratio)).to(place)
        targets = targets.to(place)
        if self.config.solver == "adam":
            rows = ScaledRows(features, scaler, place)
            if not rows.in_memory:
                for _ in scaler.blocks(features):  # a row that isn't finite is named before the training
                    pass
            weight, bias = initial_parameters(len(classes), scaler.dim, seed, place)
            train_adam(rows, targets, weights, weight, bias, self.config, seed, offsets=offsets, progress=progress)
        else:
            begin = None if start is None else start.parameters_for(classes, scaler, offsets, place)
            centred = CentredRows(features, scaler, weights)
            (l2,) = self.config.penalties
            weight, bias = train_lbfgs(centred, targets, weights, len(classes), l2, start=begin, progress=progress)
            if offsets is not None:  # biases bear no penalty: this minimum is the one without offsets, shifted
                bias -= offsets
        if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise TrainingDiverged(
                "the head's weights are NaN or infinite",
                "finite numbers",
                "Choose another classifier.scaling, or lower classifier.lr",
            )
        self.weight, self.bias = weight.cpu(), bias.cpu()
        self.scaler, self.classes_, self.n_classes_ = scaler, classes, n_classes
        return self

    def parameters_for(
        self, classes: np.ndarray, scaler: FeatureScaler, offsets: torch.Tensor | None, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases for another head's training on these classes and columns, to which ``offsets`` belong.

        Raises:
            InputError: this head has others, or none yet.
        """
        self.require_trained()
        if not np.array_equal(self.classes_, classes) or self.scaler.dim != scaler.dim:
            raise InputError("start was trained on other classes or columns", "a head of the same")
        weight, bias = self.weight.to(device), self.bias.to(device)
        return weight, bias if offsets is None else bias + offsets

    def block_scores(self, scaled: np.ndarray) -> np.ndarray:
        """Log-probabilities ``(n, K)`` of scaled rows ``(n, D)``; no prior is added here."""
        return torch.addmm(self.bias, torch.from_numpy(scaled), self.weight.T).log_softmax(dim=1).numpy()

    def predict_proba(self, features: Features) -> np.ndarray:
        """Probabilities ``(N, K)`` in the order of :attr:`classes_`."""
        return np.exp(self._told_scores(features))

    def stored_shapes(self) -> dict[str, tuple[int, ...]]:
        """``(K, D)`` and ``(K,)``."""
        return {"weight": (len(self.classes_), self.scaler.dim), "bias": (len(self.classes_),)}


def _place(device: str, n_rows: int, dim: int, n_classes: int) -> torch.device:
    """The device, or the CPU where a GPU lacks room for a scaled copy, if one is kept, and two matrices of logits."""
    copied = n_rows * dim if fits_memory((n_rows, dim), torch.float32) else 0
    return cpu_if_no_memory(choose_device(device), 4 * (copied + 2 * n_rows * n_classes) + (1 << 30))
