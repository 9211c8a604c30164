"""TF-VAEGAN: Narayan, Gupta, Khan, Snoek, Shao, "Latent Embedding Feedback and Discriminative Features for Zero-Shot
Classification", ECCV 2020."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgen.features.class_embeddings import EmbeddingConfig
from fgen.models.semantic_vaegan import SemanticVAEGAN, SemanticVAEGANConfig, unit
from fgen.nn.networks import Generator, OneHidden, leaky_relu
from fgen.training.draws import Draws
from fgen.training.training_set import TrainingSet
from fgen.training.update import Update


@dataclass(frozen=True, kw_only=True)
class TFVAEGANConfig(SemanticVAEGANConfig):
    """Settings of TF-VAEGAN; defaults are the released code's for CUB, whose ``epochs`` are 300.

    Attributes:
        feedback_weight: a1, how much of the feedback is added to the generator's hidden layer in training.
        synthesis_feedback_weight: a2, the same when features are generated.
        feedback_lr: the feedback module's learning rate.
    """

    name: ClassVar[str] = "tfvaegan"

    feedback_weight: float = 1.0
    synthesis_feedback_weight: float = 1.0
    feedback_lr: float = 1e-5


class SemanticDecoder(OneHidden):
    """Dec: features to class embeddings of length 1, one hidden layer, whose activation feeds back."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings ``(B, A)`` and hidden activations ``(B, H)`` of scaled features ``(B, D)``."""
        activation = self.activation(features)
        return unit(self.out(activation)), activation


class Feedback(OneHidden):
    """F: the decoder's hidden activations to what is added to the generator's, two layers as wide as those."""

    def forward(self, activation: Tensor) -> Tensor:
        """Return the feedback ``(B, H)`` of activations ``(B, H)``."""
        return leaky_relu(self.out(self.activation(activation)))


class TFVAEGAN(SemanticVAEGAN, config=TFVAEGANConfig):
    """An f-VAEGAN whose decoder of class embeddings feeds back to the generator.

    ``x' = G(z, a; h + a1 F(Dec_h(x)))`` with ``x = G(z, a)``: h is the generator's hidden layer, Dec_h the decoder's
    (feedback module, section 3). Heads live on ``[x; Dec(x); Dec_h(x)]`` (discriminative features, section 3).

    The released code passes over the rows twice in an epoch, first without feedback, then with it. Here a step is two
    iterations, one of either kind, on batches of their own; so an epoch is as much work as there, it ends with
    feedback trained as often as the rest, and only the order is finer. The feedback module moves only with feedback.
    No gradient runs through the decoder into the first features, as in that code. There the last generator step
    without encoded noise (FLO) decodes the reconstruction in place of the fake that it then corrects; here feedback
    always comes from the features that it mends.
    """

    config: TFVAEGANConfig
    stacked_fakes: ClassVar[bool] = False  # the decoder moves between critic steps, and fakes depend on it

    def __init__(self, config: TFVAEGANConfig, embedding: EmbeddingConfig | None = None) -> None:
        super().__init__(config, embedding)
        self.strength = config.synthesis_feedback_weight

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return the VAE-GAN's networks, Dec and F."""
        networks, width = super().build_networks(feature_dim, embedding_dim, n_seen), self.config.hidden_dim
        networks["decoder"] = SemanticDecoder(feature_dim, width, embedding_dim)
        networks["feedback"] = Feedback(width, width, width)
        return networks

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]:
        """Yield an iteration without feedback, then one with it, each with draws of its own."""
        try:
            self.strength = 0.0
            yield from super().updates(data, draws.iteration(0, of=2))
            self.strength = self.config.feedback_weight
            for update in super().updates(data, draws.iteration(1, of=2)):
                with_feedback = "generator" in update.roles
                yield replace(update, roles=(*update.roles, "feedback")) if with_feedback else update
        finally:
            self.strength = self.config.synthesis_feedback_weight

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return features after feedback: a2 of it, in training's first iteration none and in its second a1."""
        generator = self.network("generator", Generator)
        hidden = generator.activation(noise, condition)
        if not self.strength:
            return generator.features(hidden)
        with torch.no_grad():
            first = self.network("decoder", SemanticDecoder).activation(generator.features(hidden))
        return generator.features(hidden + self.strength * self.networks["feedback"](first))

    def decoded(self, features: Tensor, draws: Draws) -> Tensor:
        """Return Dec's embeddings ``(B, A)`` of length 1."""
        return self.networks["decoder"](features)[0]

    def represent_scaled(self, features: Tensor) -> Tensor:
        """Return ``[x; Dec(x); Dec_h(x)]``, ``(B, D + A + H)``."""
        return torch.cat([features, *self.networks["decoder"](features)], dim=1)
