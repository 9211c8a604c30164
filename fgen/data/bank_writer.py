"""Writer of a feature bank, class by class: a killed one is resumed, and a reader never sees half a bank."""

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from fgen.data.bank_spec import FORMAT, VERSION, BankSpec
from fgen.errors import InputError
from fgen.features.checks import as_matrix
from fgen.io.atomic import expect_free, fsync_path, lock_file, locked, opened
from fgen.io.hdf5_look import trust
from fgen.io.hdf5_writing import allocate, features_offset, write_at

LIBVER = ("earliest", "v110")


class BankWriter:
    """Writer of rows into a preallocated ``.partial`` file; :func:`bank_writer` makes it.

    Attributes:
        done: ids of the classes that are whole.
    """

    def __init__(self, spec: BankSpec, file: int, offset: int, journal: int, done: set[int]) -> None:
        self.spec = spec
        self.done = done
        self._file, self._offset, self._journal = file, offset, journal
        self._filled = {k: 0 for k, count in enumerate(spec.counts) if k not in done}
        self._checksums = dict.fromkeys(self._filled, 0)

    def write(self, class_id: int, features: np.ndarray, *, start: int = 0) -> None:
        """Write rows ``start`` to ``start + n`` of a class; parts must come in order.

        Args:
            class_id: index of the class.
            features: ``(n, D)`` finite numbers.

        Raises:
            InputError: another shape than the spec has, NaN, or numbers too large for float16.
        """
        spec = self.spec
        name, count = spec.names[class_id], int(spec.counts[class_id])
        expected = f"{count} rows of {spec.feature_dim} columns"
        rows = as_matrix(f"features of class {name!r}", features, expected, dtype=f"<{spec.dtype}", least=0)
        if rows.shape[1] != spec.feature_dim or start + len(rows) > count:
            found = f"class {name!r} was given rows {start} to {start + len(rows)} of shape {rows.shape}"
            raise InputError(found, expected)
        if class_id in self.done or start != self._filled[class_id]:
            raise InputError(f"rows of class {name!r} start at {start}", "each row once, in order")
        row_bytes = spec.feature_dim * rows.itemsize
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        write_at(self._file, data, self._offset + (int(spec.class_ptr[class_id]) + start) * row_bytes)
        self._checksums[class_id] = zlib.crc32(data, self._checksums[class_id])
        self._filled[class_id] += len(rows)
        if self._filled[class_id] == count:
            # Neither rows nor journal are flushed to the disk here, which took more than half of the time of small
            # classes: after a kill the system still holds both, and after a power cut a class whose bytes are lost
            # fails its checksum.
            line = {"class": int(class_id), "crc32": self._checksums[class_id]}
            os.write(self._journal, (json.dumps(line) + "\n").encode())
            self.done.add(int(class_id))


