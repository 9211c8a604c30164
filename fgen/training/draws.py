"""Random numbers of a training step, and other numbers that the host makes for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fgen import rng

Choice = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Draws:
    """Random numbers of one training step, from a stream for each purpose.

    Streams are counter-based, keyed by (seed, purpose, step), so a resumed run draws the numbers of an unbroken one. A
    GPU's noise is keyed by (seed, step) and by the order of a step's draws.

    Attributes:
        inputs: buffers of a step that is replayed with other numbers, see :class:`StepInputs`.
        own_step: maps the training's step to the one that keys these draws.
    """

    seed: int
    step: int
    device: torch.device
    within: str = ""
    inputs: StepInputs | None = None
    own_step: Callable[[int], int] = lambda step: step

    def part(self, index: int) -> Draws:
        """Return the draws of one part of the step; all are new."""
        return replace(self, within=f"{self.within}{index} ")

    def iteration(self, index: int, of: int) -> Draws:
        """Return the draws of one of the step's ``of`` iterations, each with a number of its own."""
        outer = self.own_step
        return replace(self, step=of * self.step + index, own_step=lambda step: of * outer(step) + index)

    def stream(self, purpose: str, step: int | None = None) -> np.random.Generator:
        """Return the stream of a purpose, on the host; of the same part of another step if one is given."""
        return rng.stream(self.seed, self.within + purpose, self.step if step is None else step)

    def chosen(self, purpose: str, choose: Choice) -> Tensor:
        """Return ``choose(stream)`` for the purpose's stream; nothing else that it uses may change between steps."""
        if self.inputs is None:
            return torch.from_numpy(choose(self.stream(purpose))).to(self.device)
        source = replace(self, inputs=None)  # or the inputs would hold themselves, and the data with them
        return self.inputs.made(lambda step: choose(source.stream(purpose, source.own_step(step))))

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal float32 numbers."""
        if self.inputs is not None and self.inputs.generator is not None:
            return torch.randn(shape, generator=self.inputs.generator, device=self.device)
        return self.chosen(purpose, lambda stream: stream.standard_normal(shape, dtype=np.float32))

    def uniform(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw float32 numbers uniform in [0, 1)."""
        if self.inputs is not None and self.inputs.generator is not None:
            return torch.rand(shape, generator=self.inputs.generator, device=self.device)
        return self.chosen(purpose, lambda stream: stream.random(shape, dtype=np.float32))


class StepInputs:
    """Static input buffers for CUDA-graph replay.

    Each tensor that the host creates for a step is stored with the function that created it, in request order;
    :meth:`load` refills the same buffers for another step. An accelerator draws noise itself, from a generator that is
    seeded for each step.

    Attributes:
        generator: the accelerator's; None on the CPU, where the host draws noise too.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        self.generator = None if device.type == "cpu" else torch.Generator(device)
        self._makers: list[Callable[[int], np.ndarray]] = []
        self._tensors: list[Tensor] = []
        self._step = self._position = 0

    def load(self, step: int) -> Draws:
        """Fill the buffers for a step and return its draws, which must be requested in the same order in every step."""
        self._step, self._position = step, 0
        if self.generator is not None:
            self.generator.manual_seed(rng.subseed(self._seed, "step", step))
        for tensor, make in zip(self._tensors, self._makers, strict=True):
            tensor.copy_(self._on_host(make(step)), non_blocking=True)
        return Draws(self._seed, step, self._device, inputs=self)

    def made(self, make: Callable[[int], np.ndarray]) -> Tensor:
        """Return the next buffer, which holds ``make(step)``, on the device."""
        if self._position == len(self._tensors):
            self._makers.append(make)
            self._tensors.append(self._on_host(make(self._step)).to(self._device))
        self._position += 1
        return self._tensors[self._position - 1]

    def _on_host(self, numbers: np.ndarray) -> Tensor:
        # From pinned memory, copies wait for nothing; torch keeps it until they are done.
        tensor = torch.from_numpy(numbers)
        return tensor if self._device.type == "cpu" else tensor.pin_memory()
