"""What a training step is made of: updates of networks, the terms that they minimise, and their optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from fgen.training.draws import Draws
from fgen.training.training_set import TrainingSet

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """One optimiser step.

    Attributes:
        roles: the networks that move; all others only pass gradients on.
        terms: what they minimise, a sum of named scalars.
        writes_gradients: ``terms`` fills the gradients itself; else autograd does.
    """

    roles: tuple[str, ...]
    terms: Callable[[], Terms]
    writes_gradients: bool = False


class TrainSettings(Protocol):
    """The settings of a method that the loop reads."""

    @property
    def lr(self) -> float: ...

    def n_steps(self, n_rows: int) -> int:
        """Return the training steps for ``n_rows`` rows."""
        ...


class Trainable(Protocol):
    """What the loop asks of a method, see :class:`~fgen.models.base.generator.FeatureGenerator`."""

    networks: nn.ModuleDict
    steps_per_epoch: int
    trained: ClassVar[tuple[str, ...]]

    @property
    def config(self) -> TrainSettings: ...

    def updates(self, data: TrainingSet, draws: Draws) -> Iterator[Update]: ...

    def optimiser(self, role: str) -> torch.optim.Optimizer: ...

    def learning_rate(self, role: str, epoch: int) -> float: ...

    def graph_constants(self, epoch: int) -> tuple[float, ...]: ...


def adam(parameters: Iterable[nn.Parameter], **settings: Any) -> torch.optim.Adam:
    """Adam in one pass over each parameter; its steps can be part of a CUDA graph."""
    parameters = list(parameters)
    return torch.optim.Adam(parameters, fused=True, capturable=parameters[0].is_cuda, **settings)
