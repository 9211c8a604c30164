"""New classes in a trained head: their rows or prototypes are learned from generated features, all others stay."""

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from fgen.classifiers.new_rows import with_new_rows
from fgen.compute.device import cpu_threads, matrix_precision
from fgen.data.embedding_files import read_embeddings_of
from fgen.errors import InputError
from fgen.experiment.generation import warn_unusual_embeddings
from fgen.features.checks import as_array, as_ids, as_matrix
from fgen.features.labels import class_ids, names_of
from fgen.features.scaled_rows import CPU
from fgen.inference.foreign_head import linear_head_of, same_kind
from fgen.inference.from_run import model_of_run
from fgen.inference.linear_head import LinearHead, affine_scaling, on_raw, on_scaled
from fgen.inference.predictor import Predictor
from fgen.io.atomic import expect_free
from fgen.models.base.generator import FeatureGenerator

#: A larger loss of accuracy on old classes is a warning.
MOST_LOST = 0.05
log = logging.getLogger("fgen")


@dataclass(frozen=True)
class Extension:
    """What new classes changed, measured on generated rows that no head was trained on.

    Attributes:
        n_old, n_new: numbers of classes.
        before, after: share of the old classes' rows that are predicted rightly without and with the new classes.
        new: share of the new classes' rows that are.
    """

    n_old: int
    n_new: int
    before: float
    after: float
    new: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, truth: np.ndarray, first_new: int) -> Self:
        """Return the shares of rows.

        Args:
            before, after: ``(N,)`` bool, the rows that are predicted rightly.
            truth: ``(N,)`` their classes, of which those from ``first_new`` on are new.
        """
        old, new = truth < first_new, truth >= first_new
        n_old, n_new = (len(np.unique(truth[rows])) for rows in (old, new))
        return cls(n_old, n_new, float(before[old].mean()), float(after[old].mean()), float(after[new].mean()))

    def __str__(self) -> str:
        return (
            f"of generated rows of the {self.n_old} old classes {self.before:.1%} were predicted rightly before and "
            f"{self.after:.1%} are now; of the {self.n_new} new classes {self.new:.1%}"
        )

    def log(self) -> None:
        """Log the sentence, as a warning where more than 5 points of the old classes' accuracy are lost."""
        level = logging.WARNING if self.before - self.after > MOST_LOST else logging.INFO
        log.log(level, "%s", self)


def extend_head(
    head: Any,
    model: FeatureGenerator,
    names: Sequence[Any],
    embeddings: Any = None,
    *,
    labels: Sequence[Any] | None = None,
    gamma: float = 0.0,
    n_per_class: int = 100,
    seed: int = 0,
) -> Any:
    """Add classes to a linear head of your own, trained on generated rows of old and new classes; old rows stay.

    The new rows of weights minimise the cross-entropy of the softmax over all classes, with the old logits as they are.
    How many of the old classes' generated rows are predicted rightly, before and after, is logged.

    Args:
        head: over raw features: ``(W (K, D), b (K,))``, a ``torch.nn.Linear``, or a fitted linear classifier of
            scikit-learn's with a row of ``coef_`` for each class, as LogisticRegression, LinearSVC or SGDClassifier.
            A LogisticRegression of two classes gets a row of zeros for the first. The decisions of the others are taken
            as logits, though they are none; their old classes may lose more.
        model: a trained generator, as :func:`fgen.load_model` gives it or ``ZeroShotClassifier.generator_``.
        names: M labels of the new classes, of the type of the head's own.
        embeddings: ``(M, A)`` raw, of the kind that the model was trained on; None takes the model's own by name.
        labels: K labels of the head's rows, names or ids that the model knows; by default scikit-learn's ``classes_``,
            or the model's classes in their order.
        gamma: added to the biases of the new classes, in the unit of the logits. A head that was trained on real rows
            of the old classes prefers these; with a gamma, more rows are predicted as new classes.
        n_per_class: generated rows of each class to train on.
        seed: of the generated rows.

    Returns:
        A new head of the same kind, with K + M rows; the first K are those of ``head``, bit for bit.

    Raises:
        InputError: no such head, labels that the model doesn't know, new names that the head has already, embeddings
            of another width or that aren't finite.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> X, y = data.split("trainval")
        >>> names = [data.name_of(k) for k in range(data.n_classes)]
        >>> model = fgen.make_model("flow", epochs=2, hidden_dim=16)
        >>> model = model.fit(X, y, data.class_embeddings, seed=0, class_names=names)
        >>> head = fgen.SoftmaxClassifier(solver="lbfgs", scaling="none").fit(X, y)
        >>> known = head.weight, head.bias
        >>> W, b = fgen.extend_head(known, model, names[20:22], labels=names[:20], n_per_class=20)
        >>> W.shape, b.shape
        ((22, 16), (22,))
    """
    known = linear_head_of(head, labels, model)
    grown, change = extended(known, model, (names, embeddings), gamma=gamma, n_per_class=n_per_class, seed=seed)
    change.log()
    return same_kind(head, grown)


