"""Base of the methods with a critic: the conditional WGAN-GP, critic steps and then one generator step."""

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgen.models.base.config import AdversarialConfig
from fgen.models.base.generator import FeatureGenerator
from fgen.nn import losses, networks
from fgen.nn.critic_gradients import critic_gradients
from fgen.nn.networks import AdaptiveWeight, Critic
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms, Update


class AdversarialGenerator(FeatureGenerator):
    """``min_G max_D E[D(x, a)] - E[D(G(z, a), a)] - gp_weight * penalty`` (Xian et al. 2018, Eq. 2).

    Attributes:
        stacked_fakes: whether the critic is the only network that moves during its steps, so that one pass generates
            the features for all of them.
    """

    config: AdversarialConfig
    generator_roles: ClassVar[tuple[str, ...]] = ("generator",)
    stacked_fakes: ClassVar[bool] = True

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return a generator and a critic with one hidden layer each."""
        config = self.config
        return {
            "generator": networks.Generator(
                self.noise_dim, embedding_dim, config.hidden_dim, feature_dim, config.output
            ),
            "critic": Critic(feature_dim, embedding_dim, config.hidden_dim),
        }

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]:
        """Yield ``critic_steps`` critic updates, then a generator update for the classes of the last critic batch."""
        batch = yield from self.critic_phase(data, draws, self.config.critic_steps)
        yield from self.generator_updates(batch, draws)

    def critic_phase(self, data: TrainingSet, draws: Draws, n_batches: int) -> Generator[Update, None, Batch]:
        """Yield the updates of ``n_batches`` critic steps; return the last batch."""
        stacked = data.batches(draws, n_batches, self.config.batch_size)
        batches = stacked.split(len(stacked) // n_batches)
        stacked_fakes = self.critic_learns and self.stacked_fakes
        with torch.no_grad():
            fakes = self.critic_fakes(stacked, draws).split(len(batches[0])) if stacked_fakes else ()
        for index, batch in enumerate(batches):
            if self.critic_learns:
                with torch.no_grad():
                    fake = fakes[index] if fakes else self.critic_fakes(batch, draws.part(index))
            yield from self.real_updates(batch, draws, index)
            if self.critic_learns:
                yield from self.critic_updates(batch, fake, draws, index)
        return batch

    @property
    def critic_learns(self) -> bool:
        """Return whether the critic's terms are switched on; else no features are generated for it."""
        return True

    def real_updates(self, batch: Batch, draws: Draws, index: int) -> Iterable[Update]:
        """Yield a step's updates on real rows alone, before the critic's; by default there are none."""
        return ()

    def generator_updates(self, batch: Batch, draws: Draws) -> Iterator[Update]:
        """Yield the generator's update; a method may add updates of other networks before or after it."""
        yield Update(self.generator_roles, partial(self.generator_terms, batch, draws))

    def critic_fakes(self, batch: Batch, draws: Draws) -> Tensor:
        """Return the generated features ``(B, D)`` of a critic step; called without gradients."""
        return self.fakes("critic noise", batch, draws)

    def fakes(self, purpose: str, batch: Batch, draws: Draws) -> Tensor:
        """Return features ``(B, D)`` of training for the batch's classes, from the noise of a purpose."""
        return self.synthesise(draws.normal(purpose, (len(batch), self.noise_dim)), batch.condition)

    def unseen_batch(self, draws: Draws, size: int) -> Batch:
        """Generate for ``size`` classes without rows, drawn evenly; labels are rows of ``data.unseen_embeddings``."""
        n_unseen = len(self.data.unseen_embeddings)
        labels = draws.chosen("unseen classes", lambda stream: stream.integers(n_unseen, size=size))
        condition = self.data.unseen_embeddings[labels]
        return Batch(
            self.synthesise(draws.normal("unseen noise", (size, self.noise_dim)), condition), condition, labels
        )

    def critic_updates(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Iterator[Update]:
        """Yield the critic's update of one step; a method may add updates of other networks before or after it."""
        alpha = draws.uniform(f"mixing {index}", (len(batch), 1))
        yield self.wasserstein_update("critic", batch.features, fake, batch.condition, alpha)

    def wasserstein_update(
        self,
        role: str,
        real: Tensor,
        fake: Tensor,
        condition: Tensor,
        alpha: Tensor,
        scale: float = 1.0,
    ) -> Update:
        """Return the update of ``scale * (E[D(fake)] - E[D(real)] + gp_weight * penalty)`` (Gulrajani 2017, Eq. 3).

        A critic with one hidden layer has closed-form gradients. Any other critic, and mixing element by element, uses
        autograd's double backward.

        Args:
            role: which network is the critic.
            real, fake, condition: ``(B, D)`` twice and ``(B, A)``.
            alpha: ``(B, 1)`` or ``(B, D)``, the share of ``real`` in the interpolates.
            scale: gamma, the weight of the whole.
        """
        critic, penalised = self.networks[role], self.config.gp_weight > 0
        fast = penalised and isinstance(critic, Critic) and alpha.shape[1] == 1

        def terms() -> Terms:
            if not penalised:
                return {role: scale * losses.critic_distance(critic, real, fake, condition)}
            adaptive = self.adaptive_weight(role)
            weight = self.config.gp_weight if adaptive is None else adaptive.value
            if fast:
                one_layer = self.network(role, Critic)
                distance, penalty = critic_gradients(one_layer, real, fake, condition, alpha, scale * weight, scale)
            else:
                distance, penalty = losses.critic_terms(critic, real, fake, condition, alpha)
                distance = scale * distance
            weighted = scale * weight * penalty
            if adaptive is not None:
                adaptive.observe(penalty.detach())
            return {role: distance, "gradient_penalty" if role == "critic" else f"{role}_penalty": weighted}

        return Update((role,), terms, writes_gradients=fast)

    def adaptive_weight(self, role: str) -> AdaptiveWeight | None:
        """Return what weights a critic's gradient penalty in place of ``gp_weight``; by default there is nothing."""
        return None

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the generator's loss: ``-E[D(fake)]`` and the feature-matching terms that are switched on."""
        return self.adversarial_terms(self.generator_fakes(batch, draws), batch)

    def generator_fakes(self, batch: Batch, draws: Draws) -> Tensor:
        """Return new features ``(B, D)`` for the batch's classes, differentiable in the generator's weights."""
        return self.fakes("generator noise", batch, draws)

    def adversarial_terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Return ``-E[D(fake)]`` and feature matching against the batch."""
        terms = {"adversarial": -self.networks["critic"](fake, batch.condition).mean()}
        return terms | self.matching.terms(fake, batch)
