"""Losses as pure functions of tensors; every function names its source.

All take scaled features. Terms are means over the batch unless said otherwise, and unweighted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor
) -> Tensor:
    """WGAN-GP's penalty by double backward, for any critic (Gulrajani et al. 2017, Eq. 3).

    Args:
        critic: ``(features, condition) -> (B,)``.
        real, fake: ``(B, D)``.
        condition: ``(B, A)``; the interpolate keeps the real row's class.
        alpha: ``(B, 1)`` in [0, 1], the share of ``real``; ``(B, D)`` for cycle-WGAN's per-element mixing.

    Returns:
        Mean of (length of the critic's gradient in the features - 1) squared, a scalar.
    """
    mixed = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(mixed, condition).sum(), mixed, create_graph=True)
    return _distance_from_one(gradient)


def critic_terms(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """``E[D(fake)] - E[D(real)]`` and the gradient penalty of any critic, two scalars (Gulrajani et al. 2017, Eq. 3).

    :func:`fgen.models.closed_form.critic_gradients` is the same for critics with one hidden layer, without a graph.
    """
    distance = critic(fake, condition).mean() - critic(real, condition).mean()
    return distance, gradient_penalty(critic, real, fake, condition, alpha)


def _distance_from_one(gradient: Tensor) -> Tensor:
    # The square root's slope at 0 is infinite; a critic that ignores its features would turn to NaN.
    lengths = (gradient.square().sum(dim=1) + 1e-12).sqrt()
    return (lengths - 1).square().mean()


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the class each feature was generated for (f-CLSWGAN, Eq. 4).

    Args:
        logits: ``(B, S)`` of a classifier over the seen classes.
        labels: ``(B,)`` in [0, S).
    """
    return F.cross_entropy(logits, labels)


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, exp(log_variance)) || N(0, 1))``, summed over columns and averaged over rows (Kingma 2014, App. B).

    Args:
        mean, log_variance: ``(B, Z)``.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()


def reconstruction(rebuilt: Tensor, real: Tensor) -> Tensor:
    """Binary cross-entropy of sigmoid outputs, summed over columns and averaged over rows, as the VAE-GANs have it.

    Args:
        rebuilt: ``(B, D)`` in [0, 1].
        real: ``(B, D)`` in [0, 1]; anything outside is clamped, since rows beyond the training range are legal.
    """
    target = real.clamp(0, 1)
    # torch's own stops with a RuntimeError at NaN, where the training loop wants to name the term. Clamped as there.
    log_on, log_off = rebuilt.log().clamp(min=-100), (1 - rebuilt).log().clamp(min=-100)
    return -(target * log_on + (1 - target) * log_off).sum() / len(real)
