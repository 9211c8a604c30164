"""A recorded step on new numbers is the step of that number, and nothing in a step waits for the device."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fgen.models.registry import MODELS, make_model
from fgen.training.draws import Draws, StepInputs
from fgen.training.loop import make_optimisers, run_updates, train_step
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

METHODS = sorted(MODELS)
CPU = torch.device("cpu")


def begun(name, world, device="cpu", **overrides):
    data = world.dataset
    model = make_model(name, **(TINY | overrides))
    rows, labels = data.split("trainval")
    unlabelled = data.rows(data.splits["test_unseen"]) if model.config.is_transductive else None
    training = model.begin(rows, labels, data.class_embeddings, seed=0, device=device, unlabelled=unlabelled)
    model.initialise(0)
    return model, training, make_optimisers(model)


def weights(model):
    return {key: value.cpu() for key, value in model.networks.state_dict().items()}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@pytest.mark.parametrize("name", METHODS)
def test_recorded_numbers_are_made_anew_for_another_step(name, world):
    """What the first step asks for, in its order, is what every later one would have asked for."""
    (model, data, optimisers), (twin, _, others) = begun(name, world), begun(name, world)
    inputs = StepInputs(0, CPU)
    for step in (0, 1, 2, 7):
        terms = run_updates(model, data, optimisers, inputs.load(step))
        assert_equal(terms, train_step(twin, data, others, 0, step))
    assert_equal(weights(model), weights(twin))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_takes_nothing_from_its_epoch_but_its_constants(name, world):
    """Or a recorded step, repeated in a later epoch, would still be the first epoch's."""
    inputs, terms = StepInputs(0, CPU), {}
    for epoch in (0, 40, 100, 1000):
        model, data, optimisers = begun(name, world)
        step = epoch * model.steps_per_epoch
        terms[epoch] = run_updates(model, data, optimisers, replace(inputs.load(0), step=step))
    for epoch, late in terms.items():
        if model.graph_constants(epoch) == model.graph_constants(0):
            assert_equal(late, terms[0])
        else:
            assert late.keys() != terms[0].keys() or any(late[key] != terms[0][key] for key in late)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_draws_once_for_each_purpose(name, world, monkeypatch):
    """On the CPU a purpose's numbers are always the same, on a GPU they are the next ones."""
    model, data, optimisers = begun(name, world)
    asked, stream = [], Draws.stream

    def noted(self, purpose, step=None):
        asked.append((self.within, purpose, self.step if step is None else step))
        return stream(self, purpose, step)

    monkeypatch.setattr(Draws, "stream", noted)
    train_step(model, data, optimisers, 0, 3)
    assert len(set(asked)) == len(asked), asked


class Waiting(TorchDispatchMode):
    """Refuses what would ask the device for a number, whose shape depends on one, or that is drawn behind the back."""

    asking = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "is_nonzero")
    asking += ("repeat_interleave", "equal", "allclose")
    drawing = ("rand", "randn", "randint", "randperm", "normal_", "uniform_", "random_", "bernoulli", "native_dropout")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.asking, f"{function} waits for the device"
        assert name not in self.drawing, f"{function} draws numbers that are not the seed's"
        if name.startswith("index"):
            indices = args[1] if isinstance(args[1], list | tuple) else []
            assert not any(i is not None and i.dtype == torch.bool for i in indices), f"{function} counts a mask"
        return function(*args, **(kwargs or {}))


def refused(*arguments, **settings):
    raise AssertionError("a number goes between host and device")


@pytest.mark.parametrize("name", METHODS)
def test_no_step_waits_for_the_device(name, world, monkeypatch):
    terms = ("class_mean", "moment", "mmd", "coral", "soul", "soul_mean", "pivot", "contrastive", "cycle")
    model, data, optimisers = begun(name, world, **{f"{term}_weight": 1.0 for term in terms})
    optimisers = {role: _Still() for role in optimisers}  # torch's own, which reads its steps on the CPU
    inputs = StepInputs(0, CPU)
    run_updates(model, data, optimisers, inputs.load(0))
    draws = inputs.load(1)
    for method in ("tolist", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, method, refused)
    for function in ("tensor", "from_numpy"):
        monkeypatch.setattr(torch, function, refused)
    with Waiting():
        run_updates(model, data, optimisers, draws)


@pytest.mark.parametrize("name", METHODS)
def test_a_training_that_is_over_lets_go_of_its_data(name, world):
    """Without waiting for Python's collector: on a GPU there may be no room for the next training's."""
    model, data, optimisers = begun(name, world)
    inputs = StepInputs(0, CPU)
    run_updates(model, data, optimisers, inputs.load(0))
    rows = weakref.ref(data._rows)
    gc.disable()
    try:
        del model, data, optimisers, inputs
        assert rows() is None
    finally:
        gc.enable()


class _Still:
    def step(self):
        pass

    def zero_grad(self, set_to_none=True):
        pass
