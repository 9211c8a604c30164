"""Against the bias to seen classes, in training: rows that weigh differently, and logits that know the classes' priors.

The third remedy, a constant taken from the seen classes' scores afterwards, is the protocol's (calibrated stacking).
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_weights(targets: Tensor, is_seen: Tensor, *, balanced: bool = False, seen_weight: float = 1.0) -> Tensor:
    """What each row counts for in the loss.

    Args:
        targets: ``(N,)`` positions of the rows' classes.
        is_seen: ``(K,)`` which classes are seen.
        balanced: the rows of every class that has some weigh the same in sum.
        seen_weight: a row of a seen class weighs this, beside 1 for a row of an unseen one. ZSML's released code has
            .1 on AWA2; PyTorch divides such weights by their sum over a batch, here it is over all rows, so that a
            batch without an unseen class isn't weighed up.

    Returns:
        ``(N, 1)`` float32 with mean 1, so that learning rates and penalties keep their meaning.
    """
    weights = torch.ones(len(targets), dtype=torch.float64)
    if balanced:
        counts = torch.bincount(targets)
        weights = len(targets) / (counts.count_nonzero() * counts[targets]).double()
    if seen_weight != 1:
        weights = torch.where(is_seen[targets], seen_weight * weights, weights)
        weights /= weights.mean()
    return weights.float().unsqueeze(1)


def log_prior(targets: Tensor, is_seen: Tensor, ratio: float | None) -> Tensor:
    """Zero-shot logit adjustment (Chen et al. 2022, equation 11 and what stands by 14): what training adds to logits.

    ``log p(y | group) + log p0(group)``. The first is the class's share of its group's rows: the paper's choice for
    seen classes, and for unseen ones too, 1 / U, as it generates equally many of each. The second is
    ``ratio / (1 + ratio)`` for the seen group and ``1 / (1 + ratio)`` for the unseen one.

    Where the paper is silent: synthetic rows of seen classes count as rows of their class, and a class without rows
    counts as one row, for its logarithm has to be finite.

    Args:
        targets: ``(N,)`` positions of the rows' classes.
        is_seen: ``(K,)`` which classes are seen.
        ratio: the odds of seen against unseen that the loss is told. The larger, the less a seen class has to score
            in order to fit its rows, and the fewer rows it takes when the offsets are gone. None is the rows' own
            odds, which is the logit adjustment of Menon et al. (2021).

    Returns:
        ``(K,)`` float32.
    """
    counts = torch.bincount(targets, minlength=len(is_seen)).clamp(min=1).double()
    of_seen, of_unseen = counts[is_seen].sum(), counts[~is_seen].sum()
    if ratio is None or of_seen == 0 or of_unseen == 0:  # with one group alone its prior is a constant
        return (counts / counts.sum()).log().float()
    group = torch.where(is_seen, ratio / of_seen, 1 / of_unseen) / (1 + ratio)
    return (counts * group).log().float()
