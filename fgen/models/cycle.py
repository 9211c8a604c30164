"""cycle-CLSWGAN: Felix, Kumar, Reid, Carneiro, "Multi-modal Cycle-consistent Generalized Zero-Shot Learning", ECCV
2018."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fgen import rng
from fgen.models.clswgan import CLSWGAN, CLSWGANConfig
from fgen.nn import matching
from fgen.nn.adam import Adam
from fgen.nn.networks import Linear
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class CycleConfig(CLSWGANConfig):
    """Settings of cycle-CLSWGAN; defaults are the released code's for CUB and FLO, but for two of the lineage.

    These are ``critic_steps`` and ``beta1``, 1 and 0.9 in that code: the toy world's generated classes then stay far
    from their means.

    Attributes:
        cycle_weight: weight of the cycle term on generated features of seen classes (the code's ``beta``). It is read
            out by the regressor that this method trains, not by the linear map that other methods solve for.
        unseen_cycle_weight: the same for generated features of classes without rows: above 0 it is the paper's
            cycle-(U)WGAN, which looks at the descriptions of unseen classes in training.
        cls_weight: the classification term's, as in f-CLSWGAN; 0 is the paper's cycle-WGAN, and the released code,
            which lacks the term.
        regressor_epochs, regressor_batch_size, regressor_lr: pre-training of the regressor on real seen features.
    """

    name: ClassVar[str] = "cycle"

    cycle_weight: float = 0.01
    unseen_cycle_weight: float = 0.0
    critic_lr: float | None = 1e-3
    regressor_epochs: int = 40
    regressor_batch_size: int = 64
    regressor_lr: float = 1e-4

    @property
    def uses_unseen_embeddings(self) -> bool:
        """Return whether the method is cycle-(U)WGAN."""
        return self.unseen_cycle_weight > 0


class Cycle(CLSWGAN, config=CycleConfig):
    """f-CLSWGAN whose features must give their class description back to a regressor.

    Adds ``L_CYC = E[|a - R(G(a, z))|^2]`` to the generator's loss, over seen classes and in cycle-(U)WGAN over unseen
    ones too; R is linear, trained to the same squares on real seen features, and frozen. As in the released code the
    squares are averaged over the description's columns, its weights hold for that mean; networks start from Xavier's
    uniform numbers; the gradient penalty's interpolates mix real and generated rows column by column, each with its
    own share; critic and generator have learning rates of their own. Not taken over: the decays of the learning rates,
    1e-5 to 1e-2 per step, which that code has for SUN and for the regressor, and SUN's regressor's weight decay.
    """

    config: CycleConfig
    frozen: ClassVar[tuple[str, ...]] = ("classifier", "regressor")
    xavier_gain: ClassVar[float | None] = 1.0
    own_matching: ClassVar[tuple[str, ...]] = ("cycle",)

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return f-CLSWGAN's networks, and R."""
        shared = super().build_networks(feature_dim, embedding_dim, n_seen)
        return shared | {"regressor": Linear(feature_dim, embedding_dim)}

    @property
    def pretraining(self) -> dict[str, int]:
        """Return the epochs of the classifier and of the regressor, each if a term needs it."""
        config = self.config
        needed = config.cycle_weight or config.unseen_cycle_weight
        return super().pretraining | ({"regressor": config.regressor_epochs} if needed else {})

    def pretrain(self, data: TrainingSet, seed: int) -> None:
        """Train the classifier, and R by Adam on ``E[|a - R(x)|^2]`` of the real seen features, if a term needs it."""
        super().pretrain(data, seed)
        if "regressor" not in self.pretraining:
            return
        regressor = self.networks["regressor"].requires_grad_(True)
        optimiser = Adam(regressor.parameters(), lr=self.config.regressor_lr)
        for epoch in range(self.config.regressor_epochs):
            order = rng.stream(seed, "regressor", epoch).permutation(len(data))
            for start in range(0, len(order), self.config.regressor_batch_size):
                batch = data.batch(order[start : start + self.config.regressor_batch_size])
                optimiser.zero_grad(set_to_none=True)
                matching.cycle(regressor(batch.features), batch.condition).backward()
                optimiser.step()
        regressor.zero_grad(set_to_none=True)

    def critic_updates(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Iterator[Update]:
        """Yield the critic's update, with a share of its own for each column of each interpolate."""
        alpha = draws.uniform(f"mixing {index}", tuple(batch.features.shape))
        yield self.wasserstein_update("critic", batch.features, fake, batch.condition, alpha)

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return ``-E[D(fake)]``, the classification term, and L_CYC over seen and, if switched on, unseen classes."""
        config, fake = self.config, self.generator_fakes(batch, draws)
        terms = self.adversarial_terms(fake, batch) | self.classification_terms(fake, batch)
        if config.cycle_weight:
            terms["cycle"] = config.cycle_weight * self.cycle_loss(fake, batch.condition)
        if config.unseen_cycle_weight and len(self.data.unseen_embeddings):
            unseen = self.unseen_batch(draws, len(batch))
            terms["unseen_cycle"] = config.unseen_cycle_weight * self.cycle_loss(unseen.features, unseen.condition)
        return terms

    def cycle_loss(self, fake: Tensor, condition: Tensor) -> Tensor:
        """Return L_CYC of features ``(B, D)`` and the descriptions ``(B, A)`` they were generated for; a scalar."""
        return matching.cycle(self.networks["regressor"](fake), condition)
