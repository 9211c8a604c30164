"""Training of the softmax head to its minimum, by L-BFGS with a line search on the loss's slope.

Where the logits of all rows are few, they are stored, and their change along the direction of the step. Logits at any
point of the line are a sum of both, so a step costs one product for the direction and one for the gradient, for any
number of points. Where they are many, each point costs two products; its gradient is that of the next step.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from fgen.classifiers.adam import cross_entropy_gradient
from fgen.compute.matmul import matmul_operand, product
from fgen.features.class_scores import rows_at_once
from fgen.features.scaled_rows import BLOCK_ROWS, CentredRows

#: 600 classes of 1,280 features take 15 to 30 steps.
LBFGS_STEPS = 500
#: Number of the last steps from which L-BFGS estimates the curvature.
HISTORY = 10
#: The line search ends where the slope is at most this share of the slope at the line's start.
SLOPE_LEFT = 0.1
#: Likewise before the line's minimum, where each point costs two products, as much as a step.
RECOMPUTED_SLOPE_LEFT = 0.5
#: Largest number of points of a line.
POINTS = 20
#: On the CPU, logits are computed anew at each point if a matrix of them has more bytes than this.
LOGITS_IN_MEMORY = 1 << 29


@dataclass(frozen=True)
class Stop:
    """Where L-BFGS ends.

    Attributes:
        tol: where no entry of the gradient is larger.
        steps: after so many steps at most.
    """

    tol: float = 1e-5
    steps: int = LBFGS_STEPS


def train_lbfgs(
    rows: CentredRows,
    targets: Tensor,
    n_classes: int,
    l2: float,
    *,
    stop: Stop = Stop(),
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
    digits. Logits that are computed anew are products of float32 factors: rounding would hide small steps.

    Args:
        rows: the features, with the weights of the rows in the loss.
        targets: ``(N,)`` indices of classes.
        stop: where training ends.
        start: weights and biases to start from, such as those of another penalty; zeros by default.
        first_logits: ``(N,)`` constant logits of class 0, whose weights and bias then stay 0.
        progress: show a bar.

    Returns:
        ``(K, D)`` weights and ``(K,)`` biases; NaN where features are too large to be multiplied.

    """
    stored = rows.mean.is_cuda or len(targets) * n_classes * rows.mean.itemsize <= LOGITS_IN_MEMORY
    line = (StoredLine if stored else RecomputedLine)(rows, targets, n_classes, l2)
    if first_logits is not None:
        line.fix_first(first_logits)
    if start is not None:
        weight, bias = start
        line.set_direction(torch.cat([weight, (bias + _at(weight, rows.mean)).unsqueeze(1)], dim=1))
        line.step(1.0)
    gradient, recent = line.gradient(), deque[tuple[Tensor, Tensor]](maxlen=HISTORY)
    for _ in tqdm(range(stop.steps), desc="head", unit="step", disable=not progress):
        if gradient.abs().max() <= stop.tol:
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


class Line(ABC):
    """Loss on a line through the parameters.

    Attributes:
        parameters: ``(K, D + 1)``, the weights and, last, the biases; zeros at first.
        direction: of the line, likewise.
        slope_left: the search ends before the line's minimum where at most this share of the slope is left; beyond it
            the share is :data:`SLOPE_LEFT`.
    """

    slope_left: ClassVar[float]

    def __init__(self, rows: CentredRows, targets: Tensor, n_classes: int, l2: float) -> None:
        self._rows, self._targets, self._l2 = rows, targets, l2
        self._row_weights = rows.row_weights / len(targets)
        self.parameters = rows.mean.new_zeros(n_classes, len(rows.mean) + 1)
        self.direction = torch.zeros_like(self.parameters)

    @abstractmethod
    def fix_first(self, logits: Tensor) -> None:
        """Keep the logits ``(N,)`` of class 0 constant, in place of ``W x + b``."""

    @abstractmethod
    def gradient(self) -> Tensor:
        """Return the loss's gradient ``(K, D + 1)`` at the parameters."""

    @abstractmethod
    def set_direction(self, direction: Tensor) -> None:
        """Choose another line through the parameters, of direction ``(K, D + 1)``."""

    @abstractmethod
    def slope(self, step: float) -> float:
        """Return the derivative of the loss with respect to the step, at a step."""

    @abstractmethod
    def step(self, step: float) -> None:
        """Move the parameters to this step of the line."""

    @abstractmethod
    def largest_change(self) -> float:
        """Return the largest change of a logit by a step of 1, in size."""

    def search(self, at_start: float, *, first: float | None) -> float:
        """Return a step near the line's minimum, from derivatives alone, since the loss is convex.

        The next point is found by false position, or is four times as far while the loss still falls.

        Args:
            at_start: the slope at 0, below 0.
            first: None starts at L-BFGS's own step of 1; a number starts at the step that changes a logit by that much.

        Returns:
            0 if the loss falls nowhere, NaN if a derivative isn't finite.
        """
        step = 1.0 if first is None else first / self.largest_change()
        if step == 0 or not math.isfinite(at_start):
            return math.nan
        near, at_near, far, at_far = 0.0, at_start, math.inf, math.nan
        for _ in range(POINTS):
            slope = self.slope(step)
            if not math.isfinite(slope):
                return math.nan
            if self.slope_left * at_start <= slope <= -SLOPE_LEFT * at_start:
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

    def _logit_gradients(self, logits: Tensor, start: int, out: Tensor) -> Tensor:
        """Return the loss's gradient with respect to the logits ``(n, K)`` of the rows from ``start`` on."""
        block = slice(start, start + len(logits))
        return cross_entropy_gradient(logits, self._targets[block], self._row_weights[block], out[: len(logits)])

    def _penalty_gradient(self, parameters: Tensor) -> Tensor:
        gradient = self._l2 * parameters
        gradient[:, -1] = 0
        return gradient


