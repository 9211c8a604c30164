"""Linear heads of scikit-learn, torch and NumPy as :class:`LinearHead`, and back."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from fgen.errors import InputError
from fgen.features.checks import as_array
from fgen.inference.linear_head import LinearHead
from fgen.models.base.generator import FeatureGenerator

HEADS = "(W, b), a torch.nn.Linear, or a fitted linear classifier of scikit-learn's"


def linear_head_of(head: Any, labels: Any, model: FeatureGenerator) -> LinearHead:
    """Return a user's head as arrays, with the labels of its rows.

    Args:
        head: as :func:`fgen.extend_head` takes it.
        labels: K; None takes those of the head, or else the model's own.

    Raises:
        InputError: no linear head, or labels that aren't as many as its rows.
    """
    if isinstance(head, LinearHead):
        return head
    weight, bias = _arrays(head)
    if labels is None:
        own = np.arange(len(model.class_embeddings)) if model.class_names is None else np.array(model.class_names)
        labels = getattr(head, "classes_", own)
        if len(labels) != len(weight):
            found = f"the head has {len(weight)} rows, and the model {len(labels)} classes"
            raise InputError(found, "labels, one for each row of the head")
    return LinearHead.of(weight, bias, as_array("labels", labels), np.zeros(len(weight)))


def same_kind(head: Any, linear: LinearHead) -> Any:
    """Return a new head of the kind of ``head`` with the numbers of ``linear``."""
    if isinstance(head, LinearHead):
        return linear
    if isinstance(head, tuple | list):
        return linear.weight, linear.bias
    if isinstance(head, nn.Linear):
        grown = nn.Linear(head.in_features, len(linear.bias), device=head.weight.device, dtype=head.weight.dtype)
        grown.load_state_dict({"weight": torch.from_numpy(linear.weight), "bias": torch.from_numpy(linear.bias)})
        return grown
    grown = deepcopy(head)
    grown.coef_, grown.intercept_, grown.classes_ = linear.weight, linear.bias, linear.classes
    return grown


def _arrays(head: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ``W (K, D)`` and ``b (K,)`` of a user's head."""
    if isinstance(head, tuple | list) and len(head) == 2:
        return as_array("W", head[0]), as_array("b", head[1])
    if isinstance(head, nn.Linear):
        weight = as_array("the head's weight", head.weight)
        return weight, np.zeros(len(weight)) if head.bias is None else as_array("the head's bias", head.bias)
    if not all(hasattr(head, name) for name in ("coef_", "intercept_", "classes_")):
        remedy = "Of nearest neighbours, forests and networks no row can be added while the others stay"
        raise InputError(f"the head is of type {type(head).__name__}", HEADS, remedy)
    weight, n_classes = np.atleast_2d(as_array("coef_", head.coef_)), len(head.classes_)
    bias = np.array(np.broadcast_to(head.intercept_, len(weight)))
    if len(weight) == 1 and n_classes == 2:
        if type(head).__name__ != "LogisticRegression" or head.solver == "liblinear":
            found = f"{type(head).__name__} has a single row for its two classes"
            raise InputError(found, "a row for each class", "Give (W, b) with two rows, or fit it to three classes")
        # The softmax of 0 and w x is the sigmoid of w x.
        return np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    if len(weight) != n_classes:
        found = f"{type(head).__name__} has {len(weight)} rows for {n_classes} classes"
        raise InputError(found, "a row for each class")
    return weight, bias
