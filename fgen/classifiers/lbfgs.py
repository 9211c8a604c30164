"""Training of the softmax head to its minimum, by L-BFGS with a line search that needs no matrix product.

The logits of all rows are stored, and their change along the direction of the step. Logits at any point of the line are
a sum of both, so a step costs one product for the direction and one for the gradient, for any number of points.
"""

import math
import tempfile
from collections import deque

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fgen.classifiers.adam import cross_entropy_gradient
from fgen.compute.matmul import matmul_operand, product
from fgen.errors import InputError
from fgen.features.scaled_rows import BLOCK_ROWS, CentredRows
from fgen.io.atomic import preallocate

#: L-BFGS ends when no entry of the gradient is larger than this. 600 classes of 1,280 features take 15 to 30 steps.
LBFGS_GRADIENT = 1e-5
LBFGS_STEPS = 500
#: Number of the last steps from which L-BFGS estimates the curvature.
HISTORY = 10
#: The line search ends where the slope is at most this share of the slope at the line's start.
SLOPE_LEFT = 0.1
#: Largest number of points of a line.
POINTS = 20
#: On the CPU, each of the two matrices of logits is kept in a file if it has more bytes than this.
LOGITS_IN_MEMORY = 1 << 29


def train_lbfgs(
    rows: CentredRows,
    targets: Tensor,
    row_weights: Tensor,
    n_classes: int,
    l2: float,
    *,
    start: tuple[Tensor, Tensor] | None = None,
    first_logits: Tensor | None = None,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the minimum of the mean weighted cross-entropy plus ``l2 / 2 |W|^2`` over all rows.

    Steps are taken on ``W (x - m) + c`` with m near the rows' weighted mean. It is the same problem, since the biases
    ``b = c - W m`` have no penalty, but weights and biases are less correlated, which halves the number of steps.

    Where this thread :func:`~fgen.compute.device.rounds_products`, centred features, directions and the results of
    their products are in bfloat16, and kept logits, weights and sums in float32. It takes as many steps as in
    float32, since the rounding of a step's logits shrinks with the steps; the minimum is float32's to about three
    digits.

    Args:
        rows: the features, centred with the same weights.
        targets: ``(N,)`` indices of classes. row_weights: ``(N, 1)``.
        start: weights and biases to start from, such as those of another penalty; zeros by default.
        first_logits: ``(N,)`` constant logits of class 0, whose weights and bias then stay 0.
        progress: show a bar.

    Returns:
        ``(K, D)`` weights and ``(K,)`` biases; NaN where features are too large to be multiplied.

    Raises:
        InputError: logits that are too many for memory have no room in the folder for temporary files.
    """
    line = Line(rows, targets, row_weights / len(targets), n_classes, l2)
    if first_logits is not None:
        line.fix_first(first_logits)
    if start is not None:
        weight, bias = start
        line.set_direction(torch.cat([weight, (bias + _at(weight, rows.mean)).unsqueeze(1)], dim=1))
        line.step(1.0)
    gradient, recent = line.gradient(), deque[tuple[Tensor, Tensor]](maxlen=HISTORY)
    for _ in tqdm(range(LBFGS_STEPS), desc="head", unit="step", disable=not progress):
        if gradient.abs().max() <= LBFGS_GRADIENT:
            break
        line.set_direction(-two_loop_recursion(gradient, recent))
        step = line.search(_dot(gradient, line.direction), first=None if recent else 1.0)
        if step == 0:  # rounding is all that is left
            break
        line.step(step)
        if math.isnan(step):
            break
        before, gradient = gradient, line.gradient()
        move, change = line.direction * step, gradient - before
        if _dot(move, change) > 0:  # as always for a convex function, but for rounding
            recent.append((move, change))
    weight, bias = line.parameters[:, :-1].contiguous(), line.parameters[:, -1]
    return weight, bias - _at(weight, rows.mean)


def two_loop_recursion(gradient: Tensor, recent: deque[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the gradient times the inverse Hessian that L-BFGS estimates (Nocedal and Wright 2006, algorithm 7.4).

    Args:
        gradient: ``(K, D + 1)``.
        recent: the last moves of the parameters with the changes of the gradient.
    """
    result, shares = gradient.clone(), []
    for move, change in reversed(recent):
        shares.append(_dot(move, result) / _dot(move, change))
        result.sub_(change, alpha=shares[-1])
    if recent:
        move, change = recent[-1]
        result.mul_(_dot(move, change) / _dot(change, change))
    for (move, change), share in zip(recent, reversed(shares), strict=True):
        result.add_(move, alpha=share - _dot(change, result) / _dot(move, change))
    return result


class Line:
    """Loss on a line through the parameters.

    Attributes:
        parameters: ``(K, D + 1)``, the weights and, last, the biases; zeros at first.
        direction: of the line, likewise.
    """

    def __init__(self, rows: CentredRows, targets: Tensor, row_weights: Tensor, n_classes: int, l2: float) -> None:
        self._rows, self._targets, self._row_weights, self._l2 = rows, targets, row_weights, l2
        self._first_is_fixed = False
        self.parameters = rows.mean.new_zeros(n_classes, len(rows.mean) + 1)
        self.direction = torch.zeros_like(self.parameters)
        self._logits, self._change = (_zeros(len(targets), n_classes, rows.mean) for _ in range(2))
        self._point, self._gradients = (self.parameters.new_empty(BLOCK_ROWS, n_classes) for _ in range(2))

    def fix_first(self, logits: Tensor) -> None:
        """Keep the logits ``(N,)`` of class 0 constant, in place of ``W x + b``."""
        self._logits[:, 0], self._first_is_fixed = logits, True

    def gradient(self) -> Tensor:
        """Return the loss's gradient ``(K, D + 1)`` at the parameters."""
        gradient = self._l2 * self.parameters
        gradient[:, -1] = 0
        for start, x in self._rows.blocks():
            gradients = self._logit_gradients(self._logits[start : start + len(x)], start)
            gradient[:, :-1] += product(matmul_operand(gradients).T, x)
            gradient[:, -1] += gradients.sum(dim=0)
        gradient[: int(self._first_is_fixed)] = 0
        return gradient

    def set_direction(self, direction: Tensor) -> None:
        """Choose another line through the parameters; its direction ``(K, D + 1)`` is rounded as products need it."""
        factor = matmul_operand(direction[:, :-1])
        direction[:, :-1] = factor
        for start, x in self._rows.blocks():
            torch.add(product(x, factor.T), direction[:, -1], out=self._change[start : start + len(x)])
        self.direction = direction

    def slope(self, step: float) -> float:
        """Return the derivative of the loss with respect to the step, at a step."""
        weight, along = self.parameters[:, :-1], self.direction[:, :-1]
        total = self._l2 * (_dot(weight, along) + step * _dot(along, along))
        for start in range(0, len(self._targets), BLOCK_ROWS):
            change = self._change[start : start + BLOCK_ROWS]
            logits, point = self._logits[start : start + BLOCK_ROWS], self._point[: len(change)]
            gradients = self._logit_gradients(torch.add(logits, change, alpha=step, out=point), start)
            total += float(torch.mul(gradients, change, out=point).sum())
        return total

    def search(self, at_start: float, *, first: float | None) -> float:
        """Return a step near the line's minimum, from derivatives alone, since the loss is convex.

        The next point is found by false position, or is four times as far while the loss still falls.

        Args:
            at_start: the slope at 0, below 0.
            first: None starts at L-BFGS's own step of 1; a number starts at the step that changes a logit by that much.

        Returns:
            0 if the loss falls nowhere, NaN if a derivative isn't finite.
        """
        step = 1.0 if first is None else first / float(max(self._change.max(), -self._change.min()))
        if step == 0 or not math.isfinite(at_start):
            return math.nan
        near, at_near, far, at_far = 0.0, at_start, math.inf, math.nan
        for _ in range(POINTS):
            slope = self.slope(step)
            if not math.isfinite(slope):
                return math.nan
            if abs(slope) <= -SLOPE_LEFT * at_start:
                return step
            if slope < 0:
                near, at_near = step, slope
            else:
                far, at_far = step, slope
            if far < math.inf:
                step = near + (far - near) * min(max(at_near / (at_near - at_far), 0.1), 0.9)
            else:
                step *= 4
        return near

    def step(self, step: float) -> None:
        """Move the parameters to this step of the line."""
        self.parameters.add_(self.direction, alpha=step)
        self._logits.add_(self._change, alpha=step)

    def _logit_gradients(self, logits: Tensor, start: int) -> Tensor:
        block = slice(start, start + len(logits))
        return cross_entropy_gradient(
            logits, self._targets[block], self._row_weights[block], self._gradients[: len(logits)]
        )


def _at(weight: Tensor, row: Tensor) -> Tensor:
    # Not torch.mv, which would round to bfloat16.
    return (weight * row).sum(dim=1)


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum())


def _zeros(n_rows: int, n_columns: int, like: Tensor) -> Tensor:
    size = n_rows * n_columns * like.itemsize
    if size <= LOGITS_IN_MEMORY or like.device.type != "cpu":
        return like.new_zeros(n_rows, n_columns)
    with tempfile.TemporaryFile(prefix="fgen-") as file:  # the map keeps it
        try:
            preallocate(file.fileno(), size)  # or a full disk would crash the program later
        except OSError as error:
            raise InputError(
                f"{tempfile.gettempdir()} can't take a temporary file of {size / 1e9:.1f} GB ({error.strerror})",
                f"room for the logits of {n_rows:,} rows and {n_columns:,} classes, twice",
                "Name a folder on a larger disk in TMPDIR, or set classifier.solver = 'adam'",
            ) from None
        numbers = np.memmap(file, dtype=str(like.dtype).removeprefix("torch."), shape=(n_rows, n_columns))
    return torch.from_numpy(numbers)
