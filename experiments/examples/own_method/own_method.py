"""A method in a package of its own: f-CLSWGAN with a triplet term (Schroff et al., "FaceNet", CVPR 2015)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fgen.models.clswgan import CLSWGAN, CLSWGANConfig
from fgen.training.training_set import Batch
from fgen.training.update import Terms


@dataclass(frozen=True, kw_only=True)
class TripletConfig(CLSWGANConfig):
    """Settings of f-CLSWGAN, and of the term.

    Attributes:
        triplet_weight: weight of the term; 0 switches it off.
        triplet_margin: by how much a real row of another class has to be farther away than one of the same class.
    """

    name: ClassVar[str] = "triplet"

    triplet_weight: float = 0.1
    triplet_margin: float = 0.1


class Triplet(CLSWGAN, config=TripletConfig):
    """f-CLSWGAN whose generated features are nearer to the real row of their class than to that of another.

    ``L = mean(max(0, |x' - x|^2 - |x' - x_other|^2 + margin))``: x' is generated for the class of the real row x, and
    x_other is the next row of the batch (Eq. 3 of the paper). Pairs of one class count nothing.
    """

    config: TripletConfig

    def adversarial_terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Return the terms of f-CLSWGAN for generated features ``(B, D)``, and the triplet term."""
        terms = super().adversarial_terms(fake, batch)
        if not self.config.triplet_weight:
            return terms
        near, far = ((fake - rows).square().mean(1) for rows in (batch.features, batch.features.roll(1, 0)))
        differ = batch.labels != batch.labels.roll(1, 0)
        triplet = ((near - far + self.config.triplet_margin).relu() * differ).mean()
        return terms | {"triplet": self.config.triplet_weight * triplet}
