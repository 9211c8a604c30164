"""Parts of a training step: updates of networks, the terms that they minimise, and their optimiser."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgen.nn.adam import Adam
from fgen.training.draws import Draws
from fgen.training.training_set import Batch, TrainingSet

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """One optimiser step.

    Attributes:
        roles: the networks that move; all others only pass gradients on.
        terms: what they minimise, a sum of named scalars.
        writes_gradients: ``terms`` overwrites the gradients with those of its terms that have no graph; autograd adds
            those of terms that have one.
    """

    roles: tuple[str, ...]
    terms: Callable[[], Terms]
    writes_gradients: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a method that the loop and the optimisers read.

    Attributes:
        epochs: passes over the training rows; an epoch is ceil(N / batch_size) steps.
        steps: number of steps, in place of ``epochs``.
        batch_size: rows of a step, of the critic's and of the generator's.
        lr, beta1, beta2: of Adam; a role's rate is ``ROLE_lr`` where the settings have it, its beta1 ``ROLE_beta1``.
    """

    epochs: int = 50
    steps: int | None = None
    batch_size: int = 64
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999

    def n_steps(self, n_rows: int) -> int:
        """Return the number of training steps for ``n_rows`` rows."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch(n_rows)

    def steps_per_epoch(self, n_rows: int) -> int:
        """Return ceil(N / batch_size), the steps of an epoch."""
        return -(-n_rows // self.batch_size)


class Trainable:
    """Networks and what each training step does with them: the base of all that the loop trains.

    Attributes:
        config: settings of the method.
        networks: by role.
        frozen: roles of networks that no step moves.
        amsgrad: whether the optimisers are AMSGrad (Reddi et al. 2018).
        steps_per_epoch: of the training set; a step's epoch is ``draws.step // self.steps_per_epoch``.
    """

    config: TrainSettings
    networks: nn.ModuleDict
    steps_per_epoch: int
    frozen: ClassVar[tuple[str, ...]] = ()
    amsgrad: ClassVar[bool] = False

    @property
    def trained(self) -> tuple[str, ...]:
        """Return the roles that have an optimiser: of the networks with parameters all that aren't frozen."""
        return tuple(
            role for role, network in self.networks.items() if role not in self.frozen and [*network.parameters()]
        )

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]:
        """Yield the updates of one training step in order; each sees the networks as the ones before it left them.

        By default there is one update, of all trained networks by :meth:`terms`.
        """
        batch = data.batches(draws, 1, self.config.batch_size)
        yield Update(self.trained, partial(self.terms, batch, draws))

    def terms(self, batch: Batch, draws: Draws) -> Terms:
        """Return the loss of a method that has one update in a step."""
        raise NotImplementedError

    def optimiser(self, role: str) -> torch.optim.Optimizer:
        """Return the optimiser of a role's network."""
        config = self.config
        betas = getattr(config, f"{role}_beta1", config.beta1), config.beta2
        return Adam(self.networks[role].parameters(), lr=config.lr, betas=betas, amsgrad=self.amsgrad)

    def learning_rate(self, role: str, epoch: int) -> float:
        """Return a role's rate in an epoch, counted from 0: the config's ``ROLE_lr`` if it is set, else ``lr``."""
        own: float | None = getattr(self.config, f"{role}_lr", None)
        return self.config.lr if own is None else own

    def graph_constants(self, epoch: int) -> tuple[float, ...]:
        """Return the numbers besides the learning rates that terms take from an epoch, counted from 0."""
        return ()
