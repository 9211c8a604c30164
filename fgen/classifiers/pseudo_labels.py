"""Pseudo-labels: unlabelled rows with a head's confident predictions, for the transductive setting."""

import numpy as np
import scipy.special

from fgen.classifiers.base import Head
from fgen.errors import InputError
from fgen.features.rows import Features


def most_confident_rows(head: Head, features: Features, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows whose predictions have the least entropy, and these (LisGAN, Li et al. 2019, section 3.4).

    ``E(x) = -sum_c p_c log p_c`` over the head's classes, p a softmax of its scores. This is the paper's; its
    released code uses log-probabilities in place of p, and takes the rows at the other end of the order.

    Args:
        head: trained, in the space of ``features``.
        features: ``(N, D)`` unlabelled.
        share: of the rows to return, in [0, 1].

    Returns:
        Row numbers ``(round(share * N),)``, ascending, and their class ids.

    Raises:
        InputError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of pseudo-labelled rows is {share}", "a number from 0 to 1")
    scores = head.decision_function(features)
    entropy = scipy.special.entr(scipy.special.softmax(scores.astype(np.float64), axis=1)).sum(axis=1)
    rows = np.sort(np.argsort(entropy, kind="stable")[: round(share * len(scores))])
    return rows, head.classes_[scores[rows].argmax(axis=1)]
