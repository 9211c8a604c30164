"""Dask as an engine of joblib's."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from distributed import Client
from joblib import register_parallel_backend
from joblib._dask import DaskDistributedBackend

from fgen.errors import InputError, first_line

NAME = "fgen-dask"
#: Seconds to wait for a scheduler.
PATIENCE = 20


class DaskBackend(DaskDistributedBackend):
    """joblib's backend for Dask, which notices that a task was given up, and works on a cluster of one thread.

    joblib 1.6.0 waits for ever for a task that Dask gave up, as it does with one whose workers died four times: only
    results are passed on. With one thread in the cluster it works in the client's own process.
    """

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return the threads of the cluster, at least 2."""
        return max(2, super().effective_n_jobs(n_jobs))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        """Submit a batch; have an error of Dask's passed on like a result."""

        def pass_on(future: Future[Any]) -> None:
            if callback is not None and (error := future.exception()) is not None:
                callback(error)

        future = super().submit(func, callback)
        future.add_done_callback(pass_on)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return a result, or raise what was passed on."""
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)


@contextmanager
def connected(address: str | None) -> Iterator[Client]:
    """Connect to the scheduler of a Dask cluster.

    Raises:
        InputError: there is none at the address.
    """
    register_parallel_backend(NAME, DaskBackend)
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        found, remedy = (
            f"no Dask scheduler answers at {address} ({first_line(error)})",
            "Begin one with: dask scheduler",
        )
        raise InputError(found, "the address that it prints, as tcp://HOST:8786", remedy) from None
    with client:
        yield client
