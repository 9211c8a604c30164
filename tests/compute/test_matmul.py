"""How weights lie changes how fast products of them are, and nothing else."""

import pytest
import torch
from torch import nn

from fgen.compute import matmul
from fgen.compute.matmul import concat_columns, set_weight_layout
from fgen.data.toy import toy_world
from fgen.models.registry import MODELS
from fgen.training.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from fgen.training.loop import make_optimisers, train_step
from tests.training.test_draws import assert_equal, begun, weights

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def odd():
    """A world of odd widths."""
    return toy_world(n_seen=12, n_unseen=4, feature_dim=17, embedding_dim=5, rows_per_class=24, seed=3)


@pytest.fixture
def wide(monkeypatch):
    """Makes models as a GPU would have them."""

    def begun_there(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(matmul, "WIDE", ("cpu",))
            return begun(*arguments)

    return begun_there


def layout(model):
    return {key: parameter.stride() for key, parameter in model.networks.named_parameters()}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_weights_that_lie_by_columns_learn_what_others_learn(name, odd, wide, tmp_path, monkeypatch):
    """And go on from a checkpoint as they would have without it, moments and all."""
    (model, data, optimisers), (twin, _, others) = wide(name, odd), begun(name, odd)
    laid = layout(model)
    assert laid != layout(twin)
    monkeypatch.setattr(matmul, "WIDE", ("cpu",))
    for step in range(2):
        terms, expected = (train_step(m, data, o, 0, step) for m, o in ((model, optimisers), (twin, others)))
        for key, value in terms.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)
    for key, value in weights(model).items():
        torch.testing.assert_close(value, weights(twin)[key], rtol=1e-3, atol=1e-4)
    write_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(model.networks, optimisers, step=2))
    resumed, _, again = wide(name, odd)
    read_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(resumed.networks, again))
    for state in (own for optimiser in again.values() for own in optimiser.state.items()):
        assert all(slot.stride() == state[0].stride() for slot in state[1].values() if slot.shape == state[0].shape)
    train_step(model, data, optimisers, 0, 2)
    train_step(resumed, data, again, 0, 2)
    assert_equal(weights(model), weights(resumed))
    assert laid == layout(resumed)


@pytest.mark.parametrize(
    ("width", "height", "by_columns"), [(21, 32, True), (24, 32, False), (21, 30, False), (24, 30, False)]
)
def test_weights_lie_by_columns_where_only_columns_are_read_well(width, height, by_columns, monkeypatch):
    layer = nn.Linear(width, height)
    before, rows = layer.weight.clone(), torch.randn(height, width)
    parts = rows.split([width - 5, 5], dim=1)
    set_weight_layout(layer)
    assert layer.weight.is_contiguous(), "a processor's stay as they are"
    assert concat_columns(*parts).is_contiguous()
    monkeypatch.setattr(matmul, "WIDE", ("cpu",))
    set_weight_layout(layer)
    assert layer.weight.stride() == ((1, height) if by_columns else (width, 1))
    assert concat_columns(*parts).stride() == ((1, height) if by_columns else (width, 1))
    assert torch.equal(layer.weight, before)
    assert torch.equal(concat_columns(*parts), rows)
    assert torch.equal(concat_columns(*(part.unsqueeze(0) for part in parts)), rows.unsqueeze(0))


def test_layers_are_given_rows_that_lie_as_their_weights_do(odd, wide, monkeypatch):
    model, _, _ = wide("fvaegan", odd)
    monkeypatch.setattr(matmul, "WIDE", ("cpu",))
    given = []
    for network in model.networks.values():
        network.hidden.register_forward_pre_hook(lambda layer, rows: given.append((layer.weight, rows[0])))
    critic, generator, encoder = (model.networks[role] for role in ("critic", "generator", "encoder"))
    features, condition = torch.randn(32, 17), torch.randn(32, 5)
    critic(features, condition)
    generator(torch.randn(32, model.noise_dim), condition)
    encoder(features, condition)
    assert len(given) == 3
    assert all(weight.T.is_contiguous() and rows.T.is_contiguous() for weight, rows in given)


def test_a_checkpoint_of_another_layout_goes_on(odd, wide, tmp_path):
    """As where a training that began on a GPU goes on without one."""
    model, data, optimisers = wide("clswgan", odd)
    train_step(model, data, optimisers, 0, 0)
    write_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(model.networks, optimisers, step=1))
    plain, _, _ = begun("clswgan", odd)
    others = make_optimisers(plain)
    read_checkpoint(tmp_path / "checkpoint.safetensors", TrainingState(plain.networks, others))
    assert_equal(weights(plain), weights(model))
    train_step(plain, data, others, 0, 1)
    train_step(model, data, optimisers, 0, 1)
    for key, value in weights(plain).items():
        torch.testing.assert_close(value, weights(model)[key], rtol=1e-4, atol=1e-5)
