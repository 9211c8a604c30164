"""FeatureBank: features by class on disk, real or generated, in a file that any HDF5 library reads.

``fgen-bank`` version 1: contiguous datasets, rows sorted by class, ``class_ptr`` as in compressed sparse rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fgen.data.bank_origins import run_section
from fgen.data.bank_spec import FORMAT, ROW_SETS, VERSION, BankSpec, expect_row_sets
from fgen.data.bank_writer import BankWriter, bank_writer
from fgen.errors import InputError
from fgen.features.checks import checked_names
from fgen.features.rows import read_rows
from fgen.io import hdf5
from fgen.io.reading import guarded_read

if TYPE_CHECKING:  # torch is imported where it is wanted
    from fgen.data.torch_dataset import BankDataset


class FeatureBank:
    """An open bank; a context manager. Features stay on disk until they are sliced.

    Attributes:
        features: ``(N, D)`` read-only memory map, float32 or float16.
        labels: ``(N,)`` int32, positions in :attr:`class_names`.
        class_ptr: ``(C + 1,)``; class c has rows ``class_ptr[c]`` to ``class_ptr[c + 1]``.
        synthetic: ``(N,)`` bool; False for real rows.
        class_names: C names. class_embeddings: ``(C, A)`` raw. is_seen: ``(C,)`` bool.
        seed, space, config, data_sha256: how it was made; ``space`` is ``"raw"`` or the method's own, ``data_sha256``
            the fingerprint of the data that its generator was trained on, or nothing.
        config_intact: False where the config was changed since the bank was written.
        threads, blas_threads: CPU threads of torch's and of NumPy's products meanwhile; None where that isn't noted.
        row_sets: row numbers ``rows_train``, ``rows_val_seen`` and ``rows_val_unseen``, of a validation task's bank;
            {} in other banks.

    Example:
        >>> import numpy as np
        >>> plan = {"class_names": ["ant", "bee"], "class_embeddings": np.eye(2), "counts": np.array([2, 2])}
        >>> plan |= {"feature_dim": 3, "seen": np.array([True, False]), "seed": 0, "config": {}}
        >>> with fgen.FeatureBank.create("bank.h5", **plan) as writer:
        ...     for k in range(2):
        ...         writer.write(k, np.full((2, 3), k))
        >>> with fgen.FeatureBank.open("bank.h5") as bank:
        ...     features, labels = bank.to_numpy(["bee"])
        >>> features.shape, labels.tolist()
        ((2, 3), [1, 1])
    """

    def __init__(self, file: h5py.File) -> None:
        self._file, self._place = file, hdf5.Place.of(file)
        attributes = {name: hdf5_attribute(file, name) for name in ("format", "format_version", "seed", "space")}
        if (attributes["format"], attributes["format_version"]) != (FORMAT, VERSION):
            found = f"format is {attributes['format']!r}, version {attributes['format_version']}"
            raise InputError(found, f"{FORMAT} {VERSION}")
        self.seed = int(attributes["seed"])
        self.space = str(attributes["space"])
        self.data_sha256 = str(hdf5_attribute(file, "data_sha256"))
        self.threads, self.blas_threads = (_noted(file, name) for name in ("threads", "blas_threads"))
        self.class_names = checked_names(hdf5.texts(hdf5.dataset(file, "class_names", ndim=1)), name="'class_names'")
        self.class_embeddings = np.asarray(hdf5.dataset(file, "class_embeddings", ndim=2), dtype=np.float32)
        self.class_ptr, self.labels = (
            hdf5.numbers(file, name, ndim=1, kinds="iu").astype(np.int64) for name in ("class_ptr", "labels")
        )
        self.synthetic = np.asarray(hdf5.dataset(file, "synthetic", ndim=1), dtype=bool)
        self.is_seen = np.asarray(hdf5.dataset(file, "seen", ndim=1), dtype=bool)
        self.features = hdf5.matrix(hdf5.dataset(file, "features", ndim=2))
        sets = [name for name in ROW_SETS if hdf5.member(file, name) is not None]
        self.row_sets = {name: hdf5.numbers(file, name, ndim=1, kinds="iu").astype(np.int64) for name in sets}
        self.config, self.config_intact = _config(file)
        self._check()

    @classmethod
    def open(cls, path: str | Path) -> FeatureBank:
        """Open a bank for reading.

        Raises:
            InputError: no such file, not a bank, or a bank that is damaged or doesn't fit together.
        """
        path = Path(path)
        if path.suffix == ".partial":
            raise InputError(f"{path} isn't whole yet", "a bank", "The command that began it goes on with it")
        if path.is_dir():
            raise InputError(f"{path} is a folder", "a bank, as seeds/0/bank.h5 in that of a run")
        if path.suffix in (".npz", ".npy", ".mat", ".csv", ".toml"):
            found = f"{path} is no readable bank, for it ends in {path.suffix!r}"
            raise InputError(found, "an .h5 file, as fgen generate writes it")
        with guarded_read(path, "bank"), hdf5.opened(path) as file:
            return cls(file)

    @staticmethod
    def create(
        path: str | Path,
        spec: BankSpec | None = None,
        *,
        seen: np.ndarray | None = None,
        overwrite: bool = False,
        **fields: Any,
    ) -> AbstractContextManager[BankWriter]:
        """Write a bank, class by class; the same call goes on where a killed one stopped.

        Args:
            spec: the bank's description.
            seen: ``(C,)`` bool, the ``is_seen`` of the spec.
            overwrite: replace an existing bank, once the new one is whole.
            fields: the other fields of :class:`BankSpec`, in place of a spec or of its own.

        Returns:
            A context manager over a :class:`BankWriter`; write only classes that aren't in its ``done``.

        Raises:
            InputError: parts that don't fit, an existing file, another writer at work.
        """
        if seen is not None:
            fields["is_seen"] = seen
        spec = BankSpec(**fields) if spec is None else replace(spec, **fields)
        return bank_writer(Path(path), spec, overwrite=overwrite)

    @staticmethod
    def merge(path: str | Path, banks: Sequence[FeatureBank], *, overwrite: bool = False) -> None:
        """Write the union of banks; rows of a class that several have follow each other, real ones first.

        ``data_sha256`` is what all banks have that note one; where they differ it is empty, and the config lists them
        under that name, see :attr:`data_fingerprints`.

        Raises:
            InputError: other columns, another space or another model's, or one name with two embeddings.
        """
        names, embeddings = _union(banks)
        place = {name: k for k, name in enumerate(names)}
        counts, real = np.zeros((2, len(names)), np.int64)
        is_seen = np.zeros(len(names), bool)
        for bank in banks:
            ids = [place[name] for name in bank.class_names]
            counts[ids] += np.diff(bank.class_ptr)
            real[ids] += np.bincount(bank.labels[~bank.synthetic], minlength=len(ids))
            is_seen[ids] |= bank.is_seen
        fingerprints = list(dict.fromkeys(sha256 for bank in banks for sha256 in bank.data_fingerprints))
        several = {"data_sha256": fingerprints} if len(fingerprints) > 1 else {}
        spec = BankSpec(
            class_names=names,
            class_embeddings=embeddings,
            counts=counts,
            real_counts=real,
            is_seen=is_seen,
            feature_dim=banks[0].features.shape[1],
            seed=banks[0].seed,
            config={"merged": [dict(bank.config) for bank in banks]} | several,
            data_sha256=fingerprints[0] if len(fingerprints) == 1 else "",
            space=banks[0].space,
            threads=_one_of({bank.threads for bank in banks}),
            blas_threads=_one_of({bank.blas_threads for bank in banks}),
        )
        with FeatureBank.create(path, spec, overwrite=overwrite) as writer:
            for k in np.flatnonzero(counts).tolist():
                if k not in writer.done:
                    parts = [bank._parts(names[k]) for bank in banks if names[k] in bank._positions]
                    writer.write(k, np.concatenate([part[made] for made in (0, 1) for part in parts]))

    @staticmethod
    def is_bank(path: str | Path) -> bool:
        """Return whether the file says that it is a bank, whole or not."""
        try:
            with hdf5.open_read(Path(path)) as file:
                return bool(file.attrs.get("format") == FORMAT)
        except Exception:  # h5py answers damage with any error, KeyError among them
            return False

    @property
    def data_fingerprints(self) -> tuple[str, ...]:
        """The known fingerprints of the data that the generators were trained on; several after a merge of banks of
        several data sets."""
        listed = self.config.get("data_sha256", []) if "merged" in self.config else []
        known = [self.data_sha256, *(listed if isinstance(listed, list) else [])]
        return tuple(dict.fromkeys(sha256 for sha256 in known if isinstance(sha256, str) and sha256))

    @property
    def seen(self) -> np.ndarray:
        """:attr:`is_seen`, under the name that the file has for it."""
        return self.is_seen

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: str | int) -> np.ndarray:
        """Return the rows ``(n_c, D)`` float32 of a class, given by name or position."""
        class_id = self._position(key)
        start, stop = self.class_ptr[class_id : class_id + 2]
        return np.asarray(self.features[start:stop], dtype=np.float32)

    def to_numpy(self, classes: Sequence[str | int] | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(n, D)`` float32 and labels ``(n,)`` int64 of some classes, or of all."""
        if classes is None:
            return np.asarray(self.features, dtype=np.float32), self.labels.astype(np.int64)
        rows, labels = self.rows_of(classes)
        if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):  # neighbours, as all are
            return np.array(self.features[rows[0] : rows[0] + len(rows)], dtype=np.float32), labels
        return read_rows(self.features, rows), labels

    def rows_of(self, classes: Sequence[str | int] | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the row numbers ``(n,)`` of some classes, or of all, in their order, and the labels ``(n,)``."""
        if classes is None:
            return np.arange(len(self)), self.labels
        keys = classes.tolist() if isinstance(classes, np.ndarray) else classes
        found: list[Any] = list(map(self._positions.get, keys))  # all at once, where all are names
        ids: list[int] = [self._position(key) for key in keys] if None in found else found
        starts, counts = self.class_ptr[ids], np.diff(self.class_ptr)[ids]
        before = np.cumsum(counts) - counts
        return np.repeat(starts - before, counts) + np.arange(counts.sum()), np.repeat(np.array(ids, np.int64), counts)

    def torch_dataset(
        self,
        classes: Sequence[str | int] | np.ndarray | None = None,
        *,
        real: bool | None = None,
        label_map: Mapping[str, int] | Sequence[str] | None = None,
    ) -> BankDataset:
        """Return a torch ``Dataset`` of ``(feature (D,) float32, label () int64)`` that reads whole batches.

        It pickles. Each process that has it, forked or started, opens the file for itself.

        Args:
            classes: names or ids, whose rows come in their order; by default all classes.
            real: True takes the real rows alone, False the synthetic rows alone.
            label_map: ``{name: label}``, or names in the order of the labels 0, 1, 2 and so on; by default labels are
                the bank's ids.

        Raises:
            InputError: an unknown class, a class without a label, or no row of that kind.
        """
        from fgen.data.torch_dataset import BankDataset

        return BankDataset(self, classes, real=real, label_map=label_map)

    def reopened(self) -> FeatureBank:
        """Close this bank, and return it as opened anew.

        Raises:
            InputError: the file has gone or was changed, or the bank is open for writing or no file on disk.
        """
        reopen, arguments = self.__reduce__()
        self.close()
        return reopen(*arguments)

    def close(self) -> None:
        """Close the file; arrays that were sliced stay valid."""
        self._file.close()

    def __enter__(self) -> FeatureBank:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies, also in another process, open the file anew."""
        if self._place is None:
            raise InputError("the bank is open for writing, or no file on disk", "one that FeatureBank.open opened")
        return _open_again, (self._place,)

    def __repr__(self) -> str:
        return (
            f"FeatureBank({len(self):,} x {self.features.shape[1]} {self.features.dtype}, "
            f"{int(self.synthetic.sum()):,} synthetic; {len(self.class_names)} classes, "
            f"{int((np.diff(self.class_ptr) > 0).sum())} with rows; space {self.space!r}, seed {self.seed})"
        )

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.class_names)}

    def _position(self, key: str | int) -> int:
        if isinstance(key, str):
            if key not in self._positions:
                raise InputError(f"the bank has no class {key!r}", f"one of its {len(self.class_names)} names")
            return self._positions[key]
        if not 0 <= key < len(self.class_names):
            raise InputError(f"the bank has no class {key}", f"0 to {len(self.class_names) - 1}")
        return int(key)

    def _parts(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the class's real rows and its synthetic rows."""
        rows, start = self[name], self.class_ptr[self._position(name)]
        made = self.synthetic[start : start + len(rows)]
        return rows[~made], rows[made]

    def _check(self) -> None:
        """Refuse parts that contradict each other."""
        n_rows, n_classes = len(self.features), len(self.class_names)
        sizes = {"class_ptr": len(self.class_ptr) - 1, "class_embeddings": len(self.class_embeddings)}
        for name, size in (sizes | {"seen": len(self.is_seen)}).items():
            if size != n_classes:
                raise InputError(f"{name!r} is for {size} classes", f"{n_classes}, as class_names has")
        counts = np.diff(self.class_ptr)
        if self.class_ptr[0] != 0 or self.class_ptr[-1] != n_rows or (counts < 0).any():
            raise InputError("'class_ptr' doesn't lead from 0 to the number of rows", f"ascending from 0 to {n_rows}")
        if len(self.synthetic) != n_rows or not np.array_equal(self.labels, np.repeat(np.arange(n_classes), counts)):
            raise InputError("'labels' or 'synthetic' don't match 'class_ptr'", "rows sorted by class")
        if self.features.dtype not in (np.dtype("<f4"), np.dtype("<f2")):
            raise InputError(f"'features' are {self.features.dtype}", "float32 or float16")
        if not np.isfinite(self.class_embeddings).all():
            raise InputError("'class_embeddings' hold NaN or infinities", "finite numbers")
        expect_row_sets(self.row_sets, n_rows)


def _one_of(numbers: set[int | None]) -> int | None:
    """Return the number that all banks have, or None where they differ."""
    return numbers.pop() if len(numbers) == 1 else None


def _open_again(place: hdf5.Place) -> FeatureBank:
    return FeatureBank(place.open())


def _union(banks: Sequence[FeatureBank]) -> tuple[list[str], np.ndarray]:
    """Return the names of all classes of the banks, and their embeddings ``(C, A)``.

    Raises:
        InputError: no banks, other columns, another space or another model's, or one name with two embeddings.
    """
    if strange := [bank for bank in banks if not isinstance(bank, FeatureBank)]:
        raise InputError(f"banks holds {strange[0]!r:.60}", "open banks", "Open each by FeatureBank.open(PATH)")
    if not banks or len({(bank.features.shape[1], bank.space) for bank in banks}) > 1:
        raise InputError("the banks differ in columns or space, or there are none", "banks of the same space")
    models = {json.dumps([bank.seed, run_section(bank.config, "model")], sort_keys=True) for bank in banks}
    data = {sha256 for bank in banks for sha256 in bank.data_fingerprints}
    if banks[0].space != "raw" and (len(models) > 1 or len(data) > 1):
        raise InputError(f"the banks are of several models, each with a space {banks[0].space!r}", "banks of one model")
    widths = {bank.class_embeddings.shape[1] for bank in banks}
    if len(widths) > 1:
        raise InputError(f"the banks' class embeddings have {sorted(widths)} columns", "embeddings of one kind")
    found: dict[str, np.ndarray] = {}
    for bank in banks:
        for name, row in zip(bank.class_names, bank.class_embeddings, strict=True):
            if not np.array_equal(found.setdefault(name, row), row):
                raise InputError(f"class {name!r} has different embeddings in the banks", "one")
    return list(found), np.array(list(found.values()))


def hdf5_attribute(file: h5py.File, name: str) -> Any:
    """Return a scalar attribute; text as str."""
    value = file.attrs.get(name)
    if value is None:
        raise InputError(f"there is no attribute {name!r}", f"a file of format {FORMAT}")
    return value.decode() if isinstance(value, bytes) else value


def _noted(file: h5py.File, name: str) -> int | None:
    """Return an attribute that is a whole number; None in older banks, which lack it."""
    value = file.attrs.get(name)
    return int(value) if isinstance(value, np.integer) else None


def _config(file: h5py.File) -> tuple[dict[str, Any], bool]:
    """Return the config, and whether its digest is ``config_sha256``, which banks of other programs may lack."""
    value = hdf5.dataset(file, "config", ndim=0)[()]
    text = value if isinstance(value, bytes) else value.encode()
    sha256 = file.attrs.get("config_sha256", "")
    return dict(json.loads(text)), sha256 in ("", hashlib.sha256(text).hexdigest())
