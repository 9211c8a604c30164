"""Training steps on a GPU as a CUDA graph, which is recorded once and replayed on new numbers.

A step has some hundred small kernels. If the host launches them one by one, the GPU is idle most of the time.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

from fgen.compute.matmul import cuda_stream
from fgen.training.draws import Draws, StepInputs


class CapturedSteps:
    """Training steps of which the first for each set of constants runs directly and all others as a CUDA graph.

    Args:
        run: takes a step on the device with given draws, and returns its terms.
        networks: the networks whose gradients a step writes.
        seed: the training's seed.
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
            constants: values that are fixed in a graph, such as precision and learning rates; others need a new graph.
        """
        with torch.cuda.device(self._device):
            draws = self._inputs.load(step)
            if constants != self._constants:
                self._constants, self._graph = constants, None
                self._terms = self._directly(draws)
                return self._terms
            if self._graph is None:
                self._graph = self._captured(draws)
            self._graph.replay()
            return self._terms

    def _directly(self, draws: Draws) -> dict[str, Tensor]:
        # What is allocated once, such as moments and the libraries' own memory, must not be part of a graph.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            terms = self._run(draws)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return terms

    def _captured(self, draws: Draws) -> torch.cuda.CUDAGraph:
        # A step could free gradients outside of the graph's memory, and other tensors could overwrite them.
        self._networks.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14):  # later ones find the generator by themselves
            graph.register_generator_state(self._inputs.generator)
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._terms = self._run(draws)
        return graph
