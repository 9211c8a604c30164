"""Training of rows for new classes in a linear head whose other rows stay."""

import numpy as np
import torch
from torch import Tensor

from fgen.classifiers.lbfgs import train_lbfgs
from fgen.features.rows import Features
from fgen.features.scaled_rows import CentredRows
from fgen.features.scaling import FeatureScaler

#: Penalty of the new rows, where no setting says another: the softmax head's own.
L2 = 1e-4


def with_new_rows(
    weight: Tensor, bias: Tensor, scaler: FeatureScaler, features: Features, targets: np.ndarray, l2: float = L2
) -> tuple[Tensor, Tensor]:
    """Append trained rows of M new classes to the weights and biases of a linear head.

    The new rows minimise the mean cross-entropy over all classes plus ``l2 / 2`` times their squared weights. The old
    logits are constants of it, of which only ``log sum exp`` counts. So K old classes cost what one class does.

    Args:
        weight, bias: ``(K, D)`` and ``(K,)`` on scaled features; returned unchanged as the first K rows.
        scaler: the scaling of the features.
        features: ``(N, D)`` raw rows of old and new classes.
        targets: ``(N,)``, 0 for rows of old classes, 1 to M for those of new ones.

    Returns:
        ``(K + M, D)`` and ``(K + M,)``.
    """
    blocks = (torch.from_numpy(x).to(weight.dtype) for _, x in scaler.blocks(features))
    of_old = torch.cat([torch.addmm(bias, x, weight.T).logsumexp(dim=1) for x in blocks])
    rows, n_new = CentredRows(features, scaler, torch.ones(len(targets), 1)), int(targets.max())
    new_weight, new_bias = train_lbfgs(rows, torch.from_numpy(targets), 1 + n_new, l2, first_logits=of_old.float())
    return torch.cat([weight, new_weight[1:].to(weight)]), torch.cat([bias, new_bias[1:].to(bias)])
