"""Losses as pure functions of tensors; every function names its source.

All take scaled features. Terms are means over the batch unless said otherwise, and unweighted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fgen.models.nets import Critic


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


def critic_terms(critic: Critic, real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The Wasserstein term and the penalty of a one-hidden-layer critic, in closed form.

    The same values and parameter gradients as ``fake.mean() - real.mean()`` with
    :func:`gradient_penalty`, from one stacked pass: the first layer is affine, so the interpolate's
    pre-activation needs no product of its own.

    Args:
        alpha: ``(B, 1)`` in [0, 1]; one per row, since per-element mixing isn't affine along a line.

    Returns:
        ``E[D(fake)] - E[D(real)]`` and the penalty, two scalars.
    """
    n_rows = len(real)
    hidden = critic.pre_activation(torch.cat([real, fake]), torch.cat([condition, condition]))
    scores = critic.score(hidden)
    mixed = torch.lerp(hidden[n_rows:].detach(), hidden[:n_rows].detach(), alpha)
    return scores[n_rows:].mean() - scores[:n_rows].mean(), _distance_from_one(critic.input_gradient(mixed))


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


def class_mean_matching(fake: Tensor, labels: Tensor, class_means: Tensor) -> Tensor:
    """Squared distance between the mean of what was generated for a class and the class's real mean.

    The centroid form of feature matching (Salimans et al. 2016, section 3.1, per class). Averaged over the
    batch's classes, each weighted by its rows, and over the columns.

    Args:
        fake: ``(B, D)``.
        labels: ``(B,)`` in [0, S).
        class_means: ``(S, D)`` means of the real training features.
    """
    classes, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(classes), fake.shape[1], dtype=fake.dtype, device=fake.device).index_add(0, inverse, fake)
    gaps = sums / counts.unsqueeze(1) - class_means[classes]
    return (gaps.square().mean(dim=1) * counts).sum() / len(labels)


def moment_matching(fake: Tensor, real: Tensor) -> Tensor:
    """Squared differences of the columns' means and standard deviations between two batches.

    First and second moments of generated and real features of the same labels; averaged over columns.

    Args:
        fake, real: ``(B, D)``, B >= 2.
    """
    means = (fake.mean(0) - real.mean(0)).square().mean()
    # The small constant keeps the slope finite in columns that are constant (dead ReLUs).
    deviations = ((fake.var(0) + 1e-8).sqrt() - (real.var(0) + 1e-8).sqrt()).square().mean()
    return means + deviations
