"""Starting weights, and the penalty's weight, which follows the penalty."""

import pytest
import torch

from fgen.nn.networks import AdaptiveWeight, Linear, initialise

pytestmark = pytest.mark.numeric


def test_weights_start_from_the_lineages_normal_and_biases_from_zero():
    layers = [Linear(300, 200) for _ in range(3)]
    for layer, key in zip(layers, ((0, "critic"), (1, "critic"), (0, "generator")), strict=True):
        initialise(layer, *key)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(layer.weight.mean().item()) < 0.001
        assert not layer.bias.any()
    assert len({layer.weight[0, 0].item() for layer in layers}) == 3


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
