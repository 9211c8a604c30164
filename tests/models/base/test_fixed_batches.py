"""Passes of a fixed size: every class gets its own rows, at an aligned place, whatever its company."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgen import rng
from fgen.models.base.fixed_batches import (
    ALIGNED,
    BATCH_ROWS,
    NOISE_CHUNK,
    noise_blocks,
    once_for_each_class,
    rows_by_class,
)

pytestmark = pytest.mark.numeric

COUNTS = st.lists(st.integers(0, 3 * NOISE_CHUNK), max_size=12) | st.lists(st.integers(0, 2 * BATCH_ROWS), max_size=4)


def draw(stream):
    return stream.standard_normal((NOISE_CHUNK, 3), dtype=np.float32)


def passes(counts):
    """Copies of all passes, with the class's index as a fourth column."""
    keys = [f"class {k}" for k in range(len(counts))]
    for noise, of_class in noise_blocks(draw, keys, np.array(counts, dtype=np.int64), seed=0):
        assert noise.shape == (BATCH_ROWS, 3)
        yield np.column_stack([noise, of_class]).astype(np.float32)


@given(COUNTS)
def test_each_class_gets_the_rows_of_its_own_stream(counts):
    found = list(rows_by_class(passes(counts), np.array(counts, dtype=np.int64), 4))
    assert [len(rows) for rows in found] == counts
    for k, rows in enumerate(found):
        stream = rng.stream(0, "generate", f"class {k}")
        alone = np.concatenate([draw(stream) for _ in range(0, max(1, counts[k]), NOISE_CHUNK)])
        assert rows[:, :3].tobytes() == alone[: counts[k]].tobytes()
        assert (rows[:, 3] == k).all()


@given(COUNTS)
def test_a_class_begins_at_an_aligned_row_and_few_rows_are_for_nothing(counts):
    rows = np.concatenate([*passes(counts), np.empty((0, 4), np.float32)])
    aligned = [-(-count // ALIGNED) * ALIGNED for count in counts]
    assert len(rows) == -(-sum(aligned) // BATCH_ROWS) * BATCH_ROWS
    starts = np.concatenate([[0], np.cumsum(aligned)])
    for k, (start, end) in enumerate(pairwise(starts)):
        assert start % ALIGNED == 0
        assert (rows[start:end, 3] == k).all()


@pytest.mark.parametrize(("n_seen", "dim"), [(20, 5), (200, 96), (3000, 64)])
def test_a_class_part_is_computed_in_few_rows_and_whatever_the_other_classes_are(n_seen, dim):
    draw = torch.Generator().manual_seed(0)
    weight, rows = torch.randn(n_seen, dim, generator=draw), torch.randn(700, n_seen, generator=draw)
    sizes = []

    def formula(batch):
        sizes.append(len(batch))
        return batch @ weight

    found = once_for_each_class(formula, rows, dim)
    assert set(sizes) == {BATCH_ROWS}
    assert len(sizes) == (2 if dim >= 64 else 22)
    torch.testing.assert_close(found, rows @ weight, rtol=1e-4, atol=1e-3)
    some = torch.randperm(700, generator=draw)[:90]
    assert torch.equal(once_for_each_class(formula, rows[some], dim), found[some])
