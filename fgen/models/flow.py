"""Conditional flow matching: Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow Matching for Generative Modeling", ICLR 2023."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.compute.matmul import concat_columns
from fgen.errors import InputError
from fgen.features.scaling import Kind
from fgen.features.statistics import within_class_squares
from fgen.models.base.config import ModelConfig
from fgen.models.base.generator import FeatureGenerator
from fgen.nn.networks import Linear, Output
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms

#: Waves of the time's embedding: sines and cosines of 1 to so many half turns over the path.
N_WAVES = 8
#: A column that hardly varies within classes would make the path stiff at its end.
LEAST_VARIANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class FlowConfig(ModelConfig):
    """Settings of flow matching; no paper has it for zero-shot learning, the defaults are ours.

    Attributes:
        noise_dim: not used: the noise has as many columns as the features.
        output: ``"linear"`` leaves the path's end as it is; ``"relu"`` clips it at 0, for features that are scaled
            to start there.
        n_layers: hidden layers of the velocity network.
        n_ode_steps: midpoint steps at generation, two evaluations each.
        guidance: classifier-free guidance at generation: ``v(0) + guidance * (v(a) - v(0))``; 1 is none.
        drop_rate: share of the rows whose description is dropped in training, for the ``v(0)`` of guidance.
    """

    name: ClassVar[str] = "flow"

    beta1: float = 0.9
    hidden_dim: int = 1024
    feature_scaling: Kind = "standard"
    output: Output = "linear"
    n_layers: int = 2
    n_ode_steps: int = 10
    guidance: float = 1.0
    drop_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance != 1 and not self.drop_rate:
            raise InputError(
                f"guidance is {self.guidance}, drop_rate is 0",
                "a velocity without a description to guide away from",
                "Set drop_rate, for example to 0.1",
            )
        if self.output == "sigmoid":
            raise InputError("output is 'sigmoid'", "'linear' or 'relu'", "A path ends among the features themselves")


class Velocity(nn.Module):
    """The velocity of one Gaussian, plus hidden layers of SiLU on ``[x_t; a; waves of t; has_condition]``.

    Were a class's features independent with deviations s about a mean of 0, the velocity would be
    ``(t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2) x_t``. With that added, the layers need not pass all D columns
    through, which layers narrower than D couldn't, and learn where classes lie (Karras et al. 2022, section 5, give a
    denoiser its skip connection in this way).

    Attributes:
        variance: ``(D,)``, s squared: of the scaled features within their classes.
    """

    variance: Tensor

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int, n_layers: int) -> None:
        super().__init__()
        widths = [feature_dim + embedding_dim + 2 * N_WAVES + 1] + [hidden_dim] * n_layers
        self.hidden = nn.ModuleList(Linear(before, after) for before, after in pairwise(widths))
        self.out = Linear(hidden_dim, feature_dim)
        self.register_buffer("variance", torch.ones(feature_dim))

    def forward(self, points: Tensor, time: Tensor, condition: Tensor, has_condition: Tensor) -> Tensor:
        """Return velocities ``(B, D)`` at points ``(B, D)`` and times ``(B, 1)`` in [0, 1].

        Embeddings ``condition (B, A)`` count where ``has_condition (B, 1)`` is 1, and not where it is 0.
        """
        hidden = concat_columns(points, has_condition * condition, waves(time), has_condition)
        for layer in self.hidden:
            hidden = F.silu(layer(hidden))
        signal, noise = time * self.variance, 1 - time
        return (signal - noise) / (time * signal + noise.square()) * points + self.out(hidden)


def waves(time: Tensor) -> Tensor:
    """Return sines and cosines ``(B, 2 * N_WAVES)`` of times ``(B, 1)``."""
    angles = time * (math.pi * torch.arange(1, N_WAVES + 1, dtype=time.dtype, device=time.device))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def within_variance(data: TrainingSet) -> Tensor:
    """Return the mean square ``(D,)`` of scaled features about their class's mean."""
    means = data.class_means().cpu().numpy()
    squares = within_class_squares(data.scaler.blocks(data.features), data.labels, means)
    return torch.from_numpy((squares / len(data)).astype(np.float32)).to(data.device)


