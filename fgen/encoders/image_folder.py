"""Data sets from pictures: of a folder with a folder for each class, or of a table of paths and classes."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fgen import rng
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import Splits, by_class, first_share
from fgen.encoders.efficientnet import LITE0
from fgen.encoders.image import ImageEncoder, encode_images, image_encoder
from fgen.encoders.picture_list import TEST, classified_pictures
from fgen.encoders.picture_list import pictures_of_classes as pictures_of_classes
from fgen.errors import InputError, did_you_mean
from fgen.features.checks import as_matrix, checked_names

#: Share of a seen class's pictures that are held out for the test, where there is a test.
TEST_SHARE = 0.2
#: The splits of a table that make up a split: val_seen is a part of train, and all three are of trainval.
PARTS = {"train": ("train", "val_seen"), "trainval": ("trainval", "train", "val", "val_seen")}


def dataset_of_pictures(
    folder: str | Path,
    class_names: Sequence[str],
    class_embeddings: np.ndarray | Mapping[str, np.ndarray],
    *,
    unseen: Sequence[str] = (),
    seed: int = 0,
    keep: Path | None = None,
    progress: bool = False,
    encoder: ImageEncoder | None = None,
    skip_broken: bool = False,
) -> ZSLDataset:
    """Return a data set of pictures.

    Args:
        folder: holds a folder of pictures for each class that has some; or a CSV file of ``path,class[,split]``, see
            :func:`fgen.encoders.picture_list.read_paths_csv`. The split ``test`` stands for ``test_seen`` in rows of
            classes with training rows, and for ``test_unseen`` in others.
        class_names: C names; classes without a picture are unseen.
        class_embeddings: ``(C, A)``, or a dict of it by kind.
        unseen: classes whose pictures are all held out for the test. If there are any, a fifth of the pictures of each
            other class is held out too: at least one, but none of a single picture. Else all pictures are for training.
        seed: chooses the pictures to hold out.
        keep, progress, skip_broken: see :func:`fgen.encoders.image_features.encode_images`; pictures that are skipped
            are no rows of the data set.
        encoder: by default EfficientNet-Lite0.

    Raises:
        InputError: as :func:`fgen.encoders.picture_list.classified_pictures`; a class without embedding; ``unseen``
            beside a table's own splits; a file that is no picture.
    """
    class_names = checked_names(class_names)  # before the pictures are encoded
    if not isinstance(class_embeddings, Mapping):
        class_embeddings = as_matrix("class_embeddings", class_embeddings)
    pictures, is_table = classified_pictures(folder), Path(folder).suffix == ".csv"
    labels = _labels("the class" if is_table else "the folder", pictures.classes, class_names)
    held_out = _labels("the unseen class", unseen, class_names)
    if held_out.size and pictures.splits:
        raise InputError(f"{folder} has splits, and unseen classes were given too", "one of them")
    encoder = encoder or image_encoder(LITE0)
    features, rows = features_of_pictures(
        pictures.paths, encoder, keep=keep, progress=progress, skip_broken=skip_broken
    )
    labels, given = labels[rows], np.array(pictures.splits)[rows] if pictures.splits else None
    return ZSLDataset(
        features,
        labels,
        class_embeddings,
        class_names=class_names,
        splits=_splits_with(held_out, labels, seed) if given is None else _splits_of(given, labels),
        name=Path(folder).resolve().stem if is_table else Path(folder).resolve().name,
        seed=seed,
        image_encoder=encoder.record,
    )


def features_of_pictures(
    paths: Sequence[Path],
    encoder: ImageEncoder,
    *,
    keep: Path | None = None,
    progress: bool = False,
    skip_broken: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features ``(n, D)`` of N files, and the numbers ``(n,)`` of those that weren't skipped.

    Args:
        paths, encoder, keep, progress, skip_broken: see :func:`fgen.encoders.image_features.encode_images`.

    Raises:
        InputError: a file that is no picture, or none at all that is one.
    """
    features = encode_images(paths, encoder=encoder, keep=keep, progress=progress, skip_broken=skip_broken)
    rows = np.flatnonzero(np.isfinite(features).all(axis=1))
    if not len(rows):
        raise InputError(f"none of {len(paths):,} files is a picture that can be read", "at least one")
    return features if len(rows) == len(features) else features[rows], rows


def _labels(what: str, names: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Return the rows ``(n,)`` of names among the class names; refuse others, which are called ``what``."""
    index = {name: k for k, name in enumerate(class_names)}
    index |= {unicodedata.normalize("NFC", name): k for name, k in index.items()}  # the form of names on some disks
    found = [index.get(name, index.get(unicodedata.normalize("NFC", name))) for name in names]
    if None in found:
        strange = names[found.index(None)]
        remedy = did_you_mean(strange, class_names)
        raise InputError(f"{what} {strange!r} isn't described", f"one of {len(class_names)} classes", remedy)
    return np.array(found, dtype=np.int64)


def _splits_with(unseen: np.ndarray, labels: np.ndarray, seed: int) -> Splits | None:
    """Return splits in which the pictures of unseen classes and a share of the others are for the test.

    Without unseen classes return None, which trains on all.
    """
    if not unseen.size:
        return None
    in_test = np.isin(labels, unseen)
    shuffled = rng.stream(seed, "pictures").permutation(np.flatnonzero(~in_test))
    kept = np.concatenate([first_share(rows, TEST_SHARE) for rows in by_class(shuffled, labels)])
    return {"trainval": np.setdiff1d(shuffled, kept), "test_seen": kept, "test_unseen": np.flatnonzero(in_test)}


def _splits_of(given: np.ndarray, labels: np.ndarray) -> Splits:
    """Return the splits that a table gives, of the split ``(N,)`` of each picture."""
    trained = np.unique(labels[np.isin(given, PARTS["trainval"])])
    if not trained.size:
        raise InputError("no picture has a split for training", f"one of {', '.join(PARTS['trainval'])}")
    given = np.where(given == TEST, np.where(np.isin(labels, trained), "test_seen", "test_unseen"), given)
    names = ["trainval", *(name for name in np.unique(given).tolist() if name != "trainval")]
    return {name: np.flatnonzero(np.isin(given, PARTS.get(name, (name,)))) for name in names}
