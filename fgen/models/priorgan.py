"""fgen's own recipe: kernel ridge predicts a class's mean, a WGAN learns how rows of a class vary about it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fgen.compute.matmul import matmul_operand, product
from fgen.features.distribution import FeatureDistribution
from fgen.features.scaling import Kind
from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.models.base.fixed_batches import NOISE_CHUNK, once_for_each_class
from fgen.nn.kernel_ridge import ClassPrior, SemanticPrior
from fgen.nn.networks import SLOPE, Critic, Linear, Output, leaky_relu, output_activation
from fgen.nn.nystroem_prior import MOST_EXACT, NystroemPrior, prior_class
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet

log = logging.getLogger("fgen")


@dataclass(frozen=True, kw_only=True)
class PriorGANConfig(AdversarialConfig):
    """Settings of the recipe; defaults are what won on validation classes of emoji.

    Attributes:
        prior_alpha: ridge penalty of the prior, relative to the kernel's mean diagonal.
        prior_width: of the prior's kernels, relative to the median squared distance of seen classes.
        truncation: the noise is multiplied by this when features are generated (not in training): less spread gives
            steadier class means to a head that takes the spread from real rows.
    """

    name: ClassVar[str] = "priorgan"

    critic_steps: int = 1
    lr: float = 2e-4
    hidden_dim: int = 512
    noise_dim: int | None = 64
    feature_scaling: Kind = "sqrt"
    prior_alpha: float = 1.0
    prior_width: float = 0.3
    truncation: float = 0.5


class PriorGAN(AdversarialGenerator, config=PriorGANConfig):
    """``G(z, a) = act(prior(a) + z F + (r(z, a) - r(-z, a)) / 2)``, trained as a WGAN-GP.

    A generator that may move a class's mean memorises the seen classes' means. Compared with a plain regression, it
    then gets worse for unseen classes with each epoch (measured on held-out classes of emoji). Here the mean is that of
    kernel ridge, in closed form. The noise's part is odd in z: its mean over z and -z is 0, so the critic can only
    teach it how rows vary. ``F`` starts from the leading directions of the within-class covariance of the real rows;
    ``r`` is a hidden layer that adapts it to the class. In training a seen class gets the mean that was predicted
    without it, as an unseen class will. Noise is generated in pairs z, -z, which removes the sampling error from the
    class's mean. The prior of more than 4,000 seen classes is Nyström's (:mod:`fgen.nn.nystroem_prior`).
    """

    config: PriorGANConfig
    _prior_is_exact = False

    def restore(self, description: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Restore a stored model; one of an earlier fgen has the exact prior, of however many classes."""
        self._prior_is_exact = "network.prior.seen" in tensors
        super().restore(description, tensors, device)

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return the prior, the generator of the noise's part, and a critic."""
        config = self.config
        widths = self.embedding.prepared_widths or (embedding_dim,)
        kind = SemanticPrior if self._prior_is_exact else prior_class(n_seen)
        prior = kind(n_seen, embedding_dim, feature_dim, widths, alpha=config.prior_alpha, width=config.prior_width)
        return {
            "prior": prior,
            "generator": OddGenerator(self.noise_dim, embedding_dim, config.hidden_dim, feature_dim, config.output),
            "critic": Critic(feature_dim, embedding_dim, config.hidden_dim),
        }

    def pretrain(self, data: TrainingSet, seed: int) -> None:
        """Fit the prior to the class means, and start ``F`` from the covariance within classes."""
        generator = self.network("generator", OddGenerator)
        prior = self.network("prior", ClassPrior)
        if isinstance(prior, NystroemPrior):
            log.info(
                "%d seen classes: the prior is Nyström's, of %d landmarks; up to %d it is exact",
                *(data.n_classes, len(prior.landmarks), MOST_EXACT),
            )
        prior.fit(data.embeddings, data.class_means(), self.embedding.prior_weights)
        values, vectors = torch.linalg.eigh(data.within_class_covariance())
        leading = (vectors * values.clamp(min=0).sqrt()).T.flip(0)[: self.noise_dim]
        with torch.no_grad():
            generator.factor.zero_()
            generator.factor[: len(leading)].copy_(leading)

    def fakes(self, purpose: str, batch: Batch, draws: Draws) -> Tensor:
        """Return rows about the mean that the prior predicts for a class from all others."""
        noise = draws.normal(purpose, (len(batch), self.noise_dim))
        mean = self.network("prior", ClassPrior).leave_one_out[batch.labels]
        return self.networks["generator"](noise, batch.condition, mean)

    def class_part(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return the embeddings and the means ``(K, D)`` that the prior predicts: a kernel of all seen classes."""
        prior = self.network("prior", ClassPrior)
        return condition, once_for_each_class(prior, condition, min(prior.dual.shape))

    def synthesise(self, noise: Tensor, condition: Tensor, mean: Tensor | None = None) -> Tensor:
        """Return rows about the predicted mean, which is computed where it isn't given, for truncated noise."""
        if mean is None:
            mean = self.networks["prior"](condition)
        return self.networks["generator"](self.config.truncation * noise, condition, mean)

    def gaussians(self, condition: Tensor) -> FeatureDistribution:
        """Return the prior's means and its own uncertainty, and the covariance of the noise's part.

        The noise isn't truncated, its part is taken as linear (see :meth:`OddGenerator.linear_factor`), and so is the
        last activation. The covariance is that of the model's average class, and has rank ``noise_dim`` at most.

        The prior was fitted to the seen classes' own means, so Bayes' rule over seen and unseen classes needs a gamma:
        without one, emoji has T1 .287 but U .04 and S .69 (seed 0, after 1 epoch). The baseline ``gaussian`` takes the
        real means and covariance of seen classes instead.
        """
        prior, known = self.network("prior", ClassPrior), torch.from_numpy(self.preprocessor(self.class_embeddings))
        factor = self.network("generator", OddGenerator).linear_factor(known.to(self.device)).double()
        covariance = factor.T @ factor
        uncertainty = prior.predictive_variance(condition) / covariance.diagonal().mean().clamp(min=1e-12)
        found = (prior(condition), covariance, uncertainty)
        mean, within, of_mean = (tensor.double().cpu().numpy() for tensor in found)
        return FeatureDistribution(mean, within, of_mean, self.scaler)

    def chunk_noise(self, stream: np.random.Generator) -> np.ndarray:
        """Draw pairs z, -z."""
        half = stream.standard_normal((NOISE_CHUNK // 2, self.noise_dim), dtype=np.float32)
        return np.stack([half, -half], axis=1).reshape(NOISE_CHUNK, self.noise_dim)


class OddGenerator(nn.Module):
    """``act(mean + z F + (r(z, a) - r(-z, a)) / 2)`` with one hidden layer in r."""

    def __init__(self, noise_dim: int, embedding_dim: int, hidden_dim: int, feature_dim: int, output: Output) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(noise_dim, feature_dim))
        self.of_noise = Linear(noise_dim, hidden_dim, bias=False)
        self.of_class = Linear(embedding_dim, hidden_dim)
        self.out = Linear(hidden_dim, feature_dim, bias=False)  # a bias would cancel
        self.output = output

    def linear_factor(self, condition: Tensor) -> Tensor:
        """Return the best linear map ``(Z, D)`` of the noise, the mean over classes of embeddings ``(C, A)``.

        It is the expected derivative of the noise's part, for the noise is normal (Stein 1981, lemma 1): a hidden unit
        with mean c and deviation w has the slope 1 with probability ``Phi(c / w)``, and else LeakyReLU's.
        """
        weight = self.of_noise.weight
        deviations = weight.norm(dim=1).clamp(min=torch.finfo(weight.dtype).tiny)
        active = torch.special.ndtr(self.of_class(condition) / deviations).mean(dim=0)
        return self.factor + ((self.out.weight * (SLOPE + (1 - SLOPE) * active)) @ weight).T

    def forward(self, noise: Tensor, condition: Tensor, mean: Tensor) -> Tensor:
        """Return scaled features for noise ``(B, Z)``, embeddings ``(B, A)`` and predicted means ``(B, D)``."""
        of_noise, of_class = self.of_noise(noise), self.of_class(condition)
        bent = self.out(0.5 * (leaky_relu(of_class + of_noise) - leaky_relu(of_class - of_noise)))
        moved = product(matmul_operand(noise), matmul_operand(self.factor)).to(mean.dtype)
        features = mean + moved + bent
        # A sigmoid would move the mean.
        return features.clamp(0, 1) if self.output == "sigmoid" else output_activation(features, self.output)
