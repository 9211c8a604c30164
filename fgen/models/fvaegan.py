"""f-VAEGAN-D2: Xian, Sharma, Schiele, Akata, "f-VAEGAN-D2: A Feature Generating Framework for Any-Shot Learning",
CVPR 2019."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses
from fgen.nn.networks import Critic, Encoder, Output, reparametrise
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class FVAEGANConfig(AdversarialConfig):
    """Settings of f-VAEGAN-D2.

    Attributes:
        gan_weight: gamma of Eq. 4, the weight of the adversarial terms beside the VAE's, in the critic's step and
            in the generator's.
        transductive: train the unconditional critic D2 on unlabelled features of unseen classes (section 3.2).
    """

    name: ClassVar[str] = "fvaegan"

    output: Output = "sigmoid"
    gan_weight: float = 1000.0
    transductive: bool = False

    @property
    def is_transductive(self) -> bool:
        """Return ``transductive``."""
        return self.transductive


class FVAEGAN(AdversarialGenerator, config=FVAEGANConfig):
    """A conditional VAE and a conditional WGAN-GP that share their decoder, the generator.

    ``L_VAE + gamma L_WGAN`` (Eq. 4) on seen classes, with L_VAE of Eq. 1 and L_WGAN of Eq. 2; in the transductive
    setting also ``gamma L_WGAN`` with an unconditional critic D2 on features of unseen classes (Eq. 3). The paper
    gives gamma only as "cross-validated"; 1000 is what its successor TF-VAEGAN's code has by default. The
    reconstruction is that code's binary cross-entropy on features scaled to [0, 1]. Fakes for both critics come from
    the prior. Which unseen class a fake for D2 is made for is drawn evenly, since nothing is known of their sizes.
    """

    config: FVAEGANConfig
    generator_roles: ClassVar[tuple[str, ...]] = ("encoder", "generator")

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return generator and critic, the VAE's encoder, and D2 in the transductive setting."""
        networks = super().build_networks(feature_dim, embedding_dim, n_seen)
        networks["encoder"] = Encoder(feature_dim + embedding_dim, self.config.hidden_dim, self.noise_dim)
        if self.config.is_transductive:
            networks["critic2"] = Critic(feature_dim, 0, self.config.hidden_dim)
        return networks

    @property
    def critic_learns(self) -> bool:
        """Return whether gamma is above 0."""
        return self.config.gan_weight > 0

    def critic_updates(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Iterator[Update]:
        """Yield ``gamma L_WGAN`` for D1 (Eq. 2) and, in the transductive setting, for D2 (Eq. 3)."""
        alpha, scale = draws.uniform(f"mixing {index}", (len(batch), 1)), self.config.gan_weight
        yield self.wasserstein_update("critic", batch.features, fake, batch.condition, alpha, scale=scale)
        if self.config.is_transductive:
            own = draws.part(index)
            real, alpha = self.data.unlabelled(own, len(batch)), own.uniform("mixing unseen", (len(batch), 1))
            with torch.no_grad():
                fake = self.unseen_batch(own, len(batch)).features
            yield self.wasserstein_update("critic2", real, fake, real.new_zeros(len(real), 0), alpha, scale=scale)

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return Eq. 4 for encoder and generator: reconstruction, divergence, ``-gamma E[D1]`` and ``-gamma E[D2]``."""
        _, terms = self.vae_terms(batch, draws)
        if not (self.critic_learns or self.matching.weights):
            return terms
        return terms | self.gan_terms(self.generator_fakes(batch, draws), batch, draws)

    def vae_terms(self, batch: Batch, draws: Draws) -> tuple[Tensor, Terms]:
        """Return the reconstructed rows ``(B, D)`` and Eq. 1: reconstruction and divergence from the prior.

        Each term is summed over columns and averaged over rows.
        """
        mean, log_variance = self.networks["encoder"](batch.features, batch.condition)
        noise = reparametrise(mean, log_variance, draws.normal("encoder noise", tuple(mean.shape)))
        rebuilt = self.synthesise(noise, batch.condition)
        return rebuilt, {
            "reconstruction": losses.reconstruction(rebuilt, batch.features, self.config.output),
            "divergence": losses.gaussian_divergence(mean, log_variance),
        }

    def gan_terms(self, fake: Tensor, batch: Batch, draws: Draws) -> Terms:
        """Return ``-gamma E[D1]`` and feature matching of ``fake (B, D)``, and ``-gamma E[D2]`` of unseen classes."""
        if not self.critic_learns:
            return self.matching.terms(fake, batch)
        terms = self.adversarial_terms(fake, batch)
        terms["adversarial"] *= self.config.gan_weight
        if self.config.is_transductive:
            unseen = self.unseen_batch(draws, len(batch)).features
            score = self.networks["critic2"](unseen, unseen.new_zeros(len(unseen), 0)).mean()
            terms["adversarial2"] = -self.config.gan_weight * score
        return terms
