"""ESZSL: a bilinear score between features and class embeddings, in closed form (Romera-Paredes & Torr 2015)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg

from fgen.baselines.base import BaselineConfig, EmbeddingBaseline, unit
from fgen.features.rows import Features
from fgen.features.statistics import Moments, moments


@dataclass(frozen=True, kw_only=True)
class EszslConfig(BaselineConfig):
    """Settings of ESZSL. The protocol chooses a setting that is None on validation classes; elsewhere it is 1.

    Attributes:
        feature_alpha: the paper's gamma, relative to the mean eigenvalue of XX', so that it means the same for
            features of any scale and number.
        feature_alphas: what is chosen from.
        embedding_alpha: the paper's lambda, relative to the mean eigenvalue of SS'.
        embedding_alphas: what is chosen from.
    """

    name: ClassVar[str] = "eszsl"
    open_fields: ClassVar[tuple[str, ...]] = ("feature_alpha", "embedding_alpha")

    feature_alpha: float | None = None
    feature_alphas: tuple[float, ...] = (0.01, 0.1, 1.0)
    embedding_alpha: float | None = None
    embedding_alphas: tuple[float, ...] = (0.1, 1.0, 10.0)


class Eszsl(EmbeddingBaseline, config=EszslConfig):
    """The score of a class is ``(x - m)' V s / |s|``, a regression to 1 for the row's class and -1 for the others.

    Where the paper is silent: features are taken about the mean ``m`` of all rows, since the score has no bias
    (uncentred, and with embeddings of length 1, T1 on the validation classes of emoji is chance, .011, against .32),
    and embeddings have length 1, as the attributes of the published splits do, or else long ones win.

    Attributes:
        mean: ``(D,)`` m.
        weights: ``(D, C)`` ``V s / |s|`` for every class.
    """

    config: EszslConfig

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Solve for V."""
        known, embeddings = moments(features, labels), unit(embeddings)
        alphas = (self.config.feature_alpha or 1.0, self.config.embedding_alpha or 1.0)
        self.mean = known.mean
        self.weights = eszsl(known, embeddings[known.classes], *alphas) @ embeddings.T

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return scores ``(n, C)``, near 1 for a class that fits."""
        return (block - self.mean) @ self.weights


def eszsl(known: Moments, embeddings: np.ndarray, feature_alpha: float, embedding_alpha: float) -> np.ndarray:
    """Return ``V = (XX' + gamma I)^-1 X Y S' (SS' + lambda I)^-1`` ``(D, A)``, the paper's equation for V.

    X holds the centred rows as columns, ``Y (N, S)`` is 1 for a row's class and -1 elsewhere, and S is
    ``embeddings (S, A)`` transposed. As the columns of X add up to 0, the -1 vanish from XY.
    """
    n_rows, dim = known.counts.sum(), embeddings.shape[1]
    xys = 2 * (known.offsets.T * known.counts) @ embeddings
    # Rows, or embeddings, that are all alike have no scale to be relative to; they teach nothing.
    gamma = feature_alpha * (known.variances.mean() or 1.0)
    shrunk = (known.directions.T @ xys) / (n_rows * (known.variances + gamma))[:, None]
    ss = embeddings.T @ embeddings
    ss[np.diag_indices(dim)] += embedding_alpha * (np.trace(ss) / dim or 1.0)
    return known.directions @ scipy.linalg.solve(ss, shrunk.T, assume_a="pos").T
