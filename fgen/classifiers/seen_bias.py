"""Remedies in training for the bias towards seen classes: weights of rows, and logits adjusted by class priors.

The third remedy, subtracting a constant from seen classes' scores (calibrated stacking), is part of the protocol.
"""

import torch
from torch import Tensor


def row_weights(targets: Tensor, is_seen: Tensor, *, balanced: bool = False, seen_weight: float = 1.0) -> Tensor:
    """Return the weight of each row in the loss.

    Args:
        targets: ``(N,)`` positions of the rows' classes.
        is_seen: ``(K,)`` which classes are seen.
        balanced: give every class that has rows the same total weight.
        seen_weight: weight of a row of a seen class; a row of an unseen class has 1. ZSML's released code has .1 on
            AWA2. PyTorch divides such weights by their sum over a batch; here they are divided by their mean over
            all rows, so that a batch without an unseen class has no more weight.

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
    """Return what training adds to logits in zero-shot logit adjustment (Chen et al. 2022, equation 11 and at 14).

    ``log p(y | group) + log p0(group)``. The first is the class's share of its group's rows: the paper's choice for
    seen classes, and for unseen ones too, 1 / U, as it generates equally many of each. The second is
    ``ratio / (1 + ratio)`` for the seen group and ``1 / (1 + ratio)`` for the unseen one.

    The paper doesn't say two things: here synthetic rows of seen classes count as rows of their class, and a class
    without rows counts as one row, since its logarithm has to be finite.

    Args:
        targets: ``(N,)`` positions of the rows' classes.
        is_seen: ``(K,)`` which classes are seen.
        ratio: odds of seen against unseen. The larger, the lower the logits with which a seen class fits its rows, and
            the fewer rows it wins when the offsets are left out. None takes the rows' own odds, which is the logit
            adjustment of Menon et al. (2021).

    Returns:
        ``(K,)`` float32.
    """
    counts = torch.bincount(targets, minlength=len(is_seen)).clamp(min=1).double()
    of_seen, of_unseen = counts[is_seen].sum(), counts[~is_seen].sum()
    if ratio is None or of_seen == 0 or of_unseen == 0:  # with one group its prior is a constant
        return (counts / counts.sum()).log().float()
    group = torch.where(is_seen, ratio / of_seen, 1 / of_unseen) / (1 + ratio)
    return (counts * group).log().float()
