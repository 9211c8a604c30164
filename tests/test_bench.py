"""The bench compares like with like: its textbook loops give what fgen gives, and its report can be read."""

import dataclasses
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench import (
    autograd,
    checkout_files,
    checkout_work,
    checkouts,
    larger_than_memory,
    report,
    textbook,
)
from experiments.bench.__main__ import main
from experiments.bench.head import emoji_task, fit, random_task, textbook_head
from experiments.bench.limit import products_of_step
from experiments.bench.published import all_twins
from experiments.bench.sizes import SIZES, random_world
from experiments.bench.timing import Comparison, alternate
from experiments.bench.training import begin, engine_loop
from fgen.classifiers.softmax import SoftmaxConfig
from fgen.compute.device import has_bf16
from fgen.features import scaled_rows
from fgen.models.registry import MODELS
from fgen.training import loop
from fgen.training.draws import Draws
from fgen.training.training_set import TrainingSet

ROOT = Path(__file__).parents[1]
TINY = SIZES["tiny"]
STEPS = 50
CRITIC_STEPS = 5


class DoubleDraws(Draws):
    """fgen's numbers in float64, so that two ways of adding up agree."""

    def normal(self, purpose, shape):
        return super().normal(purpose, shape).double()

    def uniform(self, purpose, shape):
        return super().uniform(purpose, shape).double()


class Replay:
    """The batches and random numbers that fgen's engine uses in a step, for the textbook loop."""

    def __init__(self, data, step, noise_dim):
        size = TINY.batch_size
        draws = DoubleDraws(0, step, data.device)
        self.batches = iter(data.batches(Draws(0, step, data.device), CRITIC_STEPS, size).split(size))
        noise = draws.normal("critic noise", (CRITIC_STEPS * size, noise_dim)).split(size)
        self.noises = iter([*noise, draws.normal("generator noise", (size, noise_dim))])
        self.alphas = iter([draws.uniform(f"mixing {index}", (size, 1)) for index in range(CRITIC_STEPS)])

    def batch(self):
        batch = next(self.batches)
        return batch.features, batch.condition, batch.labels

    def noise(self, n_rows):
        return next(self.noises)

    def alpha(self, n_rows):
        return next(self.alphas)


@pytest.fixture
def in_double(monkeypatch):
    """A method's small networks and data in float64."""
    monkeypatch.setattr(loop, "Draws", DoubleDraws)
    monkeypatch.setattr(autograd, "Draws", DoubleDraws)

    def build(name):
        world = random_world(TINY)
        model, _ = begin(name, TINY, world, torch.device("cpu"))
        model.networks.double()
        prepared = model.preprocessor(model.class_embeddings)
        data = TrainingSet(
            world.features, world.labels, prepared, model.scaler, torch.device("cpu"), dtype=torch.float64
        )
        model.compute_statistics(data, 0)
        return model, data

    return build


def by_the_textbook(model):
    """The textbook's networks with fgen's starting weights."""
    generator = textbook.Generator(TINY.noise_dim, TINY.embedding_dim, TINY.hidden_dim, TINY.feature_dim)
    critic = textbook.Critic(TINY.feature_dim, TINY.embedding_dim, TINY.hidden_dim)
    classifier = nn.Linear(TINY.feature_dim, TINY.n_seen)
    for network, role in ((generator, "generator"), (critic, "critic"), (classifier, "classifier")):
        network.double()
        with torch.no_grad():
            for parameter, given in zip(network.parameters(), model.networks[role].parameters(), strict=True):
                parameter.copy_(given)
    return textbook.CLSWGAN(generator, critic, classifier, lr=model.config.lr)


