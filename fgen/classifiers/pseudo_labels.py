"""Unlabelled rows that a head is sure of, with the classes it gives them: for the transductive setting alone."""

from __future__ import annotations

import numpy as np
import scipy.special

from fgen.classifiers.base import Head
from fgen.data.dataset import Features
from fgen.errors import InputError


def surest_rows(head: Head, features: Features, classes: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose answer among some classes has the least entropy, and that answer (LisGAN, section 3.4).

    ``E(x) = -sum_c p_c log p_c`` with p a softmax of the head's scores of ``classes``. LisGAN's released code takes
    the entropy of log-probabilities, which orders the rows differently; here it is the paper's.

    Args:
        head: trained, in the space of ``features``.
        features: ``(N, D)`` unlabelled.
        classes: ``(K,)`` ids of the candidates among which a row is known to be.
        share: how many of the rows, in [0, 1].

    Returns:
        Row numbers ``(round(share * N),)``, ascending, and their class ids.

    Raises:
        InputError: a share outside [0, 1], or a class that the head can't answer.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of pseudo-labelled rows is {share}", "a number from 0 to 1")
    missing = np.setdiff1d(classes, head.classes_)
    if missing.size:
        raise InputError(f"the head can't answer class {missing[0]}", "only classes that it was trained on")
    scores = head.decision_function(features)[:, np.searchsorted(head.classes_, classes)]
    entropy = scipy.special.entr(scipy.special.softmax(scores.astype(np.float64), axis=1)).sum(axis=1)
    rows = np.sort(np.argsort(entropy, kind="stable")[: round(share * len(scores))])
    return rows, np.asarray(classes)[scores[rows].argmax(axis=1)]