@contextmanager
def bank_writer(path: Path, spec: BankSpec, *, overwrite: bool) -> Iterator[BankWriter]:
    """Yield a writer whose file replaces ``path`` when the block ends without an error.

    Otherwise ``.partial`` and ``.journal`` stay, and a writer of the same spec goes on from them. An error before the
    first class is whole removes both.
    """
    recover_bank(path)
    expect_free(path, overwrite=overwrite)
    partial, journal_path = Path(f"{path}.partial"), Path(f"{path}.journal")
    if not partial.exists():
        _require_room(path, spec)
    with opened(journal_path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as journal:
        lock_file(journal, path)
        if not os.fstat(journal).st_nlink:
            raise InputError(f"another fgen has just written {path}", "a new name", "Choose another --out")
        with locked(path):  # the journal keeps other banks away, this what else may be written under that name
            expect_free(path, overwrite=overwrite)
            found = _done_classes(partial, journal, spec)
            done = found or set()
            try:
                if found is None:
                    _begin(partial, journal, spec)
                with opened(partial, os.O_RDWR) as file:
                    writer = BankWriter(spec, file, features_offset(partial), journal, done)
                    yield writer
            except BaseException:
                for left in () if done else (partial, journal_path):  # without a class there is nothing to go on from
                    left.unlink(missing_ok=True)
                raise
            if missing := [k for k, count in enumerate(spec.counts) if count and k not in writer.done]:
                lacking = f"{len(missing)} classes lack rows, {spec.names[missing[0]]!r} among them"
                raise InputError(lacking, "all that were announced")
            fsync_path(partial)
            os.replace(partial, path)
            trust(path)
            fsync_path(path.parent)
            journal_path.unlink()


def recover_bank(path: Path) -> None:
    """Remove the journal of a writer that was killed after its bank had taken its place."""
    journal_path = Path(f"{path}.journal")
    if not path.exists() or not journal_path.exists() or os.path.exists(f"{path}.partial"):
        return
    with opened(journal_path, os.O_RDWR) as journal, suppress(InputError):  # another fgen is at work there
        lock_file(journal, path)
        journal_path.unlink(missing_ok=True)


def _begin(partial: Path, journal: int, spec: BankSpec) -> None:
    """Make an empty bank of the spec, and a journal that names the spec."""
    os.ftruncate(journal, 0)
    allocate(partial, lambda file: _write_rest(file, spec), spec.shape, np.dtype(f"<{spec.dtype}"), LIBVER)
    os.write(journal, (json.dumps({"plan": spec.sha256()}) + "\n").encode())
    os.fsync(journal)


def _require_room(path: Path, spec: BankSpec) -> None:
    """Refuse what the disk can't hold before even its labels are made."""
    needed, free = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:
        found = f"{path} would take {_size(needed)} for {spec.shape[0]:,} features"
        raise InputError(found, f"at most the {_size(free)} that are free there", "Generate fewer for each class")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def _write_rest(file: h5py.File, spec: BankSpec) -> None:
    """Write all datasets and attributes but the features."""
    config = spec.config_json.encode()
    file.attrs.update({"format": FORMAT, "format_version": VERSION, "created_by": "fgen", "seed": spec.seed})
    file.attrs.update({"config_sha256": hashlib.sha256(config).hexdigest(), "data_sha256": spec.data_sha256})
    file.attrs.update({"space": spec.space} | spec.known_threads)
    file["class_ptr"] = spec.class_ptr
    file["labels"] = np.repeat(np.arange(len(spec.counts), dtype="<i4"), spec.counts)
    file["synthetic"] = spec.synthetic
    file["seen"] = spec.is_seen
    for name, rows in spec.row_sets.items():
        file[name] = rows.astype("<i8")
    file["class_embeddings"] = spec.class_embeddings.astype("<f4")
    file.create_dataset("class_names", data=list(spec.names), dtype=h5py.string_dtype())
    file.create_dataset("config", data=config, dtype=h5py.string_dtype(length=len(config)))


def _done_classes(partial: Path, journal: int, spec: BankSpec) -> set[int] | None:
    """Return the classes that an earlier writer of the same spec finished, by checksums; None to start anew."""
    lines = os.pread(journal, os.fstat(journal).st_size, 0).decode(errors="replace").splitlines()
    try:
        if not partial.exists() or json.loads(lines[0])["plan"] != spec.sha256():
            return None
        rows = np.memmap(partial, f"<{spec.dtype}", "r", features_offset(partial), spec.shape)
    except (OSError, KeyError, IndexError, TypeError, ValueError):
        return None
    done = set()
    for line in lines[1:]:
        with suppress(KeyError, TypeError, ValueError):  # the line that the kill cut short
            entry = json.loads(line)
            start, end = spec.class_ptr[entry["class"] : entry["class"] + 2]
            if entry["crc32"] == zlib.crc32(rows[start:end].data):
                done.add(entry["class"])
    if lines and not os.pread(journal, os.fstat(journal).st_size, 0).endswith(b"\n"):
        os.write(journal, b"\n")
    return done
