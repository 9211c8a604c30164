"""A bank's rows for torch's ``DataLoader``."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from fgen.features.rows import read_rows


class BankRows(Dataset):
    """Rows of a bank, ``(feature (D,) float32, label)``; a worker process that is handed them opens the bank anew.

    Args:
        bank: a :class:`fgen.data.bank.FeatureBank`, whose file imports this one where torch is wanted.
    """

    def __init__(self, bank: Any) -> None:
        self._bank = bank

    def __len__(self) -> int:
        return len(self._bank.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([range(len(self))[row]])[0]  # past the end an IndexError, which ends a loop over it

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, int]]:
        block = torch.from_numpy(read_rows(self._bank.features, np.asarray(rows)))
        return list(zip(block, self._bank.labels[rows].tolist(), strict=True))
