"""Write banks from a model."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgen.compute.device import retain_freed_memory, threads_in_use
from fgen.data.bank import FeatureBank
from fgen.data.bank_spec import BankSpec
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class
from fgen.models.base.generator import FeatureGenerator


def dataset_spec(dataset: ZSLDataset, counts: np.ndarray, *, real: np.ndarray | None = None) -> BankSpec:
    """Return the spec of a raw bank of a data set's classes.

    Args:
        counts: ``(C,)`` synthetic rows of each class.
        real: ``(n,)`` rows of the data set that the bank holds too.
    """
    real_counts = np.bincount(dataset.labels[[] if real is None else real], minlength=dataset.n_classes)
    return BankSpec(
        class_names=dataset.class_names,
        class_embeddings=dataset.class_embeddings,
        counts=counts + real_counts,
        real_counts=real_counts,
        is_seen=np.isin(np.arange(dataset.n_classes), dataset.seen),
        feature_dim=dataset.feature_dim,
        data_sha256=dataset.fingerprint,
    )


def write_bank(
    path: str | Path,
    model: FeatureGenerator,
    spec: BankSpec,
    *,
    real: ZSLDataset | None = None,
    rows: np.ndarray | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> None:
    """Generate a bank's features; a killed call goes on where it stopped.

    Args:
        spec: what the bank holds, in the raw space or in the model's own ``bank_space``.
        real: the data set that the real rows of the spec are of; its class ids are the bank's.
        rows: ``(n,)`` their numbers in it; None takes its training rows.

    Raises:
        InputError: the bank exists and ``overwrite`` is False.
    """
    counts, names = spec.counts - spec.real, spec.class_names

    def generated(wanted: np.ndarray) -> Iterator[np.ndarray]:
        return model.iter_generate(
            spec.class_embeddings[wanted],
            None if names is None else [names[k] for k in wanted],
            counts[wanted],
            seed=spec.seed,
            represented=spec.space != "raw",
        )

    with retain_freed_memory():
        real_rows = {} if real is None else real_parts(real, rows)
        fill_bank(path, spec, generated, real_rows, device=model.device, overwrite=overwrite, progress=progress)


def real_parts(dataset: ZSLDataset, rows: np.ndarray | None = None) -> dict[int, Callable[[], np.ndarray]]:
    """Return for each class a function that reads its rows among the given ones, by default the training rows."""
    kept = by_class(dataset.splits["trainval"] if rows is None else rows, dataset.labels)
    return {int(dataset.labels[own[0]]): partial(dataset.rows, own) for own in kept if len(own)}


def fill_bank(
    path: str | Path,
    spec: BankSpec,
    generated: Callable[[np.ndarray], Iterator[np.ndarray]],
    real_rows: Mapping[int, Callable[[], np.ndarray]],
    *,
    device: torch.device,
    overwrite: bool,
    progress: bool,
) -> None:
    """Write a bank; a killed call goes on where it stopped.

    Args:
        generated: the synthetic rows of the classes of some ids, in their order.
        real_rows: by class id, what reads the rows that come before.
        device: where they are generated.
    """
    threads: dict[str, Any] = threads_in_use()
    creation = FeatureBank.create(path, spec, **threads, overwrite=overwrite)
    with creation as writer, _background_writer(device) as submit:
        wanted = np.array([k for k in np.flatnonzero(spec.counts) if k not in writer.done], dtype=np.int64)
        total = int((spec.counts - spec.real)[wanted].sum())
        bar = tqdm(total=total, unit="feature", desc="generating", disable=not progress)
        for k, synthetic in zip(wanted, generated(wanted), strict=True):
            if k in real_rows:
                submit(partial(writer.write, k, real_rows[k]()))
            if len(synthetic):  # a class may have real rows alone
                submit(partial(writer.write, k, synthetic, start=int(spec.real[k])))
            bar.update(len(synthetic))
        bar.close()


@contextmanager
def _background_writer(device: torch.device) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield ``submit(job)``, which runs jobs in the order given.

    On a CPU, which making rows keeps busy, a job runs at once. For a model on a GPU it runs in one background thread,
    with at most one job pending. Do not modify what a submitted job uses. An exception in a job is raised by the next
    ``submit`` or on exit, and takes precedence over one of the caller's own.
    """
    if device.type == "cpu":
        yield lambda job: job()
        return
    pending: list[Future[None]] = []

    def finish() -> None:
        if pending:
            pending[0].result()
            pending.clear()

    def submit(job: Callable[[], None]) -> None:
        finish()
        pending.append(thread.submit(job))

    thread = ThreadPoolExecutor(max_workers=1)
    try:
        yield submit
        finish()
    except Exception:
        finish()
        raise
    finally:
        while pending and not pending[0].done():
            with suppress(KeyboardInterrupt):  # one is enough: the file mustn't be closed while it is written to
                wait(pending)
        thread.shutdown()
