"""Checks of what is scored or compared: labels, predicted ids, real and generated rows."""

from typing import Any

import numpy as np

from fgen.errors import InputError, wrong_array
from fgen.features.checks import as_ids, as_matrix, as_numbers
from fgen.features.class_scores import checked_groups

#: A predicted id that names no class, and counts as wrong.
ABSTAIN = -1


def checked_test_labels(labels: Any, seen: Any, unseen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels ``(N,)`` and the ids of both groups, ascending; each label is in one of the groups."""
    labels, (seen, unseen) = as_ids("labels", labels), checked_groups(seen, unseen)
    _refuse_others("labels", labels, [*seen, *unseen], "Leave such rows out, or add the class")
    return labels, seen, unseen


def checked_predictions(
    predictions: np.ndarray, labels: np.ndarray, seen: np.ndarray, unseen: np.ndarray, gamma: float
) -> np.ndarray:
    """Return predicted ids ``(N,)``, each a candidate or :data:`ABSTAIN`. Refuse a ``gamma``, which needs scores."""
    if gamma != 0:
        raise InputError(f"gamma is {gamma} with predicted class ids", "class scores (N, C)", "Give scores, or gamma=0")
    if predictions.shape != labels.shape or predictions.dtype.kind not in "iu":
        n_rows = len(labels)
        expected = f"({n_rows},) class ids, one for each label, or ({n_rows}, C) class scores"
        raise wrong_array("predictions", predictions, expected)
    remedy = "Restrict the classifier to the candidates; -1 stands for no answer"
    _refuse_others("predictions", predictions, [ABSTAIN, *seen, *unseen], remedy)
    return predictions


def _refuse_others(name: str, ids: np.ndarray, allowed: list[int], remedy: str) -> None:
    other = ~np.isin(ids, allowed)
    if other.any():
        row = int(np.argmax(other))
        found = f"{name}[{row}] is {ids[row]}, which is neither in seen nor in unseen"
        raise InputError(found, "ids of seen or unseen classes", remedy)


def checked_sets(
    real: Any, real_labels: Any, synthetic: Any, synthetic_labels: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return real rows ``(N, D)`` float64 and class ids ``(N,)``, and the same of generated rows of the same space."""
    sets = []
    for name, features, labels in (("real", real, real_labels), ("synthetic", synthetic, synthetic_labels)):
        features = as_matrix(name, features, "numbers (N, D)", dtype=np.float64, least=0)
        labels = as_numbers(f"{name} labels", labels)
        if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
            found = f"{name} has shape {features.shape} and its labels {labels.shape} and type {labels.dtype}"
            raise InputError(found, "numbers (N, D) and class ids (N,)")
        sets.append((features, labels))
    widths = [features.shape[1] for features, _ in sets]
    if widths[0] != widths[1]:
        raise InputError(f"real has {widths[0]} columns and synthetic {widths[1]}", "the same space")
    return sets
