"""GAZSL: Zhu, Elhoseiny, Liu, Peng, Elgammal, "A Generative Adversarial Approach for Zero-Shot Learning from Noisy
Texts", CVPR 2018."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses
from fgen.nn.networks import Generator, Linear, OneHidden, Output
from fgen.training.draws import Draws
from fgen.training.training_set import Batch
from fgen.training.update import Terms, Update


@dataclass(frozen=True, kw_only=True)
class GAZSLConfig(AdversarialConfig):
    """Settings of GAZSL; defaults are the released code's for CUB with Wikipedia texts.

    Attributes:
        epochs: 3,000 steps on CUB's 7,057 rows, as many as the released code has on any data set.
        noise_dim: 100 for texts, CUB and FLO; 10 for the other attribute data sets.
        output: the paper's is tanh. ``(1 + tanh(x)) / 2 = sigmoid(2x)`` is that on features scaled to [0, 1], just what
            real ones take up; the released code's plain tanh on such features strays below their minimum.
        text_dim: width that embeddings are reduced to before they meet the noise; None leaves the layer out, as the
            released code does for attributes.
        pivot_weight: weight of the visual pivot regularisation; 5 in the released code for attributes, divided there
            by all seen classes, nearly all of which a batch of 1,000 holds.
        cls_weight: weight of the generator's classification term; half of this in the released code.
        critic_cls_weight: weight of the critic's classification term, the mean over real and generated rows; twice
            this in the released code.
        decay_weight: weight of the generator's summed squared weights.
    """

    name: ClassVar[str] = "gazsl"

    epochs: int = 375
    batch_size: int = 1000
    beta2: float = 0.9
    noise_dim: int | None = 100
    output: Output = "sigmoid"
    text_dim: int | None = 1000
    pivot_weight: float = 1.0
    cls_weight: float = 1.0
    critic_cls_weight: float = 1.0
    decay_weight: float = 1e-3


class GAZSL(AdversarialGenerator, config=GAZSLConfig):
    """A WGAN-GP whose critic never sees the class, but must tell it (an ACGAN), with a pivot for each class.

    Critic: ``E[D(fake)] - E[D(real)] + gp_weight * penalty + critic_cls_weight * (L_cls(real) + L_cls(fake)) / 2``.
    Generator: ``-E[D(fake)] + cls_weight * L_cls(fake) + pivot_weight * L_pivot + decay_weight * |W|^2``, L_pivot
    being :func:`fgen.nn.matching.pivot`. The paper is silent on the first weights; Xavier's are the released
    code's. LeakyReLU's slope is the lineage's 0.2; the released code leaves torch's default, 0.01, and has 4,086
    hidden units in place of the lineage's 4,096. The generator's step takes the last critic batch's classes, where
    the released code draws a batch of its own.
    """

    config: GAZSLConfig
    #: Drawn evenly, with the variance of the released code's normal numbers.
    xavier_gain: ClassVar[float | None] = 1.0

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return a generator that first reduces the text, and a critic with two heads."""
        config = self.config
        reduce = Linear(embedding_dim, config.text_dim) if config.text_dim else nn.Identity()
        text_dim = config.text_dim or embedding_dim
        main = Generator(self.noise_dim, text_dim, config.hidden_dim, feature_dim, config.output)
        critic = AuxiliaryCritic(feature_dim, config.hidden_dim, n_seen)
        return {"generator": TextGenerator(reduce, main), "critic": critic}

    def critic_updates(self, batch: Batch, fake: Tensor, draws: Draws, index: int) -> Iterator[Update]:
        """Yield one critic update, of both heads at once."""
        alpha = draws.uniform(f"mixing {index}", (len(batch), 1))
        yield Update(("critic",), partial(self.critic_terms, batch, fake, alpha))

    def critic_terms(self, batch: Batch, fake: Tensor, alpha: Tensor) -> Terms:
        """Return the critic's loss; ``alpha (B, 1)`` is the share of real rows in the interpolates."""
        config, critic = self.config, self.network("critic", AuxiliaryCritic)
        hidden = critic.activation(torch.cat([batch.features, fake]))
        real, generated = critic.score(hidden).chunk(2)
        terms = {}
        if config.critic_cls_weight:
            error = losses.classification(critic.classes(hidden), batch.labels.repeat(2))
            terms["critic_classification"] = config.critic_cls_weight * error
        if config.gp_weight:
            penalty = losses.gradient_penalty(critic, batch.features, fake, batch.condition, alpha)
            terms["gradient_penalty"] = config.gp_weight * penalty
        terms["critic"] = generated.mean() - real.mean()
        return terms

    def generator_terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the generator's loss and the feature-matching terms that are switched on, the pivot among them."""
        config, fake = self.config, self.generator_fakes(batch, draws)
        critic = self.network("critic", AuxiliaryCritic)
        hidden = critic.activation(fake)
        terms = {"adversarial": -critic.score(hidden).mean()}
        if config.cls_weight:
            error = losses.classification(critic.classes(hidden), batch.labels)
            terms["classification"] = config.cls_weight * error
        if config.decay_weight:
            squares = [p.square().sum() for p in self.networks["generator"].parameters() if p.ndim == 2]
            terms["decay"] = config.decay_weight * torch.stack(squares).sum()
        return terms | self.matching.terms(fake, batch)


class TextGenerator(nn.Module):
    """``[noise; reduced text]`` to features, the reduction being linear: texts have many more words than it has units.

    Args:
        reduce: of the text; the identity takes the embedding as it is.
        main: of noise and the reduced text.
    """

    def __init__(self, reduce: nn.Module, main: Generator) -> None:
        super().__init__()
        self.reduce, self.main = reduce, main

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return scaled features ``(B, D)`` for noise ``(B, Z)`` and class embeddings ``(B, A)``."""
        return self.main(noise, self.reduce(condition))


class AuxiliaryCritic(OneHidden):
    """Features to a score and to a seen class, by two linear heads on one hidden layer of ReLUs."""

    def __init__(self, feature_dim: int, hidden_dim: int, n_seen: int) -> None:
        super().__init__(feature_dim, hidden_dim, 1)
        self.classes = Linear(hidden_dim, n_seen)

    def activation(self, *features: Tensor) -> Tensor:
        """Return hidden activations ``(B, H)`` of features ``(B, D)``, of which ``classes`` makes logits ``(B, S)``."""
        return F.relu(self.hidden(*features))

    def score(self, activation: Tensor) -> Tensor:
        """Return scores ``(B,)`` of hidden activations ``(B, H)``."""
        return self.out(activation).squeeze(1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return scores ``(B,)`` of features ``(B, D)``; the condition isn't used."""
        return self.score(self.activation(features))