class Flow(FeatureGenerator, config=FlowConfig):
    """A velocity field that carries noise to features along straight lines.

    ``min_v E |v(x_t, t, a) - (x_1 - x_0)|^2`` with ``x_t = (1 - t) x_0 + t x_1``, noise x_0, real features x_1 and t
    uniform (Lipman et al. 2023, Eq. 22 and 23 with sigma_min = 0: the conditional optimal-transport path; Tong et al.
    2024 call it independent coupling). Features are the ends of ``dx/dt = v`` from noise, by the midpoint rule.

    Guidance and the dropped descriptions are Ho & Salimans' (2022) for velocities. Feature matching acts on
    :meth:`coarse_path`. The one-step estimate ``x_t + (1 - t) v`` of x_1 has no part in it: it is the mean of what
    x_t may become, so that its spread is too small to match anything's, and it starts from real rows.
    """

    config: FlowConfig
    #: Under N(0, 0.02) a signal would fade from layer to layer.
    xavier_gain: ClassVar[float | None] = 1.0

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return the velocity network."""
        return {"velocity": Velocity(feature_dim, embedding_dim, self.config.hidden_dim, self.config.n_layers)}

    def compute_statistics(self, data: TrainingSet, seed: int) -> None:
        """Compute the features' variance within classes too."""
        super().compute_statistics(data, seed)
        self.network("velocity", Velocity).variance.copy_(within_variance(data).clamp(min=LEAST_VARIANCE))

    @property
    def noise_dim(self) -> int:
        """Return D: a path starts in the space where it ends."""
        return self.scaler.dim

    def terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the terms of Eq. 23 and, if switched on, feature matching of :meth:`coarse_path`.

        Means over rows and columns. The two halves of the path are two terms, whose sum is the loss: the first
        tells classes apart, the second gives features their details.
        """
        noise, time = draws.normal("noise", tuple(batch.features.shape)), draws.uniform("time", (len(batch), 1))
        has_condition = (draws.uniform("dropped", (len(batch), 1)) >= self.config.drop_rate).to(noise.dtype)
        points = torch.lerp(noise, batch.features, time)
        velocity = self.networks["velocity"](points, time, batch.condition, has_condition)
        gaps = (velocity - (batch.features - noise)).square().mean(dim=1, keepdim=True)
        terms = {"early": (gaps * (time < 0.5)).mean(), "late": (gaps * (time >= 0.5)).mean()}
        return terms | (self.matching.terms(self.coarse_path(batch, draws), batch) if self.matching.weights else {})

    def coarse_path(self, batch: Batch, draws: Draws) -> Tensor:
        """Return features ``(B, D)`` from new noise in two Euler steps, differentiable through both."""
        points = draws.normal("matching noise", tuple(batch.features.shape))
        ones = torch.ones_like(points[:, :1])
        for time in (0.0, 0.5):
            points = points + 0.5 * self.networks["velocity"](points, time * ones, batch.condition, ones)
        return points

    def velocity(self, points: Tensor, time: float, condition: Tensor) -> Tensor:
        """Return the guided velocity ``(B, D)`` at one time (Ho & Salimans 2022, Eq. 6)."""
        network, times = self.networks["velocity"], points.new_full((points.shape[0], 1), time)
        velocity = network(points, times, condition, torch.ones_like(times))
        if self.config.guidance == 1:
            return velocity
        return torch.lerp(network(points, times, condition, torch.zeros_like(times)), velocity, self.config.guidance)

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(B, D)`` for noise ``(B, D)`` and embeddings ``(B, A)``, by the midpoint rule."""
        points, length = noise, 1 / self.config.n_ode_steps
        for step in range(self.config.n_ode_steps):
            middle = points + 0.5 * length * self.velocity(points, step * length, condition)
            points = points + length * self.velocity(middle, (step + 0.5) * length, condition)
        return F.relu(points) if self.config.output == "relu" else points
