"""How weights lie changes how fast products of them are, and nothing else."""

import pytest
import torch
from torch import nn

from fgen.models import MODELS
from fgen.models.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from fgen.models.engine import make_optimisers, train_step
from fgen.products import lie_for_products, side_by_side
from tests.models.test_draws import assert_equal, begun, weights


def lay_by_columns(network):
    """What a GPU's weights of odd widths are."""
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.T.contiguous().T


@pytest.mark.parametrize("name", sorted(MODELS))
def test_weights_that_lie_by_columns_learn_what_others_learn(name, world, tmp_path):
    """And go on from a checkpoint as they would have without it, moments and all."""
    (model, data, optimisers), (twin, _, others) = begun(name, world), begun(name, world)
    lay_by_columns(model.networks)
    laid = {key: parameter.stride() for key, parameter in model.networks.named_parameters()}
    for step in range(2):
        terms, expected = (train_step(m, data, o, 0, step) for m, o in ((model, optimisers), (twin, others)))
        for key, value in terms.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)
    for key, value in weights(model).items():
        torch.testing.assert_close(value, weights(twin)[key], rtol=1e-3, atol=1e-4)
    write_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(model.networks, optimisers, step=2))
    resumed, _, again = begun(name, world)
    lay_by_columns(resumed.networks)
    read_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(resumed.networks, again))
    for state in (own for optimiser in again.values() for own in optimiser.state.items()):
        assert all(slot.stride() == state[0].stride() for slot in state[1].values() if slot.shape == state[0].shape)
    train_step(model, data, optimisers, 0, 2)
    train_step(resumed, data, again, 0, 2)
    assert_equal(weights(model), weights(resumed))
    assert laid == {key: parameter.stride() for key, parameter in resumed.networks.named_parameters()}


def test_a_processor_has_its_weights_and_rows_as_they_are():
    layer = nn.Linear(21, 32)
    before = layer.weight.data_ptr()
    lie_for_products(layer)
    assert layer.weight.is_contiguous()
    assert layer.weight.data_ptr() == before
    left, right = torch.arange(12.0).view(4, 3), torch.arange(8.0).view(4, 2)
    assert torch.equal(side_by_side(left, right), torch.cat([left, right], dim=1))


def test_a_checkpoint_of_another_layout_goes_on(world, tmp_path):
    """As where a training that began on a GPU goes on without one."""
    model, data, optimisers = begun("clswgan", world)
    lay_by_columns(model.networks)
    train_step(model, data, optimisers, 0, 0)
    write_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(model.networks, optimisers, step=1))
    plain, _, _ = begun("clswgan", world)
    others = make_optimisers(plain)
    state = TrainingState(plain.networks, others)
    read_checkpoint(tmp_path / "checkpoint.safetensors", state)
    assert_equal(weights(plain), weights(model))
    train_step(plain, data, others, 0, 1)
    train_step(model, data, optimisers, 0, 1)
    for key, value in weights(plain).items():
        torch.testing.assert_close(value, weights(model)[key], rtol=1e-4, atol=1e-5)
