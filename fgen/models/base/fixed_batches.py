"""Batches of a fixed size for generation, whatever the classes and their numbers of rows are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from fgen import rng

#: Rows of a class whose noise is drawn at once.
NOISE_CHUNK = 64
#: Rows of a batch, of one class or several; the last batch is filled up with rows of the one before.
BATCH_ROWS = 512
#: The first row of a class is at a multiple of this. A product's last bits depend on its number of rows and, if it is
#: narrow, on a row's position. With both fixed, a feature doesn't depend on the other classes in its batch.
ALIGNED = 16
#: Products of at least so many columns don't depend on a row's position.
WIDE = 64


def noise_blocks(
    draw: Callable[[np.random.Generator], np.ndarray], keys: Sequence[int | str | bytes], counts: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the noise ``(BATCH_ROWS, Z)`` of each batch, and the index of each row's class ``(BATCH_ROWS,)``.

    The next batch overwrites both.

    Args:
        draw: the next NOISE_CHUNK rows of a class, ``(NOISE_CHUNK, Z)``, from its own stream.
        keys: each class's stream.
        counts: rows of each class.
    """
    noise, of_class, filled = np.zeros((0, 0), dtype=np.float32), np.zeros(BATCH_ROWS, dtype=np.int64), 0
    for k, (key, count) in enumerate(zip(keys, counts, strict=True)):
        stream = rng.stream(seed, "generate", key)
        wanted = _aligned(count)
        for start in range(0, wanted, NOISE_CHUNK):
            chunk = draw(stream)[: wanted - start]
            if not noise.size:
                noise = np.zeros((BATCH_ROWS, chunk.shape[1]), dtype=np.float32)
            while len(chunk):
                part = chunk[: BATCH_ROWS - filled]
                noise[filled : filled + len(part)], of_class[filled : filled + len(part)] = part, k
                chunk, filled = chunk[len(part) :], filled + len(part)
                if filled == BATCH_ROWS:
                    yield noise, of_class
                    filled = 0
    if filled:
        yield noise, of_class


def once_for_each_class(formula: Callable[[Tensor], Tensor], condition: Tensor, width: int) -> Tensor:
    """Return a formula of embeddings ``(K, A)``, ``(K, N)``, which doesn't depend on the other classes.

    Args:
        formula: of ``(BATCH_ROWS, A)``.
        width: the smallest number of columns of the formula's products. Where they are narrow, each class is at a
            multiple of :data:`ALIGNED`.
    """
    copies = 1 if width >= WIDE else ALIGNED
    rows = condition.repeat_interleave(copies, dim=0)
    filled = torch.cat([rows, rows[-1:].expand(-len(rows) % BATCH_ROWS, -1)])
    return torch.cat([formula(batch)[::copies] for batch in filled.split(BATCH_ROWS)])[: len(condition)]


def rows_by_class(blocks: Iterable[np.ndarray], counts: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Yield the generated rows of each class, ``(counts[k], width)``, from the rows of the batches."""
    blocks, rows = iter(blocks), np.empty((0, width), dtype=np.float32)
    for count in counts:
        parts = [rows[: _aligned(count)]]
        while (missing := _aligned(count) - sum(map(len, parts))) > 0:
            rows = next(blocks)
            parts.append(rows[:missing])
        rows = rows[len(parts[-1]) :]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        yield whole[:count]


def concatenate_blocks(blocks: Iterable[np.ndarray], n_rows: int) -> np.ndarray:
    """Return blocks of rows, at least one, as a matrix ``(n_rows, D)`` float32.

    The matrix is allocated at the first block, which raises a MemoryError if it is too large.
    """
    blocks, start = iter(blocks), 0
    first = next(blocks)
    rows = np.empty((n_rows, first.shape[1]), dtype=np.float32)
    for block in chain([first], blocks):
        rows[start : start + len(block)] = block
        start += len(block)
    return rows


def _aligned(count: int) -> int:
    """Return the next multiple of :data:`ALIGNED`."""
    return -(-int(count) // ALIGNED) * ALIGNED