def extend_file(
    head: str | Path, run: str | Path, embeddings: str | Path, out: str | Path, *, gamma: float, overwrite: bool
) -> Extension:
    """Write an ``.npz`` head with the classes of a CSV, by the generator of a run's first seed.

    Raises:
        InputError: files that don't fit the run or each other, an unfinished run, or an existing ``out``.
    """
    expect_free(Path(out), overwrite=overwrite)
    known, (model, config) = LinearHead.load(head), model_of_run(run)
    names, matrix = read_embeddings_of(embeddings, config.dataset.kinds, model.class_embeddings.shape[1])
    warn_unusual_embeddings(embeddings, names, matrix, model)
    with cpu_threads(config.train.threads):
        n_per_class, seed = config.bank.n_per_class, config.protocol.seeds[0]
        grown, change = extended(known, model, (names, matrix), gamma=gamma, n_per_class=n_per_class, seed=seed)
    grown.save(out, overwrite=overwrite)
    return change


def extended(
    head: LinearHead,
    model: FeatureGenerator,
    new: tuple[Sequence[Any], Any],
    *,
    gamma: float,
    n_per_class: int,
    seed: int,
) -> tuple[LinearHead, Extension]:
    """Return a linear head over raw features with new classes, and what they changed.

    Args:
        new: M labels, and ``(M, A)`` raw embeddings or None, as :func:`extend_head` has them.
    """
    if head.weight.shape[1] != model.scaler.dim:
        found = f"the head has weights for {head.weight.shape[1]} columns of features"
        raise InputError(found, f"{model.scaler.dim}, as the model's features have")
    ids, (labels, matrix) = _ids(head.classes, model), _checked(*new, model, head.classes)
    described = np.concatenate([model.class_embeddings[ids], matrix])
    names = None if model.class_names is None else [*(model.class_names[k] for k in ids), *names_of(labels)]
    (rows, targets), (tested, truth) = _generated(model, described, names, n_per_class, seed)
    scaler = affine_scaling(model.scaler)
    weight, bias = map(torch.from_numpy, on_scaled(head.weight, head.bias + head.handicap, scaler))
    with matrix_precision("highest", CPU):
        weight, bias = with_new_rows(weight, bias, scaler, rows, np.maximum(targets - len(ids) + 1, 0))
    new_weight, new_bias = on_raw(weight[len(ids) :].numpy(), bias[len(ids) :].numpy(), scaler)
    kind = head.weight.dtype
    grown = LinearHead(
        np.concatenate([head.weight, new_weight.astype(kind)]),
        np.concatenate([head.bias, (new_bias + gamma).astype(kind)]),
        np.concatenate([head.classes, labels]),
        np.concatenate([head.handicap, np.zeros(len(labels), kind)]),
    )
    before, after = (np.argmax(one.logits(tested), axis=1) == truth for one in (head, grown))
    return grown, Extension.of(before, after, truth, first_new=len(ids))


