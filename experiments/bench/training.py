"""(a) Training steps: fgen's engine against the textbook loop, every method against its own, every term against loops.

A step is five critic updates and one of the generator, at batch 64.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from experiments.bench import textbook
from experiments.bench.autograd import AutogradLoop
from experiments.bench.limit import bare_step, bytes_of_step, copy_of
from experiments.bench.machine import step_settings
from experiments.bench.published import all_twins
from experiments.bench.sizes import Size, World, random_world
from experiments.bench.timing import Comparison, alternate
from fgen.compute.device import has_bf16, matrix_precision
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import MODELS, make_model
from fgen.training.loop import TrainConfig, make_optimisers, stepper
from fgen.training.training_set import TrainingSet

TEXTBOOK, EQUAL, AUTO = "textbook", "fgen, equal precision", "fgen, auto"
TEXTBOOK_AUTO = "textbook, auto"
LIMIT, LIMIT_AUTO = "products and Adam alone, equal precision", "products and Adam alone, auto"
TRAFFIC = "their memory traffic alone"
LOOPS, FGEN = "published loops", "fgen"


def measure_steps(sizes: Sequence[Size], rounds: int, device: torch.device) -> Iterator[Comparison]:
    """f-CLSWGAN at each size, in float32 and at ``auto``, between the textbook loop and the least a step can cost."""
    for size in sizes:
        world = random_world(size)
        loop = textbook_loop(size, world, device)
        arms: dict[str, Callable[[], object]] = {
            TEXTBOOK: loop,
            EQUAL: engine_loop("clswgan", size, world, device),
            LIMIT: bare_step(size, device),
            AUTO: engine_loop("clswgan", size, world, device),
        }
        if has_bf16(device):
            arms |= {LIMIT_AUTO: bare_step(size, device), TEXTBOOK_AUTO: loop}
        facts = {"feature_dim": size.feature_dim, "embedding_dim": size.embedding_dim, "hidden_dim": size.hidden_dim}
        if device.type == "cuda":
            arms[TRAFFIC] = copy_of(bytes_of_step(size), device)
            facts["bytes"] = bytes_of_step(size)
        samples = alternate(arms, rounds, device=device, settings=settings(device))
        yield Comparison("training", size.name, device.type, "s/step", samples, TEXTBOOK, facts)


def measure_training(size: Size, epochs: int, rounds: int, device: torch.device) -> Iterator[Comparison]:
    """f-CLSWGAN's whole training, from raw features to generator; its classifier's is part of it."""
    world, times = random_world(size), []
    for _ in range(rounds):
        model = make_model("clswgan", **size.networks(), epochs=epochs)
        start = time.perf_counter()
        model.fit(
            world.features,
            world.labels,
            world.embeddings,
            seed=0,
            train_config=TrainConfig(device=device.type),
        )
        times.append(time.perf_counter() - start)
    facts = {"epochs": epochs, "steps": model.config.n_steps(len(world.features))}
    yield Comparison("epochs", f"{size.name}, {epochs} epochs", device.type, "s", {AUTO: times}, AUTO, facts)


def measure_methods(size: Size, rounds: int, device: torch.device) -> Iterator[Comparison]:
    """Every method in MODELS against its own formulas by autograd and torch's default Adam."""
    world = random_world(size)
    for name in MODELS:
        model, data = begin(name, size, world, device)
        plain = AutogradLoop(model, data)
        arms = {
            TEXTBOOK: _counting(lambda step, loop=plain: loop.step(0, step)),
            EQUAL: engine_loop(name, size, world, device),
        }
        if has_bf16(device):
            arms[AUTO] = engine_loop(name, size, world, device)
        samples = alternate(arms, rounds, device=device, settings=settings(device))
        yield Comparison("methods", name, device.type, "s/step", samples, TEXTBOOK)


def measure_losses(sizes: Sequence[Size], rounds: int, device: torch.device) -> Iterator[Comparison]:
    """Value and gradients of the terms that published code computes in loops over classes."""
    for size in sizes:
        twins = all_twins(
            n_classes=size.n_seen,
            feature_dim=size.feature_dim,
            embedding_dim=size.embedding_dim,
            hidden_dim=size.hidden_dim // 2,
            batch_size=size.batch_size,
            device=device,
        )
        for twin in twins:
            arms = {LOOPS: _with_gradients(twin.published, twin.leaves), FGEN: _with_gradients(twin.fgen, twin.leaves)}
            samples = alternate(arms, rounds, device=device, settings=settings(device))
            yield Comparison("losses", f"{twin.name}, {size.name}", device.type, "s", samples, LOOPS)


def engine_loop(name: str, size: Size, world: World, device: torch.device) -> Callable[[], None]:
    """fgen's own steps of a method, one for each call."""
    model, data = begin(name, size, world, device)
    return _counting(stepper(model, data, make_optimisers(model), 0))


def begin(name: str, size: Size, world: World, device: torch.device) -> tuple[FeatureGenerator, TrainingSet]:
    """A method with the size's networks, initialised; what it would pre-train stays as it starts."""
    model = make_model(name, **size.networks())
    unlabelled = None
    if model.config.is_transductive:
        unlabelled = world.draw(np.arange(size.n_seen, len(world.means)), 20, "unlabelled")
    data = model.begin(
        world.features, world.labels, world.embeddings, seed=0, device=device.type, unlabelled=unlabelled
    )
    model.initialise(0)
    return model, data


def textbook_loop(size: Size, world: World, device: torch.device) -> Callable[[], object]:
    """The textbook's steps, one for each call; its data are on the device from the start."""
    features = torch.from_numpy(world.features)
    features = textbook.scale_minmax(features, features).to(device)
    labels, attributes = torch.from_numpy(world.labels).to(device), torch.from_numpy(world.embeddings).to(device)
    networks: list[nn.Module] = [
        textbook.Generator(size.noise_dim, size.embedding_dim, size.hidden_dim, size.feature_dim),
        textbook.Critic(size.feature_dim, size.embedding_dim, size.hidden_dim),
        nn.Linear(size.feature_dim, size.n_seen),
    ]
    for network in networks:
        textbook.initialise(network.to(device))
    loop = textbook.CLSWGAN(*networks)  # type: ignore[arg-type]
    source = textbook.RandomSource(features, labels, attributes, noise_dim=size.noise_dim, batch_size=size.batch_size)
    return lambda: loop.step(source)


def settings(device: torch.device) -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """What each arm runs under: fgen's as :func:`fgen.training.loop.train` sets it up, the textbook's as torch is."""
    exact = partial(step_settings, "highest", device)
    auto = partial(step_settings, "auto", device)
    return {
        TEXTBOOK: partial(matrix_precision, "highest", device),
        LOOPS: partial(matrix_precision, "highest", device),
        FGEN: exact,
        TEXTBOOK_AUTO: _rounded_by_torch,
        EQUAL: exact,
        LIMIT: exact,
        AUTO: auto,
        LIMIT_AUTO: auto,
    }


@contextmanager
def _rounded_by_torch() -> Iterator[None]:
    """Torch's own products in bfloat16 or TF32, as a user of torch has them: by the setting of the process."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _counting(work: Callable[[int], object]) -> Callable[[], None]:
    step = 0

    def run() -> None:
        nonlocal step
        work(step)
        step += 1

    return run


def _with_gradients(term: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(term(), leaves)
