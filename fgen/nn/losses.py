"""Losses as pure functions of tensors; every function names its source.

All take scaled features. Terms are means over the batch unless said otherwise, and unweighted.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.nn.geometry import squared_distances
from fgen.nn.networks import Output


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor
) -> Tensor:
    """Return WGAN-GP's penalty by double backward, for any critic (Gulrajani et al. 2017, Eq. 3).

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
    return distance_from_one(gradient)


def critic_terms(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``E[D(fake)] - E[D(real)]`` and the gradient penalty of any critic (Gulrajani et al. 2017, Eq. 3).

    :func:`fgen.nn.critic_gradients.critic_gradients` is the same for critics with one hidden layer, without a graph.
    """
    distance = critic_distance(critic, real, fake, condition)
    return distance, gradient_penalty(critic, real, fake, condition, alpha)


def critic_distance(
    critic: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor, condition: Tensor
) -> Tensor:
    """Return ``E[D(fake)] - E[D(real)]``, a scalar."""
    return critic(fake, condition).mean() - critic(real, condition).mean()


def distance_from_one(gradient: Tensor) -> Tensor:
    """Return the mean of ``(|g| - 1)^2`` over the rows of input gradients ``(B, D)``, a scalar."""
    # The square root's slope at 0 is infinite; a critic that ignores its features would turn to NaN.
    lengths = (gradient.square().sum(dim=1) + 1e-12).sqrt()
    return (lengths - 1).square().mean()


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood of the class each feature was generated for (f-CLSWGAN, Eq. 4).

    Args:
        logits: ``(B, S)`` of a classifier over the seen classes.
        labels: ``(B,)`` in [0, S).
    """
    return F.cross_entropy(logits, labels)


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return ``KL(N(mean, exp(log_variance)) || N(0, 1))``, averaged over rows (Kingma 2014, App. B).

    Args:
        mean, log_variance: ``(B, Z)``.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()


def reconstruction(rebuilt: Tensor, real: Tensor, output: Output = "sigmoid") -> Tensor:
    """Return a decoder's reconstruction error, summed over columns and averaged over rows.

    Binary cross-entropy of sigmoid outputs, as the VAE-GANs have it; of any other output, which may leave [0, 1],
    half the squared error, a Gaussian's likelihood.

    Args:
        rebuilt: ``(B, D)``.
        real: ``(B, D)``; for the cross-entropy what lies outside [0, 1] is clamped, since rows beyond the training
            range are legal.
        output: the decoder's last activation.
    """
    if output != "sigmoid":
        return 0.5 * (rebuilt - real).square().sum(dim=1).mean()
    target = real.clamp(0, 1)
    # torch's own stops with a RuntimeError at NaN, where the training loop wants to name the term. Clamped as there.
    log_on, log_off = rebuilt.log().clamp(min=-100), (1 - rebuilt).log().clamp(min=-100)
    return -(target * log_on + (1 - target) * log_off).sum() / len(real)


def weighted_l1(decoded: Tensor, target: Tensor) -> Tensor:
    """Return ``sum_j w_j |d_j|`` with ``d = decoded - target`` and ``w = d^2 / |d|_2``, averaged over rows.

    What TF-VAEGAN's and FREE's released code has for the L1 distance of their papers. The weights carry a gradient
    there and here. The small constant keeps the slope finite where a row is met exactly.

    Args:
        decoded, target: ``(B, A)``.
    """
    gaps = (decoded - target).abs()
    return (gaps.pow(3).sum(dim=1) / (gaps.square().sum(dim=1) + 1e-12).sqrt()).mean()


def margin_to_centres(
    latent: Tensor,
    labels: Tensor,
    centres: Tensor,
    *,
    margin: float,
    balance: float,
    others: Tensor | None = None,
) -> Tensor:
    """Return FREE's SAMC-loss, the mean of ``max(0, margin + balance |h - c_y|^2 - (1 - balance) |h - c_y'|^2)``.

    Args:
        latent: ``(B, A)``, h.
        labels: ``(B,)`` in [0, S), y.
        centres: ``(S, A)``, c; they get a gradient too.
        margin, balance: Delta >= 0, and gamma in [0, 1].
        others: ``(B,)`` in [0, S), y', each other than the label; None takes the nearest of the other centres.
    """
    classes = torch.arange(len(centres), device=labels.device)
    distances = squared_distances(latent, centres)
    own = classes == labels.unsqueeze(1)
    to_own = distances.where(own, 0.0).sum(dim=1)
    if others is None:
        to_other = distances.masked_fill(own, torch.inf).amin(dim=1)
    else:
        to_other = distances.where(classes == others.unsqueeze(1), 0.0).sum(dim=1)
    return F.relu(margin + balance * to_own - (1 - balance) * to_other).mean()
