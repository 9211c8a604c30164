"""Cosine of picture and text where both lie in one space, as the two towers of CLIP put them (Radford et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fgen.baselines.base import BaselineConfig, EmbeddingBaseline, unit
from fgen.errors import InputError
from fgen.features.rows import Features


@dataclass(frozen=True, kw_only=True)
class PairedConfig(BaselineConfig):
    """Settings of the cosine.

    Attributes:
        factor: of the cosine; 100 is what CLIP's models have learned, ``model.logit_scale.exp()`` of open_clip. It
            decides nothing but how sure probabilities are.
    """

    name: ClassVar[str] = "paired"
    factor: float = 100.0


class Paired(EmbeddingBaseline, config=PairedConfig):
    """``factor * cos(x, t)``: CLIP's own zero-shot classifier. Nothing is learned from the rows, but gamma later.

    Features are those of the image tower, class embeddings those of the text tower, of a class with several templates
    the mean of unit vectors, see section 3.1.4 of the paper. Preparing embeddings by "l2" and a scale changes no
    cosine; "standardise" moves them out of the common space.

    Attributes:
        prototypes: ``(C, D)`` texts at length 1.
    """

    config: PairedConfig

    def learn(self, features: Features, labels: np.ndarray, embeddings: np.ndarray, seed: int) -> None:
        """Keep the texts.

        Raises:
            InputError: features and class embeddings of other widths, which are of no common space.
        """
        width, own = embeddings.shape[1], int(features.shape[1])
        if width != own:
            found = f"features have {own} columns, and class embeddings {width}"
            expected = (
                "as many: 'paired' compares pictures and texts of one space, such as both towers of one CLIP model"
            )
            raise InputError(found, expected, "Method 'multimodal' learns a common space")
        self.prototypes = unit(embeddings)

    def score_block(self, block: np.ndarray) -> np.ndarray:
        """Return ``factor`` times the cosine, ``(n, C)``."""
        return self.config.factor * (unit(block.astype(np.float64)) @ self.prototypes.T)
