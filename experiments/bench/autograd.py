"""Any method's own updates the ordinary way: autograd for every gradient, a pass for each batch, Adam's defaults.

The textbook form of methods that have no loop of their own in ``textbook.py``: the same formulas, without what the
engine does to them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from fgen.models.base.generator import FeatureGenerator
from fgen.nn import losses
from fgen.training.draws import Draws
from fgen.training.training_set import TrainingSet
from fgen.training.update import Terms

#: The function whose gradients are written down, and that a method calls by this name.
WRITTEN_DOWN = "critic_gradients"


class AutogradLoop:
    """Training steps of a model whose networks and data are ready.

    Args:
        model: changed for good: fakes are made batch by batch.
        data: what ``model.begin`` gave.
    """

    def __init__(self, model: FeatureGenerator, data: TrainingSet) -> None:
        self.model, self.data = model, data
        model.stacked_fakes = False  # type: ignore[attr-defined]
        self.optimisers = {role: plain_optimiser(model.optimiser(role)) for role in model.trained}

    def step(self, seed: int, step: int) -> Terms:
        """The updates of one step; all terms."""
        terms: Terms = {}
        with without_written_gradients():
            for update in self.model.updates(self.data, Draws(seed, step, self.data.device)):
                for role, network in self.model.networks.items():
                    network.requires_grad_(role in update.roles)
                for role in update.roles:
                    self.optimisers[role].zero_grad()
                own = update.terms()
                if graph := [term for term in own.values() if term.requires_grad]:
                    sum(graph, start=torch.zeros((), device=self.data.device)).backward()
                for role in update.roles:
                    self.optimisers[role].step()
                terms |= {name: term.detach() for name, term in own.items()}
        return terms


@contextmanager
def without_written_gradients() -> Iterator[None]:
    """Every method's critic takes the double backward for a while."""
    modules = [
        m
        for name, m in sys.modules.items()
        if name.startswith(("fgen.models.", "fgen.nn.")) and hasattr(m, WRITTEN_DOWN)
    ]
    if not modules:
        raise LookupError(
            f"nothing in fgen.models or fgen.nn is called {WRITTEN_DOWN}: the bench would compare fgen with itself"
        )
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(mock.patch.object(module, WRITTEN_DOWN, gradients_by_autograd))
        yield


def gradients_by_autograd(
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    alpha: Tensor,
    gp_weight: float | Tensor,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The slow twin of :func:`fgen.nn.critic_gradients.critic_gradients`."""
    with torch.enable_grad():
        distance, penalty = losses.critic_terms(critic, real, fake, condition, alpha)
        (scale * distance + gp_weight * penalty).backward()
    return (scale * distance).detach(), penalty.detach()


def plain_optimiser(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimiser with the same settings, but for how it is computed: torch's default."""
    known = set(inspect.signature(torch.optim.Adam).parameters)
    known -= {"fused", "foreach", "capturable", "differentiable"}
    groups = [{k: v for k, v in group.items() if k == "params" or k in known} for group in optimiser.param_groups]
    return torch.optim.Adam(groups)
