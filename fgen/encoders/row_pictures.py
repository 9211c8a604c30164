"""The pictures that the rows of a data set were made from."""

import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class, evenly_spaced
from fgen.encoders.efficientnet import LITE0
from fgen.encoders.image import ImageEncoder, encode_images, image_encoder
from fgen.encoders.picture_list import classified_pictures
from fgen.encoders.pictures import central_square, open_picture
from fgen.errors import InputError, did_you_mean
from fgen.nn.decoder import SIDE

#: Columns of the features of :data:`LITE0`, which is tried where a data set doesn't say what made its features.
LITE0_DIM = 1280
#: Number of pictures that are encoded to see whether they are in the order of the rows.
CHECKED = 8
#: Largest distance of a picture's features from its row, as a share of the row's length. Rows of ``emoji``, which are
#: stored in 8 bits, differ by up to 0.006; of two drawings of one thing, 99 of 100 pairs differ by more than 0.35.
TOLERANCE = 0.03
#: What is said where a data set's encoder can't be asked.
UNCHECKED = "The pictures of a class are taken in their order, which can't be checked: %s"
log = logging.getLogger("fgen")


def pictures_of_rows(
    dataset: ZSLDataset, source: str | Path, *, keep: Path | None = None, progress: bool = False
) -> list[Path]:
    """Return the N files of the pictures that the N rows of a data set were made from.

    The pictures of a class are first taken in their order, which is that of the rows where ``fgen features`` made them.
    A few are encoded to check it. If they are in another order, all are encoded, and a row gets the picture with its
    features.

    Args:
        source: a folder with a folder of pictures for each class, or a table of ``path,class``.
        keep: see :func:`fgen.encoders.image_features.encode_images`.
        progress: show a bar.

    Raises:
        InputError: a class that the data set doesn't have, another number of pictures than of rows, or a row that none
            of the pictures of its class was made into.
    """
    paths, encoder = _in_order(dataset, source), _encoder_of(dataset)
    if encoder is None:
        return paths
    sample = evenly_spaced(np.arange(len(paths)), CHECKED)
    found = encode_images([paths[row] for row in sample], encoder=encoder)
    if (_distances(found, dataset.rows(sample)) <= TOLERANCE).all():
        return paths
    of_class = [dataset.rows(np.flatnonzero(dataset.labels == label)) for label in dataset.labels[sample]]
    nearest = [_distances(one, rows).min() for one, rows in zip(found, of_class, strict=True)]
    if dataset.image_encoder is None and min(nearest) > TOLERANCE:
        log.warning(UNCHECKED, f"the features of {dataset.name} aren't of {encoder.record.name}")
        return paths
    log.info("The pictures of a class are in another order than the rows: all are encoded, to find each row's")
    return _by_features(dataset, paths, encode_images(paths, encoder=encoder, keep=keep, progress=progress))


def _encoder_of(dataset: ZSLDataset) -> ImageEncoder | None:
    """Return the encoder of a data set's features, which is guessed from their width where it isn't recorded."""
    record = dataset.image_encoder
    if record is None and dataset.feature_dim != LITE0_DIM:
        log.warning(UNCHECKED, f"{dataset.name} doesn't say which encoder its features are of")
        return None
    try:
        return image_encoder(LITE0 if record is None else record.name)
    except InputError as error:  # unknown here, or its weights are in a file or not installed
        log.warning(UNCHECKED, error)
        return None


def small_pictures(paths: Sequence[Path], *, progress: bool = False) -> np.ndarray:
    """Return the central squares of pictures, scaled to ``(N, 64, 64, 3)`` uint8.

    Raises:
        InputError: a file that is no picture. MissingExtra: without ``fgen[image]``.
    """
    pictures = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for row, path in enumerate(tqdm(paths, unit="picture", desc="reading pictures", disable=not progress)):
        pictures[row] = central_square(open_picture(path), SIDE)
    return pictures


def _in_order(dataset: ZSLDataset, source: str | Path) -> list[Path]:
    """Return a picture for each row: the first row of a class gets the first picture of its class, and so on."""
    pictures: dict[str, list[Path]] = {}
    found = classified_pictures(source)
    for name, path in zip(found.classes, found.paths, strict=True):
        pictures.setdefault(unicodedata.normalize("NFC", name), []).append(path)
    names = [unicodedata.normalize("NFC", dataset.name_of(k)) for k in range(dataset.n_classes)]
    if strange := [name for name in pictures if name not in names]:
        unknown = f"{source} has pictures of {strange[0]!r}, a class that {dataset.name} doesn't have"
        raise InputError(unknown, f"those of its {len(names)} classes", did_you_mean(strange[0], names))
    counts = np.bincount(dataset.labels, minlength=len(names))
    if odd := [k for k, name in enumerate(names) if len(pictures.get(name, ())) != counts[k]]:
        n_pictures, n_rows = len(pictures.get(names[odd[0]], ())), counts[odd[0]]
        differs = f"{source} has {n_pictures} pictures of {names[odd[0]]!r}, and {dataset.name} {n_rows} rows"
        more = f" ({len(odd)} classes differ so)" if len(odd) > 1 else ""
        raise InputError(differs + more, "the pictures that the rows were made from, one for each row")
    remaining = {k: iter(pictures.get(name, ())) for k, name in enumerate(names)}
    return [next(remaining[label]) for label in dataset.labels.tolist()]


def _by_features(dataset: ZSLDataset, paths: Sequence[Path], features: np.ndarray) -> list[Path]:
    """Return for each row the picture of its class whose features are nearest.

    Args:
        paths: of N pictures, which are of the classes of the N rows.
        features: ``(N, D)`` of the pictures.
    """
    ordered = list(paths)
    for rows in by_class(np.arange(len(paths)), dataset.labels):
        for row, wanted in zip(rows, dataset.rows(rows), strict=True):
            distances = _distances(features[rows], wanted)
            if distances.min() > TOLERANCE:
                name = dataset.name_of(dataset.labels[row])
                found = f"row {row} of {dataset.name} was made from none of the {len(rows)} pictures of {name!r}"
                expected = f"one whose features differ by at most {TOLERANCE:.0%}, not by {distances.min():.0%}"
                raise InputError(found, expected, "Give the pictures that the data set was made from")
            ordered[row] = paths[rows[distances.argmin()]]
    return ordered


def _distances(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the distances of features ``(n, D)`` or ``(D,)`` from rows ``(n, D)``, as shares of the rows' lengths."""
    lengths = np.maximum(np.linalg.norm(rows, axis=-1), np.finfo(np.float32).tiny)
    return np.linalg.norm(found - rows, axis=-1) / lengths
