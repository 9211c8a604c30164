"""CADA-VAE: Schönfeld, Ebrahimi, Sinha, Darrell, Akata, "Generalized Zero- and Few-Shot Learning via Aligned
Variational Autoencoders", CVPR 2019."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from fgen.errors import InputError
from fgen.models.base.config import ModelConfig
from fgen.models.base.generator import FeatureGenerator
from fgen.nn import losses
from fgen.nn.networks import Encoder, Linear, Output, output_activation, reparametrise
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms

#: Keeps the square root's slope finite where two Gaussians coincide.
TINY = 1e-12
#: Terms whose weights grow in the first epochs.
WARMED_UP = ("divergence", "cross", "alignment")


@dataclass(frozen=True, kw_only=True)
class CADAVAEConfig(ModelConfig):
    """Settings of CADA-VAE; defaults are the paper's, the same for all data sets.

    Attributes:
        noise_dim: columns of the latent space.
        hidden_dim, feature_decoder_dim: hidden width of the features' encoder and decoder.
        description_encoder_dim, description_decoder_dim: of the class embeddings'.
        divergence_weight, cross_weight, alignment_weight: beta, gamma and delta of Eq. 6 after their warm-up.
        divergence_start, divergence_end, cross_start, cross_end, alignment_start, alignment_end: the epochs, counted
            from 0, between which the weight rises from 0 in a straight line.
        shared_noise: one random number for all columns of a row's draw, as in the released code, whose weights and
            warm-ups need it: with a number for each column, as in the paper's formula, the latents of AWA1's features
            collapsed onto the prior under them.
    """

    name: ClassVar[str] = "cadavae"

    epochs: int = 100
    batch_size: int = 50
    lr: float = 1.5e-4
    beta1: float = 0.9
    hidden_dim: int = 1560
    noise_dim: int | None = 64
    output: Output = "linear"
    feature_decoder_dim: int = 1660
    description_encoder_dim: int = 1450
    description_decoder_dim: int = 665
    divergence_weight: float = 0.25
    divergence_start: int = 0
    divergence_end: int = 93
    cross_weight: float = 2.37
    cross_start: int = 21
    cross_end: int = 75
    alignment_weight: float = 8.13
    alignment_start: int = 6
    alignment_end: int = 22
    shared_noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for term in WARMED_UP:
            start, end = getattr(self, f"{term}_start"), getattr(self, f"{term}_end")
            if not 0 <= start < end:
                raise InputError(f"{term}_start, {term}_end are {start}, {end}", "epochs, 0 <= start < end")

    def warmed_up(self, term: str, epoch: int) -> float:
        """Return the weight of ``"divergence"``, ``"cross"`` or ``"alignment"`` in an epoch, counted from 0."""
        start, end = getattr(self, f"{term}_start"), getattr(self, f"{term}_end")
        return getattr(self, f"{term}_weight") * min(max((epoch - start) / (end - start), 0.0), 1.0)


class CADAVAE(FeatureGenerator, config=CADAVAEConfig):
    """Two VAEs, of features and of class embeddings, whose latent spaces are drawn together.

    ``L_VAE + gamma L_CA + delta L_DA`` (Eq. 6): each VAE's L1 reconstruction and beta-weighted divergence (Eq. 3),
    each decoder also fed with the other encoder's latents (Eq. 4), and the 2-Wasserstein distance between the two
    Gaussians of a row (Eq. 5). The heads live in the latent space: images are represented by their encoder's mean.

    A run's heads train on draws from ``E_att`` themselves, as in the paper, and its bank lives in the latent space.
    Raw features, which :meth:`generate` and ``fgen generate`` give, are decoded: ``D_img`` of such a draw. Where they
    are encoded again, heads see ``E_img(D_img(draw))``: the round trip takes away what of the draw the decoder doesn't
    show, so that classes are narrower than in the paper, and it lies where images lie even where the two Gaussians
    don't meet.

    The published code differs from the paper, and so from this: it draws with ``sigma = exp(log_variance)``, while its
    divergence and distance take ``log_variance`` for what it is called, as is done here; it sums losses over the
    batch's rows (here their mean, which Adam doesn't tell apart); it fits the feature scaling anew on the test rows, of
    seen and of unseen classes each (here the training rows' is used); and its generalized heads see 200 draws of each
    seen class, half as many as of an unseen one (here the means of all real rows, without noise, so that seen classes
    are answered more often unless gamma is chosen on validation: ``calibrate = true``).
    """

    config: CADAVAEConfig
    #: The published code's.
    xavier_gain: ClassVar[float | None] = 0.5
    bank_space: ClassVar[str] = "latent"
    #: The paper's one optimiser for all networks takes the same steps as one for each.
    amsgrad: ClassVar[bool] = True

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return an encoder and a decoder for each modality."""
        config, latent = self.config, self.noise_dim
        return {
            "feature_encoder": Encoder(feature_dim, config.hidden_dim, latent, activation=F.relu),
            "feature_decoder": _decoder(latent, config.feature_decoder_dim, feature_dim),
            "description_encoder": Encoder(embedding_dim, config.description_encoder_dim, latent, activation=F.relu),
            "description_decoder": _decoder(latent, config.description_decoder_dim, embedding_dim),
        }

    def graph_constants(self, epoch: int) -> tuple[float, ...]:
        """Return the weights that are warmed up."""
        return tuple(self.config.warmed_up(term, epoch) for term in WARMED_UP)

    def terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the terms of Eq. 6 and feature matching of the features decoded from the embeddings' latents.

        Sums over columns, means over rows. A term whose warm-up hasn't begun is left out.
        """
        features, condition, networks = batch.features, batch.condition, self.networks
        image = networks["feature_encoder"](features)
        text = networks["description_encoder"](condition)
        of_image = self.drawn(image[0], image[1], draws.normal("image noise", tuple(image[0].shape)))
        of_text = self.drawn(text[0], text[1], draws.normal("description noise", tuple(text[0].shape)))
        to_condition, fake = networks["description_decoder"], self.decode(of_text)
        terms = {
            "reconstruction": l1(self.decode(of_image), features),
            "description_reconstruction": l1(to_condition(of_text), condition),
        }
        epoch = draws.step // self.steps_per_epoch
        if weight := self.config.warmed_up("divergence", epoch):
            divergence = losses.gaussian_divergence(*image) + losses.gaussian_divergence(*text)
            terms["divergence"] = weight * divergence
        if weight := self.config.warmed_up("cross", epoch):
            terms["cross"] = weight * (l1(fake, features) + l1(to_condition(of_image), condition))
        if weight := self.config.warmed_up("alignment", epoch):
            terms["alignment"] = weight * gaussian_distance(*image, *text)
        return terms | self.matching.terms(fake, batch)

    def synthesise_represented(self, noise: Tensor, *class_part: Tensor) -> Tensor:
        """Return latents ``(B, Z)``, draws from ``E_att``, for noise ``(B, Z)`` and embeddings ``(B, A)`` alone.

        What the paper's heads train on; :meth:`represent_scaled` of :meth:`synthesise` goes through both decoder and
        encoder and isn't the same, see the class.
        """
        mean, log_variance = self.networks["description_encoder"](*class_part)
        return self.drawn(mean, log_variance, noise)

    def drawn(self, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
        """Draw from each row's Gaussian, all ``(B, Z)``; shared noise uses its first column for all columns."""
        return reparametrise(mean, log_variance, noise[:, :1] if self.config.shared_noise else noise)

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(B, D)``, ``D_img`` of a draw, for noise ``(B, Z)`` and embeddings ``(B, A)``."""
        return self.decode(self.synthesise_represented(noise, condition))

    def represent_scaled(self, features: Tensor) -> Tensor:
        """Return the mean ``(B, Z)`` of ``E_img`` for scaled features ``(B, D)``."""
        return self.networks["feature_encoder"](features)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Return scaled features ``(B, D)`` of latents ``(B, Z)``; the paper's decoder ends linearly."""
        return output_activation(self.networks["feature_decoder"](latents), self.config.output)


def _decoder(latent_dim: int, hidden_dim: int, output_dim: int) -> nn.Module:
    return nn.Sequential(Linear(latent_dim, hidden_dim), nn.ReLU(), Linear(hidden_dim, output_dim))


def l1(rebuilt: Tensor, real: Tensor) -> Tensor:
    """Return the absolute differences of ``(B, K)``, summed over columns and averaged over rows."""
    return (rebuilt - real).abs().sum(dim=1).mean()


def gaussian_distance(mean: Tensor, log_variance: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """Return the 2-Wasserstein distance of diagonal Gaussians, averaged over rows (Eq. 5).

    ``sqrt(|mean - mean2|^2 + |sigma - sigma2|^2)`` with ``sigma = exp(log_variance / 2)``; all ``(B, Z)``.
    """
    spread = (0.5 * log_variance).exp() - (0.5 * log_variance2).exp()
    return ((mean - mean2).square().sum(dim=1) + spread.square().sum(dim=1) + TINY).sqrt().mean()
