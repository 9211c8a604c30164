"""f-CLSWGAN: Xian, Lorenz, Schiele, Akata, "Feature Generating Networks for Zero-Shot Learning", CVPR 2018."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses
from fgen.nn.networks import Linear
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms


@dataclass(frozen=True, kw_only=True)
class CLSWGANConfig(AdversarialConfig):
    """Settings of f-CLSWGAN; defaults are the paper's for CUB.

    Attributes:
        cls_weight: weight of the classification term (beta in the paper's Eq. 5).
        cls_epochs, cls_batch_size, cls_lr: pre-training of the classifier on real seen features; the paper is
            silent, these are the released code's.
    """

    name: ClassVar[str] = "clswgan"

    cls_weight: float = 0.01
    cls_epochs: int = 50
    cls_batch_size: int = 100
    cls_lr: float = 1e-3


class CLSWGAN(AdversarialGenerator, config=CLSWGANConfig):
    """A WGAN-GP conditioned on class embeddings whose fakes a seen-class classifier must recognise.

    ``min_G max_D  L_WGAN + beta * L_CLS`` (Eq. 5), with L_WGAN of Eq. 2 and 3 and
    ``L_CLS = -E[log P(y | G(z, c(y)); theta)]`` (Eq. 4), theta pre-trained on real seen features and frozen.
    """

    config: CLSWGANConfig
    frozen: ClassVar[tuple[str, ...]] = ("classifier",)

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return generator, critic and the linear classifier of Eq. 4."""
        shared = super().build_networks(feature_dim, embedding_dim, n_seen)
        return shared | {"classifier": Linear(feature_dim, n_seen)}

    def pretrain(self, data: TrainingSet, seed: int) -> None:
        """Pre-train the classifier of Eq. 4 on the real seen features, if a term needs it."""
        if "classifier" not in self.pretraining:
            return
        config, device = self.config, str(data.device)
        classifier = self.network("classifier", Linear)
        head = SoftmaxClassifier(
            epochs=config.cls_epochs,
            batch_size=config.cls_batch_size,
            lr=config.cls_lr,
            scaling=config.feature_scaling,
        )
        classes = np.arange(classifier.out_features)
        head.fit(data.features, data.labels, classes=classes, seed=seed, scaler=data.scaler, device=device)
        classifier.load_state_dict({"weight": head.weight, "bias": head.bias})

    @property
    def pretraining(self) -> dict[str, int]:
        """Return the classifier's epochs, if a term needs it."""
        return {"classifier": self.config.cls_epochs} if self.config.cls_weight else {}

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return Eq. 5 for the generator: ``-E[D(G(z, a), a)] + beta * L_CLS``."""
        fake = self.generator_fakes(batch, draws)
        classification = self.classification_terms(fake, batch)
        return self.adversarial_terms(fake, batch) | classification

    def classification_terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Return ``beta * L_CLS`` of features ``(B, D)`` generated for the batch, if it is switched on."""
        if not self.config.cls_weight:
            return {}
        error = losses.classification(self.networks["classifier"](fake), batch.labels)
        return {"classification": self.config.cls_weight * error}
