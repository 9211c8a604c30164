"""How far apart two ways to the same numbers may end, from the arithmetic: the rounding, and how much is summed up."""

from __future__ import annotations

from fgen.classifiers.softmax import SoftmaxConfig

#: Half the distance from 1 to the next number: what one rounding costs at most, relatively.
FLOAT32, BFLOAT16 = 2.0**-24, 2.0**-9


def of_a_minimum(n_parameters: int, l2: float) -> float:
    """How far apart, by their length, two minima that L-BFGS found of one loss may be.

    It stops where no entry of the gradient g exceeds the setting ``tol``, so |g| is at most sqrt(n) times that; the
    penalty l2 / 2 |W|^2 makes the loss strongly convex, so the minimum lies within |g| / l2. That is so in any
    arithmetic, and the two may lie on two sides of it.
    """
    return float(2 * n_parameters**0.5 * SoftmaxConfig.tol / l2)