def test_the_engine_and_the_textbook_loop_train_the_same_networks(in_double):
    model, data = in_double("clswgan")
    slow_loop = by_the_textbook(model)
    optimisers = loop.make_optimisers(model)
    start = [p.detach().clone() for p in model.networks["generator"].parameters()]
    for step in range(STEPS):
        slow = slow_loop.step(Replay(data, step, TINY.noise_dim))
        fast = loop.train_step(model, data, optimisers, 0, step)
        for name, value in slow.items():
            assert float(fast[name]) == pytest.approx(float(value), rel=1e-7, abs=1e-12), (step, name)
    for network, role in ((slow_loop.generator, "generator"), (slow_loop.critic, "critic")):
        for slow, fast in zip(network.parameters(), model.networks[role].parameters(), strict=True):
            torch.testing.assert_close(fast, slow, rtol=1e-7, atol=1e-9)
    moved = [float((a - b).detach().abs().max()) for a, b in zip(start, slow_loop.generator.parameters(), strict=True)]
    assert min(moved) > 10 * 1e-4  # 50 steps of Adam: agreement of networks that stood still would mean little


@pytest.mark.parametrize("name", ["clswgan", "fvaegan"])
def test_a_method_by_autograd_trains_the_same_networks(name, in_double):
    (model, data), (plain, plain_data) = in_double(name), in_double(name)
    # Passes batch by batch would draw other noise than one for all batches.
    stacked = type(plain).stacked_fakes
    textbook, optimisers = autograd.AutogradLoop(plain, plain_data), loop.make_optimisers(model)
    assert not plain.stacked_fakes
    plain.stacked_fakes = stacked
    for step in range(10):
        slow, fast = textbook.step(0, step), loop.train_step(model, data, optimisers, 0, step)
        for term in fast:
            assert float(fast[term]) == pytest.approx(float(slow[term]), rel=1e-7, abs=1e-12), (step, term)
    for key, value in plain.networks.state_dict().items():
        torch.testing.assert_close(model.networks.state_dict()[key], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_method_takes_an_ordinary_step(name):
    model, data = begin(name, TINY, random_world(TINY), torch.device("cpu"))
    terms = autograd.AutogradLoop(model, data).step(0, 0)
    assert terms
    assert all(torch.isfinite(term) for term in terms.values())


def test_the_ordinary_form_uses_no_gradient_that_is_written_down(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a gradient was written down")

    monkeypatch.setattr("fgen.models.base.adversarial.critic_gradients", refuse)
    model, data = begin("clswgan", TINY, random_world(TINY), torch.device("cpu"))
    autograd.AutogradLoop(model, data).step(0, 0)
    with pytest.raises(AssertionError, match="written down"):
        loop.train_step(model, data, loop.make_optimisers(model), 0, 0)


def test_the_published_loops_give_fgens_values_and_gradients():
    twins = all_twins(n_classes=12, feature_dim=7, embedding_dim=5, hidden_dim=6, batch_size=16, dtype=torch.float64)
    for twin in twins:
        slow, fast = twin.published(), twin.fgen()
        torch.testing.assert_close(fast, slow, msg=twin.name)
        gradients = [torch.autograd.grad(term, twin.leaves) for term in (fast, slow)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs)
        assert all(gradient.abs().max() > 0 for gradient in gradients[0]), twin.name


@pytest.mark.parametrize("task", [random_task(TINY), emoji_task(2)], ids=["random", "emoji"])
def test_heads_are_judged_on_rows_that_tell_them_apart(task):
    torch.manual_seed(0)
    task = dataclasses.replace(task, n_per_class=64)  # the recipe's batch: tiny ones would take long
    scores = task.accuracy(textbook_head(task, torch.device("cpu"), epochs=4)(task.test))
    assert set(task.labels) == set(range(task.n_classes))
    assert set(task.test_labels) <= set(task.labels)
    chance = 1 / task.n_classes
    assert 2 * chance < scores["mean"] < 0.99
    assert scores["S"] > chance


def test_fgens_head_and_the_recipe_get_the_same_rows():
    task = random_task(TINY)
    ours = task.accuracy(fit(task, SoftmaxConfig(solver="adam", batch_size=task.n_per_class)).predict(task.test))
    torch.manual_seed(0)
    theirs = task.accuracy(textbook_head(task, torch.device("cpu"))(task.test))
    assert ours["mean"] == pytest.approx(theirs["mean"], abs=0.1)


def test_arms_take_turns_and_gains_are_paired():
    calls = []
    arms = {name: (lambda name=name: calls.append(name)) for name in "AB"}
    samples = alternate(arms, 3, device=torch.device("cpu"), warm=False)
    assert calls == list("ABABAB")
    assert {name: len(values) for name, values in samples.items()} == {"A": 3, "B": 3}
    row = Comparison("training", "x", "cpu", "s", {"A": [2.0, 9.0, 4.0], "B": [1.0, 3.0, 1.0]}, "A").to_json()
    assert row["gain"]["B"] == {"median": 3.0, "low": 2.0, "high": 4.0, "all": [2.0, 3.0, 4.0]}


def test_an_arm_is_never_called_outside_of_its_settings():
    """What it makes once, as a graph on a GPU, it makes under them too."""
    inside, calls = [], []

    @contextmanager
    def setting():
        inside.append(True)
        yield
        inside.pop()

    alternate({"A": lambda: calls.append(bool(inside))}, 2, device=torch.device("cpu"), settings={"A": setting})
    assert all(calls)


def test_a_tiny_bench_writes_json_a_table_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.bench.timing.SAMPLE", 0.001)
    threads = torch.get_num_threads()
    main(["--quick", "--only", "a,b,c", "--sizes", "tiny", "--threads", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "bench.json").read_text())
    parts = {"training", "methods", "losses", "head", "generation"}
    assert {row["part"] for row in result["rows"]} == parts
    assert {row["case"] for row in result["rows"] if row["part"] == "methods"} == set(MODELS)
    assert result["machine"]["threads"] == 1
    assert torch.get_num_threads() == threads
    for row in result["rows"]:
        for arm in row["arms"].values():
            assert 0 < arm["low"] <= arm["median"] <= arm["high"]
    (head,) = (row for row in result["rows"] if row["part"] == "head")
    assert set(head["facts"]["accuracy"]) == set(head["arms"])
    table, summary = (tmp_path / "table.md").read_text(), (tmp_path / "summary.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert np.all([line.count("|") == 6 for line in table.splitlines() if line.startswith("|")])
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    step, head = ([cell.strip() for cell in line.split("|")[1:-1]] for line in summary.splitlines()[2:])
    assert step[0] == "a training step, tiny"
    assert head[0] == "the final head, by L-BFGS, tiny"
    assert ["x (" in cell for cell in step[2:]] == [True, True, has_bf16(torch.device("cpu"))]
    assert ["x (" in cell for cell in head[2:]] == [True, True, False]


def test_the_least_that_a_step_can_cost_counts_its_products():
    size = SIZES["emoji"]
    counted = sum(2 * rows * inner * columns for rows, inner, columns, _ in products_of_step(size))
    step = engine_loop("clswgan", size, random_world(size), torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step()
    assert counted <= counter.get_total_flops() <= 1.02 * counted


@pytest.mark.parametrize("wrong", [["--only", "f"], ["--sizes", "CUBE"]])
def test_an_unknown_part_or_size_is_refused(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*wrong, "--out", str(tmp_path)])
    assert wrong[1] in capsys.readouterr().err


def test_the_committed_figures_are_those_of_the_committed_run():
    result = json.loads((ROOT / "experiments" / "bench" / "results.json").read_text())
    assert report.markdown(result) in (ROOT / "experiments" / "bench" / "results.md").read_text()
    assert report.summary(result) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("name", "said"), [("gpu", report.accelerator), ("intel", report.float32_alone)])
def test_the_committed_figures_of_other_machines_are_those_of_the_committed_runs(name, said):
    result = json.loads((ROOT / "experiments" / "bench" / f"results_{name}.json").read_text())
    results, readme = ((ROOT / path).read_text() for path in ("experiments/bench/results.md", "README.md"))
    assert report.markdown(result) in results
    assert said(result) in results
    assert said(result) in " ".join(readme.split())
    assert all(report._bars([row]) for row in result["rows"]), "a panel of the picture would be empty"


def test_the_committed_figures_of_a_large_file_are_those_of_the_committed_run():
    result = json.loads((ROOT / "experiments" / "bench" / "large.json").read_text())
    assert report.larger_than_memory(result) in (ROOT / "experiments" / "bench" / "results.md").read_text()
    said = f"{result['gigabytes']:.0f} GB of them, train at {result['speed_ratio']['median']:.2f} of the speed"
    assert said in " ".join((ROOT / "README.md").read_text().split())
    assert not result["held_in_memory"]


def test_training_and_a_head_on_a_file_are_measured(tmp_path, monkeypatch, capsys):
    """In miniature; what is larger than memory here is anything."""
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 20 << 20)
    sizes = {"gigabytes": 0.05, "steps": 1, "turns": 1, "hidden-dim": 8, "threads": 1, "in-memory-rows": 400}
    words = [f"--{key}={value}" for key, value in sizes.items()]
    monkeypatch.setattr(sys, "argv", ["bench-large", *words, "--out", str(tmp_path), "--folder", str(tmp_path)])
    before = torch.get_num_threads()
    larger_than_memory.main()
    torch.set_num_threads(before)
    result = json.loads((tmp_path / "large.json").read_text())
    assert not result["held_in_memory"]
    assert result["seconds"]["head"] > 0 < result["seconds_per_step"]["on_disk"]
    assert report.larger_than_memory(result) in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["large.json"]


@pytest.mark.slow
def test_two_checkouts_are_measured_in_turn_and_what_they_write_is_compared(capsys, tmp_path):
    words = ["--base", str(ROOT), "--quick", "--rounds", "1", "--only", "names,bytes"]
    assert checkouts.main([*words, "--json", str(tmp_path / "c.json")]) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    figures = {row["unit"]: row["arms"] for row in result["rows"]}
    for work in ("rows", "merge"):
        for n in (10, 20):
            assert all(arm["median"] > 0 for arm in figures[f"{work}, {n} classes, CPU s"].values())
    told = [checkout_files.told(found) for found in result["bytes"]]
    others = [line for line in told if not line.endswith(": equal bytes")]
    assert others == ["run/result.json: equal values, other bytes"]  # its times are others
    expected = {f"run/seeds/0/{file}" for file in ("bank.h5", "predictions.npz", "checkpoint/selection.safetensors")}
    assert {found["file"] for found in result["bytes"]} >= expected | {"models/clswgan/model.safetensors"}
    assert "names, merge, 20 classes, CPU s: base " in (printed := capsys.readouterr().out)
    assert "\n".join(told) in printed


def test_of_files_with_other_bytes_it_is_told_which_values_differ(tmp_path):
    for name, more in (("base", {"old": 1}), ("here", {"new": {"a": 1}})):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "a.npz", same=np.arange(3), other=np.zeros(2) if more == {"old": 1} else np.ones(2))
        (tmp_path / name / "b.json").write_text(json.dumps({"version": name, "same": {"x": [1]}} | more))
        save_file({"x": np.arange(3)}, tmp_path / name / "c.safetensors", metadata={"k": json.dumps({"by": name})})
    (tmp_path / "base" / "d.csv").write_text("1")
    found = checkout_files.compare_results(tmp_path / "base", tmp_path / "here")
    assert [checkout_files.told(one) for one in found] == [
        "a.npz: DIFFERS in other",
        "b.json: MISSING here: old; new here: new.a",
        "c.safetensors: DIFFERS in metadata.k.by",
        "d.csv: MISSING here: the file",
    ]


def test_what_an_object_keeps_alive_is_counted_once():
    rows, weights = np.zeros((10, 25), dtype=np.float32), torch.zeros(50, requires_grad=True)
    weights.sum().backward()
    closure = {"view of the rows": rows[:2], "function": lambda: rows, "tensor": torch.from_numpy(rows)}
    assert checkout_work.held_bytes([closure, weights, weights.detach()]) == 4 * (250 + 2 * 50)


@pytest.mark.parametrize("wrong", [["--only", "names,byte"], ["--rounds", "0"]])
def test_an_unknown_subject_or_no_round_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        checkouts.main(["--base", str(ROOT), *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_work_is_refused_that_would_measure_another_fgen(tmp_path):
    plan = checkout_work.Plan(str(tmp_path), threads=1)
    with pytest.raises(RuntimeError, match="names failed with fgen of"):
        checkouts.run_child(tmp_path, "names", tmp_path, plan)
