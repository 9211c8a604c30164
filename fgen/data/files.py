"""Loading and saving of data sets by name or path, and fgen's own two file formats.

``.h5`` (``fgen-dataset`` version 1): contiguous datasets that any HDF5 library reads. ``features (N, D)`` f4,
``labels (N,)`` i4, group ``class_embeddings`` with ``<kind> (C, A)`` f4, ``class_names (C,)`` UTF-8 and group
``splits`` with ``<name> (n,)`` i8; attributes ``format``, ``format_version``, ``name``, ``embedding`` (the kinds in
use) and, of pictures, ``image_encoder`` (JSON of :class:`fgen.features.encoder_record.EncoderRecord`). ``.npz``: the
same by the names ``class_embeddings.<kind>`` and ``splits.<name>``.
"""

import logging
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fgen.data.dataset import ZSLDataset
from fgen.data.emoji import load_emoji
from fgen.data.splits import SPLIT_NAMES
from fgen.data.toy import make_toy
from fgen.data.xlsa17 import FEATURES_FILE, SPLITS_FILE, read_xlsa17, write_xlsa17
from fgen.errors import InputError, wrong_array
from fgen.features.encoder_record import IMAGE_ENCODER, EncoderRecord
from fgen.features.rows import iter_blocks
from fgen.io import hdf5, npz
from fgen.io.atomic import expect_free, new_file, recover_files
from fgen.io.hdf5_look import trust
from fgen.io.hdf5_writing import allocate, features_offset, write_at
from fgen.io.reading import guarded_read, nearest_sibling

log = logging.getLogger("fgen")

BUILT_IN = ("emoji", "toy")
HDF5_SUFFIXES = (".h5", ".hdf5")
#: Endings of files of data.
DATA_SUFFIXES = (*HDF5_SUFFIXES, ".npz", ".mat")
FORMAT = "fgen-dataset"
FORMAT_VERSION = 1
EMBEDDINGS, SPLITS = "class_embeddings", "splits"


def load_dataset(source: str | Path, embedding: str | Sequence[str] | None = None, *, seed: int = 0) -> ZSLDataset:
    """Load a data set by name or from disk.

    Your own fits into an ``.npz`` file (``numpy.savez``) of these arrays: ``features (N, D)``; ``labels (N,)``, whole
    numbers from 0, rows of ``class_embeddings (C, A)`` (or ``class_embeddings.KIND`` for each of several kinds), which
    also describes the classes that have no row; and where you have them ``class_names (C,)``, which labels may then be
    taken from, and row numbers ``splits.trainval``, ``splits.test_seen``, ``splits.test_unseen``. Without splits all
    rows are trained on.

    Args:
        source: ``"emoji"``, ``"toy"``, a folder with the field's .mat pair (or one of its two files), an
            ``.h5`` or an ``.npz`` file.
        embedding: the kind of class embedding to use, or several side by side; by default the data set's own.
        seed: names the random choice of validation classes where the source has none.

    Returns:
        The data set; features of a contiguous ``.h5`` stay on disk, mapped into memory. While they are in use another
        file may take the file's place (:func:`save_dataset` works so), but no program may shorten or rewrite it: rows
        that are read from a shorter file are refused, and the system ends a process that is in the middle of them.

    Raises:
        InputError: no such data set, or a file that is damaged, hostile or doesn't fit together.

    Example:
        >>> data = fgen.load_dataset("toy")
        >>> features, labels = data.split("trainval")
        >>> features.shape, len(data.seen), len(data.unseen)
        ((600, 16), 20, 5)
    """
    dataset = _load(source, seed)
    dataset.source = (str(source), seed)
    return dataset.with_embedding(embedding)


