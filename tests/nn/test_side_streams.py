"""A critic's step on concurrent streams never touches what another stream may be at; no GPU is needed.

Every operation is recorded with what it reads and writes and with what its stream has seen of the others; two that
touch the same element, one of them writing, must have come one after the other for sure.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fgen.nn.critic_gradients import critic_gradients
from fgen.nn.networks import Critic

pytestmark = pytest.mark.numeric

STEP, STREAMS = 0, (1, 2)


class Streams(TorchDispatchMode):
    """Watches operations; what ``SideStream`` is made to be tells it in which stream they are."""

    def __init__(self, forgotten=None):
        super().__init__()
        self.seen = {stream: dict.fromkeys((STEP, *STREAMS), 0) for stream in (STEP, *STREAMS)}
        self.current, self.joins, self.forgotten = [STEP], 0, forgotten
        self.accesses, self.conflicts, self.kept = {}, [], []

    def wait(self, stream, other):
        self.seen[stream] = {key: max(value, self.seen[other][key]) for key, value in self.seen[stream].items()}

    def aside(self, device, dtype, index=0):
        watch, own = self, index + 1

        class Beside:
            def __enter__(self):
                watch.wait(own, watch.current[-1])
                watch.current.append(own)

            def __exit__(self, *error):
                watch.current.pop()

            def join(self):
                if watch.joins != watch.forgotten:
                    watch.wait(watch.current[-1], own)
                watch.joins += 1

        return Beside()

    def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
        results = operation(*arguments, **(settings or {}))
        schema = operation._schema
        if any(result.alias_info and not result.alias_info.is_write for result in schema.returns):
            return results  # a view
        stream = self.current[-1]
        self.seen[stream][stream] += 1
        named = dict(zip([a.name for a in schema.arguments], arguments, strict=False)) | (settings or {})
        written = {a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write}
        touched = [(named[name], name in written) for name in named if isinstance(named[name], torch.Tensor)]
        touched += [(result, True) for result in [results] if isinstance(result, torch.Tensor)]
        for tensor, writes in touched:
            self.kept.append(tensor)  # or its memory, and so its name here, might become another's
            before = self.accesses.setdefault(tensor.untyped_storage().data_ptr(), [])
            elements = places(tensor)
            for other, tick, others_write, others_elements, name in before:
                unordered = other != stream and self.seen[stream][other] < tick
                if unordered and (writes or others_write) and not elements.isdisjoint(others_elements):
                    self.conflicts.append(f"{operation} in stream {stream}, {name} in stream {other}")
            before.append((stream, self.seen[stream][stream], writes, elements, str(operation)))
        return results


def places(tensor):
    index = torch.full((), tensor.storage_offset())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        index = index.unsqueeze(-1) + stride * torch.arange(size)
    return set(index.flatten().tolist())


def watched(monkeypatch, gp_weight, forgotten=None):
    torch.manual_seed(0)
    critic, streams = Critic(8, 3, 16), Streams(forgotten)
    rows = [torch.randn(4, width) for width in (8, 8, 3)]
    critic_gradients(critic, *rows, torch.rand(4, 1), gp_weight)  # makes what is made once
    monkeypatch.setattr("fgen.nn.critic_gradients.SideStream", streams.aside)
    with streams:
        critic_gradients(critic, *rows, torch.rand(4, 1), gp_weight)
    return streams


@pytest.mark.parametrize("gp_weight", [10.0, torch.tensor(10.0)])
def test_lanes_touch_nothing_of_each_other(monkeypatch, gp_weight):
    streams = watched(monkeypatch, gp_weight)
    assert not streams.conflicts
    assert all(streams.seen[STEP][stream] == streams.seen[stream][stream] for stream in STREAMS), (
        "some stream is left behind"
    )


def test_every_join_is_needed(monkeypatch):
    """Which also shows that what is forgotten would be found."""
    for forgotten in range(watched(monkeypatch, 10.0).joins):
        with monkeypatch.context() as patch:
            streams = watched(patch, 10.0, forgotten)
        behind = [stream for stream in STREAMS if streams.seen[STEP][stream] < streams.seen[stream][stream]]
        assert streams.conflicts or behind, f"join {forgotten}"
