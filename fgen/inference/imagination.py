"""Pictures of classes that a run never saw: its generated features, decoded by what seen drawings teach."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from fgen import rng
from fgen.compute.device import available_device, cpu_threads
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class, evenly_spaced
from fgen.encoders.picture_decoder import DecoderConfig, decode, fit_decoder
from fgen.encoders.row_pictures import pictures_of_rows, small_pictures
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.generation import choose_classes, trained_seed
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model
from fgen.nn.decoder import PictureDecoder

#: Classes that are shown, and pictures of each kind that a class gets.
CLASSES, SHOWN = 12, 2
#: Generated rows of a class that are compared with its drawings, and classes of which they are at most.
SCORED_ROWS, SCORED_CLASSES = 10, 200
#: Share of the training drawings that are held out where the data set has no test drawings of seen classes.
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class ImaginedClass:
    """The pictures of a class, each array ``(n, 64, 64, 3)`` uint8.

    Attributes:
        name: of the class.
        is_seen: whether the run was trained on rows of it.
        real: some of its drawings; none where nobody has any.
        decoded: decoded from the features of these drawings, which is the best that the decoder can do.
        imagined: decoded from generated features.
        nearest: for each imagined picture, the training drawing whose features are nearest to the generated ones.
        nearest_names: the classes of those.
    """

    name: str
    is_seen: bool
    real: np.ndarray
    decoded: np.ndarray
    imagined: np.ndarray
    nearest: np.ndarray
    nearest_names: tuple[str, ...]


class PictureError(NamedTuple):
    """Root mean square difference of colour values from those of real drawings, as a share of their range.

    Attributes:
        decoded: of decoded pictures.
        mean_picture: of the mean of the training drawings, taken for every drawing.
        n: number of real drawings.
    """

    decoded: float
    mean_picture: float
    n: int


@dataclass(frozen=True, eq=False)
class Imagination:
    """What :func:`imagine` returns.

    Attributes:
        method: name of the generator.
        is_transductive: whether the generator was trained on unlabelled features of unseen classes.
        dataset: that the run was trained on.
        seed: of the run's model, the noise and the decoder.
        classes: those that are shown.
        chosen_from: number of classes that they were drawn from.
        n_drawings, n_classes: numbers of the drawings that the decoder was trained on, and of their classes.
        errors: by what was decoded. ``"held out"``: features of drawings of seen classes that the decoder wasn't
            trained on. ``"unseen"``: features of drawings of unseen classes. ``"imagined"``: generated features of
            unseen classes, each compared with all drawings of its class. ``"another class"``: the same, compared with
            the drawings of another unseen class, which shows what is due to the words. Those without drawings are left
            out.
    """

    method: str
    is_transductive: bool
    dataset: ZSLDataset
    seed: int
    classes: tuple[ImaginedClass, ...]
    chosen_from: int
    n_drawings: int
    n_classes: int
    errors: dict[str, PictureError]


class Drawings:
    """The drawings of a run's data set, and which of them a decoder may be trained on.

    Args:
        pictures: ``(N, 64, 64, 3)`` uint8, of the N rows of the data set.
        seed: names the rows to hold out where the data set has no test rows of seen classes.

    Attributes:
        trained: rows to train a decoder on: training rows of seen classes.
        held_out: other rows of seen classes: the test rows, or a share of the training rows.
    """

    def __init__(self, dataset: ZSLDataset, model: FeatureGenerator, pictures: np.ndarray, seed: int) -> None:
        self.dataset, self.model, self.pictures = dataset, model, pictures
        rows, test = dataset.splits["trainval"], dataset.splits["test_seen"]
        rows = rows[np.isin(dataset.labels[rows], dataset.seen)]  # shots are training rows of unseen classes
        if not len(test):
            test = rng.stream(seed, "held-out drawings").permutation(rows)[: int(HELD_OUT_SHARE * len(rows))]
        self.held_out, self.trained = np.sort(test), np.setdiff1d(rows, test)

    @cached_property
    def features(self) -> np.ndarray:
        """Return the scaled features ``(n, D)`` of the rows to train on."""
        return self.scaled(self.trained)

    @cached_property
    def mean_picture(self) -> np.ndarray:
        """Return the mean ``(64, 64, 3)`` of the pictures to train on."""
        return self.pictures[self.trained].mean(axis=0)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Return the features ``(n, D)`` of rows, scaled as the generator scales them."""
        return self.model.scaler.apply(self.dataset.rows(rows))

    def generated(self, label: int, n: int, seed: int) -> np.ndarray:
        """Return n generated features ``(n, D)`` of a class, scaled."""
        return self.model.scaler.apply(self.model.generate([label], n, seed=seed)[0])


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a decoder that was trained on drawings makes of real and of generated features."""

    drawings: Drawings
    decoder: PictureDecoder
    seed: int

    def of_class(self, label: int) -> ImaginedClass:
        """Return drawings of a class, imagined ones, and the training drawings that are nearest to those."""
        drawings, data = self.drawings, self.drawings.dataset
        generated = drawings.generated(label, SHOWN, self.seed)
        real = evenly_spaced(np.flatnonzero(data.labels == label), SHOWN)
        nearest = drawings.trained[cdist(generated, drawings.features).argmin(axis=1)]
        return ImaginedClass(
            name=data.name_of(label),
            is_seen=bool(np.isin(label, data.seen)),
            real=drawings.pictures[real],
            decoded=decode(self.decoder, drawings.scaled(real)),
            imagined=decode(self.decoder, generated),
            nearest=drawings.pictures[nearest],
            nearest_names=tuple(data.name_of(k) for k in data.labels[nearest]),
        )

    def errors(self) -> dict[str, PictureError]:
        """Return the errors of :class:`Imagination`."""
        drawings, labels = self.drawings, self.drawings.dataset.labels
        unseen, found = drawings.dataset.splits["test_unseen"], {}
        for name, rows in (("held out", drawings.held_out), ("unseen", unseen)):
            if len(rows):
                decoded = decode(self.decoder, drawings.scaled(rows))
                found[name] = self._error(zip(decoded[:, None], rows[:, None], strict=True))
        if not len(unseen):
            return found
        groups = by_class(unseen, labels)
        groups = groups[:: -(-len(groups) // SCORED_CLASSES)]
        generated = [drawings.generated(int(labels[rows[0]]), SCORED_ROWS, self.seed) for rows in groups]
        imagined = [decode(self.decoder, features) for features in generated]
        found["imagined"] = self._error(zip(imagined, groups, strict=True))
        if len(groups) > 1:
            found["another class"] = self._error(zip([*imagined[1:], imagined[0]], groups, strict=True))
        return found

    def _error(self, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> PictureError:
        """Return the error over parts: pictures ``(m, 64, 64, 3)``, and the rows ``(n,)`` to compare each with."""
        decoded, mean_picture, n = 0.0, 0.0, 0
        for pictures, rows in parts:
            real = self.drawings.pictures[rows].astype(np.float32)
            decoded += sum(_mean_squares(picture, real) for picture in pictures) / len(pictures)
            mean_picture += _mean_squares(self.drawings.mean_picture, real)
            n += len(rows)
        return PictureError(math.sqrt(decoded / n) / 255, math.sqrt(mean_picture / n) / 255, n)


def _mean_squares(picture: np.ndarray, real: np.ndarray) -> float:
    """Return the sum over drawings ``(n, H, W, 3)`` of the mean square of their differences from one picture."""
    return float(np.square(real - picture.astype(np.float32)).mean(axis=(1, 2, 3)).sum())


def imagine(
    run: str | Path,
    pictures: str | Path,
    *,
    classes: str | None = None,
    n_classes: int = CLASSES,
    seed: int | None = None,
    config: DecoderConfig | None = None,
    keep: Path | None = None,
    progress: bool = False,
) -> Imagination:
    """Train a decoder on the drawings of seen classes, and decode a run's generated features with it.

    No drawing of a test row or of an unseen class is trained on. Training is on the CPU.

    Args:
        run: run folder with a trained generator.
        pictures: see :func:`fgen.encoders.row_pictures.pictures_of_rows`.
        classes: see :func:`fgen.experiment.generation.generate_from_run`.
        n_classes: number of classes to show; of more, so many are drawn by ``seed``.
        seed: which of the run's models, the noise and the decoder's training; by default the run's first.
        config: of the decoder.
        keep: see :func:`fgen.encoders.image.encode_images`.
        progress: show bars.

    Raises:
        InputError: no trained generator, data that are gone, unknown classes, or pictures that the data set wasn't made
            from. MissingExtra: without ``fgen[image]``.
    """
    if n_classes < 1:
        raise InputError(f"the number of classes is {n_classes}", "at least 1")
    directory = RunDirectory.open(run)
    settings = ExperimentConfig.from_file(directory.config)
    seed = settings.protocol.seeds[0] if seed is None else seed
    folder = trained_seed(directory, settings, seed)
    dataset, model = folder.load_dataset(settings), load_model(folder.model, available_device(settings.train.device))
    wanted = choose_classes("unseen" if classes is None else classes, dataset)
    if not len(wanted):
        raise InputError(f"{dataset.name} has no {classes or 'unseen'} classes", "some to imagine")
    shown = np.sort(rng.stream(seed, "imagined classes").permutation(wanted)[:n_classes])
    paths = pictures_of_rows(dataset, pictures, keep=keep, progress=progress)
    drawings = Drawings(dataset, model, small_pictures(paths, progress=progress), seed)
    with cpu_threads(settings.train.threads):
        training = drawings.features, drawings.pictures[drawings.trained]
        decoded = Decoded(drawings, fit_decoder(*training, seed=seed, config=config, progress=progress), seed)
        return Imagination(
            method=settings.model.name,
            is_transductive=model.config.is_transductive,
            dataset=dataset,
            seed=seed,
            classes=tuple(decoded.of_class(label) for label in shown.tolist()),
            chosen_from=len(wanted),
            n_drawings=len(drawings.trained),
            n_classes=len(np.unique(dataset.labels[drawings.trained])),
            errors=decoded.errors(),
        )
