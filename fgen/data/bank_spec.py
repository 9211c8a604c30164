"""Description of a bank that is to be written: everything that decides its bytes but the features."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fgen.errors import InputError, wrong_array
from fgen.features.checks import as_matrix, as_numbers, checked_names
from fgen.features.frames import rows_by_name
from fgen.io.hdf5 import expect_short

FORMAT = "fgen-bank"
VERSION = 1
#: Optional datasets of a validation task's bank: the real rows to train on, and those that play the test rows.
ROW_SETS = ("rows_train", "rows_val_seen", "rows_val_unseen")


@dataclass(frozen=True, kw_only=True)
class BankSpec:
    """Description of a bank. Arrays may be given as anything that holds the same numbers; they are checked and copied.

    Attributes:
        class_names: C distinct names, text or bytes of UTF-8; None names the classes ``"class 0"``, ``"class 1"``, ...
        class_embeddings: ``(C, A)`` raw; the rows of a table with an index of names are put in the names' order.
        counts: ``(C,)`` rows of each class.
        real_counts: ``(C,)`` how many of them, the first ones, are real; None means none.
        is_seen: ``(C,)`` bool, whether the generator was trained on rows of the class.
        feature_dim: D, the columns of the features.
        seed, config: how the features are made; JSON can hold the config.
        data_sha256: fingerprint of the data set that the generator was trained on, or "".
        space: ``"raw"``, or the name of the method's own space.
        dtype: ``"f4"``, or ``"f2"``: half the size at up to 5e-4 relative error.
        threads, blas_threads: CPU threads of torch's and of NumPy's products that make the features, where known.
        row_sets: row numbers by the names in ``ROW_SETS``, in the bank of a validation task.

    Raises:
        InputError: what is no names, matrix or whole numbers; numbers of classes that differ, repeated names, negative
            or no counts at all.
    """

    class_names: Sequence[str] | None = None
    class_embeddings: np.ndarray
    counts: np.ndarray
    real_counts: np.ndarray | None = None
    is_seen: np.ndarray
    feature_dim: int
    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    space: str = "raw"
    dtype: str = "f4"
    threads: int | None = None
    blas_threads: int | None = None
    row_sets: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = None if self.class_names is None else checked_names(self.class_names)
        counts = _whole("counts", self.counts)
        checked = {
            "class_names": names,
            "class_embeddings": as_matrix("class_embeddings", rows_by_name(self.class_embeddings, names)[0]),
            "counts": counts,
            "real_counts": _whole("real_counts", 0 * counts if self.real_counts is None else self.real_counts),
            "is_seen": _flags("seen", self.is_seen),
            "feature_dim": int(self.feature_dim),
            "seed": int(self.seed),
            "row_sets": {name: _whole(name, rows) for name, rows in self.row_sets.items()},
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        """Refuse parts that don't fit together."""
        parts = {"class_names": self.names, "class_embeddings": self.class_embeddings, "counts": self.counts}
        sizes = {name: len(part) for name, part in (parts | {"seen": self.is_seen}).items()}
        if len({*sizes.values(), len(self.real)}) > 1:
            raise InputError(f"the bank's parts describe different numbers of classes: {sizes}", "the same for each")
        expect_short(self.names, "the class name")
        if (self.real < 0).any() or (self.counts < self.real).any() or not self.counts.sum():
            raise InputError("counts are negative, all zero, or below real_counts", "rows for at least one class")
        if self.dtype not in ("f4", "f2"):
            raise InputError(f"dtype is {self.dtype!r}", "'f4' or 'f2'")
        expect_row_sets(self.row_sets, self.shape[0])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all classes, those that were made up included."""
        return tuple(self.class_names or map("class {}".format, range(len(self.class_embeddings))))

    @property
    def real(self) -> np.ndarray:
        """``(C,)`` rows of each class that are real."""
        return np.asarray(self.real_counts)

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, D)`` of the features."""
        return int(self.class_ptr[-1]), self.feature_dim

    @property
    def known_threads(self) -> dict[str, int]:
        """The attributes ``threads`` and ``blas_threads``, those that are known."""
        found = {"threads": self.threads, "blas_threads": self.blas_threads}
        return {name: number for name, number in found.items() if number is not None}

    @cached_property
    def class_ptr(self) -> np.ndarray:
        """``(C + 1,)`` first row of each class."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @property
    def synthetic(self) -> np.ndarray:
        """``(N,)`` bool: in each class the real rows come first."""
        runs = np.column_stack([self.real, self.counts - self.real]).ravel()
        return np.repeat(np.tile([False, True], len(self.counts)), runs)

    @property
    def config_json(self) -> str:
        """Canonical JSON of the config."""
        return json.dumps(self.config, sort_keys=True, ensure_ascii=False)

    def sha256(self) -> str:
        """Return the digest that names the spec: a partial bank of another one can't be continued."""
        digest = hashlib.sha256()
        texts = ["\0".join(self.names), self.config_json, self.data_sha256, self.space, self.dtype]
        threads = [self.known_threads] if self.known_threads else []
        digest.update(json.dumps([*texts, self.seed, self.feature_dim, VERSION, *threads]).encode())
        for array in (self.class_embeddings, self.counts, self.real, self.is_seen):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        for name, rows in sorted(self.row_sets.items()):
            digest.update(name.encode() + rows.tobytes())
        return digest.hexdigest()


def expect_row_sets(row_sets: Mapping[str, np.ndarray], n_rows: int) -> None:
    """Refuse sets of rows of other names than ``ROW_SETS`` has, and row numbers that a bank of N rows lacks."""
    if row_sets and sorted(row_sets) != sorted(ROW_SETS):
        raise InputError(f"the bank has the sets of rows {', '.join(row_sets)}", f"all of {', '.join(ROW_SETS)}")
    for name, rows in row_sets.items():
        if rows.size and not 0 <= rows.min() <= rows.max() < n_rows:
            raise InputError(f"{name!r} names rows from {rows.min()} to {rows.max()}", f"rows from 0 to {n_rows - 1}")


def _whole(name: str, given: Any) -> np.ndarray:
    """Return numbers of rows ``(C,)`` int64; refuse fractions."""
    numbers = as_numbers(name, given)
    whole = numbers.astype(np.int64)
    if numbers.ndim != 1 or not np.array_equal(whole, numbers):
        raise wrong_array(name, numbers, "(C,) whole numbers")
    return whole


def _flags(name: str, given: Any) -> np.ndarray:
    """Return ``(C,)`` bool of numbers that are 0 or 1."""
    flags = as_numbers(name, given)
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise wrong_array(name, flags, "(C,), whether each class is seen")
    return flags.astype(bool)
