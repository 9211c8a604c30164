"""Column-wise scaling of features: fitted in one pass, applied to raw features, inverted on generated ones."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
import torch

from fgen.errors import InputError, wrong_array
from fgen.features.checks import expect_finite
from fgen.features.rows import Features, SelectedRows, as_rows, block_rows, iter_blocks, numbered_blocks, read_rows
from fgen.features.statistics import column_moments

#: ``"l2"`` is no kind: it loses the lengths, so generated features could not be inverted.
Kind = Literal["minmax", "standard", "sqrt", "none"]
#: Number of rows that stay in a processor's cache between operations.
CACHED_ROWS = 256
#: Number of evenly spaced rows whose median length is measured; its error is far below the limits of a warning.
MEASURED_ROWS = 256
#: Fewer rows than this may differ more from training: they may be of one class.
FEW_ROWS = 10
#: Ratio of lengths from which a warning is given: for many rows, for few, and where the length of the training rows is
#: estimated from the scaling.
TIMES, TIMES_OF_FEW, TIMES_OF_A_GUESS = 3.0, 5.0, 30.0
Rows = TypeVar("Rows", np.ndarray, torch.Tensor)


@dataclass(frozen=True, eq=False)
class FeatureScaler:
    """``scaled = (raw - offset) / scale``, column by column.

    Attributes:
        kind: ``"minmax"`` to [0, 1], as the lineage does; ``"standard"`` to mean 0 and deviation 1; ``"sqrt"``, the
            square root of absolute values with their signs, then to [0, 1]: averaged activations are skewed, their
            roots nearly not; ``"none"``.
        offset, scale: ``(D,)`` float32; a constant column has scale 1, so it becomes 0 and comes back exactly.
        length: the median length of the raw rows it was fitted on; None if unknown, as in older files.

    Raises:
        InputError: an unknown kind, or arrays that no fit can have made.
    """

    kind: Kind
    offset: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)
    length: float | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if self.length is not None and not 0 <= self.length < math.inf:
            raise InputError(f"the scaling's length is {self.length}", "a finite number of at least 0")
        for name in ("offset", "scale"):
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != np.float32 or array.shape != self.offset.shape:
                raise wrong_array(f"the scaling's {name}", array, f"({self.dim},) float32")
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise InputError("the scaling holds NaN, infinities or a scale of 0", "finite numbers, scales above 0")

    @classmethod
    def fit(cls, kind: Kind, features: Features, rows: np.ndarray | None = None) -> Self:
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
            return cls(kind, np.zeros(dim, np.float32), np.ones(dim, np.float32), median_length(features))
        if not len(features):
            raise InputError("there are no rows to fit the feature scaling on", "at least 1")
        # What leaves float32 is refused by name below; NumPy's warning would come before the message.
        with np.errstate(over="ignore", invalid="ignore"):
            offset, scale = (column_moments if kind == "standard" else _extremes)(features)
            if kind == "sqrt":  # it is monotonic: the extremes of the roots are the roots of the extremes
                high = signed_root(offset + scale)
                offset = signed_root(offset)
                scale = high - offset
            offset, scale = offset.astype(np.float32), scale.astype(np.float32)
        bad = np.flatnonzero(~(np.isfinite(offset) & np.isfinite(scale)))
        if bad.size:
            raise InputError(f"features hold NaN, infinities or too wide a range in column {bad[0]}", "finite numbers")
        # A range below float32's normal numbers would overflow other rows; such a column counts as constant.
        scale = np.where(scale >= np.finfo(np.float32).tiny, scale, np.float32(1))
        return cls(kind, offset, scale, median_length(features))

    @property
    def dim(self) -> int:
        """The number of columns, D."""
        return len(self.offset)

    def apply(self, features: Rows) -> Rows:
        """Return raw rows ``(n, D)`` scaled, an array or a tensor on its device; float32, or float64 for float64."""
        return apply_scaling(self.kind, features, *self._beside(features))

    def invert(self, features: Rows) -> Rows:
        """Return raw rows of scaled ``(n, D)``, an array or a tensor on its device; float32, or float64 for float64."""
        return invert_scaling(self.kind, features, *self._beside(features))

    def scale_warning(self, features: Features) -> str:
        """Return a warning if raw ``(N, D)`` seem to be normalised otherwise than the training rows, else ``""``.

        The median length of the rows is compared, for a normalisation that was forgotten on one side multiplies it. A
        warning says that it differs by more than 3 times, or of fewer than 10 rows by more than 5 times. A scaling
        without :attr:`length` guesses it, and warns from 30 times on.
        """
        found = median_length(features)
        if self.length is None:
            usual, times, about = self._guessed_length(), TIMES_OF_A_GUESS, "about "
        else:
            usual, times, about = self.length, TIMES_OF_FEW if len(features) < FEW_ROWS else TIMES, ""
        if found is None or not usual or usual / times <= found <= usual * times:
            return ""
        return f"the median length of a row of these features is {found:.3g}, and was {about}{usual:.3g} in training"

    def _guessed_length(self) -> float:
        """Return an estimate of the training rows' length from the scaling; 0 where there is none.

        It assumes that a column's numbers are uniform between its extremes. A column of scale 1 is taken as constant.
        """
        if self.kind == "none":
            return 0.0
        varied = self.scale != 1
        if self.kind == "standard":
            squares = self.offset.astype(np.float64) ** 2 + np.where(varied, self.scale, 0).astype(np.float64) ** 2
        else:
            low, high = (self.invert(np.full((1, self.dim), end, np.float64)) for end in (0, 1))
            high = np.where(varied, high, low)
            squares = (low**2 + low * high + high**2) / 3
        return float(np.sqrt(squares.sum()))

    def blocks(self, features: Features) -> Iterator[tuple[int, np.ndarray]]:
        """Yield consecutive scaled float32 blocks of rows of about 16 MB, each with the number of its first row.

        Raises:
            InputError: a feature isn't finite; the message names its row and column.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for start, block in numbered_blocks(features):
                scaled = np.empty_like(block)
                for first in range(0, len(block), CACHED_ROWS):
                    part, given = (rows[first : first + CACHED_ROWS] for rows in (scaled, block))
                    part[:] = self.apply(given)
                    if not np.isfinite(part).all():
                        expected = "finite numbers, near those that the scaling was fitted on"
                        remedy = "Remove or mend such rows"
                        expect_finite("features hold", part, expected, remedy, first=start + first, given=given)
                yield start, scaled

    def tensors(self, features: Features, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield :meth:`blocks` as tensors on a device, which does the scaling."""
        if device.type == "cpu":
            yield from ((start, torch.from_numpy(scaled)) for start, scaled in self.blocks(features))
            return
        for start, block in numbered_blocks(features):
            scaled = self.apply(torch.tensor(block, device=device))
            if not bool(torch.isfinite(scaled).all()):
                self.check_finite(features)
            yield start, scaled

    def check_finite(self, features: Features) -> None:
        """Raise the error of :meth:`blocks` if a scaled feature isn't finite; reads ``(N, D)`` once."""
        for _ in self.blocks(features):
            pass

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return ``{"offset": (D,), "scale": (D,), "length": (1,)}`` float32; the kind has to be saved too."""
        arrays = {"offset": self.offset, "scale": self.scale}
        return arrays if self.length is None else arrays | {"length": np.array([self.length], dtype=np.float32)}

    @classmethod
    def from_arrays(cls, kind: Kind, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the scaler that :meth:`to_arrays` was called on; older ones have no length.

        Raises:
            InputError: an array is missing, or can't be a scaling's.
        """
        if missing := {"offset", "scale"} - set(arrays):
            raise InputError(f"the scaling lacks {', '.join(sorted(missing))}", "offset and scale")
        length = arrays.get("length")
        if length is not None and (length.shape != (1,) or length.dtype != np.float32):
            raise wrong_array("the scaling's length", length, "(1,) float32")
        return cls(kind, arrays["offset"], arrays["scale"], None if length is None else float(length[0]))

    def _beside(self, features: Any) -> tuple[Any, Any]:
        if isinstance(features, torch.Tensor):
            # They stay float32 beside half-precision features, whose own type would lose the offset's digits.
            device = features.device
            return torch.as_tensor(self.offset, device=device), torch.as_tensor(self.scale, device=device)
        return self.offset, self.scale


def median_length(features: Features) -> float | None:
    """Return the median Euclidean length of rows ``(N, D)``, of up to 256 evenly spread ones.

    It reads no other rows, so that a matrix larger than memory costs no pass. It is None without rows, and where they
    hold NaN or infinities.
    """
    if not len(features):
        return None
    number = min(len(features), MEASURED_ROWS, block_rows(features.shape[1]))
    rows = np.linspace(0, len(features) - 1, number).astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(read_rows(as_rows(features), rows).astype(np.float64), axis=1)
    # float32 is what a file holds: a saved scaling is the fitted one to the last bit.
    length = float(np.float32(np.median(lengths))) if np.isfinite(lengths).all() else math.inf
    return length if math.isfinite(length) else None


def signed_root(features: Rows) -> Rows:
    """Return the square root of absolute values, with their signs."""
    library: Any = torch if isinstance(features, torch.Tensor) else np
    return library.sign(features) * library.sqrt(abs(features))


def apply_scaling(kind: Kind, features: Rows, offset: Any, scale: Any) -> Rows:
    """Return raw rows ``(n, D)`` scaled by ``offset`` and ``scale (D,)``, all arrays or all tensors."""
    return ((signed_root(features) if kind == "sqrt" else features) - offset) / scale


def invert_scaling(kind: Kind, features: Rows, offset: Any, scale: Any) -> Rows:
    """Return raw rows of scaled ``(n, D)``, the inverse of :func:`apply_scaling`."""
    raw = features * scale + offset
    return raw * abs(raw) if kind == "sqrt" else raw


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise InputError(f"feature scaling is {kind!r}", f"one of {', '.join(get_args(Kind))}")


def _extremes(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and the range of each column, ``(D,)`` float64."""
    low, high = np.full(features.shape[1], np.inf), np.full(features.shape[1], -np.inf)
    for block in iter_blocks(features):
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    return low, high - low
