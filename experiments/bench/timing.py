"""Alternated measurements: A B C A B C, so that a busy moment of the machine meets all of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

#: A sample lasts at least so many seconds; short work is repeated within it.
SAMPLE = 0.2


@dataclass
class Comparison:
    """One row of the report.

    Attributes:
        part: what was measured: training, methods, losses, head, generation, memory, run or checkouts.
        case: the size, method or term.
        device: ``cpu`` or ``cuda``.
        unit: of ``samples``.
        samples: a list of measurements for each arm, taken in turn.
        reference: the arm that the others are compared with.
        facts: whatever else belongs to it: accuracies, sizes, shares.
    """

    part: str
    case: str
    device: str
    unit: str
    samples: dict[str, list[float]]
    reference: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """With medians, ranges, and how many times the reference each other arm is."""
        return {
            **{key: getattr(self, key) for key in ("part", "case", "device", "unit", "reference")},
            "arms": {name: spread(values) for name, values in self.samples.items()},
            "gain": {name: spread(self.gains(name)) for name in self.samples if name != self.reference},
            "facts": self.facts,
        }

    def gains(self, arm: str) -> list[float]:
        """The reference's measurement over the arm's, round by round: above 1 the arm is faster or smaller."""
        return [a / b for a, b in zip(self.samples[self.reference], self.samples[arm], strict=True)]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest, largest, and all values."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "all": list(values)}


def alternate(
    arms: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    device: torch.device,
    warm: bool = True,
    settings: Mapping[str, Callable[[], AbstractContextManager[None]]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of one call of each arm, ``rounds`` times in turn.

    Args:
        settings: what an arm's calls run under, entered anew for each sample; as many calls that aren't counted come
            first, since what settings do to memory is undone with them, and a heap takes some calls to settle.
        warm: call every arm before, to allocate and to see how often a sample has to repeat it. Without, for work of
            many seconds, nothing is repeated.
    """
    repeats = dict.fromkeys(arms, 1)
    if warm:
        for name, work in arms.items():
            with (settings or {}).get(name, nullcontext)():
                first = seconds(work, device)
                # The first call allocates; where that hides in much work, it also tells how long a call takes.
                once = first if first > 5 * SAMPLE else seconds(work, device)
            repeats[name] = max(1, math.ceil(SAMPLE / once))
    samples: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, work in arms.items():
            with (settings or {}).get(name, nullcontext)():
                if settings:
                    seconds(work, device, repeats[name])
                samples[name].append(seconds(work, device, repeats[name]))
    return samples


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Seconds of a call, the mean of ``repeats``."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronise(device)
    return (time.perf_counter() - start) / repeats


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()
