"""LsrGAN: Vyas, Venkateswara, Panchanathan, "Leveraging Seen and Unseen Semantic Relationships for Generative Zero-Shot
Learning", ECCV 2020."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from fgen.errors import InputError
from fgen.models.clswgan import CLSWGAN, CLSWGANConfig
from fgen.nn import losses, matching
from fgen.nn.networks import Linear
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class LsrGANConfig(CLSWGANConfig):
    """Settings of LsrGAN; defaults are the released script's for CUB in the generalized setting.

    Attributes:
        pivot_weight: weight of the distance between generated and real class means. The script's is 1, divided by all
            S classes, of which a batch of 64 holds about a third on CUB; ours is a mean over the batch's classes.
        sr_weight: weight of the SR-loss, on seen and on unseen classes. The scripts' 20 multiplies a term without a
            gradient and says nothing of one that has it.
        sr_centred: take its cosines about the middle of the seen classes, of features and of embeddings. The paper
            takes them about 0, where features without negative numbers are all alike: that works where embeddings
            are so too, and drives features far off where they aren't.
        n_neighbours: seen classes that each class is compared with.
        tolerance_below, tolerance_above: how far a generated class may be less or more similar to a seen one than
            their embeddings are (the paper's epsilon), in cosines.
        unseen_weight: weight of classifying features generated for unseen classes.
        real_weight: weight of classifying real rows in the same update; the script's is its ``cls_weight``, and 0 in
            the zero-shot setting.
    """

    name: ClassVar[str] = "lsrgan"

    epochs: int = 40
    pivot_weight: float = 0.35
    sr_weight: float = 1.0
    sr_centred: bool = True
    n_neighbours: int = 20
    tolerance_below: float = 0.1
    tolerance_above: float = 0.1
    unseen_weight: float = 0.03
    real_weight: float = 0.01

    @property
    def uses_unseen_embeddings(self) -> bool:
        """Return True: features of unseen classes are generated in training."""
        return True


class LsrGAN(CLSWGAN, config=LsrGANConfig):
    """f-CLSWGAN that also trains on classes without a row, whose features must relate to the seen classes' as their
    embeddings do.

    Each step has f-CLSWGAN's critic updates; its generator update, plus the distance of generated class means to the
    real ones and the SR-loss of seen classes; and an update of generator and classifier on features generated for
    unseen classes, drawn evenly: their SR-loss and their class among seen and unseen ones, beside real seen rows so
    that the classifier doesn't forget these. The SR-loss is :func:`fgen.nn.matching.semantic_regularisation`.

    Departures from the released code: there the SR-loss has no gradient, the unseen update adds to the gradient that
    the seen one left behind and waits for the second epoch, and the classification weight on AWA1 is halved after
    epoch 14. Its scripts report this classifier's own answers, ours an experiment's head trained on the bank, as only
    that for AWA1's zero-shot setting does.
    """

    config: LsrGANConfig
    frozen: ClassVar[tuple[str, ...]] = ()

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return f-CLSWGAN's networks, with a classifier over the seen classes, followed by the unseen ones."""
        shared = super().build_networks(feature_dim, embedding_dim, n_seen)
        return shared | {"classifier": Linear(feature_dim, len(self.class_embeddings))}

    @property
    def pretraining(self) -> dict[str, int]:
        """Return the classifier's epochs, if one of its three terms needs it; there's no update for real rows alone."""
        config = self.config
        needed = config.cls_weight or config.unseen_weight or (config.real_weight and config.sr_weight)
        return {"classifier": config.cls_epochs} if needed else {}

    def learning_rate(self, role: str, epoch: int) -> float:
        """Return ``cls_lr``, the rate of its pre-training, for the classifier."""
        return self.config.cls_lr if role == "classifier" else super().learning_rate(role, epoch)

    def compute_statistics(self, data: TrainingSet, seed: int) -> None:
        """Compute the seen classes' means and each class's neighbours among them too.

        Raises:
            InputError: every class has rows.
        """
        super().compute_statistics(data, seed)
        if not len(data.unseen_embeddings):
            raise InputError(
                f"all {data.n_classes} classes have rows",
                "class embeddings of unseen classes too, for lsrgan trains on them",
                "Use clswgan where they aren't known yet",
            )
        if not self.config.sr_weight:
            return
        means, seen, k, centred = data.class_means(), data.embeddings, self.config.n_neighbours, self.config.sr_centred
        self.middle, origin = centred * means.mean(dim=0), centred * seen.mean(dim=0)
        self.references = means - self.middle
        self.seen_neighbours = matching.semantic_neighbours(seen - origin, seen - origin, k)
        self.unseen_neighbours = matching.semantic_neighbours(data.unseen_embeddings - origin, seen - origin, k)

    def generator_updates(self, batch: Batch, draws: Draws) -> Iterator[Update]:
        """Yield the generator's update on seen classes, then that of generator and classifier on unseen ones."""
        yield from super().generator_updates(batch, draws)
        if self.config.sr_weight or self.config.unseen_weight:
            yield Update(("generator", "classifier"), partial(self.unseen_terms, batch, draws))

    def adversarial_terms(self, fake: Tensor, batch: Batch) -> Terms:
        """Return the WGAN's and the matching terms, and the SR-loss of seen classes."""
        terms = super().adversarial_terms(fake, batch)
        if self.config.sr_weight:
            terms["sr_seen"] = self.sr_loss(fake, batch.labels, self.seen_neighbours)
        return terms

    def unseen_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the loss of generator and classifier on as many features of unseen classes as the batch has rows."""
        config, classifier, terms = self.config, self.networks["classifier"], {}
        unseen = self.unseen_batch(draws, len(batch))
        if config.sr_weight:
            terms["sr_unseen"] = self.sr_loss(unseen.features, unseen.labels, self.unseen_neighbours)
        if config.unseen_weight:
            error = losses.classification(classifier(unseen.features), self.n_seen + unseen.labels)
            terms["unseen_classification"] = config.unseen_weight * error
        if config.real_weight:
            error = losses.classification(classifier(batch.features), batch.labels)
            terms["real_classification"] = config.real_weight * error
        return terms

    def sr_loss(self, fake: Tensor, labels: Tensor, neighbours: tuple[Tensor, Tensor]) -> Tensor:
        """Return the weighted SR-loss of features ``(B, D)`` whose ``labels (B,)`` are rows of ``neighbours``."""
        config = self.config
        return config.sr_weight * matching.semantic_regularisation(
            fake - self.middle,
            labels,
            self.references,
            *neighbours,
            below=config.tolerance_below,
            above=config.tolerance_above,
        )
