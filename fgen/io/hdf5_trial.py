"""The program of the process that :mod:`fgen.io.hdf5_look` starts: it reads a file as fgen would, within limits."""

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from fgen.io import hdf5
from fgen.io.hdf5_look import OUT_OF_MEMORY, TEXT_BYTES

#: The groups whose members fgen reads whole, as it does these datasets.
GROUPS = ("class_embeddings", "splits")
DATASETS = ("labels", "class_names", "class_ptr", "class_embeddings", "synthetic", "seen", "config", "allclasses_names")


def main(path: str, cpu_seconds: str) -> None:
    """Read a file's attributes, shapes, types and texts, then end the process."""
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, int(cpu_seconds))
    with suppress(OSError), open("/proc/self/statm", "rb") as file:  # only Linux obeys this limit
        limit(resource.RLIMIT_AS, int(file.read().split()[0]) * resource.getpagesize() + TEXT_BYTES)
    trial = _Trial()
    trial.read_file(path)
    # The library's own clean-up is skipped: with a damaged file it may never end.
    os._exit(OUT_OF_MEMORY if trial.out_of_memory else 0)


def limit(resource_number: int, most: int) -> None:
    """Lower a limit of this process, if it isn't lower already."""
    soft, hard = resource.getrlimit(resource_number)
    resource.setrlimit(resource_number, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))


class _Trial:
    """Reads one thing after the other, whatever errors there are; only a lack of memory is noted."""

    def __init__(self) -> None:
        self.out_of_memory = False

    def read_file(self, path: str) -> None:
        """Read everything that :mod:`fgen.io.hdf5` may read."""
        file = self._attempt(h5py.File, path, "r", locking=False)
        if file is None:
            return
        self._read_attributes(file)
        for group in (file, *(self._attempt(hdf5.member, file, name) for name in GROUPS)):
            for name in (self._attempt(list, group) or ()) if isinstance(group, h5py.Group) else ():
                found = self._attempt(hdf5.member, group, name)
                if found is not None:
                    self._read_attributes(found)
                if isinstance(found, h5py.Dataset):
                    self._attempt(self._read_dataset, found, name)

    def _read_dataset(self, found: h5py.Dataset, name: str) -> None:
        hdf5.check_storage(found, name)
        if found.dtype.hasobject and (name in DATASETS or found.parent.name != "/"):
            values = found[...]
            for reference in np.ravel(values) if h5py.check_ref_dtype(found.dtype) else ():
                self._attempt(lambda reference: hdf5.check_storage(found.file[reference], name), reference)

    def _read_attributes(self, holder: h5py.Group | h5py.Dataset) -> None:
        for name in self._attempt(list, holder.attrs) or ():
            self._attempt(holder.attrs.get, name)

    def _attempt(self, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return read(*arguments, **options)
        except Exception as error:  # found again by whoever needs the part that it is in
            self.out_of_memory |= isinstance(error, MemoryError) or "alloc" in str(error)
            return None
