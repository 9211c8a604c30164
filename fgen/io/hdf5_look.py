"""A trial read of an HDF5 file in a separate process, which can be ended whatever the file holds.

The HDF5 library trusts a file: a damaged one may keep it at work for ever, deaf to Ctrl-C, crash it, or have it ask for
4 GiB to read one name. So a short-lived process, :mod:`fgen.io.hdf5_trial`, first reads the attributes, shapes, types
and texts that fgen reads of a file. It costs a third of a second for each file. A limit on the processor's time, not on
that of the clock, ends it: a slow disk or a slow network is no damage.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py

from fgen.errors import InputError
from fgen.io.reading import AGAIN

MAX_NAME_BYTES = 1 << 14
#: The names of a million classes take half of one.
CPU_SECONDS = 30
#: What texts and attributes may take in memory; the names of a million classes take 180 MB.
TEXT_BYTES = 512 << 20
#: How the process says that memory was too little; an error of Python's own ends it with 1.
OUT_OF_MEMORY = 3
PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from fgen.io.hdf5_trial import main; main(*sys.argv[1:3])"

Identity = tuple[int, ...]
#: What was found of the files that this process has looked at: the trouble, or nothing.
_found: dict[Identity, str] = {}


def look_at(path: Path) -> None:
    """Refuse a file that the HDF5 library can't read within limits; an unchanged file is looked at once.

    Raises:
        InputError: reading it takes more than 30 seconds of the processor's time, crashes the library, or takes more
            than 512 MB for texts.
    """
    identity = _identity(path)
    if identity not in _found:
        _found[identity] = _trouble(path)
    if _found[identity]:
        raise InputError(f"{path} {_found[identity]}", remedy=AGAIN)


def trust(path: Path) -> None:
    """Note that this process has just written a file, which needs no look until something changes it."""
    _found[_identity(path)] = ""


def _identity(path: Path) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _trouble(path: Path) -> str:
    """Return what was wrong with a trial read in another process, else ""."""
    if not h5py.is_hdf5(path):  # which reads no more than the first bytes
        return ""
    # -P: no module of the folder that fgen happens to run in is taken for another of its name.
    command = [sys.executable, "-P", "-c", PROGRAM, str(path), str(CPU_SECONDS), *sys.path]
    quiet, environment = subprocess.DEVNULL, os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment, check=False)
    except OSError:  # where no process can be started, files are read without a look
        return ""
    if done.returncode == OUT_OF_MEMORY:
        return f"claims a text of more than {MAX_NAME_BYTES:,} bytes, which {TEXT_BYTES >> 20} MB can't hold"
    if done.returncode == -signal.SIGXCPU:
        return f"keeps the HDF5 library at work for more than {CPU_SECONDS} seconds"
    if done.returncode < 0:
        return f"makes the HDF5 library crash ({signal.strsignal(-done.returncode)})"
    return ""
