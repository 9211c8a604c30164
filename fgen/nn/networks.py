"""Networks of the methods, and their initialisation."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen import rng
from fgen.compute.matmul import concat_columns, matmul_operand, product

Output = Literal["relu", "sigmoid", "linear"]
SLOPE = 0.2


def leaky_relu(hidden: Tensor) -> Tensor:
    """Apply LeakyReLU with the WGAN lineage's slope of 0.2."""
    return F.leaky_relu(hidden, SLOPE)


def output_activation(features: Tensor, output: Output) -> Tensor:
    """Apply a generator's last activation: a ReLU, a sigmoid, or none."""
    if output == "relu":
        return F.relu(features)
    return torch.sigmoid(features) if output == "sigmoid" else features


class Linear(nn.Linear):
    """A linear layer whose factors are cast by :func:`matmul_operand`; parameters, gradients and results are not."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return outputs ``(..., out)`` of rows ``(..., in)``."""
        factor = matmul_operand(rows)
        if factor.dtype == rows.dtype:
            return super().forward(rows)
        outputs = product(factor, matmul_operand(self.weight).T).to(rows.dtype)
        return outputs if self.bias is None else outputs + self.bias


class OneHidden(nn.Module):
    """Base of the networks with one hidden layer, of LeakyReLU unless a subclass has another, and a linear layer."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.hidden = Linear(input_dim, hidden_dim)
        self.out = Linear(hidden_dim, output_dim)

    def activation(self, *inputs: Tensor) -> Tensor:
        """Return hidden activations ``(..., H)`` of inputs ``(..., A)``, ``(..., B)`` and so on."""
        return leaky_relu(self.hidden(concat_columns(*inputs)))


class Generator(OneHidden):
    """``[noise; condition]`` to features, one hidden layer of LeakyReLU."""

    def __init__(self, noise_dim: int, embedding_dim: int, hidden_dim: int, feature_dim: int, output: Output) -> None:
        super().__init__(noise_dim + embedding_dim, hidden_dim, feature_dim)
        self.output = output

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(..., D)`` for noise ``(..., Z)`` and class embeddings ``(..., A)``."""
        return self.features(self.activation(noise, condition))

    def features(self, activation: Tensor) -> Tensor:
        """Return scaled features ``(..., D)`` of hidden activations ``(..., H)``."""
        return output_activation(self.out(activation), self.output)


class Encoder(nn.Module):
    """Rows, or ``[features; condition]``, to the mean and log-variance of a Gaussian, by one hidden layer or two.

    Args:
        input_dim: columns of all inputs together.
        middle_dim: width of a second hidden layer; None leaves it out.
        activation: of the hidden layers.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        noise_dim: int,
        middle_dim: int | None = None,
        activation: Callable[[Tensor], Tensor] = leaky_relu,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.hidden = Linear(input_dim, hidden_dim)
        self.middle = Linear(hidden_dim, middle_dim) if middle_dim else None
        self.mean = Linear(middle_dim or hidden_dim, noise_dim)
        self.log_variance = Linear(middle_dim or hidden_dim, noise_dim)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, ``(B, Z)`` twice, of inputs ``(B, A)``, ``(B, B)`` and so on."""
        hidden = self.activation(self.hidden(concat_columns(*inputs)))
        if self.middle is not None:
            hidden = self.activation(self.middle(hidden))
        return self.mean(hidden), self.log_variance(hidden)


def reparametrise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return a differentiable draw from ``N(mean, exp(log_variance))`` (Kingma & Welling 2014, section 2.4)."""
    return mean + (0.5 * log_variance).exp() * noise


class Critic(OneHidden):
    """``[features; condition]`` to one score, one hidden layer.

    Its first layer is affine, so the pre-activation of an interpolate is the interpolation of the
    pre-activations; :mod:`fgen.nn.critic_gradients` uses that.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__(feature_dim + embedding_dim, hidden_dim, 1)
        self.feature_dim = feature_dim

    def pre_activation(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return hidden values ``(B, H)`` before the LeakyReLU."""
        return self.hidden(concat_columns(features, condition))

    def score(self, pre_activation: Tensor) -> Tensor:
        """Return scores ``(B,)`` of pre-activations ``(B, H)``."""
        return self.out(leaky_relu(pre_activation)).squeeze(1)

    def input_gradient(self, pre_activation: Tensor) -> Tensor:
        """Return d score / d features ``(B, D)``, differentiable in the weights.

        LeakyReLU's derivative is constant almost everywhere, so the mask carries no gradient.
        """
        slopes = torch.where(pre_activation.detach() > 0, self.out.weight, SLOPE * self.out.weight)
        weight = matmul_operand(self.hidden.weight[:, : self.feature_dim])
        return product(matmul_operand(slopes), weight).to(slopes.dtype)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return scores ``(B,)`` of features ``(B, D)`` and class embeddings ``(B, A)``."""
        return self.score(self.pre_activation(features, condition))


class AdaptiveWeight(nn.Module):
    """A penalty's weight that follows the penalty (TF-VAEGAN's and FREE's released code).

    Once in ``every`` observations the mean of them decides: above 1.05 the weight grows by a tenth, below 1.001 it
    shrinks by one. As in that code it has no bounds: where a critic's slope stays below 1, as with FREE's one critic
    step on AWA1, it shrinks until the penalty is all but off. All state is in buffers, on the device: no step waits
    for it, and a checkpoint holds it.
    """

    value: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, start: float, every: int) -> None:
        super().__init__()
        self.every = every
        for name, number in (("value", start), ("total", 0.0), ("count", 0.0)):
            self.register_buffer(name, torch.tensor(float(number)))

    @torch.no_grad()
    def observe(self, penalty: Tensor) -> None:
        """Count one unweighted penalty, a scalar."""
        self.total += penalty.to(self.total.dtype)
        self.count += 1
        mean, due = self.total / self.count, self.count >= self.every
        factor = torch.where(mean > 1.05, 1.1, torch.where(mean < 1.001, 1 / 1.1, 1.0))
        self.value *= torch.where(due, factor, 1.0).to(self.value.dtype)
        self.total *= ~due
        self.count *= ~due


def initialise(network: nn.Module, seed: int, name: str, xavier_gain: float | None = None) -> None:
    """Set weights from N(0, 0.02) and biases to 0, from the stream of (seed, "init", name).

    Args:
        network: its linear layers are set in place.
        seed: the run's seed.
        name: the network's role, so that two networks start apart.
        xavier_gain: None is the lineage's; else weights are uniform with variance
            ``xavier_gain^2 * 2 / (fan_in + fan_out)`` (Glorot & Bengio 2010, Eq. 16).
    """
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim < 2:
                parameter.zero_()
                continue
            stream, shape = rng.stream(seed, "init", name, key), tuple(parameter.shape)
            if xavier_gain is None:
                parameter.copy_(torch.from_numpy(stream.standard_normal(shape, dtype=np.float32)) * 0.02)
            else:
                bound = xavier_gain * (6 / sum(shape)) ** 0.5
                parameter.copy_((2 * torch.from_numpy(stream.random(shape, dtype=np.float32)) - 1) * bound)
