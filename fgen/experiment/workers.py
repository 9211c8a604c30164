"""Execution of units of work in several processes, on this machine or on a cluster, by an engine of joblib's.

A unit may be executed twice, also by two workers at a time: it locks a folder of its own, keeps there what it makes,
and goes on with what it finds. A worker that dies is therefore replaced, and its unit executed again.
"""

import logging
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from fgen.errors import InputError, Interrupted, first_line, require

log = logging.getLogger("fgen")

T = TypeVar("T")
Waiting = dict[int, Callable[[], T]]

#: The engines, with the extra that brings each.
BACKENDS = {"loky": "sweep", "dask": "dask"}
#: So many times in a row all workers may die, or the engine fail, without that one unit has finished. Those that were
#: under way are then executed alone.
MOST_DEATHS = 2


@dataclass(frozen=True)
class Result(Generic[T]):
    """What became of a unit.

    Attributes:
        number: of the unit.
        value: what it returned; None of one that failed.
        error: why it failed, an :class:`~fgen.errors.InputError`; or a RuntimeError, which holds the traceback of any
            other error and can be sent from every process.
    """

    number: int
    value: T | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Workers:
    """Where units are executed.

    Attributes:
        jobs: processes of this machine. 1 of ``"loky"`` is this process, which needs no optional library.
        backend: ``"loky"``, processes of this machine; ``"dask"``, all those of a cluster.
        address: of Dask's scheduler, as ``tcp://HOST:8786``, which loky has no use for.

    Raises:
        InputError: numbers or names that can't be meant; MissingExtra: the engine isn't installed.
    """

    jobs: int = 1
    backend: str = "loky"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"jobs is {self.jobs}", "at least 1")
        if self.backend not in BACKENDS:
            raise InputError(f"backend is {self.backend!r}", f"one of {', '.join(BACKENDS)}")
        if self.address is not None and self.backend == "loky":
            raise InputError(f"address is {self.address!r}, which loky has no use for", "backend dask")
        if self.address is None and self.backend == "dask":
            raise InputError("backend is 'dask', without an address", "its scheduler's, as tcp://HOST:8786")
        if not self.in_process:
            module = {"loky": "joblib", "dask": "distributed"}[self.backend]
            require("joblib", BACKENDS[self.backend], "work in more than one process (jobs, backend)")
            require(module, BACKENDS[self.backend], f"the backend {self.backend}")

    @property
    def in_process(self) -> bool:
        """Whether units are executed one after the other in this process."""
        return self.backend == "loky" and self.jobs == 1

    def results(self, units: Sequence[Callable[[], T]]) -> Iterator[Result[T]]:
        """Execute units, and yield what becomes of each as soon as it is known; a failure ends no other unit.

        Raises:
            InputError: the engine can't be reached.
            Interrupted, KeyboardInterrupt: this process was stopped; units that are under way are stopped too.
        """
        if self.in_process:
            yield from (_executed(number, unit) for number, unit in enumerate(units))
            return
        waiting, deaths = dict(enumerate(units)), 0
        while waiting:
            n_before = len(waiting)
            yield from self._round(waiting)
            deaths = deaths + 1 if len(waiting) == n_before else 0
            if deaths == MOST_DEATHS:
                deaths = 0
                for number in list(waiting)[: self.jobs]:
                    yield from self._alone(number, waiting)

    def _alone(self, number: int, waiting: Waiting[T]) -> Iterator[Result[T]]:
        """Execute one unit without others, whose end would stop it; give it up if its worker dies again."""
        alone = {number: waiting.pop(number)}
        yield from self._round(alone)
        if alone:
            found = f"its worker died each of {MOST_DEATHS + 1} times"
            yield Result(number, error=InputError(found, "memory for it", "Run fewer jobs at a time"))

    def _round(self, waiting: Waiting[T]) -> Iterator[Result[T]]:
        """Execute what is waiting and take what is finished from it, until the engine fails or nothing is left."""
        from joblib import Parallel, delayed, parallel_config

        with self._engine() as options, warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*tasks? which", category=UserWarning
            )  # of a stop, which is told
            with parallel_config(**options):
                parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
            try:
                with closing(parallel(delayed(_in_worker)(*item) for item in waiting.items())) as results:
                    for result in results:
                        if result is not None:
                            del waiting[result.number]
                            yield result
            except Exception as error:  # the engine's own: those of units come as results
                what = "a worker died" if isinstance(error, BrokenExecutor) else f"{self.backend} failed"
                log.warning("%s (%s): what it was at is tried again", what, first_line(error))

    @contextmanager
    def _engine(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments of joblib's ``parallel_config``."""
        if self.backend == "loky":  # a single job would be this process
            yield {"backend": "loky", "n_jobs": max(2, self.jobs)}
            return
        from fgen.experiment.dask_backend import NAME, connected

        with connected(self.address) as client:
            yield {"backend": NAME, "client": client}


def _executed(number: int, unit: Callable[[], T]) -> Result[T]:
    """Execute a unit; return its error as a failure, but for a signal's."""
    try:
        return Result(number, unit())
    except Interrupted:
        raise
    except InputError as error:
        return Result(number, error=error)
    except Exception as error:
        told = f"{type(error).__name__}: {first_line(error)}\n{traceback.format_exc()}"
        return Result(number, error=RuntimeError(told))


def _in_worker(number: int, unit: Callable[[], T]) -> Result[T] | None:
    """Execute a unit in a process of an engine; return None if that was told to stop, and another one goes on."""
    # tqdm's own lock is of processes; one that is killed leaves its semaphore behind, and Python warns of that.
    tqdm.set_lock(threading.RLock())
    try:
        return _executed(number, unit)
    except Interrupted:
        return None
