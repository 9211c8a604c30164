"""Write banks from a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class
from fgen.models.base.generator import FeatureGenerator


def write_bank(
    path: str | Path,
    model: FeatureGenerator,
    *,
    class_embeddings: np.ndarray,
    class_names: Sequence[str] | None,
    counts: np.ndarray,
    seen: np.ndarray,
    seed: int,
    config: dict[str, Any],
    data_sha256: str = "",
    dtype: str = "f4",
    space: str = "raw",
    real: ZSLDataset | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> None:
    """Generate ``counts[c]`` features of each class into a bank; a killed call goes on where it stopped.

    Args:
        class_embeddings: ``(C, A)`` raw, of every class of the bank.
        class_names: C names, or None.
        counts: ``(C,)`` synthetic rows of each class.
        seen: ``(C,)`` bool.
        space: ``"raw"``, or the model's own ``bank_space``.
        real: also store the real training rows of this data set, whose class ids are the bank's; raw banks only.

    Raises:
        InputError: the bank exists and ``overwrite`` is False.
    """
    counts = np.asarray(counts, dtype=np.int64)
    rows = np.zeros(0, dtype=np.int64) if real is None else real.splits["trainval"]
    of_class = (
        {} if real is None else {int(real.labels[own[0]]): own for own in by_class(rows, real.labels) if len(own)}
    )
    real_counts = np.array([len(of_class.get(k, ())) for k in range(len(counts))], dtype=np.int64)
    names = class_names if class_names is not None else [f"class {k}" for k in range(len(counts))]
    creation = FeatureBank.create(
        path,
        class_names=names,
        class_embeddings=class_embeddings,
        counts=counts + real_counts,
        real_counts=real_counts,
        feature_dim=model.scaler.dim if space == "raw" else model.bank_dim,
        space=space,
        seen=seen,
        seed=seed,
        config=config,
        data_sha256=data_sha256,
        dtype=dtype,
        **threads_in_use(),
        overwrite=overwrite,
    )
    with retain_freed_memory(), creation as writer, _background_writer(model.device) as behind:
        done = set(writer.done)
        wanted = np.array([k for k in np.flatnonzero(counts + real_counts) if k not in done], dtype=np.int64)
        generated = model.iter_generate(
            class_embeddings[wanted],
            None if class_names is None else [class_names[k] for k in wanted],
            counts[wanted],
            seed=seed,
            represented=space != "raw",
        )
        bar = tqdm(total=int(counts[wanted].sum()), unit="feature", desc="generating", disable=not progress)
        for k, synthetic in zip(wanted, generated, strict=True):
            if real_counts[k] and real is not None:
                behind(partial(writer.write, k, real.rows(of_class[k])))
            if len(synthetic):  # a class may have real rows alone
                behind(partial(writer.write, k, synthetic, start=int(real_counts[k])))
            bar.update(len(synthetic))
        bar.close()


@contextmanager
def _background_writer(device: torch.device) -> Iterator[Callable[[Callable[[], None]], None]]:
    """A function that takes jobs and does them in their order: at once, or beside a GPU in a thread, one behind.

    A CPU has its hands full with making rows. What a job was given has to be left as it is. A job's error comes with
    the next job or at the end, and goes before one that the caller meets meanwhile.
    """
    if device.type == "cpu":
        yield lambda job: job()
        return
    under_way: list[Future[None]] = []

    def finish() -> None:
        if under_way:
            under_way[0].result()
            under_way.clear()

    def take(job: Callable[[], None]) -> None:
        finish()
        under_way.append(thread.submit(job))

    thread = ThreadPoolExecutor(max_workers=1)
    try:
        yield take
        finish()
    except Exception:
        finish()
        raise
    finally:
        while under_way and not under_way[0].done():
            with suppress(KeyboardInterrupt):  # one is enough: the file mustn't be closed while it is written to
                wait(under_way)
        thread.shutdown()
