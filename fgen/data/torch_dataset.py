"""A bank's rows for torch's ``DataLoader``, and a sampler that mixes real with synthetic rows."""

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Sampler, Subset

from fgen import rng
from fgen.errors import InputError, did_you_mean
from fgen.features.checks import checked_names
from fgen.features.rows import read_row, read_rows


class BankDataset(Dataset[tuple[Tensor, Tensor]]):
    """Rows of a bank, ``(feature (D,) float32, label () int64)``. Make it by :meth:`fgen.FeatureBank.torch_dataset`.

    A copy in another process, forked or started, opens the file for itself.

    Args:
        bank: a :class:`fgen.FeatureBank`, whose file imports this one where torch is wanted.
        classes: names or ids; rows come in their order. None takes all classes.
        real: True takes the real rows alone, False the synthetic rows alone, None takes both.
        label_map: ``{name: label}``, or names in the order of the labels 0, 1, 2 and so on. None takes the bank's ids.

    Attributes:
        labels: ``(N,)`` int64.
        synthetic: ``(N,)`` bool array; False for real rows.

    Raises:
        InputError: a class that the bank or ``label_map`` lacks, labels that are no whole numbers, or no such rows.
    """

    def __init__(
        self,
        bank: Any,
        classes: Sequence[str | int] | np.ndarray | None = None,
        *,
        real: bool | None = None,
        label_map: Mapping[str, int] | Sequence[str] | None = None,
    ) -> None:
        rows, ids = bank.rows_of(classes)
        if real is not None:
            of_kind = bank.synthetic[rows] != real
            rows, ids = rows[of_kind], ids[of_kind]
            if not len(rows):
                kind, other = ("real", "synthetic") if real else ("synthetic", "real")
                raise InputError(f"the bank has no {kind} rows of these classes", f"rows, as with real=None or {other}")
        self._arguments = classes, real, label_map
        self._bank, self._process, self._rows = bank, os.getpid(), rows
        self.labels = torch.tensor(_labels(ids, bank.class_names, label_map))
        self.synthetic: np.ndarray = bank.synthetic[rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        at = int(self._rows[row])  # past the end an IndexError, which ends a loop over it
        return torch.from_numpy(read_row(self._own_bank().features, at)), self.labels[row]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several rows, which the file is read for once."""
        features = torch.from_numpy(read_rows(self._own_bank().features, self._rows[rows]))
        return list(zip(features, self.labels[rows], strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._bank, *self._arguments)

    def _own_bank(self) -> Any:
        """Return the bank as this process opened it.

        A forked child closes the copy of its parent's handle first, for HDF5 would hand that out again.
        """
        if self._process != os.getpid():
            self._bank, self._process = self._bank.reopened(), os.getpid()
        return self._bank


def _again(bank: Any, classes: Any, real: bool | None, label_map: Any) -> BankDataset:
    return BankDataset(bank, classes, real=real, label_map=label_map)


def _labels(ids: np.ndarray, names: Sequence[str], label_map: Mapping[str, int] | Sequence[str] | None) -> np.ndarray:
    """Return the labels ``(N,)`` int64 of rows whose ids in ``names`` are ``ids (N,)``."""
    if label_map is None:
        return ids
    if not isinstance(label_map, Mapping):
        label_map = {name: label for label, name in enumerate(checked_names(label_map, name="label_map"))}
    numbers = np.zeros(len(names), dtype=np.int64)
    for k in np.unique(ids).tolist():
        if names[k] not in label_map:
            remedy = did_you_mean(names[k], map(str, label_map)) or "Add it, or leave it out by classes="
            raise InputError(f"label_map lacks the class {names[k]!r}", "a label for each class that has rows", remedy)
        try:
            numbers[k] = operator.index(label_map[names[k]])
        except (TypeError, OverflowError):
            found = f"label_map[{names[k]!r}] is {label_map[names[k]]!r:.60}"
            raise InputError(found, "a whole number of 64 bits") from None
    return numbers[ids]


class MixedSampler(Sampler[int]):
    """Row numbers for a ``DataLoader``, of real and synthetic rows at a ratio.

    Any consecutive n numbers have ``n * synthetic_share`` synthetic rows, up to 1 more or less; so has each batch. The
    rows of a kind come in random order, each once before any comes again.

    Args:
        dataset: rows to mix, often a ``ConcatDataset`` of own rows and a bank's. Rows of
            :meth:`fgen.FeatureBank.torch_dataset` are what the bank says; rows of any other data set are real.
        synthetic_share: of the numbers, from 0 to 1.
        seed: with the epoch names the order.
        length: row numbers in an epoch; by default as many as ``dataset`` has rows.

    Raises:
        InputError: a wrong share or length, or no rows of a kind that is wanted.

    Example:
        >>> import numpy as np, torch
        >>> from torch.utils.data import ConcatDataset, DataLoader, TensorDataset
        >>> plan = {"class_names": ["ant", "bee"], "class_embeddings": np.eye(2), "counts": np.array([0, 50])}
        >>> plan |= {"feature_dim": 3, "seen": np.array([True, False]), "seed": 0, "config": {}}
        >>> with fgen.FeatureBank.create("bank.h5", **plan) as writer:
        ...     writer.write(1, np.ones((50, 3)))
        >>> own = TensorDataset(torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64))
        >>> with fgen.FeatureBank.open("bank.h5") as bank:
        ...     rows = ConcatDataset([own, bank.torch_dataset()])
        ...     loader = DataLoader(rows, batch_size=8, sampler=fgen.MixedSampler(rows, 0.25, seed=0, length=40))
        ...     [int(labels.sum()) for _, labels in loader]
        [2, 2, 2, 2, 2]
    """

    def __init__(
        self, dataset: Dataset[Any], synthetic_share: float = 0.5, *, seed: int, length: int | None = None
    ) -> None:
        is_synthetic = synthetic_rows(dataset)
        if not 0 <= synthetic_share <= 1:
            raise InputError(f"synthetic_share is {synthetic_share}", "a number from 0 to 1")
        length = len(is_synthetic) if length is None else length
        if not isinstance(length, int | np.integer) or length < 1:
            raise InputError(f"length is {length!r}", "a whole number of at least 1")
        rng.subseed(seed, "mixed sampler")  # refuse what is no seed
        self._kinds = {True: np.flatnonzero(is_synthetic), False: np.flatnonzero(~is_synthetic)}
        for kind, wanted in ((True, synthetic_share > 0), (False, synthetic_share < 1)):
            if wanted and not len(self._kinds[kind]):
                missing = "synthetic" if kind else "real"
                found = f"synthetic_share is {synthetic_share}, and the data set has no {missing} rows"
                raise InputError(found, "rows of both kinds, or a share of 0 or 1")
        self._share, self._seed, self._length, self._epoch = synthetic_share, seed, int(length), 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration is of; it is 0 at first, and each has another order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        before = np.floor(np.arange(self._length + 1) * self._share + 0.5)
        sources = {kind: self._endless(kind) for kind in (True, False)}
        for kind in np.diff(before).astype(bool).tolist():
            yield next(sources[kind])

    def _endless(self, synthetic: bool) -> Iterator[int]:
        """Yield the rows of a kind in random order, again and again."""
        for lap in count():
            order = rng.stream(self._seed, "mixed sampler", self._epoch, int(synthetic), lap)
            yield from order.permutation(self._kinds[synthetic]).tolist()


def synthetic_rows(dataset: Dataset[Any]) -> np.ndarray:
    """Return which rows of a data set are synthetic, ``(N,)`` bool."""
    if isinstance(dataset, BankDataset):
        return dataset.synthetic
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([synthetic_rows(part) for part in dataset.datasets])
    if isinstance(dataset, Subset):
        return synthetic_rows(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    return np.zeros(len(dataset), dtype=bool)  # type: ignore[arg-type]