def add_classes(
    predictor: Predictor, names: Sequence[Any], embeddings: Any, *, n_per_class: int, seed: int
) -> tuple[Predictor, Extension]:
    """Return a predictor of new classes too, unseen ones for gamma, and what they changed.

    Args:
        names: M labels, of the type of the predictor's own.
        embeddings: ``(M, A)`` raw, of the kind that the model was trained on.
        n_per_class: generated rows of each class to train on.
        seed: of the generated rows.

    Raises:
        InputError: a head that is neither linear nor of prototypes, names that are known, embeddings that don't fit.
    """
    head, model = predictor.head.stored_form(), copy(predictor.model)
    labels, matrix = _checked(names, as_matrix("embeddings", embeddings), model, predictor.labels)
    new = np.arange(len(predictor.labels), len(predictor.labels) + len(labels))
    model.class_embeddings = np.concatenate([model.class_embeddings, matrix])
    model.class_names = None if model.class_names is None else (*model.class_names, *names_of(labels))
    with cpu_threads(predictor.threads):
        ids = np.concatenate([head.classes_, new])
        (rows, targets), (tested, truth) = _generated(model, ids, None, n_per_class, seed, for_head=True)
        everyone = np.concatenate([predictor.labels, labels])
        grown = replace(predictor, model=model, head=head.extended(rows, targets, new), labels=everyone)
        scored = ((one, one.head.scores(tested, len(one.labels))) for one in (predictor, grown))
        before, after = (one.class_ids(scores) == truth for one, scores in scored)
    return grown, Extension.of(before, after, truth, first_new=int(new[0]))


def _generated(
    model: FeatureGenerator,
    classes: np.ndarray,
    names: Sequence[str] | None,
    n_per_class: int,
    seed: int,
    *,
    for_head: bool = False,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return generated rows and labels to train on, and half as many others to measure on.

    Args:
        classes, names: as :meth:`~fgen.models.base.trained.TrainedModel.generate` takes them.
        for_head: give rows in the space of the method's heads, in place of the raw one.
    """
    latent = for_head and model.bank_space != "raw"
    number = n_per_class + max(1, n_per_class // 2)
    rows, labels = model.generate(classes, number, seed=seed, class_names=names, represented=latent)
    if for_head and not latent:
        rows = model.represent(rows)
    trained = np.arange(len(labels)) % number < n_per_class
    return (rows[trained], labels[trained]), (rows[~trained], labels[~trained])


def _ids(labels: np.ndarray, model: FeatureGenerator) -> np.ndarray:
    """Return the model's class ids ``(K,)`` of a head's labels."""
    if model.class_names is None:
        ids = as_ids("labels of the head", labels)
        n_classes = len(model.class_embeddings)
        if ids.max() >= n_classes:
            raise InputError(f"the head has the class {ids.max()}", f"the model's, 0 to {n_classes - 1}")
        return ids
    known, expected = np.array(model.class_names, dtype=object), "classes that the model was told of"
    return class_ids(np.array(names_of(labels), dtype=object), known, name="the head", rows_of="W", expected=expected)


def _checked(
    names: Sequence[Any], embeddings: Any, model: FeatureGenerator, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels ``(M,)`` and embeddings ``(M, A)`` of new classes.

    Raises:
        InputError: labels that are there twice, known already or of another type than those; embeddings that don't fit.
    """
    labels, width = as_array("names", names), model.class_embeddings.shape[1]
    if labels.ndim != 1 or not len(labels):
        raise InputError(f"names is {names!r:.60}", "a list of the new classes' labels")
    types = {type(label) for label in known.tolist()}
    texts = {str(label) for label in known.tolist()}
    for label in labels.tolist():
        if str(label) in texts:
            raise InputError(f"names holds {label!r}, which is known already", "classes that are new, each once")
        if type(label) not in types:
            expected = f"labels of type {' or '.join(kind.__name__ for kind in types)}, as the other classes have"
            raise InputError(f"names holds {label!r}", expected)
        texts.add(str(label))
    matrix = model.describe(labels)[0] if embeddings is None else as_matrix("embeddings", embeddings)
    if matrix.shape != (len(labels), width):
        expected = f"({len(labels)}, {width}), one for each name, of the kind that the model was trained on"
        raise InputError(f"embeddings has shape {matrix.shape}", expected)
    return labels, matrix
