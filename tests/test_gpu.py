"""What a GPU does is what the CPU does, but for rounding: `make test-gpu`."""

import numpy as np
import pytest
import torch

import fgen
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.compute.device import matrix_precision
from fgen.compute.matmul import SideStream
from fgen.data.bank import FeatureBank
from fgen.data.files import save_dataset
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.experiment import generation
from fgen.experiment.directory import RunDirectory
from fgen.features import scaled_rows
from fgen.models.registry import MODELS, load_model, make_model
from fgen.nn import critic_gradients
from fgen.training.cuda_graph import CapturedSteps
from fgen.training.draws import StepInputs
from fgen.training.loop import TrainConfig, run_updates, stepper, train_step
from tests.conftest import TINY
from tests.training.test_draws import assert_equal, begun, weights

METHODS = sorted(MODELS)
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: make test-gpu")


@pytest.fixture(scope="module")
def odd_world():
    """Of a width that no GPU reads well, so that weights lie by columns."""
    return toy_world(n_seen=12, n_unseen=4, feature_dim=17, embedding_dim=5, rows_per_class=24, seed=3)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("width", ["world", "odd_world"])
def test_a_graph_does_what_its_step_does(name, width, request):
    world = request.getfixturevalue(width)
    (model, data, optimisers), (twin, _, others) = begun(name, world, "cuda"), begun(name, world, "cuda")
    captured, inputs = stepper(model, data, optimisers, 0), StepInputs(0, data.device)
    for step in range(6):
        terms = captured(step)
        assert_equal(terms, run_updates(twin, data, others, inputs.load(step)))
    assert_equal(weights(model), weights(twin))


@pytest.mark.parametrize("name", METHODS)
def test_a_graph_of_side_streams_does_what_its_step_does_in_turn(name, odd_world, monkeypatch):
    """In bfloat16, whose critics have side streams; the same products are rounded alike, whoever sums them up."""
    with matrix_precision("auto", torch.device("cuda")):
        (model, data, optimisers), (twin, _, others) = begun(name, odd_world, "cuda"), begun(name, odd_world, "cuda")
        captured, inputs = stepper(model, data, optimisers, 0), StepInputs(0, data.device)
        in_order = SideStream(torch.device("cpu"), torch.bfloat16)
        for step in range(4):
            terms = captured(step)
            with monkeypatch.context() as patch:
                patch.setattr(critic_gradients, "SideStream", lambda device, dtype, index=0: in_order)
                expected = run_updates(twin, data, others, inputs.load(step))
            for key, value in terms.items():
                torch.testing.assert_close(value, expected[key], rtol=1e-2, atol=1e-3)
    for key, value in weights(model).items():
        torch.testing.assert_close(value, weights(twin)[key], rtol=1e-2, atol=1e-3)


