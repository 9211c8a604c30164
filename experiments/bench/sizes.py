"""The sizes that are measured: the published data sets', and random data of such sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgen import rng


@dataclass(frozen=True)
class Size:
    """A data set's and its networks' sizes.

    Attributes:
        n_rows: of trainval, capped: a random batch costs the same from 10,000 rows as from 20,000.
        n_unseen, n_per_class: of the bank and of the final head.
    """

    name: str
    feature_dim: int
    embedding_dim: int
    noise_dim: int
    hidden_dim: int
    n_seen: int
    n_rows: int
    n_unseen: int
    n_per_class: int
    batch_size: int = 64

    def networks(self) -> dict[str, int]:
        """As overrides of a method's config."""
        return {"hidden_dim": self.hidden_dim, "noise_dim": self.noise_dim, "batch_size": self.batch_size}


#: f-CLSWGAN's published widths and the proposed splits' row counts; emoji also with the narrow nets of its own
#: experiment, experiments/xian2018_clswgan_emoji.toml; tiny is for the bench's own tests.
SIZES = {
    size.name: size
    for size in (
        Size("CUB", 2048, 312, 312, 4096, 150, 7057, 50, 300),
        Size("AWA2", 2048, 85, 85, 4096, 40, 10_000, 10, 1800),
        Size("SUN", 2048, 102, 102, 4096, 645, 10_000, 72, 400),
        Size("FLO", 2048, 1024, 1024, 4096, 82, 5631, 20, 1200),
        Size("emoji", 1280, 929, 64, 512, 471, 2388, 118, 10),
        Size("emoji 4096", 1280, 929, 929, 4096, 471, 2388, 118, 10),
        Size("tiny", 16, 8, 4, 32, 12, 360, 4, 20, 16),
    )
}


@dataclass(frozen=True)
class World:
    """Random features around class means; unseen classes come last.

    Attributes:
        features, labels: ``(N, D)`` float32 of at least 0 and ``(N,)``, of seen classes.
        embeddings: ``(C, A)``.
        means: ``(C, D)`` before what is below 0 is cut off.
        noise: standard deviation of a feature about its class's mean.
    """

    features: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    means: np.ndarray
    noise: float

    def draw(self, classes: np.ndarray, n_per_class: int, key: str, *, error: float = 0.0) -> np.ndarray:
        """More rows ``(len(classes) * n_per_class, D)``, by class.

        Args:
            error: standard deviation of a mistake about each class's mean, as a generator makes them.
        """
        stream = rng.stream(0, "bench rows", key)
        means = self.means[classes] + error * stream.standard_normal((len(classes), self.means.shape[1]))
        return _rows(means.astype(np.float32), np.repeat(np.arange(len(classes)), n_per_class), self.noise, stream)


def random_world(size: Size) -> World:
    """A world of a size in which the best classifier gets some of the classes wrong, but far from all."""
    stream = rng.stream(0, "bench world", size.name)
    n_classes = size.n_seen + size.n_unseen
    embeddings = stream.random((n_classes, size.embedding_dim), dtype=np.float32)
    means = 0.2 * stream.standard_normal((n_classes, size.feature_dim), dtype=np.float32)
    noise = 0.16 * size.feature_dim**0.25
    labels = np.sort(np.arange(size.n_rows) % size.n_seen)
    return World(_rows(means, labels, noise, stream), labels, embeddings, means, noise)


def _rows(means: np.ndarray, labels: np.ndarray, noise: float, stream: np.random.Generator) -> np.ndarray:
    rows = stream.standard_normal((len(labels), means.shape[1]), dtype=np.float32)
    rows *= np.float32(noise)
    rows += means[labels]
    return np.maximum(rows, 0, out=rows)
