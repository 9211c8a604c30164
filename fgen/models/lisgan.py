"""LisGAN: Li, Jing, Lu, Ding, Zhu, Huang, "Leveraging the Invariant Side of Generative Zero-Shot Learning",
CVPR 2019."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fgen.models.clswgan import CLSWGAN, CLSWGANConfig
from fgen.nn import matching
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms


@dataclass(frozen=True, kw_only=True)
class LisGANConfig(CLSWGANConfig):
    """Settings of LisGAN; defaults are the released code's for CUB.

    Attributes:
        soul_weight: weight of L_R1, each feature to its nearest soul (``proto_param2`` of the released code).
        soul_mean_weight: weight of L_R2, each class's mean to its nearest soul (``proto_param1``).
        mean_rows: features generated for each class's mean in L_R2.
        mean_classes: seen classes drawn for L_R2 in each step; None takes all, as the released code does, which on
            SUN means 12,900 features beside a batch of 64. Fewer estimate the same mean over classes.
        transductive: the paper's second stage (section 3.4): a run's heads also train on unlabelled test rows.
        pseudo_share: how many of these, those that a first head is surest of (``ratio`` of the released code; its
            generalized call never hands the option on, so that it stays at this default).
    """

    name: ClassVar[str] = "lisgan"

    epochs: int = 56
    cls_epochs: int = 100
    soul_weight: float = 1e-3
    soul_mean_weight: float = 1e-2
    mean_rows: int = 20
    mean_classes: int | None = None
    transductive: bool = False
    pseudo_share: float = 0.6

    @property
    def pseudo_labelled_share(self) -> float:
        """Return ``pseudo_share`` in the transductive setting, else 0."""
        return self.pseudo_share if self.transductive else 0.0


class LisGAN(CLSWGAN, config=LisGANConfig):
    """f-CLSWGAN whose fakes must lie near a soul sample of their class: what is invariant in its real rows.

    f-CLSWGAN's loss ``+ soul_weight * L_R1 + soul_mean_weight * L_R2``. A class's souls are the centres of a k-means
    of its real features (section 3.3), L_R1 the squared distance of each feature to the nearest of them, and L_R2
    that of each class's generated mean. For L_R2 alone the released code generates 20 features of every seen class
    in each generator step, and so does this.

    The generator never sees an unlabelled row. The paper's second stage trains the classifier on some of the test rows
    too, under the classes that a first classifier gives them (section 3.4); the paper's numbers come from both stages.
    It is transductive, off by default, and part of a run's heads: :func:`fgen.experiment.heads.train_heads`.
    Departures from the released code there: the second head starts anew in place of training on, and answers all rows,
    where that code keeps the first one's answers to the rows it chose; and what "surest" means, see
    :func:`fgen.classifiers.pseudo_labels.most_confident_rows`.
    """

    config: LisGANConfig
    own_matching: ClassVar[tuple[str, ...]] = ("soul_mean",)

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return f-CLSWGAN's terms, L_R1 of the batch's features, and L_R2 of features that are generated for it."""
        terms = super().generator_terms(batch, draws)
        if self.config.soul_mean_weight:
            terms["soul_mean"] = self.config.soul_mean_weight * self.soul_mean(self.matching.souls, draws)
        return terms

    def soul_mean(self, souls: Tensor, draws: Draws) -> Tensor:
        """Return L_R2, unweighted: from each class's generated mean to the nearest of its ``souls (S, K, D)``."""
        classes, n_rows = self.classes_of_means(draws), self.config.mean_rows
        condition = self.data.embeddings[classes].expand(n_rows, -1, -1)
        fake = self.synthesise(draws.normal("soul mean noise", (*condition.shape[:2], self.noise_dim)), condition)
        return matching.soul_means_of_turns(fake, souls[classes])

    def classes_of_means(self, draws: Draws) -> Tensor | slice:
        """Return the seen classes in this step's L_R2, each once."""
        n_seen, wanted = self.data.n_classes, self.config.mean_classes
        if wanted is None or wanted >= n_seen:
            return slice(None)  # where all take part, nothing is copied
        return draws.chosen("soul mean classes", lambda stream: stream.choice(n_seen, wanted, replace=False))
