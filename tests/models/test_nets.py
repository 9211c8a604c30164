"""The penalty's weight, which follows the penalty."""

import pytest
import torch

from fgen.models.nets import AdaptiveWeight


@pytest.mark.parametrize(
    ("penalties", "factors"),
    [
        ([2.0, 2.0, 2.0, 2.0], [1, 1.1, 1.1, 1.21]),
        ([0.5, 0.5, 0.5, 0.5], [1, 1 / 1.1, 1 / 1.1, 1 / 1.21]),
        ([1.02, 1.02, 1.02, 1.02], [1, 1, 1, 1]),
        ([3.0, 0.5, 0.5, 0.5], [1, 1.1, 1.1, 1.0]),  # each pair by its own mean, and no earlier one's
    ],
)
def test_every_second_observation_the_mean_of_both_decides(penalties, factors):
    weight, found = AdaptiveWeight(10.0, 2), []
    for penalty in penalties:
        weight.observe(torch.tensor(penalty))
        found.append(weight.value.item())
    assert found == pytest.approx([10 * factor for factor in factors])