class StoredLine(Line):
    """Loss on a line, with the logits of all rows and their change in memory: twice ``4 N K`` bytes."""

    slope_left: ClassVar[float] = SLOPE_LEFT

    def __init__(self, rows: CentredRows, targets: Tensor, n_classes: int, l2: float) -> None:
        super().__init__(rows, targets, n_classes, l2)
        self._first_is_fixed = False
        self._logits, self._change = (rows.mean.new_zeros(len(targets), n_classes) for _ in range(2))
        self._point, self._gradients = (self.parameters.new_empty(BLOCK_ROWS, n_classes) for _ in range(2))

    def fix_first(self, logits: Tensor) -> None:
        """See :meth:`Line.fix_first`."""
        self._logits[:, 0], self._first_is_fixed = logits, True

    def gradient(self) -> Tensor:
        """See :meth:`Line.gradient`."""
        gradient = self._penalty_gradient(self.parameters)
        for start, x in self._rows.blocks():
            gradients = self._logit_gradients(self._logits[start : start + len(x)], start, self._gradients)
            gradient[:, :-1] += product(matmul_operand(gradients).T, x)
            gradient[:, -1] += gradients.sum(dim=0)
        gradient[: int(self._first_is_fixed)] = 0
        return gradient

    def set_direction(self, direction: Tensor) -> None:
        """See :meth:`Line.set_direction`; the direction is rounded as products need it."""
        factor = matmul_operand(direction[:, :-1])
        direction[:, :-1] = factor
        for start, x in self._rows.blocks():
            torch.add(product(x, factor.T), direction[:, -1], out=self._change[start : start + len(x)])
        self.direction = direction

    def slope(self, step: float) -> float:
        """See :meth:`Line.slope`."""
        weight, along = self.parameters[:, :-1], self.direction[:, :-1]
        total = self._l2 * (_dot(weight, along) + step * _dot(along, along))
        for start in range(0, len(self._targets), BLOCK_ROWS):
            change = self._change[start : start + BLOCK_ROWS]
            logits, point = self._logits[start : start + BLOCK_ROWS], self._point[: len(change)]
            logits = torch.add(logits, change, alpha=step, out=point)
            gradients = self._logit_gradients(logits, start, self._gradients)
            total += float(torch.mul(gradients, change, out=point).sum())
        return total

    def step(self, step: float) -> None:
        """See :meth:`Line.step`."""
        self.parameters.add_(self.direction, alpha=step)
        self._logits.add_(self._change, alpha=step)

    def largest_change(self) -> float:
        """See :meth:`Line.largest_change`."""
        return float(max(self._change.max(), -self._change.min()))


class RecomputedLine(Line):
    """Loss on a line, with the logits of one block of rows in memory."""

    slope_left: ClassVar[float] = RECOMPUTED_SLOPE_LEFT

    def __init__(self, rows: CentredRows, targets: Tensor, n_classes: int, l2: float) -> None:
        super().__init__(rows, targets, n_classes, l2)
        self._first: Tensor | None = None
        self._n_rows = min(rows_at_once(n_classes), BLOCK_ROWS)
        self._logits, self._gradients = (self.parameters.new_empty(self._n_rows, n_classes) for _ in range(2))
        self._last: tuple[float, Tensor] | None = None

    def fix_first(self, logits: Tensor) -> None:
        """See :meth:`Line.fix_first`."""
        self._first = logits

    def gradient(self) -> Tensor:
        """See :meth:`Line.gradient`; where the line search ended it is known already."""
        return self._gradient_at(0.0)

    def set_direction(self, direction: Tensor) -> None:
        """See :meth:`Line.set_direction`."""
        self.direction, self._last = direction, None

    def slope(self, step: float) -> float:
        """See :meth:`Line.slope`: the gradient's share along the direction."""
        return _dot(self._gradient_at(step), self.direction)

    def step(self, step: float) -> None:
        """See :meth:`Line.step`."""
        self.parameters.add_(self.direction, alpha=step)
        self._last = None if self._last is None or self._last[0] != step else (0.0, self._last[1])

    def largest_change(self) -> float:
        """See :meth:`Line.largest_change`; of the first rows alone."""
        _, x = next(self._blocks())
        return float(self._logits_of(x, self.direction).abs().max())

    def _gradient_at(self, step: float) -> Tensor:
        """Return the loss's gradient ``(K, D + 1)`` at a step of the line."""
        if self._last is None or self._last[0] != step:
            parameters = torch.add(self.parameters, self.direction, alpha=step)
            gradient = self._penalty_gradient(parameters)
            for start, x in self._blocks():
                logits = self._logits_of(x, parameters)
                if self._first is not None:
                    logits[:, 0] = self._first[start : start + len(x)]
                gradients = self._logit_gradients(logits, start, self._gradients)
                gradient[:, :-1] += product(matmul_operand(gradients).T, x)
                gradient[:, -1] += gradients.sum(dim=0)
            gradient[: int(self._first is not None)] = 0
            self._last = step, gradient
        return self._last[1]

    def _logits_of(self, x: Tensor, parameters: Tensor) -> Tensor:
        factor = parameters[:, :-1]
        return torch.addmm(parameters[:, -1], x.to(factor.dtype), factor.T, out=self._logits[: len(x)])

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        for first, block in self._rows.blocks():
            for i, x in enumerate(block.split(self._n_rows)):
                yield first + i * self._n_rows, x


def _at(weight: Tensor, row: Tensor) -> Tensor:
    # Not torch.mv, which would round to bfloat16.
    return (weight * row).sum(dim=1)


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum())
