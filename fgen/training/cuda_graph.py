"""Training steps on a GPU as a CUDA graph, which is recorded once and replayed on new numbers.

A step is some hundred small kernels; launched one by one, the GPU waits for the host most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from fgen.compute.matmul import cuda_stream
from fgen.training.draws import Draws, StepInputs


class CapturedSteps:
    """Training steps of which the first for each set of constants runs directly and all others as a CUDA graph.

    Args:
        run: what a step does with its draws, all of it on the device; its terms.
        networks: whose gradients a step makes.
        seed: of the training.
        device: a CUDA device.
    """

    def __init__(
        self, run: Callable[[Draws], dict[str, Tensor]], networks: nn.Module, seed: int, device: torch.device
    ) -> None:
        self._run, self._networks, self._device = run, networks, device
        self._inputs = StepInputs(seed, device)
        self._stream = cuda_stream(device, "steps")
        self._graph: torch.cuda.CUDAGraph | None = None
        self._constants: Hashable = None
        self._terms: dict[str, Tensor] = {}

    def __call__(self, step: int, constants: Hashable) -> dict[str, Tensor]:
        """Return one step's terms, in tensors that the next step overwrites.

        Args:
            step: its number.
            constants: what the step has as it is, such as its precision and learning rates; others need another graph.
        """
        with torch.cuda.device(self._device):
            draws = self._inputs.load(step)
            if constants != self._constants:
                self._constants, self._graph = constants, None
                self._terms = self._as_it_is(draws)
                return self._terms
            if self._graph is None:
                self._graph = self._captured(draws)
            self._graph.replay()
            return self._terms

    def _as_it_is(self, draws: Draws) -> dict[str, Tensor]:
        # What is made once, such as moments and the libraries' own memory, mustn't be part of a graph.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            terms = self._run(draws)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return terms

    def _captured(self, draws: Draws) -> torch.cuda.CUDAGraph:
        # Gradients that lie outside of the graph's memory might be freed by the step, and their place be written to.
        self._networks.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):  # later ones find the generator by themselves
            graph.register_generator_state(self._inputs.generator)
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._terms = self._run(draws)
        return graph
