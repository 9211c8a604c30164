"""Base of TF-VAEGAN and FREE: a VAE-GAN with a decoder from features to class embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from fgen.models.fvaegan import FVAEGAN, FVAEGANConfig
from fgen.nn import losses
from fgen.nn.networks import AdaptiveWeight, Encoder, reparametrise
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms, Update


def unit(vectors: Tensor) -> Tensor:
    """Return rows ``(B, A)`` at length 1; a row shorter than 1e-6 stays shorter."""
    return F.normalize(vectors, eps=1e-6)


@dataclass(frozen=True, kw_only=True)
class SemanticVAEGANConfig(FVAEGANConfig):
    """Settings of a VAE-GAN with a semantic decoder; ``gp_weight`` is where the adaptive weight starts.

    Attributes:
        recons_weight: weight of the decoder's reconstruction of the class embedding, from real rows in each critic
            step and from generated ones in the generator's.
        decoder_lr: the decoder's learning rate.
        freeze_decoder: the decoder learns from real rows only, not in the generator's update too.
        encoded_noise: the noise of generated rows is what the encoder makes of the batch's real rows; else it comes
            from the prior.
    """

    #: Adam's default, as in the released code.
    encoder_beta1: ClassVar[float] = 0.9

    gan_weight: float = 10.0
    recons_weight: float = 0.01
    decoder_lr: float = 1e-4
    freeze_decoder: bool = False
    encoded_noise: bool = True


class SemanticVAEGAN(FVAEGAN):
    """``L_VAE + gamma L_WGAN + recons_weight L_R``: f-VAEGAN's loss and the decoder's reconstruction of embeddings.

    Taken from the released code, where the papers are silent: the encoder has a second hidden layer, twice as wide
    as the noise, and Adam's default beta1; the decoder moves before each critic update; the penalty's weight follows
    the penalty (:class:`fgen.nn.networks.AdaptiveWeight`, D1 only); critic and decoder see encoded noise.

    The recipes take class embeddings of length 1. The decoder is held against embeddings of length 1 whatever length
    the generator gets them in, so that ``embedding_scale`` doesn't change what it has to learn.
    """

    config: SemanticVAEGANConfig
    decoder_roles: ClassVar[tuple[str, ...]] = ("decoder",)

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return f-VAEGAN's networks with a deeper encoder, and the penalty's weight; methods add their decoder."""
        config, width = self.config, self.noise_dim
        networks = super().build_networks(feature_dim, embedding_dim, n_seen)
        networks["encoder"] = Encoder(feature_dim + embedding_dim, config.hidden_dim, width, 2 * width)
        networks["penalty_weight"] = AdaptiveWeight(config.gp_weight, config.critic_steps)
        return networks

    def decoded(self, features: Tensor, draws: Draws) -> Tensor:
        """Return the class embeddings ``(B, A)`` that the decoder predicts from scaled features."""
        raise NotImplementedError

    def decoder_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the decoder's reconstruction of embeddings from real rows."""
        return self.decoding_terms("decoding", batch.features, batch.condition, draws)

    def decoding_terms(self, name: str, features: Tensor, condition: Tensor, draws: Draws) -> Terms:
        """Return ``recons_weight * L_R`` of features ``(B, D)`` under a name, if it is switched on."""
        weight = self.config.recons_weight
        return {name: weight * losses.weighted_l1(self.decoded(features, draws), unit(condition))} if weight else {}

    @property
    def decoder_learns(self) -> bool:
        """Return whether a term of :meth:`decoder_terms` is switched on."""
        return self.config.recons_weight > 0

    def critic_fakes(self, batch: Batch, draws: Draws) -> Tensor:
        """Return features from encoded noise, or from the prior's."""
        if not self.config.encoded_noise:
            return super().critic_fakes(batch, draws)
        mean, log_variance = self.networks["encoder"](batch.features, batch.condition)
        noise = reparametrise(mean, log_variance, draws.normal("critic noise", tuple(mean.shape)))
        return self.synthesise(noise, batch.condition)

    def real_updates(self, batch: Batch, draws: Draws, index: int) -> Iterator[Update]:
        """Yield the decoder's update."""
        if self.decoder_learns:
            yield Update(self.decoder_roles, partial(self.decoder_terms, batch, draws.part(index)))

    def adaptive_weight(self, role: str) -> AdaptiveWeight | None:
        """Return the adaptive weight for D1."""
        return self.network("penalty_weight", AdaptiveWeight) if role == "critic" else None

    def generator_updates(self, batch: Batch, draws: Draws) -> Iterator[Update]:
        """Yield f-VAEGAN's update, in which the decoder moves too unless it is frozen."""
        decoder = () if self.config.freeze_decoder else ("decoder",)
        yield Update((*self.generator_roles, *decoder), partial(self.generator_terms, batch, draws))

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return Eq. 4 of f-VAEGAN and ``L_R`` of generated rows, which are the reconstructions if noise is encoded."""
        rebuilt, terms = self.vae_terms(batch, draws)
        if not (self.critic_learns or self.config.recons_weight or self.matching.weights):
            return terms
        fake = rebuilt if self.config.encoded_noise else self.generator_fakes(batch, draws)
        semantic = self.decoding_terms("semantic", fake, batch.condition, draws)
        return self.gan_terms(fake, batch, draws) | terms | semantic
