"""Training loop of all methods: updates, history, checkpoints, signals, divergence.

It knows nothing of any method; a method gives it networks and terms.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from fgen.compute.device import MOST_THREADS, cpu_threads, matrix_precision, retain_freed_memory, rounds_products
from fgen.errors import InputError, Interrupted, TrainingDiverged
from fgen.training.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from fgen.training.cuda_graph import CapturedSteps
from fgen.training.draws import Draws
from fgen.training.hooks import EpochHook, OnEpoch
from fgen.training.training_set import TrainingSet
from fgen.training.update import Terms, Trainable

log = logging.getLogger("fgen")

#: The first step whose time is that of all that follow.
TIMED_STEP = 3
#: A training of more seconds is announced.
WORTH_TELLING = 10
#: Steps between two checks of the terms for NaN and explosion, besides those at each epoch's end; an accelerator, on
#: which a check would wait for the step, has only the latter.
CHECK_EVERY = 20
EXPLODED = 1e7
#: Prepared class embeddings beyond this are what makes a training explode.
LARGE_EMBEDDING = 100
Optimisers = dict[str, torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the first steps of a training tell of it.

    Attributes:
        steps: that it takes, counted from where it was resumed.
        step_seconds: of a step.
        n_bytes: memory of networks, gradients and optimisers.
        preparation: seconds of scalings and statistics, which came before the first step.
        pretraining: seconds of the networks that were trained before the first step.
    """

    steps: int
    step_seconds: float
    n_bytes: int
    preparation: float = 0.0
    pretraining: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the whole training, with what came before its first step."""
        return self.preparation + self.pretraining + self.steps * self.step_seconds


OnPace = Callable[[Pace], None]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Device, threads, precision and checkpoints of training; of results they change rounding and a GPU's noise.

    Attributes:
        device: ``"auto"`` takes the accelerator if there is one, for a run's banks too. Its noise is its own in
            training, so that the same seed trains other weights there; where rows are streamed from disk it is the
            CPU's.
        threads: CPU threads, also of heads and banks, and of what is predicted; None leaves torch's choice, one for
            each core. On cores that have other work 1 is faster, see :func:`fgen.compute.device.crowded`.
        precision: of matrix products in training: ``"highest"`` is float32; ``"auto"`` takes bfloat16 products (on a
            GPU TF32 too) where the hardware is faster with them. So for the heads of a run, but a GPU's are float32.
        checkpoint_every: seconds between checkpoints; 0 writes one after every step.
    """

    device: str = "auto"
    threads: int | None = None
    precision: Literal["auto", "highest"] = "auto"
    checkpoint_every: float = 60.0

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise InputError(f"threads is {self.threads}", f"a whole number from 1 to {MOST_THREADS:,}")
        if not self.checkpoint_every >= 0:
            raise InputError(f"checkpoint_every is {self.checkpoint_every}", "seconds, at least 0")


