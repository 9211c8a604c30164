"""Endless fresh features of a trained model, for torch's ``DataLoader``."""

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from fgen import rng


class FeatureStream(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless rows ``(feature (D,) float32, label () int64)``. Make it by a model's ``stream``.

    Rows come in rounds. Each round has new rows, in random order. A class's rows in round r follow from the seed, the
    epoch, r and the class; other classes don't change them. Worker w of W yields the rounds w, w + W, w + 2 W and so
    on, so that no row comes twice. The rounds don't depend on the number of workers. With
    ``DataLoader(batch_size=stream.rows_per_round)`` the order of the rows doesn't either. torch lets a worker compute
    on one thread; on several threads the last digits may differ.

    Args:
        generate: called with ``seed=`` of a round, returns its features ``(rows_per_round, D)`` and labels.
        rows_per_round: number of rows in a round.
        seed: names every random number.
    """

    def __init__(self, generate: Callable[..., tuple[np.ndarray, np.ndarray]], rows_per_round: int, seed: int) -> None:
        self._generate, self.rows_per_round, self._seed = generate, rows_per_round, seed
        # In shared memory, so that workers that outlive an epoch (persistent_workers) see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration is of; it is 0 at first, and each has other rows."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, worker = int(self._epoch), get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in count(first, step):
            generated = self._generate(seed=rng.subseed(self._seed, "stream", epoch, number))
            order = rng.stream(self._seed, "stream order", epoch, number).permutation(self.rows_per_round)
            yield from zip(*(torch.from_numpy(rows[order]) for rows in generated), strict=True)
