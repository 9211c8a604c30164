"""ZSML: Verma, Brahma, Rai, "Meta-Learning for Generalized Zero-Shot Learning", AAAI 2020."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fgen.io.stored_folder import part
from fgen.models.base.adversarial import AdversarialGenerator
from fgen.models.base.config import AdversarialConfig
from fgen.nn import losses
from fgen.nn.networks import SLOPE, Critic, Linear
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet
from fgen.training.update import Terms, Update

#: Weights by role and name, as ``generator.out.weight``, each ``(T, ...)``: a copy for each task.
Weights = dict[str, Tensor]
ROLES = ("critic", "generator", "classifier")


@dataclass(frozen=True, kw_only=True)
class ZSMLConfig(AdversarialConfig):
    """Settings of ZSML; defaults are the released code's for CUB.

    Attributes:
        batch_size: rows of all of a step's queries together, and of an ordinary critic step; 300 are the code's 10
            tasks.
        critic_steps: updates of the critic in a step: all but the last are an ordinary WGAN's, the last is the
            tasks', together with the generator's.
        n_way: classes of a task's support, and as many others of its query; at most half of the seen classes.
        n_support, n_query: rows of each class, drawn with replacement.
        inner_steps, inner_lr: gradient descent on the support, by which a task's fast weights come about; 0 steps
            leave a WGAN with a classifier.
        second_order: the outer gradient goes through the inner steps too, as MAML's does; it keeps every step's fast
            weights of every task, some 10 GB at the default widths. Else it is taken at the last fast weights
            (first-order MAML), as the released code has it.
        cls_weight: weight of the classification term.
        classifier_dim: width of the classifier's two hidden layers; None means a quarter of ``hidden_dim`` (512).
        noise_scale, generation_scale: standard deviation of the noise in training and in generation; 0.1 and 1 for
            AWA2.
    """

    name: ClassVar[str] = "zsml"

    batch_size: int = 300
    hidden_dim: int = 2048
    lr: float = 1e-5
    critic_lr: float | None = 1e-3
    n_way: int = 10
    n_support: int = 5
    n_query: int = 3
    inner_steps: int = 5
    inner_lr: float = 1e-3
    second_order: bool = False
    cls_weight: float = 0.05
    classifier_dim: int | None = None
    noise_scale: float = 0.5
    generation_scale: float = 0.25

    @property
    def n_tasks(self) -> int:
        """Return T, the tasks of a step: as many queries as ``batch_size`` rows hold, at least 1."""
        return max(1, self.batch_size // (self.n_way * self.n_query))


class WassersteinLoss(nn.Module):
    """``E[D(fake)] - E[D(real)]`` and the gradient penalty as a module, so that a task's weights can be put into it.

    The same as :func:`fgen.nn.losses.critic_terms`, with the input gradient written down: the inner steps
    differentiate once or twice more, and double backward below that would triple their cost.
    """

    def __init__(self, critic: Critic, penalised: bool = True) -> None:
        super().__init__()
        self.critic, self.penalised = critic, penalised

    def forward(self, real: Tensor, fake: Tensor, condition: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return two scalars, the second of which is 0 without a penalty.

        Args:
            real, fake: rows ``(n, D)``.
            condition: ``(n, A)``.
            alpha: shares of ``real``, ``(n, 1)``.
        """
        rows, classes = torch.cat([real, fake]), torch.cat([condition, condition])
        hidden = self.critic.pre_activation(rows, classes)
        of_real, of_fake = hidden.chunk(2)
        on_real, on_fake = self.critic.score(hidden).chunk(2)
        distance = on_fake.mean() - on_real.mean()
        if not self.penalised:
            return distance, torch.zeros_like(distance)
        gradient = self.critic.input_gradient(torch.lerp(of_fake, of_real, alpha))
        return distance, losses.distance_from_one(gradient)


class Episodes(NamedTuple):
    """The tasks of one update, ``T * n`` rows each: class by class, task after task."""

    support: Batch
    query: Batch


