"""Checkpoint of a training run: one file that is either complete or absent.

Random streams are counter-based, so a step number stands for all of them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fgen.errors import InputError
from fgen.io.atomic import atomic_file
from fgen.io.stored_folder import part

VERSION = 1


@dataclass
class TrainingState:
    """Networks, optimisers and counters of a run under way.

    Attributes:
        step: finished steps.
        sums: running sums of the epoch's terms, and how many steps they hold.
        history: a row for each finished epoch.
    """

    networks: nn.ModuleDict
    optimisers: dict[str, torch.optim.Optimizer]
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count a finished step with its terms, by name: a file gives its sums back in another order than a method."""
        for name, term in sorted(terms.items()):
            self.sums[name] = self.sums[name] + term.double() if name in self.sums else term.double()
        self.summed += 1
        self.step += 1

    def close_epoch(self, epoch: int) -> dict[str, float]:
        """Append the epoch's row to the history, the mean of every term over its steps, and return it."""
        row = {"epoch": float(epoch)} | {name: float(total) / self.summed for name, total in self.sums.items()}
        self.sums, self.summed = {}, 0
        self.history.append(row)
        return row


def write_checkpoint(path: Path, state: TrainingState) -> None:
    """Write the state to one safetensors file, atomically."""
    tensors = {f"network.{key}": value.detach().contiguous() for key, value in state.networks.state_dict().items()}
    for name, optimiser in state.optimisers.items():
        for index, slots in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{name}.{index}.{slot}": value.contiguous() for slot, value in slots.items()}
    tensors |= {f"sum.{name}": total for name, total in state.sums.items()}
    counters = {"version": VERSION, "step": state.step, "summed": state.summed, "history": state.history}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"fgen": json.dumps(counters)}))


def read_checkpoint(path: Path, state: TrainingState) -> None:
    """Read a checkpoint into ``state``.

    Raises:
        InputError: the file is damaged, or belongs to networks of another shape.
    """
    remedy = "Delete it to start this run anew, or use another --out"
    try:
        with safe_open(path, framework="pt") as file:
            counters = json.loads(file.metadata()["fgen"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        state.networks.load_state_dict(part(tensors, "network."))
        for name, optimiser in state.optimisers.items():
            _restore_optimiser(optimiser, part(tensors, f"optimiser.{name}."))
        state.sums = dict(sorted(part(tensors, "sum.").items()))
        state.step, state.summed, state.history = _checked(counters)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} can't be resumed from ({reason})", "a checkpoint of this very run", remedy) from None


def _checked(counters: dict[str, Any]) -> tuple[int, int, list[dict[str, float]]]:
    """Return steps, steps in the sums, and history, if a training can have written them."""
    json.dumps(counters, allow_nan=False)
    step, summed, history = (counters[name] for name in ("step", "summed", "history"))
    if not all(type(count) is int and count >= 0 for count in (step, summed)):
        raise ValueError(f"step, summed are {step!r}, {summed!r}")
    rows = history if isinstance(history, list) else [None]
    if not all(isinstance(row, dict) and all(type(v) in (int, float) for v in row.values()) for row in rows):
        raise ValueError("history is no list of epochs")
    return step, summed, history


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split(".")
        slots.setdefault(int(index), {})[slot] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})
    for parameter, state in optimiser.state.items():  # moments lie as their parameter does
        for slot, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[slot] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
