"""Few-step adversarial denoising in the manner of ZeroDiff: Ye, Gowda, Huang, et al., "ZeroDiff: Solidified
Visual-semantic Correlation in Zero-Shot Learning", ICLR 2025."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fgen.errors import InputError
from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses
from fgen.nn.critic_gradients import critic_gradients
from fgen.nn.networks import AdaptiveWeight, Critic, Encoder, Generator, Output, reparametrise
from fgen.nn.noise_schedule import Schedule
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(AdversarialConfig):
    """Settings of few-step adversarial denoising; defaults are the published script's for AWA2.

    Attributes:
        noise_dim: columns of the VAE's latent; None means as many as the class embedding has. Generation draws more,
            see :attr:`Diffusion.noise_dim`.
        n_timesteps: denoising steps (n_T).
        beta_min, beta_max: of the variance-preserving noise schedule.
        progressive: generate by all denoising steps; else by one, from pure noise. The published code does both and
            reports the better.
        gan_weight: weight of the critics' terms beside the VAE's, in their own steps and in the generator's.
        vae_weight: weight of reconstruction and divergence.
        mutual_weight, mutual_power: the critics' mutual learning, each row weighted by its share of signal to that
            power.
        adapt_gp_weight: whether ``gp_weight`` follows the penalty, as published.
    """

    name: ClassVar[str] = "diffusion"

    epochs: int = 300
    lr: float = 5e-4
    output: Output = "sigmoid"
    n_timesteps: int = 4
    beta_min: float = 0.1
    beta_max: float = 20.0
    progressive: bool = True
    gan_weight: float = 10.0
    vae_weight: float = 1.0
    mutual_weight: float = 5.0
    mutual_power: float = 2.5
    adapt_gp_weight: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_min < self.beta_max:
            raise InputError(f"beta_min, beta_max are {self.beta_min}, {self.beta_max}", "0 < beta_min < beta_max")


class Transition(NamedTuple):
    """Noising step of a batch: ``level (B,)``, ``before (B, D)`` at it, ``after (B, D)`` one level up."""

    level: Tensor
    before: Tensor
    after: Tensor


class Diffusion(AdversarialGenerator, config=DiffusionConfig):
    """A denoiser that goes from noise to features in few wide steps, since critics tell it how steps should look.

    The generator G(z, a, x_t+1, t) predicts clean features x_0; a draw of q(x_t | x_0, x_t+1) makes it a denoising
    step. One critic sees ``(x_0, a)``, one sees ``(x_t, x_t+1, a, t)``, each in ``gan_weight L_WGAN``; they learn from
    each other by the squared difference of their row-wise distances, weighted by the row's share of signal. z is
    encoded from the real features, so that G is a VAE's decoder too (binary cross-entropy and divergence). At
    generation z is drawn once, and kept along the steps.

    "In the manner of", and written from the released code's formulas. Left out is what features alone don't give: the
    supervised-contrastive representations of a fine-tuned extractor, the generator that imitates them and the third
    critic that sees them; so the paper's numbers are none of this method's. Its semantic decoder is left out too:
    ``cycle_weight`` has a like one in closed form. t is one-hot, which a first layer makes of it what the code's
    learned embedding of n values can. The encoder has the generator's beta1, the code's 0.9. The code's progressive
    sampler fails by name in one version; and test features enter its training loop, for logging.
    """

    config: DiffusionConfig

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return denoiser, encoder, two critics, the schedule, and the penalty's weight if it adapts."""
        config, latent, n = self.config, self.latent_dim, self.config.n_timesteps
        inputs = latent + feature_dim + n
        networks: dict[str, nn.Module] = {
            "generator": Generator(inputs, embedding_dim, config.hidden_dim, feature_dim, config.output),
            "encoder": Encoder(feature_dim + embedding_dim, config.hidden_dim, latent, 2 * latent),
            "critic": Critic(feature_dim, feature_dim + embedding_dim + n, config.hidden_dim),
            "critic_clean": Critic(feature_dim, embedding_dim, config.hidden_dim),
            "schedule": Schedule(n, config.beta_min, config.beta_max),
        }
        if config.adapt_gp_weight:
            networks["gp_weight"] = AdaptiveWeight(config.gp_weight, config.critic_steps)
        return networks

    @property
    def schedule(self) -> Schedule:
        """Return the noise schedule."""
        return self.network("schedule", Schedule)

    @property
    def latent_dim(self) -> int:
        """Return Z, the number of columns of the VAE's latent."""
        return super().noise_dim

    @property
    def noise_dim(self) -> int:
        """Return the columns of noise: Z for the latent, D for the start, and D for each step but the last."""
        n_draws = self.config.n_timesteps if self.config.progressive else 1
        return self.latent_dim + n_draws * self.scaler.dim

    def learning_rate(self, role: str, epoch: int) -> float:
        """Return ``critic_lr`` for both critics if it is set, else ``lr``."""
        return super().learning_rate("critic" if role == "critic_clean" else role, epoch)

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]:
        """Yield ``critic_steps`` updates of both critics, then one of encoder and generator on the last batch."""
        config, written = self.config, self.config.gp_weight > 0
        stacked = data.batches(draws, config.critic_steps, config.batch_size)
        batches = stacked.split(len(stacked) // config.critic_steps)
        for index, batch in enumerate(batches if config.gan_weight else []):
            terms = partial(self.critics_terms, batch, draws.part(index))
            yield Update(("critic", "critic_clean"), terms, writes_gradients=written)
        yield Update(("encoder", "generator"), partial(self.generator_terms, batches[-1], draws))

    def transition(self, batch: Batch, draws: Draws) -> Transition:
        """Return a noising step from a random level for each row (Ho et al. 2020, Eq. 2 and 4)."""
        schedule, shape = self.schedule, tuple(batch.features.shape)
        t = draws.chosen("level", lambda stream: stream.integers(self.config.n_timesteps, size=len(batch)))
        before = schedule.signal[t] * batch.features + schedule.noise[t] * draws.normal("noise before", shape)
        after = schedule.keep[t] * before + schedule.add[t] * draws.normal("noise after", shape)
        return Transition(t, before, after)

    def denoise(self, latent: Tensor, noisy: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Predict clean features ``(B, D)`` by G from ``noisy (B, D)``, one level above ``level (B,)``."""
        inputs = torch.cat([latent, noisy, self.one_hot(level)], dim=1)
        return self.networks["generator"](inputs, condition)

    def one_hot(self, level: Tensor) -> Tensor:
        """Return levels ``(B,)`` as one-hot rows ``(B, n_timesteps)``."""
        return torch.eye(self.config.n_timesteps, device=level.device)[level]

    def critics_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return ``gan_weight L_WGAN`` of both critics and their mutual learning.

        With a penalty the gradients of ``L_WGAN`` are written, not left to autograd.
        """
        step, real, config = self.transition(batch, draws), batch.features, self.config
        with torch.no_grad():
            latent = reparametrise(*self.encode(batch), draws.normal("latent", (len(batch), self.latent_dim)))
            clean = self.denoise(latent, step.after, step.level, batch.condition)
            noise = draws.normal("posterior", tuple(clean.shape))
            before = self.schedule.posterior(clean, step.after, step.level, noise)
        step_condition = self.step_condition(step, batch)
        adaptive, scale = (
            self.network("gp_weight", AdaptiveWeight) if config.adapt_gp_weight else None,
            config.gan_weight,
        )
        weight = config.gp_weight if adaptive is None else adaptive.value
        terms: Terms = {}
        penalties, gaps = [], []
        for role, genuine, fake, condition in (
            ("critic", step.before, before, step_condition),
            ("critic_clean", real, clean, batch.condition),
        ):
            critic, alpha = self.network(role, Critic), draws.uniform(f"mixing {role}", (len(batch), 1))
            if config.gp_weight:
                distance, penalty = critic_gradients(critic, genuine, fake, condition, alpha, scale * weight, scale)
                terms |= {role: distance, f"{role}_penalty": scale * weight * penalty}
                penalties.append(penalty)
            else:
                terms[role] = scale * losses.critic_distance(critic, genuine, fake, condition)
            if config.mutual_weight:
                gaps.append(critic(genuine, condition) - critic(fake, condition))
        if config.mutual_weight:
            # Published as two terms, each with the other critic's distance held fixed: the same gradient.
            share = self.schedule.signal[step.level].squeeze(1) ** config.mutual_power
            terms["mutual"] = config.mutual_weight * (share * (gaps[0] - gaps[1]).square()).mean()
        if adaptive is not None and penalties:
            adaptive.observe(penalties[0] + penalties[1])
        return terms

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance ``(B, Z)`` of the VAE's Gaussian over the latent."""
        return self.networks["encoder"](batch.features, batch.condition)

    def step_condition(self, step: Transition, batch: Batch) -> Tensor:
        """Return the condition of the critic of x_t: ``[x_t+1; a; t]``."""
        return torch.cat([step.after, batch.condition, self.one_hot(step.level)], dim=1)

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the VAE's terms, ``-gan_weight E[D]`` of both critics, and feature matching of the predicted x_0."""
        config, step, (mean, log_variance) = self.config, self.transition(batch, draws), self.encode(batch)
        latent = reparametrise(mean, log_variance, draws.normal("latent", tuple(mean.shape)))
        clean = self.denoise(latent, step.after, step.level, batch.condition)
        terms = {}
        if config.gan_weight:
            noise = draws.normal("posterior", tuple(clean.shape))
            before = self.schedule.posterior(clean, step.after, step.level, noise)
            score = self.networks["critic"](before, self.step_condition(step, batch)).mean()
            clean_score = self.networks["critic_clean"](clean, batch.condition).mean()
            terms = {
                "adversarial": -config.gan_weight * score,
                "adversarial_clean": -config.gan_weight * clean_score,
            }
        if config.vae_weight:
            terms |= {
                "reconstruction": config.vae_weight * losses.reconstruction(clean, batch.features, config.output),
                "divergence": config.vae_weight * losses.gaussian_divergence(mean, log_variance),
            }
        return terms | self.matching.terms(clean, batch)

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(B, D)`` for noise ``(B, noise_dim)`` and embeddings ``(B, A)``."""
        latent, rest = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        points, *draws = rest.split(self.scaler.dim, dim=1)
        levels = torch.arange(self.config.n_timesteps, device=noise.device)[:, None].expand(-1, noise.shape[0])
        last = self.config.n_timesteps - 1
        for level, draw in zip(range(last, 0, -1), draws, strict=False):  # without draws there is one step
            clean = self.denoise(latent, points, levels[level], condition)
            points = self.schedule.posterior(clean, points, level, draw)
        return self.denoise(latent, points, levels[last - len(draws)], condition)