def test_other_constants_need_another_graph(world):
    (model, data, optimisers), (twin, _, others) = begun("clswgan", world, "cuda"), begun("clswgan", world, "cuda")
    captured, inputs = stepper(model, data, optimisers, 0), StepInputs(0, data.device)
    for step in range(6):
        for optimiser in (*optimisers.values(), *others.values()):
            optimiser.param_groups[0]["lr"] = 1e-4 * 2 ** (step // 2)
        captured(step)
        run_updates(twin, data, others, inputs.load(step))
    assert_equal(weights(model), weights(twin))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("width", ["world", "odd_world"])
def test_training_on_a_gpu_gives_the_same_bytes_again_and_after_a_stop(name, width, request, tmp_path, monkeypatch):
    data = request.getfixturevalue(width).dataset
    rows, labels = data.split("trainval")

    def fit(**settings):
        model = make_model(name, **TINY)
        config = TrainConfig(device="cuda", checkpoint_every=0)
        return model.fit(rows, labels, data.class_embeddings, seed=0, train_config=config, **settings)

    class Stop(Exception):
        pass

    call = CapturedSteps.__call__

    def stop_at_five(self, step, constants):
        if step == 5:
            raise Stop
        return call(self, step, constants)

    whole = fit()
    assert_equal(weights(whole), weights(fit()))
    path = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(CapturedSteps, "__call__", stop_at_five)
        with pytest.raises(Stop):
            fit(checkpoint=path)
    resumed = fit(checkpoint=path)
    assert_equal(weights(whole), weights(resumed))
    assert resumed.history == whole.history
    assert resumed.generate([13, 14], 5, seed=1)[0].tobytes() == whole.generate([13, 14], 5, seed=1)[0].tobytes()


@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_a_gpu_is_the_cpus_whatever_the_width(name, odd_world):
    """With the host's noise on both, in float32."""
    (here, data, optimisers), (there, others_data, others) = begun(name, odd_world), begun(name, odd_world, "cuda")
    assert not all(parameter.is_contiguous() for parameter in there.networks.parameters())
    for step in range(2):
        terms, expected = train_step(there, others_data, others, 0, step), train_step(here, data, optimisers, 0, step)
        for key, value in expected.items():
            torch.testing.assert_close(terms[key].cpu(), value, rtol=1e-3, atol=1e-3)
    for key, value in weights(here).items():
        torch.testing.assert_close(weights(there)[key], value, rtol=1e-2, atol=2e-3)


def test_weights_of_an_odd_width_lie_by_columns(odd_world):
    model, _, _ = begun("clswgan", odd_world, "cuda")
    critic = model.networks["critic"].hidden.weight
    assert critic.shape == (32, 22)
    assert critic.T.is_contiguous()
    assert model.networks["generator"].out.weight.is_contiguous()


def test_rows_that_stay_on_disk_are_streamed_to_a_gpu(world, monkeypatch):
    data = world.dataset
    rows, labels = data.split("trainval")
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    models = [
        make_model("clswgan", **TINY).fit(
            rows, labels, data.class_embeddings, seed=0, train_config=TrainConfig(device="cuda")
        )
        for _ in range(2)
    ]
    assert_equal(*map(weights, models))
    assert len(models[0].history) == TINY["epochs"]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_head_trained_on_a_gpu_is_the_one_trained_on_the_cpu(solver, monkeypatch):
    stream = np.random.default_rng(0)
    labels = np.arange(300) % 6
    features = (stream.normal(size=(6, 8))[labels] + stream.normal(size=(300, 8))).astype(np.float32)
    config = {"solver": solver, "epochs": 5, "l2": 1e-3, "logit_adjustment": 0.5}
    here, there = (SoftmaxClassifier(**config).fit(features, labels, device=name) for name in ("cpu", "cuda"))
    torch.testing.assert_close(there.weight, here.weight, rtol=1e-3, atol=1e-4)
    again = SoftmaxClassifier(**config).fit(features, labels, device="cuda")
    assert torch.equal(again.weight, there.weight)
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    streamed = SoftmaxClassifier(**config).fit(features, labels, device="cuda")
    torch.testing.assert_close(streamed.weight, there.weight, rtol=1e-3, atol=1e-4)
    features[17, 3] = np.nan
    with pytest.raises(InputError, match="row 17, column 3"):
        SoftmaxClassifier(**config).fit(features, labels, scaling_rows=features[:10], device="cuda")


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_run_and_a_bank_of_it(name, world, tmp_path):
    """The bank that is generated from the run's folder holds the rows that its heads were trained on."""
    save_dataset(world.dataset, tmp_path / "world.h5")
    config = {
        "dataset": {"path": str(tmp_path / "world.h5")},
        "model": {"name": name} | TINY,
        "bank": {"n_per_class": 20},
        "protocol": {"evaluations": 2},
        "train": {"device": "cuda"},
    }
    result = fgen.run(config, out=tmp_path / "run")
    assert load_model(RunDirectory.open(tmp_path / "run").seed(0).model, "cuda").device.type == "cuda"
    assert 0 < result.description["scores"]["T1"]["mean"] <= 1
    generation.generate_from_run(tmp_path / "run", out=tmp_path / "bank.h5", n_per_class=20)
    with (
        FeatureBank.open(RunDirectory.open(tmp_path / "run").seed(0).bank) as own,
        FeatureBank.open(tmp_path / "bank.h5") as bank,
    ):
        if own.space == bank.space:
            np.testing.assert_array_equal(own.to_numpy()[0], bank.to_numpy()[0])
        here = load_model(RunDirectory.open(tmp_path / "run").seed(0).model).generate([13], 20, seed=0)[0]
        if bank.space == "raw":
            np.testing.assert_allclose(bank[13], here, rtol=1e-3, atol=1e-3)


def test_a_long_training_gets_as_good_as_on_the_cpu(world, tmp_path):
    save_dataset(world.dataset, tmp_path / "world.h5")
    good = {"epochs": 60, "hidden_dim": 64, "noise_dim": 16, "lr": 1e-3, "gp_weight": 1.0, "cls_epochs": 10}
    config = {
        "dataset": {"path": str(tmp_path / "world.h5")},
        "model": {"name": "clswgan", "feature_scaling": "standard", "output": "linear"} | good,
        "bank": {"n_per_class": 100},
    }
    here, there = (fgen.run(config | {"train": {"device": name}}).description["scores"] for name in ("cpu", "cuda"))
    for score in ("T1", "H"):
        assert there[score]["mean"] == pytest.approx(here[score]["mean"], abs=0.1)