def save_dataset(dataset: ZSLDataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a data set: ``.h5`` or ``.npz`` by the extension, the .mat pair into a folder.

    Args:
        dataset: what to write; its features are streamed except into .mat files.
        path: the file, or a folder (existing, or a name without an extension).
        overwrite: replace what is there; otherwise it is left alone.

    Raises:
        InputError: the file exists, its form is unknown, or the disk refuses.

    Example:
        >>> import tempfile
        >>> data = fgen.load_dataset("toy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fgen.save_dataset(data, f"{folder}/toy.h5")
        ...     fgen.load_dataset(f"{folder}/toy.h5").fingerprint == data.fingerprint
        True
    """
    path = expect_target(path, overwrite=overwrite)
    if os.path.isdir(path) or not path.suffix:
        write_xlsa17(dataset, path, overwrite=overwrite)
        if dataset.image_encoder is not None:
            log.warning("%s: .mat files don't hold that the features are of %s", path, dataset.image_encoder.name)
        return
    writers = {".npz": _write_npz, **dict.fromkeys(HDF5_SUFFIXES, _write_hdf5)}
    with new_file(path, overwrite=overwrite) as partial:
        writers[path.suffix](dataset, partial)
    if path.suffix in HDF5_SUFFIXES:
        trust(path)


def expect_target(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse what :func:`save_dataset` can't write to, before work is done for it.

    Raises:
        InputError: no name, an unknown form, something that is there already, a folder that isn't.
    """
    if not str(path):  # an unset variable of a shell; Path would read it as the current folder
        raise InputError("The path is empty", "an .h5 file, an .npz file, or a folder")
    path = Path(path)
    if os.path.isdir(path):
        recover_files(path, FEATURES_FILE)
        for name in (FEATURES_FILE, SPLITS_FILE):
            expect_free(path / name, overwrite=overwrite)
    elif path.suffix not in ("", ".npz", *HDF5_SUFFIXES):
        raise InputError(f"{path} ends in {path.suffix!r}", "an .h5 file, an .npz file, or a folder for the .mat pair")
    else:
        expect_free(path, overwrite=overwrite)
    return path


def expect_source(source: str | Path) -> None:
    """Refuse what is neither the name of a built-in data set nor a path of something.

    Raises:
        InputError: nothing is there.
    """
    path = Path(source)
    # Unlike Path.exists, os.path.exists takes any name for an answer.
    if source not in BUILT_IN and (not str(source) or not os.path.exists(path)):
        expected = f"{' or '.join(map(repr, BUILT_IN))}, a folder with .mat files, an .h5 or an .npz file"
        raise InputError(f"{str(path)!r} is no data set and no file", expected, nearest_sibling(path))


def _load(source: str | Path, seed: int) -> ZSLDataset:
    if source == "emoji":
        return load_emoji()
    if source == "toy":
        return make_toy(seed=seed)
    expect_source(source)
    path = Path(source)
    if path.is_dir():
        return read_xlsa17(path, seed=seed)
    if path.suffix == ".mat":
        return read_xlsa17(path.parent, features_file=None if path.name == SPLITS_FILE else path.name, seed=seed)
    if path.suffix in HDF5_SUFFIXES:
        return _read_hdf5(path, seed)
    if path.suffix == ".npz":
        return _read_npz(path, seed)
    raise InputError(f"{path} ends in {path.suffix!r}", "a folder with .mat files, an .h5 or an .npz file")


def _read_hdf5(path: Path, seed: int) -> ZSLDataset:
    with guarded_read(path, ".h5"), hdf5.opened(path) as file:
        dataset = _dataset_of(file, path, seed)
        if not isinstance(dataset.features, h5py.Dataset):
            file.close()
        return dataset


def _dataset_of(file: h5py.File, path: Path, seed: int) -> ZSLDataset:
    found, version = file.attrs.get("format"), file.attrs.get("format_version")
    if not isinstance(found, str) or found != FORMAT:
        raise _other_format(path, found)
    if not isinstance(version, int | np.integer) or version != FORMAT_VERSION:
        raise InputError(f"{path} has format_version {str(version)[:40]}", f"{FORMAT_VERSION}", "Update fgen")
    groups = {name: hdf5.member(file, name) for name in (EMBEDDINGS, SPLITS)}
    for name, group in groups.items():
        if not isinstance(group, h5py.Group):
            raise InputError(f"{path} has no group {name!r}", "a group of datasets")
    kinds = groups[EMBEDDINGS]
    in_use = np.atleast_1d(file.attrs.get("embedding", []))
    return ZSLDataset(
        hdf5.matrix(hdf5.dataset(file, "features", ndim=2)),
        hdf5.numbers(file, "labels", ndim=1),
        {kind: hdf5.numbers(kinds, kind, ndim=2) for kind in kinds},
        class_names=hdf5.texts(hdf5.dataset(file, "class_names")) if "class_names" in list(file) else None,
        splits={name: hdf5.numbers(groups[SPLITS], name, ndim=1) for name in groups[SPLITS]},
        name=hdf5.text(file.attrs.get("name", path.stem), "name"),
        image_encoder=hdf5_record(file),
        embedding=[hdf5.text(kind, "embedding") for kind in in_use] or None,
        seed=seed,
    )


def _other_format(path: Path, found: Any) -> InputError:
    """Return the error for an HDF5 file that isn't fgen's, by its attribute ``format``."""
    if found is None:
        remedy = "Put your own arrays into an .npz file by numpy.savez: features, labels, class_embeddings"
        return InputError(f"{path} has no attribute 'format'", f"{FORMAT!r}, as fgen.save_dataset writes it", remedy)
    remedy = "A bank goes to: fgen evaluate BANK --dataset D" if isinstance(found, str) and "bank" in found else ""
    return InputError(f"{path} has the format {str(found)[:40]!r}", f"{FORMAT!r}", remedy)


def _write_hdf5(dataset: ZSLDataset, path: Path) -> None:
    hdf5.expect_short(dataset.class_names or (), "the class name")
    hdf5.expect_short([dataset.name, *dataset.embeddings], "the name")
    hdf5.expect_short([dataset.image_encoder.to_json()] if dataset.image_encoder else (), "the record of the encoder")
    allocate(path, lambda file: _write_rest(file, dataset), dataset.features.shape, np.dtype("<f4"))
    position = features_offset(path)
    with path.open("r+b") as file:
        for block in iter_blocks(dataset.features):
            rows = np.ascontiguousarray(block, dtype="<f4")
            write_at(file.fileno(), rows.reshape(-1).view(np.uint8).data, position)
            position += rows.nbytes


def _write_rest(file: h5py.File, dataset: ZSLDataset) -> None:
    """Write everything but the features."""
    file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "name": dataset.name})
    file.attrs["embedding"] = list(dataset.embedding)
    if dataset.image_encoder is not None:
        file.attrs[IMAGE_ENCODER] = dataset.image_encoder.to_json()
    file.create_dataset("labels", data=dataset.labels.astype("<i4"))
    kinds = file.create_group(EMBEDDINGS, track_order=True)  # the first kind is the one used by default
    for kind, matrix in dataset.embeddings.items():
        kinds.create_dataset(kind, data=matrix.astype("<f4"))
    if dataset.class_names is not None:
        file.create_dataset("class_names", data=list(dataset.class_names), dtype=h5py.string_dtype())
    splits = file.create_group(SPLITS)
    for name, rows in dataset.splits.items():
        splits.create_dataset(name, data=rows.astype("<i8"))


