"""Losses and scores of each epoch as TensorBoard's events (optional, ``pip install fgen[tensorboard]``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fgen.errors import InputError, require


class TensorBoard:
    """Hook for ``on_epoch=`` that writes losses and scores as TensorBoard's events; a context manager.

    Each phase has a folder of its own, such as ``FOLDER/seed-0/selection``, and each number the name that it has in
    ``metrics.csv``. All of an epoch is on disk when the next begins. ``tensorboard --logdir FOLDER`` shows it. Where a
    training goes on or is repeated in the same folder, TensorBoard hides the epochs that were written before.

    Args:
        folder: for the events; it is made if it isn't there.

    Raises:
        MissingExtra: tensorboard isn't installed.
        InputError: no such folder can be made.

    Example:
        >>> with fgen.TensorBoard("events") as hook:
        ...     hook(1, {"critic": -0.5, "generator": 0.2}, "training")
        >>> import os
        >>> os.listdir("events")
        ['training']
    """

    def __init__(self, folder: str | Path) -> None:
        require("tensorboard", "tensorboard", "fgen.TensorBoard")
        self._make_writer = require("torch.utils.tensorboard", "tensorboard", "fgen.TensorBoard").SummaryWriter
        self._folder, self._phase = Path(folder), ""
        self._writer: Any = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = f"{folder} can't be made ({error.strerror or error})"
            raise InputError(found, "a folder for TensorBoard's events") from None

    def __call__(self, epoch: int, scores: Mapping[str, float], phase: str) -> None:
        """Write an epoch's numbers."""
        if self._writer is None or phase != self._phase:
            self.close()
            self._writer, self._phase = self._make_writer(str(self._folder / phase), purge_step=epoch), phase
        for name, value in scores.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file of events; a later call opens another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