class ZSML(AdversarialGenerator, config=ZSMLConfig):
    """A WGAN with a classifier, meta-learned: a few steps on some classes must help to generate *other* classes.

    Each task descends ``inner_steps`` times on its support, ``L_D = E[D(fake)] - E[D(x)]`` for the critic's weights
    and ``L_GC = -E[D(fake)] + cls_weight * -E[log C(y | fake)]`` for the generator's, with a classifier C that descends
    beside it; the same losses of its query, whose classes its support lacks, at the fast weights that this leads to,
    are what the weights are trained for, averaged over tasks. Each network's loss counts for its own weights alone.
    Features are then generated with the trained weights as they are: nothing of an unseen class could adapt them.

    A WGAN as in the paper; the released code's is a least-squares GAN. It also writes the fast weights into the
    networks' own parameters, so that the slow ones are lost, and starts each inner step from the same place; here
    they are true fast weights. How the critic is kept Lipschitz isn't said: here it's the lineage's penalty, and
    its ``critic_steps - 1`` ordinary steps beforehand, without which generators collapsed in trials.

    Departures from that code: its generator has three hidden layers with BatchNorm (of an eps of 0.8) and dropout, so
    that a feature depends on its company; here generator and critic are the lineage's, of one hidden layer, and
    features are scaled. C learns from real rows; there from generated ones alone, where both can agree on any code
    of their own. Adam for the critic too, no weight decay, no decay of the rates. Rows are drawn with replacement.
    """

    config: ZSMLConfig

    def build_networks(self, feature_dim: int, embedding_dim: int, n_seen: int) -> dict[str, nn.Module]:
        """Return generator, critic, and the classifier C over the seen classes."""
        width = self.config.classifier_dim or max(1, self.config.hidden_dim // 4)
        layers = [Linear(feature_dim, width), nn.LeakyReLU(SLOPE), Linear(width, width), nn.LeakyReLU(SLOPE)]
        shared = super().build_networks(feature_dim, embedding_dim, n_seen)
        return shared | {"classifier": nn.Sequential(*layers, Linear(width, n_seen))}

    def compute_statistics(self, data: TrainingSet, seed: int) -> None:
        """Find each class's rows too, from which episodes are drawn."""
        super().compute_statistics(data, seed)
        self.by_class = np.argsort(data.labels, kind="stable")
        self.counts = np.bincount(data.labels)
        self.starts = np.cumsum(self.counts) - self.counts

    def synthesise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return features of the trained weights, for noise scaled by ``generation_scale``."""
        return self.networks["generator"](self.config.generation_scale * noise, condition)

    def fakes(self, purpose: str, batch: Batch, draws: Draws) -> Tensor:
        """Return features ``(B, D)`` of training, for noise scaled by ``noise_scale``."""
        noise = draws.normal(purpose, (len(batch), self.noise_dim))
        return self.networks["generator"](self.config.noise_scale * noise, batch.condition)

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]:
        """Yield ``critic_steps - 1`` ordinary critic updates, then one of all networks on a step's tasks."""
        if n_batches := self.config.critic_steps - 1:
            yield from self.critic_phase(data, draws, n_batches)
        yield Update(ROLES, partial(self.query_terms, self.episodes(data, draws), draws))

    def episodes(self, data: TrainingSet, draws: Draws) -> Episodes:
        """Draw tasks whose query has other classes than their support; classes and rows are drawn evenly."""
        config, ways = self.config, min(self.config.n_way, data.n_classes // 2)
        sizes = [config.n_tasks * ways * n_rows for n_rows in (config.n_support, config.n_query)]

        def choose(stream: np.random.Generator) -> np.ndarray:
            order = stream.random((config.n_tasks, data.n_classes)).argsort(axis=1)
            support = np.repeat(order[:, :ways], config.n_support, axis=1).ravel()
            query = np.repeat(order[:, ways : 2 * ways], config.n_query, axis=1).ravel()
            chosen = np.concatenate([support, query])
            return self.by_class[self.starts[chosen] + stream.integers(self.counts[chosen])]

        return Episodes(*data.drawn(draws, "episodes", choose).split(sizes))

    def query_terms(self, episodes: Episodes, draws: Draws) -> Terms:
        """Return L_D and L_GC of the queries, at the fast weights that follow from the supports."""
        fast = self.fast_weights(episodes.support, draws)
        terms, fake = self.critic_loss(fast, episodes.query, draws)
        return terms | self.generator_loss(fast, fake, episodes.query) | self.matching.terms(fake, episodes.query)

    def fast_weights(self, support: Batch, draws: Draws) -> Weights:
        """Return each task's weights: the networks' own after ``inner_steps`` of gradient descent on its support.

        They carry a graph to the networks' parameters: the identity's, and of ``second_order`` the descent's too.
        """
        fast = {name: p.expand(self.config.n_tasks, *p.shape) for name, p in self.networks.named_parameters()}
        for step in range(self.config.inner_steps):
            critic_terms, fake = self.critic_loss(fast, support, draws.part(step))
            generator_terms = self.generator_loss(fast, fake, support)
            fast = self.descend(fast, critic_terms, "critic")
            fast = self.descend(fast, generator_terms, "generator", "classifier")
        return fast

    def descend(self, fast: Weights, terms: Terms, *roles: str) -> Weights:
        """Return the weights after one step of gradient descent of these roles on each task's own mean loss."""
        moving = {name: value for name, value in fast.items() if name.startswith(roles)}
        # Terms are means over all tasks' rows: times T, the gradient in a task's copy is that of its own mean.
        loss = self.config.n_tasks * torch.stack(list(terms.values())).sum()
        slopes = torch.autograd.grad(loss, [*moving.values()], create_graph=self.config.second_order)
        pairs = zip(moving.items(), slopes, strict=True)
        return fast | {name: torch.sub(value, slope, alpha=self.config.inner_lr) for (name, value), slope in pairs}

    def critic_loss(self, fast: Weights, batch: Batch, draws: Draws) -> tuple[Terms, Tensor]:
        """Return L_D and its penalty, for the critic alone, and the differentiable features ``(T * n, D)`` it saw."""
        noise = self.config.noise_scale * draws.normal("noise", (len(batch), self.noise_dim))
        fake = self.call("generator", fast, noise, batch.condition)
        alpha = draws.uniform("mixing", (len(batch), 1))
        weights = {name: value for name, value in fast.items() if name.startswith("critic")}
        inputs = (batch.features, fake.detach(), batch.condition, alpha)
        loss = WassersteinLoss(self.network("critic", Critic), penalised=self.config.gp_weight > 0)
        distance, penalty = self.per_task(loss, weights, *inputs)
        terms = {"critic": distance.mean()}
        if loss.penalised:
            terms["gradient_penalty"] = self.config.gp_weight * penalty.mean()
        return terms, fake

    def generator_loss(self, fast: Weights, fake: Tensor, batch: Batch) -> Terms:
        """Return L_GC: C's own term, and the generator's, with the others' weights as constants."""
        constant, terms = {name: value.detach() for name, value in fast.items()}, {}
        if weight := self.config.cls_weight:
            error = losses.classification(self.call("classifier", constant, fake), batch.labels)
            terms["classification"] = weight * error
        logits = self.call("classifier", fast, batch.features)
        terms["classifier"] = losses.classification(logits, batch.labels)
        return terms | {"adversarial": -self.call("critic", constant, fake, batch.condition).mean()}

    def call(self, role: str, fast: Weights, *inputs: Tensor) -> Tensor:
        """Apply a network to ``T * n`` rows, each task's with its own weights."""
        return self.per_task(self.networks[role], part(fast, f"{role}."), *inputs).flatten(0, 1)

    def per_task(self, module: nn.Module, weights: Weights, *inputs: Tensor) -> Any:
        """Apply a module to each task's rows with each task's weights; results are stacked, ``(T, ...)``."""
        stacked = tuple(tensor.unflatten(0, (self.config.n_tasks, -1)) for tensor in inputs)
        return vmap(partial(functional_call, module))(weights, stacked)
