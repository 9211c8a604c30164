"""Features of picture files: read in threads, encoded in batches, gone on with after a kill."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from fgen.compute.device import choose_device
from fgen.encoders.base import ImageEncoder
from fgen.encoders.efficientnet import LITE0, efficientnet_encoder
from fgen.encoders.kept_features import KeptFeatures, picture_key
from fgen.encoders.pictures import open_picture
from fgen.errors import InputError, MissingExtra

log = logging.getLogger("fgen")
T = TypeVar("T")
R = TypeVar("R")


class BrokenPictures:
    """Files that are no pictures, with the reason of each.

    Args:
        skip: note them; by default the error of the first is raised.
    """

    def __init__(self, *, skip: bool) -> None:
        self._skip = skip
        self.reasons: dict[Path, str] = {}

    @contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """Note the InputError of a block that reads a file, where these are skipped."""
        try:
            yield
        except MissingExtra:
            raise
        except InputError as error:
            if not self._skip:
                raise
            self.reasons[path] = str(error)

    def warn(self) -> None:
        """Warn of the noted files, a line each."""
        if self.reasons:
            lines = "\n".join(f"  {reason}" for reason in self.reasons.values())
            log.warning("%d pictures can't be read and are skipped:\n%s", len(self.reasons), lines)


def encode_images(
    paths: Sequence[Path],
    *,
    encoder: ImageEncoder | None = None,
    keep: Path | None = None,
    progress: bool = False,
    skip_broken: bool = False,
    devices: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the features ``(N, D)`` float32 of picture files; the same files give the same bytes.

    Threads read pictures and calculate features, as many as torch has threads. A batch is calculated on one thread, so
    the bytes of a picture's features depend neither on the other pictures nor on the number of threads.

    Args:
        paths: N files.
        encoder: by default EfficientNet-Lite0.
        keep: file to store the features of finished pictures in, so that a killed call resumes. The caller removes it
            when the result is saved.
        progress: show a bar.
        skip_broken: give a file that is no picture a row of NaN, and list these files in a warning. By default the
            first is an error.
        devices: of torch, by default the encoder's. Each has a replica of the network; batches take turns. A GPU and a
            CPU give features that differ in the last bits.

    Raises:
        InputError: a file that is no picture; the message names it. MissingExtra: without ``fgen[image]``.
    """
    encoder = encoder or efficientnet_encoder(LITE0)
    features = np.full((len(paths), encoder.record.dim), np.nan, np.float32)
    broken, keys = BrokenPictures(skip=skip_broken), {}
    for row, path in enumerate(paths):
        with broken.noted(path):
            keys[row] = picture_key(path, encoder)
    first = {key: row for row, key in reversed(keys.items())}  # a file that is named twice is encoded once
    with KeptFeatures(keep) as kept:
        for key, row in first.items():
            features[row] = features[row] if (known := kept.get(key)) is None else known
        missing = {row: paths[row] for row in sorted(first.values()) if np.isnan(features[row, 0])}
        bar = tqdm(
            total=len(first), initial=len(first) - len(missing), unit="picture", desc="encoding", disable=not progress
        )
        with bar:
            for rows, found in _encoded_batches(encoder, missing, broken, devices):
                features[rows] = found
                for row, vector in zip(rows, found, strict=True):
                    kept.add(keys[row], vector)
                bar.update(len(rows))
    for row, key in keys.items():
        features[row] = features[first[key]]
    broken.warn()
    return features


def _encoded_batches(
    encoder: ImageEncoder, paths: Mapping[int, Path], broken: BrokenPictures, devices: Sequence[str] | None
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield rows and their features batch by batch, in the order of the rows; none of broken pictures."""

    def encode(turn: tuple[ImageEncoder, Sequence[int]]) -> tuple[list[int], np.ndarray]:
        replica, rows = turn
        inputs = {}
        for row in rows:
            with broken.noted(paths[row]):
                inputs[row] = replica.preprocess(open_picture(paths[row]))
        return list(inputs), replica.encode_inputs(list(inputs.values()))

    rows, size = list(paths), encoder.batch_size
    turns = zip(
        cycle(_replicas(encoder, devices)),
        (rows[start : start + size] for start in range(0, len(rows), size)),
        strict=False,
    )
    yield from map_in_threads(encode, turns, threads=torch.get_num_threads())


def _replicas(encoder: ImageEncoder, devices: Sequence[str] | None) -> list[ImageEncoder]:
    """Return the encoder on each device, itself on the first where it is there."""
    if devices is None:
        return [encoder]
    if not devices:
        raise InputError("devices is empty", "names of devices, such as 'cpu' or 'cuda:0'")
    found = [choose_device(name) for name in devices]
    return [encoder if not k and one == encoder.device else encoder.to(str(one)) for k, one in enumerate(found)]


def map_in_threads(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """Yield ``work(item)`` in the order of the items; threads are at most two items each ahead of the caller.

    An error in an item is raised in its turn. Where the caller stops, items that aren't begun are dropped.
    """
    waiting = deque[Future[R]]()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
