"""Column-wise scaling of features: fitted in one streaming pass, applied, and inverted on what is generated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch

from fgen.data.access import Features, as_rows
from fgen.data.dataset import iter_blocks
from fgen.data.rows import SelectedRows
from fgen.errors import InputError

#: ``"l2"`` is no kind: the lengths it divides by are lost, so generated features could not be brought back.
Kind = Literal["minmax", "standard", "sqrt", "none"]
#: Rows that stay in a processor's cache from one operation to the next.
CACHED_ROWS = 256
#: Fewer say little of how large features get.
FEW_ROWS = 50
Rows = TypeVar("Rows", np.ndarray, torch.Tensor)


@dataclass(frozen=True, eq=False)
class FeatureScaler:
    """``scaled = (raw - offset) / scale``, column by column.

    Attributes:
        kind: ``"minmax"`` to [0, 1], as the lineage does; ``"standard"`` to mean 0 and deviation 1; ``"sqrt"``, the
            root of the size with its sign kept, then to [0, 1]: averaged activations are skewed, and their roots are
            nearly not; ``"none"``.
        offset, scale: ``(D,)`` float32; a constant column has scale 1, so it becomes 0 and comes back exactly.

    Raises:
        InputError: an unknown kind, or arrays that no fit can have made.
    """

    kind: Kind
    offset: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        for name in ("offset", "scale"):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != np.float32 or array.shape != self.offset.shape:
                raise InputError(
                    f"the scaling's {name} has shape {array.shape} and type {array.dtype}",
                    f"({self.dim},) float32",
                )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise InputError("the scaling holds NaN, infinities or a scale of 0", "finite numbers, scales above 0")

    @classmethod
    def fit(cls, kind: Kind, features: Features, rows: np.ndarray | None = None) -> FeatureScaler:
        """Fit in one pass, block by block; a memory map or an HDF5 dataset is never copied whole.

        Args:
            kind: see the class.
            features: ``(N, D)`` raw, anything that slices by rows.
            rows: ``(n,)`` row numbers to fit on; None takes all.

        Raises:
            InputError: no rows, an unknown kind, NaN or infinities, or a column wider than float32 can hold.
        """
        _check_kind(kind)
        features = as_rows(features)
        features = features if rows is None else SelectedRows(features, np.asarray(rows))
        dim = int(features.shape[1])
        if kind == "none":
            return cls(kind, np.zeros(dim, np.float32), np.ones(dim, np.float32))
        if not len(features):
            raise InputError("there are no rows to fit the feature scaling on", "at least 1")
        # What leaves float32 is refused by name below; NumPy's warning would come before the message.
        with np.errstate(over="ignore", invalid="ignore"):
            offset, scale = (_moments if kind == "standard" else _extremes)(features, dim)
            if kind == "sqrt":  # it keeps the order, so the extremes of the roots are the roots of the extremes
                high = signed_root(offset + scale)
                offset = signed_root(offset)
                scale = high - offset
            offset, scale = offset.astype(np.float32), scale.astype(np.float32)
        bad = np.flatnonzero(~(np.isfinite(offset) & np.isfinite(scale)))
        if bad.size:
            raise InputError(f"features hold NaN, infinities or too wide a range in column {bad[0]}", "finite numbers")
        # Dividing by a range below float32's normal numbers would blow up other rows; such a column is constant.
        return cls(kind, offset, np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1)))

    @property
    def dim(self) -> int:
        """D, the number of columns."""
        return len(self.offset)

    def apply(self, features: Rows) -> Rows:
        """Raw ``(n, D)`` to scaled: an array, or a tensor on its own device; float32, or float64 for float64."""
        offset, scale = self._beside(features)
        return ((signed_root(features) if self.kind == "sqrt" else features) - offset) / scale

    def invert(self, features: Rows) -> Rows:
        """Scaled ``(n, D)`` to raw: an array, or a tensor on its own device; float32, or float64 for float64."""
        offset, scale = self._beside(features)
        raw = features * scale + offset
        return raw * abs(raw) if self.kind == "sqrt" else raw

    def odd_scale(self, features: Features) -> str:
        """What is odd about the size of raw ``(N, D)`` beside those that the scaling was fitted on; mostly nothing.

        It looks at the largest number of the first rows, for what a forgotten normalisation does: below a twelfth
        or above fifty times of what training had; of few rows, below a two-hundredth or above a thousand times. Where a
        column had the width 1, as a constant one is said to have, small numbers say nothing.
        """
        if self.kind == "none" or not len(features):  # it was fitted to nothing
            return ""
        first = np.asarray(features[:1000], dtype=np.float64)
        largest = float(np.abs(first).max())
        ends = (-1, 1) if self.kind == "standard" else (0, 1)
        usual = max(float(np.abs(self.invert(np.full((1, self.dim), end, np.float32))).max()) for end in ends)
        # A few rows may well be small, or large where features are seldom anything but 0.
        low, high = (usual / 12, usual * 50) if len(first) >= FEW_ROWS else (usual / 200, usual * 1000)
        if not math.isfinite(largest) or low <= largest <= high or ((self.scale == 1).any() and largest < usual):
            return ""
        return f"the largest of these features is {largest:.3g}, where training had about {usual:.3g}"

    def blocks(self, features: Features) -> Iterator[tuple[int, np.ndarray]]:
        """Consecutive scaled float32 blocks of rows of about 16 MB, each with the number of its first row.

        Raises:
            InputError: a feature isn't finite; the message names its row and column.
        """
        start = 0
        with np.errstate(over="ignore", invalid="ignore"):
            for block in iter_blocks(features):
                scaled, finite = np.empty_like(block), True
                for first in range(0, len(block), CACHED_ROWS):
                    part = scaled[first : first + CACHED_ROWS]
                    part[:] = self.apply(block[first : first + CACHED_ROWS])
                    finite &= bool(np.isfinite(part).all())
                if not finite:
                    row, column = np.argwhere(~np.isfinite(scaled))[0]
                    raise InputError(
                        f"features hold {block[row, column]} in row {start + row}, column {column}",
                        "finite numbers, near those that the scaling was fitted on",
                        "Remove or mend such rows",
                    )
                yield start, scaled
                start += len(block)

    def tensors(self, features: Features, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
        """:meth:`blocks` as tensors on a device, which scales them itself."""
        if device.type == "cpu":
            yield from ((start, torch.from_numpy(scaled)) for start, scaled in self.blocks(features))
            return
        start = 0
        for block in iter_blocks(features):
            scaled = self.apply(torch.tensor(block, device=device))
            if not bool(torch.isfinite(scaled).all()):
                for _ in self.blocks(features):  # to name the row
                    pass
            yield start, scaled
            start += len(block)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """``{"offset": (D,), "scale": (D,)}`` float32, for saving; the kind is saved beside them."""
        return {"offset": self.offset, "scale": self.scale}

    @classmethod
    def from_arrays(cls, kind: Kind, arrays: Mapping[str, np.ndarray]) -> FeatureScaler:
        """The scaler that :meth:`to_arrays` was called on.

        Raises:
            InputError: an array is missing, or can't be a scaling's.
        """
        missing = {"offset", "scale"} - set(arrays)
        if missing:
            raise InputError(f"the scaling lacks {', '.join(sorted(missing))}", "offset and scale")
        return cls(kind, arrays["offset"], arrays["scale"])

    def _beside(self, features: Any) -> tuple[Any, Any]:
        if isinstance(features, torch.Tensor):
            # They stay float32 beside half-precision features, whose own type would lose the offset's digits.
            device = features.device
            return torch.as_tensor(self.offset, device=device), torch.as_tensor(self.scale, device=device)
        return self.offset, self.scale


def signed_root(features: Rows) -> Rows:
    """The square root of the size, with the sign kept."""
    library: Any = torch if isinstance(features, torch.Tensor) else np
    return library.sign(features) * library.sqrt(abs(features))


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise InputError(f"feature scaling is {kind!r}", f"one of {', '.join(get_args(Kind))}")


def _extremes(features: Features, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and range of each column, ``(D,)`` float64."""
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    for block in iter_blocks(features):
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    return low, high - low


def _moments(features: Features, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (of the population) of each column, ``(D,)`` float64."""
    total, squares = np.zeros(dim), np.zeros(dim)
    # Sums about a typical row keep their digits when the mean is far from zero.
    shift = np.asarray(features[:1], dtype=np.float32)[0].astype(np.float64)
    for block in iter_blocks(features):
        rows = block - shift
        total += rows.sum(axis=0)
        squares += np.einsum("nd,nd->d", rows, rows)
    mean = total / len(features)
    return mean + shift, np.sqrt(np.maximum(squares / len(features) - mean**2, 0))
