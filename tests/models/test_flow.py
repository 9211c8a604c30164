"""Flow matching's own formulas: the loss, the path, guidance, and a Gaussian world where the flow is known."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.models.flow import within_variance
from fgen.models.registry import make_model
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("flow", **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def some(model, data, n_rows=6):
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((n_rows, model.noise_dim), dtype=np.float32))
    return noise, data.embeddings[:n_rows]


def test_the_terms_add_up_to_the_loss_row_by_row(world):
    model, data = started(world)
    draws, batch = Draws(0, 3, data.device), data.batches(Draws(0, 3, data.device), 1, 9)
    noise, time = draws.normal("noise", tuple(batch.features.shape)), draws.uniform("time", (9, 1))
    total = 0.0
    for k in range(9):
        start, end, t, one = noise[k : k + 1], batch.features[k : k + 1], time[k : k + 1], torch.ones(1, 1)
        velocity = model.networks["velocity"]((1 - t) * start + t * end, t, batch.condition[k : k + 1], one)
        total += ((velocity - (end - start)) ** 2).mean().item() / 9
    terms = model.terms(batch, draws)
    assert terms["early"].item() + terms["late"].item() == pytest.approx(total, rel=1e-4)


def test_without_layers_noise_flows_to_the_spread_within_classes(world):
    """The flow between two centred Gaussians is known: the noise times the second's deviation."""
    model, data = started(world, n_ode_steps=200)
    noise, condition = some(model, data)
    velocity = model.networks["velocity"]
    with torch.no_grad():
        velocity.out.weight.zero_()
        ends = model.synthesise(noise, condition)
    assert ends.numpy() == pytest.approx((noise * velocity.variance.sqrt()).numpy(), abs=2e-3)


def test_the_variance_is_that_within_classes(world):
    model, data = started(world)
    features, labels = world.dataset.split("trainval")
    scaled = (features - features.mean(0)) / features.std(0)
    centred = np.concatenate([scaled[labels == c] - scaled[labels == c].mean(0) for c in np.unique(labels)])
    assert within_variance(data).numpy() == pytest.approx(np.square(centred).mean(0), rel=1e-4)
    assert torch.equal(model.networks["velocity"].variance, within_variance(data))


def test_twice_the_steps_leave_a_quarter_of_the_error(world):
    """The midpoint rule is of second order; Euler's would leave a half."""
    ends = []
    for n_steps in (16, 32, 512):
        model, data = started(world, n_ode_steps=n_steps)
        with torch.no_grad():
            ends.append(model.synthesise(*some(model, data)))
    coarse, fine = (ends[0] - ends[2]).norm(), (ends[1] - ends[2]).norm()
    assert coarse / fine == pytest.approx(4, rel=0.25)


def test_guidance_goes_on_from_the_velocity_without_a_description(world):
    model, data = started(world, guidance=2.5, drop_rate=0.2)
    noise, condition = some(model, data)
    network, times, one = model.networks["velocity"], torch.full((6, 1), 0.3), torch.ones(6, 1)
    with torch.no_grad():
        told, untold = network(noise, times, condition, one), network(noise, times, condition, 0 * one)
        assert torch.equal(untold, network(noise, times, condition + 1, 0 * one))
        twin = untold + 2.5 * (told - untold)
        assert model.velocity(noise, 0.3, condition).numpy() == pytest.approx(twin.numpy(), abs=1e-5)


def test_a_share_of_the_descriptions_is_dropped(world, monkeypatch):
    model, data = started(world, drop_rate=0.25)
    given = []
    monkeypatch.setattr(
        model.networks["velocity"], "forward", lambda points, time, condition, one: given.append(one) or points
    )
    for step in range(100):
        model.terms(data.batches(Draws(0, step, data.device), 1, 32), Draws(0, step, data.device))
    assert torch.cat(given).mean().item() == pytest.approx(0.75, abs=0.03)


def test_clipped_ends_are_not_negative(world):
    model, data = started(world, output="relu", feature_scaling="minmax")
    with torch.no_grad():
        assert model.synthesise(*some(model, data)).min() == 0


def test_impossible_settings_are_refused():
    for wrong in ({"n_layers": 0}, {"n_ode_steps": 0}, {"drop_rate": 1.0}, {"guidance": 2.0}, {"output": "sigmoid"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            make_model("flow", **wrong)
