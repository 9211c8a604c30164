"""Data sets from folders of pictures, one folder for each class."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fgen import rng
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class, first_share
from fgen.encoders.image import SUFFIXES, encode_images
from fgen.errors import InputError, did_you_mean
from fgen.features.checks import as_matrix, checked_names

#: Share of a seen class's pictures that are held out for the test, where there is a test.
TEST_SHARE = 0.2
log = logging.getLogger("fgen")


def pictures_of_classes(folder: str | Path) -> dict[str, list[Path]]:
    """Return the sorted pictures in each folder of a folder, by the folder's name, which is the class's.

    Other files are counted in a warning.

    Raises:
        InputError: no such folder, a folder without pictures, or a class with files but no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "a folder with a folder of pictures for each class")
    found: dict[str, list[Path]] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        entries = sorted(path for path in inner.iterdir() if not path.name.startswith("."))
        pictures = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
        if entries and not pictures:
            raise InputError(f"{inner} holds {entries[0].name!r} and no picture", f"one of {', '.join(SUFFIXES)}")
        if len(entries) > len(pictures):
            log.warning("%s: %d entries that are no pictures are passed over", inner, len(entries) - len(pictures))
        if pictures:
            found[unicodedata.normalize("NFC", inner.name)] = pictures
    if not found:
        raise InputError(f"{folder} has no folders with pictures", f"CLASS/NAME with one of {', '.join(SUFFIXES)}")
    return found


def dataset_of_pictures(
    folder: str | Path,
    class_names: Sequence[str],
    class_embeddings: np.ndarray | Mapping[str, np.ndarray],
    *,
    unseen: Sequence[str] = (),
    seed: int = 0,
    keep: Path | None = None,
    progress: bool = False,
) -> ZSLDataset:
    """Return a data set of a folder of pictures.

    Args:
        folder: holds a folder of pictures for each class that has some.
        class_names: C names; classes without a folder are unseen.
        class_embeddings: ``(C, A)``, or a dict of it by kind.
        unseen: classes whose pictures are all held out for the test. If there are any, a fifth of the pictures of each
            other class is held out too: at least one, but none of a single picture. Else all pictures are for training.
        seed: chooses the pictures to hold out.
        keep: see :func:`fgen.encoders.image.encode_images`.
        progress: show a bar.

    Raises:
        InputError: as :func:`pictures_of_classes`; a folder or an unseen class without embedding; a file that is no
            picture.
    """
    class_names = checked_names(class_names)  # before the pictures are encoded
    if not isinstance(class_embeddings, Mapping):
        class_embeddings = as_matrix("class_embeddings", class_embeddings)
    pictures, index = pictures_of_classes(folder), {name: k for k, name in enumerate(class_names)}
    index |= {unicodedata.normalize("NFC", name): k for name, k in index.items()}  # the form of names on some disks
    for what, names in (("the folder", pictures), ("the unseen class", unseen)):
        if strange := [name for name in names if name not in index]:
            remedy = did_you_mean(strange[0], class_names)
            raise InputError(f"{what} {strange[0]!r} isn't described", f"one of {len(class_names)} classes", remedy)
    labels = np.concatenate([np.full(len(found), index[name]) for name, found in pictures.items()])
    paths = [path for found in pictures.values() for path in found]
    splits = None
    if unseen:
        in_test = np.isin(labels, [index[name] for name in unseen])
        shuffled = rng.stream(seed, "pictures").permutation(np.flatnonzero(~in_test))
        kept = np.concatenate([first_share(rows, TEST_SHARE) for rows in by_class(shuffled, labels)])
        splits = {"trainval": np.setdiff1d(shuffled, kept), "test_seen": kept, "test_unseen": np.flatnonzero(in_test)}
    features = encode_images(paths, keep=keep, progress=progress)
    name = Path(folder).resolve().name
    return ZSLDataset(features, labels, class_embeddings, class_names=class_names, splits=splits, name=name, seed=seed)
