"""Settings that all methods share, and the limits of every method's settings, which are checked in one place."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fgen.config import Limit, check_limits
from fgen.errors import InputError
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.features.scaling import Kind
from fgen.nn.networks import Output
from fgen.training.update import TrainSettings

#: By a pattern of the field's name, of which the first that matches counts, for the fields of every method.
LIMITS = {
    r"(.+_)?(weight|guidance|margin)|tolerance_.+|inner_steps": Limit(lambda x: x >= 0, "a number of at least 0"),
    r"n_.+|(.+_)?(epochs|steps|dim|batch_size|rows|classes)": Limit(lambda x: x >= 1, "a whole number of at least 1"),
    r"(.+_)?(temperature|scale|alpha|width)": Limit(lambda x: 0 < x < math.inf, "a number above 0"),
    r"lr_decay|pseudo_share": Limit(lambda x: 0 < x <= 1, "a number above 0, at most 1"),
    r"truncation|centre_balance": Limit(lambda x: 0 <= x <= 1, "a number from 0 to 1"),
    r"beta[12]|drop_rate": Limit(lambda x: 0 <= x < 1, "a number from 0 to below 1"),
    r"(.+_)?lr": Limit(lambda x: 0 < x < 1, "a number between 0 and 1", "The published rates are near 1e-4"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TrainSettings):
    """Settings that every method has.

    Attributes:
        hidden_dim: width of the hidden layers.
        noise_dim: columns of noise; None means as many as the class embedding has.
        feature_scaling: of the features that are learned, see :class:`fgen.features.scaling.FeatureScaler`.
        output: the generator's last activation, on features scaled by ``feature_scaling``.
        class_mean_weight, moment_weight, mmd_weight, coral_weight, soul_weight, soul_mean_weight, pivot_weight,
        contrastive_weight, cycle_weight: feature matching, see :mod:`fgen.nn.matching`; 0 switches a term off.
        n_souls: prototypes per class for the soul terms.
        temperature: of the contrastive term.
    """

    name: ClassVar[str]
    #: The method's class, which names its config: ``class CLSWGAN(AdversarialGenerator, config=CLSWGANConfig)``.
    generator: ClassVar[Any]

    hidden_dim: int = 4096
    noise_dim: int | None = None
    feature_scaling: Kind = "minmax"
    output: Output = "relu"
    class_mean_weight: float = 0.0
    moment_weight: float = 0.0
    mmd_weight: float = 0.0
    coral_weight: float = 0.0
    soul_weight: float = 0.0
    soul_mean_weight: float = 0.0
    pivot_weight: float = 0.0
    contrastive_weight: float = 0.0
    cycle_weight: float = 0.0
    n_souls: int = 3
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        if self.batch_size < 2 and (self.moment_weight or self.coral_weight or self.mmd_weight):
            raise InputError("batch_size is 1", "at least 2 rows for matching moments, CORAL or MMD")

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Return the settings that have no effect since the weight of their term is 0."""
        uses = {"n_souls": self.soul_weight or self.soul_mean_weight, "temperature": self.contrastive_weight}
        return tuple(key for key, weight in uses.items() if not weight)

    @property
    def is_transductive(self) -> bool:
        """Return whether the generator's training uses unlabelled features of unseen classes."""
        return False

    @property
    def pseudo_labelled_share(self) -> float:
        """Return the share of test rows that a run's heads train on, unlabelled and under predicted classes."""
        return 0.0

    @property
    def sees_test_rows(self) -> bool:
        """Return whether a run is transductive: its generator or its heads train on unlabelled test rows."""
        return self.is_transductive or self.pseudo_labelled_share > 0

    @property
    def uses_unseen_embeddings(self) -> bool:
        """Return whether training uses the embeddings of classes without rows."""
        return self.is_transductive

    def build(self, embedding: EmbeddingConfig | None = None) -> Any:
        """Return an untrained :class:`~fgen.models.base.generator.FeatureGenerator` of the method."""
        return self.generator(self, embedding)


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(ModelConfig):
    """Settings of the methods with a critic.

    Attributes:
        critic_steps: critic updates for each generator update.
        gp_weight: weight of the gradient penalty (lambda).
        critic_lr: the critic's learning rate; None means ``lr``.
    """

    critic_steps: int = 5
    gp_weight: float = 10.0
    critic_lr: float | None = None
