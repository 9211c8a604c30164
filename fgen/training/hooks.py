"""Functions of users that are called after each epoch of a training."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

from fgen.errors import InputError

#: A function of ``(epoch)``, ``(epoch, scores)`` or ``(epoch, scores, phase)``.
OnEpoch = Callable[..., Mapping[str, float] | None]
MOST_ARGUMENTS = 3


class EpochHook:
    """What is called after each epoch of a phase.

    Args:
        on_epoch: the user's function; it gets as many of epoch, scores and phase as it has parameters without a
            default. None is never called.
        phase: names the training; parts are separated by ``/``.

    Raises:
        InputError: a function that takes none of them, or more.
    """

    def __init__(self, on_epoch: OnEpoch | None, phase: str = "") -> None:
        self.on_epoch, self.phase = on_epoch, phase
        self._n_arguments = 0 if on_epoch is None else _n_arguments(on_epoch)

    def __call__(self, epoch: int, scores: Mapping[str, float]) -> None:
        """Call the function, and leave aside what it returns."""
        self.results(epoch, scores)

    def results(self, epoch: int, scores: Mapping[str, float]) -> dict[str, float]:
        """Call the function, and return what it returns.

        Args:
            epoch: number of finished epochs.
            scores: the epoch's mean losses, and in a selection the scores on held-out classes, by name.
        """
        if self.on_epoch is None:
            return {}
        numbers = {name: float(value) for name, value in scores.items() if name != "epoch"}
        return dict(self.on_epoch(*(epoch, numbers, self.phase)[: self._n_arguments]) or {})

    def within(self, phase: str) -> Self:
        """Return the same hook for a part of its phase."""
        return type(self)(self.on_epoch, "/".join(filter(None, (self.phase, phase))))


def _n_arguments(function: Callable[..., Any]) -> int:
    """Return how many arguments a hook is called with.

    Parameters with a default keep it, and ``*arguments`` alone get the epoch: a function that has been called with the
    epoch alone is called so for ever.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of a function in C, which tells nothing of its parameters
        return 1
    except TypeError:
        raise InputError(f"on_epoch is {function!r:.60}", "a function of (epoch, scores)") from None
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    optional = any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(needed) > MOST_ARGUMENTS or keywords or not (needed or optional):
        found = f"on_epoch takes {len(needed)} arguments" + (f" and {keywords[0]}=" if keywords else "")
        raise InputError(found, "a function of (epoch), (epoch, scores) or (epoch, scores, phase)")
    return len(needed) or 1


#: The hook that calls nothing.
NO_HOOK = EpochHook(None)
