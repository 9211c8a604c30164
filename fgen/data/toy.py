"""A linear-Gaussian data set with a known optimum, to compare a method's scores with the best possible ones.

Class descriptions ``a_c`` are random and share a few directions; the mean feature of a class is linear in its
description, ``mu_c = W a_c + b``, so unseen classes can be predicted from seen ones; features are
``mu_c + sigma * noise``. The best classifier takes the nearest true mean.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgen import rng
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError

TRAIN_FRACTION = 0.75
#: Chosen so that the optimum of the default world has H near 0.9: informative, and not saturated.
SIGMA = 0.75


@dataclass(frozen=True)
class ToyWorld:
    """A toy data set and the truth behind it.

    Attributes:
        dataset: what a method gets to see.
        means: ``(C, D)`` float64, the true class means.
        sigma: the standard deviation of each feature about its mean.
    """

    dataset: ZSLDataset
    means: np.ndarray
    sigma: float

    def classify(self, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the best guess for each row: the class in ``classes`` with the nearest true mean.

        Args:
            features: ``(n, D)``.
            classes: ``(k,)`` class ids.

        Returns:
            ``(n,)`` class ids.
        """
        means = self.means[classes]
        distances = np.square(means).sum(axis=1) - 2 * features @ means.T
        return classes[np.argmin(distances, axis=1)]

    def optimum(self) -> dict[str, float]:
        """Return the scores T1, U, S and H of the best classifier on this data set's own test rows, as fractions."""
        everything = np.arange(self.dataset.n_classes)
        t1 = self._accuracy("test_unseen", self.dataset.unseen)
        u, s = self._accuracy("test_unseen", everything), self._accuracy("test_seen", everything)
        return {"T1": t1, "U": u, "S": s, "H": 2 * u * s / (u + s) if u + s else 0.0}

    def _accuracy(self, split: str, candidates: np.ndarray) -> float:
        """Return the mean over the classes of the split of each class's accuracy."""
        features, labels = self.dataset.split(split)
        hits = self.classify(features.astype(np.float64), candidates) == labels
        return float(np.mean([hits[labels == label].mean() for label in np.unique(labels)]))


def toy_world(
    *,
    n_seen: int = 20,
    n_unseen: int = 5,
    feature_dim: int = 16,
    embedding_dim: int = 8,
    rows_per_class: int = 40,
    sigma: float = SIGMA,
    seed: int = 0,
) -> ToyWorld:
    """Make a linear-Gaussian world.

    Args:
        n_seen, n_unseen: numbers of classes; the unseen ones come last.
        feature_dim: D.
        embedding_dim: A.
        rows_per_class: rows of each class; of a seen class three quarters are ``trainval``, the others ``test_seen``.
        sigma: standard deviation of the noise; the means of a feature vary between classes by about 1.
        seed: names the world and its rows.

    Raises:
        InputError: a size that leaves a split empty, or no noise.
    """
    smallest = {"n_seen": 2, "n_unseen": 1, "feature_dim": 1, "embedding_dim": 1, "rows_per_class": 2}
    given = (n_seen, n_unseen, feature_dim, embedding_dim, rows_per_class)
    for (name, least), size in zip(smallest.items(), given, strict=True):
        if size < least:
            raise InputError(f"{name} is {size}", f"at least {least}")
    if not sigma > 0 or not math.isfinite(sigma):
        raise InputError(f"sigma is {sigma}", "a number above 0")
    n_classes = n_seen + n_unseen
    draw = rng.stream(seed, "toy world")
    shared = np.eye(embedding_dim) + draw.normal(size=(embedding_dim, embedding_dim)) / (2 * math.sqrt(embedding_dim))
    embeddings = (draw.normal(size=(n_classes, embedding_dim)) @ shared).astype(np.float32)
    weights = draw.normal(size=(embedding_dim, feature_dim)) / math.sqrt(embedding_dim)
    means = embeddings @ weights
    # Like CNN features after their ReLU: with means four sigma above zero hardly a feature is negative.
    means += 4 * sigma - means.min(axis=0)
    labels = np.repeat(np.arange(n_classes), rows_per_class)
    noise = rng.stream(seed, "toy rows").normal(size=(len(labels), feature_dim))
    features = (means[labels] + sigma * noise).astype(np.float32)
    seen = np.arange(n_seen * rows_per_class)
    for_training = seen % rows_per_class < max(1, int(TRAIN_FRACTION * rows_per_class))
    splits = {
        "trainval": seen[for_training],
        "test_seen": seen[~for_training],
        "test_unseen": np.arange(len(seen), len(labels)),
    }
    names = [f"class {label:02d}" for label in range(n_classes)]
    dataset = ZSLDataset(features, labels, {"att": embeddings}, class_names=names, splits=splits, name="toy", seed=seed)
    return ToyWorld(dataset, means, float(sigma))


def make_toy(**sizes: Any) -> ZSLDataset:
    """Return the data set of :func:`toy_world`."""
    return toy_world(**sizes).dataset