def _read_npz(path: Path, seed: int) -> ZSLDataset:
    with guarded_read(path, ".npz"), npz.Archive(path) as archive:
        embeddings: Any = _with_prefix(archive, f"{EMBEDDINGS}.")
        if not embeddings and EMBEDDINGS in archive.members:
            embeddings = archive[EMBEDDINGS]
        return ZSLDataset(
            archive["features"],
            archive["labels"],
            embeddings,
            class_names=npz_texts(archive, "class_names"),
            splits=_with_prefix(archive, f"{SPLITS}.") or None,
            name=(npz_texts(archive, "name") or [path.stem])[0],
            embedding=npz_texts(archive, "embedding"),
            seed=seed,
            notes=_unread(path, archive),
            image_encoder=npz_record(archive),
        )


def hdf5_record(file: h5py.File) -> EncoderRecord | None:
    """Return what an HDF5 file of fgen's says of the encoder of its pictures, if it does."""
    stored = file.attrs.get(IMAGE_ENCODER)
    return None if stored is None else EncoderRecord.from_json(hdf5.text(stored, IMAGE_ENCODER))


def npz_record(archive: npz.Archive) -> EncoderRecord | None:
    """Return what an ``.npz`` archive says of the encoder of its pictures, if it does."""
    stored = npz_texts(archive, IMAGE_ENCODER)
    return None if stored is None else EncoderRecord.from_json(stored[0])


def _unread(path: Path, archive: npz.Archive) -> list[str]:
    """Return a note on arrays that no data set has; refuse an array that is named like a split."""
    known = ("features", "labels", EMBEDDINGS, "class_names", "name", "embedding", IMAGE_ENCODER)
    prefixes = (f"{EMBEDDINGS}.", f"{SPLITS}.")
    others = [name for name in archive.members if name not in known and not name.startswith(prefixes)]
    for name in others:
        if name in SPLIT_NAMES:
            raise InputError(f"{path} has an array {name!r}", f"'{SPLITS}.{name}'")
    return [f"arrays that weren't read: {', '.join(others[:10])}"] if others else []


def _with_prefix(archive: npz.Archive, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): archive[name] for name in archive.members if name.startswith(prefix)}


def npz_texts(archive: npz.Archive, name: str) -> list[str] | None:
    """Return a list of strings that an archive holds under a name, or None where it has no such array."""
    if name not in archive.members:
        return None
    values = np.atleast_1d(archive[name])
    if values.dtype.kind not in "SU" or values.ndim != 1 or not values.size:
        raise wrong_array(repr(name), values, "a list of strings")
    return [value.decode(errors="surrogateescape") if isinstance(value, bytes) else value for value in values.tolist()]


def _write_npz(dataset: ZSLDataset, path: Path) -> None:
    small: dict[str, Any] = {"labels": dataset.labels.astype("<i4")}
    small |= {f"{EMBEDDINGS}.{kind}": matrix for kind, matrix in dataset.embeddings.items()}
    small |= {f"{SPLITS}.{name}": rows for name, rows in dataset.splits.items()}
    small |= {"name": np.array([dataset.name]), "embedding": np.array(dataset.embedding)}
    if dataset.class_names is not None:
        small["class_names"] = np.array(dataset.class_names)
    if dataset.image_encoder is not None:
        small[IMAGE_ENCODER] = np.array([dataset.image_encoder.to_json()])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        npz.write_matrix(archive, "features", dataset.features.shape, iter_blocks(dataset.features))
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
