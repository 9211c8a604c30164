"""CE-GZSL: Han, Fu, Chen, Yang, "Contrastive Embedding for Generalized Zero-Shot Learning", CVPR 2021."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses, matching
from fgen.nn.comparator import Comparator
from fgen.nn.networks import Linear
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class CEGZSLConfig(AdversarialConfig):
    """Settings of CE-GZSL; defaults are the released code's for CUB with sentences, but for the batch of 2,048.

    Attributes:
        embedded_dim: columns of h, where the heads live; None means as many as features (2,048 of both in the paper).
        projected_dim: columns of z, on which instances are contrasted.
        comparator_dim: hidden width of the comparator; None means half of ``hidden_dim`` (2,048 for CUB and AWA;
            1,024 for FLO and SUN).
        ins_weight: weight of the instance-level term in the generator's step; in the encoder's it counts once.
        cls_weight: weight of the class-level term in the generator's step; in the encoder's it counts once.
        ins_temperature, cls_temperature: of the two softmaxes (tau_e and tau_s).
        lr_decay: all learning rates are multiplied by this...
        lr_decay_epochs: ... each time so many epochs have passed.
    """

    name: ClassVar[str] = "cegzsl"

    embedded_dim: int | None = None
    projected_dim: int = 512
    comparator_dim: int | None = None
    ins_weight: float = 0.001
    cls_weight: float = 0.001
    ins_temperature: float = 0.1
    cls_temperature: float = 0.1
    lr_decay: float = 0.99
    lr_decay_epochs: int = 100


class CEGZSL(AdversarialGenerator, config=CEGZSLConfig):
    """A WGAN-GP whose features are judged, and classified, in an embedding learned by two contrasts.

    ``min_{G,E,H,F} max_D V(G, D) + L_ins(G, E, H) + L_cls(G, E, F)``, the paper's total loss: V is the WGAN-GP's,
    ``h = E(x)``, and ``z = H(h)`` has length 1; the instance-level L_ins draws rows of a class together in z, the
    class-level L_cls makes F(h, a) pick the right class description among those of all seen classes. Final heads work
    on h.

    After the released code where it differs from the paper: E, H and F learn from real features alone, beside each
    critic step; L_ins takes all positives of a row, not one, and drops rows that have none; the generator's step
    contrasts real and generated rows together. That code clears F's gradients once in an epoch, so that they pile up
    over all of its steps; here every step has its own. E, H, F don't hang on D nor D on them, and Adam goes parameter
    by parameter, so that two updates are the same as the code's single one. When several rows of the same class are
    rare (SUN: 10 rows in each of 645 classes), L_ins needs large batches: 1,024 to 4,096 in the paper's runs.
    """

    config: CEGZSLConfig

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return generator and critic, and E, H (without its normalisation) and F."""
        config = self.config
        embedded_dim = config.embedded_dim or feature_dim
        comparator_dim = config.comparator_dim or max(1, config.hidden_dim // 2)
        return super().build_networks(feature_dim, embedding_dim, n_seen) | {
            "encoder": nn.Sequential(Linear(feature_dim, embedded_dim), nn.ReLU()),
            "projection": Linear(embedded_dim, config.projected_dim),
            "comparator": Comparator(embedded_dim, embedding_dim, comparator_dim),
        }

    def learning_rate(self, role: str, epoch: int) -> float:
        """Return the rate, which decays in steps for all roles alike."""
        return super().learning_rate(role, epoch) * self.config.lr_decay ** (epoch // self.config.lr_decay_epochs)

    def represent_scaled(self, features: Tensor) -> Tensor:
        """Return ``h = E(x)``."""
        return self.networks["encoder"](features)

    def critic_updates(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Iterator[Update]:
        """Yield the critic's update, then that of E, H and F on the same real rows: ``L_ins + L_cls``."""
        yield from super().critic_updates(batch, fake, draws, index)

        def terms() -> Terms:
            embedded = self.represent_scaled(batch.features)
            return {
                "instance_real": self.instance_loss(embedded, batch.labels),
                "class_real": self.class_loss(embedded, batch.labels),
            }

        yield Update(("encoder", "projection", "comparator"), terms)

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the total loss for the generator: ``-E[D(fake)]``, and the contrasts that are switched on."""
        config, fake, terms = self.config, self.generator_fakes(batch, draws), {}
        if not (config.ins_weight or config.cls_weight):
            return self.adversarial_terms(fake, batch)
        embedded = self.represent_scaled(fake)
        if config.ins_weight:
            with torch.no_grad():
                real = self.represent_scaled(batch.features)
            instance = self.instance_loss(torch.cat([embedded, real]), torch.cat([batch.labels, batch.labels]))
            terms["instance_fake"] = config.ins_weight * instance
        adversarial = self.adversarial_terms(fake, batch)
        if config.cls_weight:
            terms["class_fake"] = config.cls_weight * self.class_loss(embedded, batch.labels)
        return adversarial | terms

    def instance_loss(self, embedded: Tensor, labels: Tensor) -> Tensor:
        """Return L_ins on ``z = H(h)``, of h ``(B, E)`` and labels ``(B,)``; a scalar."""
        return matching.supervised_contrastive(
            self.networks["projection"](embedded), labels, self.config.ins_temperature
        )

    def class_loss(self, embedded: Tensor, labels: Tensor) -> Tensor:
        """Return L_cls, ``-E[log softmax_c(F(h, a_c) / tau)]`` at the true class; a scalar."""
        scores = self.networks["comparator"](embedded, self.data.embeddings)
        return losses.classification(scores / self.config.cls_temperature, labels)