def train(
    model: Trainable,
    data: TrainingSet,
    *,
    seed: int,
    config: TrainConfig,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_pace: OnPace | None = None,
    progress: bool | str = False,
) -> list[dict[str, float]]:
    """Train the model's networks in place.

    Args:
        on_epoch: see :class:`fgen.training.hooks.EpochHook`; its phase is "training".
        on_pace: called once, after the third step, or the last of fewer; None logs how long all take, if that is long.
        progress: show a bar; a text is what it says before it.

    Returns:
        One row for each epoch: ``epoch``, the mean of every term, and what ``on_epoch`` returned.

    Raises:
        TrainingDiverged: a term became NaN or exploded; the message names it.
        Interrupted: SIGINT, SIGTERM or SIGHUP, where there is a checkpoint; the step was finished and it was written.
    """
    hook, n_steps = EpochHook(on_epoch, "training"), model.config.n_steps(len(data))
    per_epoch = model.steps_per_epoch
    state = TrainingState(model.networks, make_optimisers(model))
    if checkpoint is not None and checkpoint.exists():
        read_checkpoint(checkpoint, state)
        if state.step > n_steps:
            raise InputError(
                f"{checkpoint} is at step {state.step:,}", f"at most {n_steps:,}, the end of this training", "Remove it"
            )
    step = timed(stepper(model, data, state.optimisers, seed), n_steps - state.step, training_bytes(model), on_pace)
    last_written, title = time.monotonic(), progress if isinstance(progress, str) else "training"
    with (
        cpu_threads(config.threads),
        retain_freed_memory(),
        stop_signals(caught=checkpoint is not None) as stopped,
        tqdm(total=n_steps, initial=state.step, unit="step", desc=title, disable=not progress) as bar,
    ):
        while state.step < n_steps:
            for role, optimiser in state.optimisers.items():
                for group in optimiser.param_groups:
                    group["lr"] = model.learning_rate(role, state.step // per_epoch)
            with matrix_precision(config.precision, data.device):
                terms = step(state.step)
            state.add(terms)
            bar.update()
            end_of_epoch = state.step % per_epoch == 0 or state.step == n_steps
            if end_of_epoch or (state.step % CHECK_EVERY == 0 and data.device.type == "cpu"):
                _refuse_divergence(state, terms, model.config.lr, data.embeddings)
            if end_of_epoch:
                row = state.close_epoch(math.ceil(state.step / per_epoch))
                bar.set_postfix({name: f"{value:.3g}" for name, value in list(row.items())[1:4]})
                row |= hook.results(int(row["epoch"]), row)
            due = time.monotonic() - last_written >= config.checkpoint_every
            if checkpoint is not None and (due or stopped or state.step == n_steps):
                write_checkpoint(checkpoint, state)
                last_written = time.monotonic()
            if stopped:
                raise Interrupted(stopped[0], state.step)
    return state.history


def stepper(model: Trainable, data: TrainingSet, optimisers: Optimisers, seed: int) -> Callable[[int], Terms]:
    """Return the function that takes the step of a number: a CUDA graph if possible, else :func:`train_step`."""
    if data.device.type != "cuda" or not data.in_memory:
        return partial(train_step, model, data, optimisers, seed)
    captured = CapturedSteps(partial(run_updates, model, data, optimisers), model.networks, seed, data.device)

    def step(number: int) -> Terms:
        rates = [group["lr"] for optimiser in optimisers.values() for group in optimiser.param_groups]
        return captured(number, (rounds_products(), *rates, *model.graph_constants(number // model.steps_per_epoch)))

    return step


def train_step(model: Trainable, data: TrainingSet, optimisers: Optimisers, seed: int, step: int) -> Terms:
    """Take one step: apply the method's updates by their networks' optimisers, and return all terms, detached."""
    return run_updates(model, data, optimisers, Draws(seed, step, data.device))


def run_updates(model: Trainable, data: TrainingSet, optimisers: Optimisers, draws: Draws) -> Terms:
    """Take one step as :func:`train_step` does, on existing draws."""
    terms: Terms = {}
    for update in model.updates(data, draws):
        for role, network in model.networks.items():
            network.requires_grad_(role in update.roles)
        if not update.writes_gradients:
            for role in update.roles:
                optimisers[role].zero_grad(set_to_none=True)
        own = update.terms()
        if graph := [term for term in own.values() if term.requires_grad]:
            torch.stack(graph).sum().backward()
        terms |= {name: term.detach() for name, term in own.items()}
        for role in update.roles:
            optimisers[role].step()
    return terms


def timed(
    step: Callable[[int], Terms], n_steps: int, n_bytes: int, on_pace: OnPace | None = None
) -> Callable[[int], Terms]:
    """Return ``step``, whose third call, or the last of fewer, tells how long all take.

    The first call allocates memory, and on a GPU the second records a graph; the third is what is repeated.

    Args:
        n_steps: calls of the training.
        n_bytes: memory of networks, gradients and optimisers.
        on_pace: what is told; None is :func:`tell`.
    """
    numbers, told, on_pace = count(1), min(TIMED_STEP, n_steps), on_pace or tell

    def timed_step(number: int) -> Terms:
        if (call := next(numbers)) > told:
            return step(number)
        start = time.perf_counter()
        terms = step(number)
        for term in terms.values():
            term.item()  # a GPU's step has then ended
        seconds = time.perf_counter() - start
        if call == told:
            on_pace(Pace(steps=n_steps, step_seconds=seconds, n_bytes=n_bytes))
        return terms

    return timed_step


def tell(pace: Pace) -> None:
    """Log how long a training takes and how much memory, if that is long."""
    if pace.seconds > WORTH_TELLING:
        tell_length(f"{pace.steps:,} training steps take", pace.seconds, pace)


def tell_length(what: str, seconds: float, pace: Pace) -> None:
    """Log how long something takes, with the memory of a training, beside progress bars."""
    included = ", pre-training included" if pace.pretraining >= 1 else ""
    with tqdm.external_write_mode():
        log.info(
            "%s about %s%s; networks, gradients and optimisers %.1f GB of memory",
            what,
            length(seconds),
            included,
            pace.n_bytes / 1e9,
        )


def length(seconds: float) -> str:
    """Return a time in minutes or seconds, in words."""
    return f"{seconds / 60:,.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"


def training_bytes(model: Trainable) -> int:
    """Return the bytes of the networks, their gradients and Adam's two moments."""
    sizes = {role: sum(p.nbytes for p in network.parameters()) for role, network in model.networks.items()}
    return sum(size * (4 if role in model.trained else 1) for role, size in sizes.items())


def make_optimisers(model: Trainable) -> Optimisers:
    """Return an optimiser for each role that the method trains."""
    return {role: model.optimiser(role) for role in model.trained}


def _refuse_divergence(state: TrainingState, terms: Mapping[str, Tensor], lr: float, embeddings: Tensor) -> None:
    for name, term in terms.items():
        value = float(term)
        if not math.isfinite(value) or abs(value) > EXPLODED:
            remedy = f"Lower model.lr (now {lr:g}), or look for outliers in the features"
            if (largest := float(embeddings.abs().max())) > LARGE_EMBEDDING:
                remedy = f"Class embeddings of up to {largest:.3g} are too large: set embedding_norm = 'l2', or give "
                remedy += "make_model embedding=EmbeddingConfig(norm='l2') of fgen.features.class_embeddings"
            raise TrainingDiverged(
                f"the term {name!r} is {value:.3g} at step {state.step:,}",
                f"a finite number below {EXPLODED:.0g}",
                remedy,
            )


@contextmanager
def stop_signals(*, caught: bool) -> Iterator[list[int]]:
    """Yield a list that a SIGINT, SIGTERM or SIGHUP is added to, so that a step can finish before the program stops.

    A second signal interrupts at once. SIGHUP, which a closed terminal sends, stays ignored where the program was
    started so, as by ``nohup``. Outside the main thread signals can't be caught and nothing changes.
    """
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    heard = [signal.SIGINT, signal.SIGTERM] if caught and in_main else []
    if heard and hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
