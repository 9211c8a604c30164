"""bfloat16 products: what they round, what they leave alone, and that results are as good with them."""

import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import fgen
from fgen.compute import device, matmul
from fgen.compute.device import matrix_precision, retain_freed_memory
from fgen.nn import losses
from fgen.nn.critic_gradients import critic_gradients
from fgen.nn.networks import Critic, Linear, initialise
from tests import arithmetic
from tests.conftest import TINY

CPU = torch.device("cpu")
TOY = Path(__file__).parents[2] / "experiments" / "fgen2026_clswgan_toy.toml"


def test_a_layer_multiplies_rounded_factors_and_keeps_everything_else_whole(bf16):
    torch.manual_seed(0)
    layer, rows = Linear(32, 8), torch.randn(16, 32, requires_grad=True)
    with matrix_precision("auto", CPU):
        outputs = layer(rows)
        outputs.square().sum().backward()
    expected = rows.bfloat16().float() @ layer.weight.bfloat16().float().T + layer.bias
    torch.testing.assert_close(outputs, expected, rtol=2**-7, atol=1e-2)
    assert not torch.equal(outputs, F.linear(rows, layer.weight, layer.bias))
    assert {tensor.dtype for tensor in (outputs, layer.weight.grad, rows.grad)} == {torch.float32}
    torch.testing.assert_close(layer.weight.grad, 2 * expected.T @ rows, rtol=0.1, atol=0.3)


def test_highest_and_float64_are_not_rounded(bf16):
    layer, rows = Linear(32, 8), torch.randn(16, 32)
    with matrix_precision("highest", CPU):
        assert torch.equal(layer(rows), F.linear(rows, layer.weight, layer.bias))
    with matrix_precision("auto", CPU):
        double = layer.double()
        assert torch.equal(double(rows.double()), F.linear(rows.double(), double.weight, double.bias))


def test_the_critics_gradients_in_bfloat16_point_where_float32_points(bf16):
    torch.manual_seed(0)
    critic = Critic(64, 8, 128)
    initialise(critic, 0, "critic")
    inputs = torch.rand(32, 64), torch.rand(32, 64), torch.rand(32, 8), torch.rand(32, 1)
    distance, penalty = losses.critic_terms(critic, *inputs)
    whole = torch.autograd.grad(distance + 10 * penalty, list(critic.parameters())[:3])
    for written_down in (True, False):
        critic.zero_grad()
        with matrix_precision("auto", CPU):
            if written_down:
                critic_gradients(critic, *inputs, 10.0)
            else:
                distance, penalty = losses.critic_terms(critic, *inputs)
                (distance + 10 * penalty).backward()
        for parameter, expected in zip(critic.parameters(), whole, strict=False):
            # A pre-activation next to zero may change its sign, and its slope with it.
            assert F.cosine_similarity(parameter.grad.flatten(), expected.flatten(), dim=0) > 0.99


@contextmanager
def trained_elsewhere(settings):
    """Another thread of the process is in the midst of a training step."""
    inside, over = threading.Event(), threading.Event()

    def step():
        with settings:
            inside.set()
            over.wait(60)

    thread = threading.Thread(target=step)
    thread.start()
    assert inside.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_what_is_predicted_and_generated_does_not_depend_on_a_training_in_another_thread(bf16, world):
    features, labels = world.dataset.split("trainval")
    settings = {"method": "tfvaegan", "model": TINY, "n_per_class": 5, "calibrate": False}  # with a space of its own
    fitted = fgen.ZeroShotClassifier(world.dataset.class_embeddings, **settings).fit(features, labels)

    def outcome():
        generated, _ = fitted.generator_.generate([13, 14], 9, seed=0)
        head = fgen.SoftmaxClassifier(solver="lbfgs").fit(features, labels)
        return [array.tobytes() for array in (fitted.decision_function(features), generated, head.weight.numpy())]

    alone = outcome()
    with trained_elsewhere(matrix_precision("auto", CPU)):
        assert outcome() == alone
    assert outcome() == alone


def test_a_training_does_not_depend_on_a_prediction_in_another_thread(bf16):
    layer, rows = Linear(32, 8), torch.randn(16, 32)
    with matrix_precision("auto", CPU):
        alone = layer(rows)
        with trained_elsewhere(matrix_precision("highest", CPU)):
            assert torch.equal(layer(rows), alone)
        assert torch.equal(layer(rows), alone)


def test_float32_is_kept_for_all_threads_where_a_user_has_set_torch_to_less(bf16):
    """Until the last of them is done: torch's own products would be rounded, on some processors."""
    torch.set_float32_matmul_precision("medium")
    try:
        with trained_elsewhere(matrix_precision("auto", CPU)):
            with matrix_precision("highest", CPU):
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_threads_that_ask_a_gpu_for_different_products_take_turns(monkeypatch):
    """TF32 is a setting of the process: who predicts waits for the step that is being launched."""
    monkeypatch.setattr(device, "has_bf16", lambda device: True)
    gpu, seen = torch.device("cuda"), []

    def predict():
        with matrix_precision("highest", gpu):
            seen.append(torch.get_float32_matmul_precision())

    with matrix_precision("auto", gpu):
        thread = threading.Thread(target=predict)
        thread.start()
        thread.join(0.05)
        assert seen == []
        assert torch.get_float32_matmul_precision() == "high", "which rounds nothing on a CPU"
    thread.join(60)
    assert seen == ["highest"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
def test_toy_scores_are_those_of_float32_within_the_seeds_spread(bf16):
    def scores(precision):
        sooner = ["model.epochs=15", "model.lr=0.002", "model.cls_epochs=5"]
        overrides = [f'train.precision="{precision}"', "protocol.seeds=[0,1,2]", "protocol.evaluations=1", *sooner]
        outcomes = fgen.run(fgen.ExperimentConfig.from_file(TOY, overrides)).outcomes
        return np.array([[outcome.scores.T1, outcome.scores.H] for outcome in outcomes])

    rounded, whole = scores("auto"), scores("highest")
    assert not np.array_equal(rounded, whole)
    spread = np.maximum(np.ptp(whole, axis=0), np.ptp(rounded, axis=0))
    assert (abs(rounded.mean(0) - whole.mean(0)) <= np.maximum(spread, 0.02)).all()
    assert (whole.mean(0) > 0.5).all()


def test_memory_is_given_back_after_training():
    def megabytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    before = megabytes()
    with retain_freed_memory():
        del (held := [torch.ones(4 << 20) for _ in range(16)])[:]
        kept = megabytes()
    assert held == []
    assert kept - before > 200
    assert megabytes() - before < 100


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "intel", "expected"),
    [(True, True, True, True), (False, True, True, False), (False, True, False, True), (False, False, False, False)],
)
def test_bfloat16_is_for_processors_that_are_faster_with_it(amx, avx512_bf16, intel, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(device, "_is_intel", lambda: intel)
    own_has_bf16 = arithmetic.OWN.get("has_bf16", device.has_bf16)
    assert own_has_bf16(torch.device("cpu")) is expected


def test_a_processor_that_is_slower_with_bfloat16_rounds_nothing_where_torch_is_set_to_medium(monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda device: False)
    torch.set_float32_matmul_precision("medium")
    try:
        assert matmul.matmul_dtype(torch.float32) == torch.float32
    finally:
        torch.set_float32_matmul_precision("highest")
