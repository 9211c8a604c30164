"""FREE: Chen, Wang, Xia, Peng, You, Zheng, Shao, "FREE: Feature Refinement for Generalized Zero-Shot Learning",
ICCV 2021."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fgen import rng
from fgen.models.semantic_vaegan import SemanticVAEGAN, SemanticVAEGANConfig, unit
from fgen.nn import losses
from fgen.nn.networks import OneHidden
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms


@dataclass(frozen=True, kw_only=True)
class FREEConfig(SemanticVAEGANConfig):
    """Settings of FREE; defaults are the released code's for CUB.

    Attributes:
        centre_weight: weight of the SAMC-loss.
        centre_margin: its margin Delta, a squared distance.
        centre_balance: its gamma in [0, 1]: 1 only draws rows to their own centre, 0 only drives them from others.
        other_centre: which other centre a row is driven from: ``"random"``, for fine-grained classes (CUB, FLO, SUN),
            or ``"nearest"``, for coarse ones (AWA).
        decoding: how the refiner's latent becomes an embedding: ``"sigmoid"`` as in the released runs, which never
            reaches a negative entry, or ``"unit"``, a vector of length 1, for signed embeddings.
    """

    name: ClassVar[str] = "free"

    critic_steps: int = 1
    recons_weight: float = 0.001
    centre_weight: float = 0.5
    centre_margin: float = 200.0
    centre_balance: float = 0.8
    other_centre: Literal["random", "nearest"] = "random"
    decoding: Literal["sigmoid", "unit"] = "sigmoid"


class FeatureRefiner(OneHidden):
    """FR: features to a Gaussian in the space of the embeddings, one hidden layer."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden activations ``(B, H)``, mean and deviation ``(B, A)`` in (0, 1) of features ``(B, D)``."""
        hidden = self.activation(features)
        mean, deviation = self.out(hidden).chunk(2, dim=1)
        return hidden, mean, torch.sigmoid(deviation)


class FREE(SemanticVAEGAN, config=FREEConfig):
    """An f-VAEGAN with a feature refiner FR that learns class centres and class embeddings.

    FR is trained by the SAMC-loss, ``max(0, Delta + gamma |h - c_y|^2 - (1 - gamma) |h - c_y'|^2)`` (self-adaptive
    margin centre loss: how y' is chosen fits the data set), and by the semantic cycle-consistency loss, the
    reconstruction of embeddings. Heads live on ``[x; FR's hidden layer; FR's embedding]``.

    As in the released code h is FR's mean and the SAMC-loss sees real rows only. Departures from that code: its FR
    draws noise at test time too, so that its test features are random, where heads here get the mean's embedding; the
    gradients of its centres are never zeroed; its "other" class can be the row's own; its gradient penalty of FR, its
    two more heads and its information term reach no loss. Its scripts pass over the rows twice in an epoch.
    """

    config: FREEConfig
    decoder_roles: ClassVar[tuple[str, ...]] = ("decoder", "centres")

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return the VAE-GAN's networks, FR as the decoder, and the learned centres ``(S, A)`` of the seen classes."""
        networks = super().build_networks(feature_dim, embedding_dim, n_seen)
        networks["decoder"] = FeatureRefiner(feature_dim, self.config.hidden_dim, 2 * embedding_dim)
        networks["centres"] = nn.ParameterDict({"points": torch.zeros(n_seen, embedding_dim)})
        return networks

    @property
    def centres(self) -> Tensor:
        """Return the centres ``(S, A)``."""
        return self.network("centres", nn.ParameterDict)["points"]

    def initialise(self, seed: int) -> None:
        """Set the starting weights from N(0, 0.02), the centres from N(0, 1) as in the released code."""
        super().initialise(seed)
        points = self.centres
        with torch.no_grad():
            numbers = rng.stream(seed, "init centres").standard_normal(tuple(points.shape), dtype=np.float32)
            points.copy_(torch.from_numpy(numbers))

    def decoder_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the SAMC-loss and the embeddings' reconstruction of real rows, for FR and the centres."""
        config, terms = self.config, {}
        _, mean, deviation = self.networks["decoder"](batch.features)
        if config.centre_weight:
            samc = losses.margin_to_centres(
                mean,
                batch.labels,
                self.centres,
                margin=config.centre_margin,
                balance=config.centre_balance,
                others=self.other_classes(batch.labels, draws) if config.other_centre == "random" else None,
            )
            terms["samc"] = config.centre_weight * samc
        if config.recons_weight:
            error = losses.weighted_l1(self._drawn_embedding(mean, deviation, draws), unit(batch.condition))
            terms["decoding"] = config.recons_weight * error
        return terms

    @property
    def decoder_learns(self) -> bool:
        """Return whether a term of :meth:`decoder_terms` is switched on."""
        return super().decoder_learns or self.config.centre_weight > 0

    def other_classes(self, labels: Tensor, draws: Draws) -> Tensor:
        """Return another seen class for each label ``(B,)``, all equally likely."""
        shifts = draws.chosen("other classes", lambda stream: stream.integers(1, self.n_seen, size=len(labels)))
        return (labels + shifts) % self.n_seen

    def decoded(self, features: Tensor, draws: Draws) -> Tensor:
        """Return the embedding ``(B, A)`` of a draw from FR's Gaussian."""
        _, mean, deviation = self.networks["decoder"](features)
        return self._drawn_embedding(mean, deviation, draws)

    def represent_scaled(self, features: Tensor) -> Tensor:
        """Return ``[x; hidden; embedding of the mean]``, ``(B, D + H + A)``; nothing is drawn."""
        hidden, mean, _ = self.networks["decoder"](features)
        return torch.cat([features, hidden, self._embedding(mean)], dim=1)

    def _drawn_embedding(self, mean: Tensor, deviation: Tensor, draws: Draws) -> Tensor:
        return self._embedding(mean + deviation * draws.normal("refiner noise", tuple(mean.shape)))

    def _embedding(self, latent: Tensor) -> Tensor:
        return torch.sigmoid(latent) if self.config.decoding == "sigmoid" else unit(latent)
