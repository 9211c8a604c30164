"""Files of features of pictures whose classes aren't known: ``.npz`` with ``features``, ``file``, ``image_encoder``."""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fgen.data.files import HDF5_SUFFIXES, hdf5_record, npz_record, npz_texts
from fgen.errors import InputError
from fgen.features.encoder_record import IMAGE_ENCODER, EncoderRecord
from fgen.io import hdf5, npz
from fgen.io.atomic import expect_free, new_file
from fgen.io.reading import guarded_read

#: The array that holds the names of the pictures.
FILE = "file"


class Origin(NamedTuple):
    """Where rows of features come from.

    Attributes:
        names: N names of pictures, where they are known.
        image_encoder: what made the features, where it is known.
    """

    names: Sequence[str] | None = None
    image_encoder: EncoderRecord | None = None


def expect_features_target(path: str | Path, *, overwrite: bool) -> Path:
    """Refuse what :func:`write_picture_features` can't write to, before work is done for it.

    Raises:
        InputError: another ending, something that is there already, a folder that isn't.
    """
    if Path(path).suffix != ".npz":
        expected = "an .npz file for features without classes"
        raise InputError(f"{path} ends in {Path(path).suffix!r}", expected, "Of a data set give --embeddings too")
    expect_free(Path(path), overwrite=overwrite)
    return Path(path)


def write_picture_features(
    path: str | Path, features: np.ndarray, names: Sequence[str], record: EncoderRecord, *, overwrite: bool = False
) -> None:
    """Write features ``(N, D)`` float32 of N pictures, whole or not at all; equal contents are equal bytes.

    Raises:
        InputError: the file exists, or the disk refuses.
    """
    small = {FILE: np.array(names, dtype=str), IMAGE_ENCODER: np.array([record.to_json()])}
    with new_file(Path(path), overwrite=overwrite) as partial, zipfile.ZipFile(partial, "w") as archive:
        npz.write_matrix(archive, "features", features.shape, iter([features]))
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)


def read_origin(path: str | Path, n_rows: int) -> Origin:
    """Return what a file of N rows of features, see :func:`fgen.data.tables.read_features`, says of their origin.

    Raises:
        InputError: damage.
    """
    path = Path(path)
    if path.suffix in HDF5_SUFFIXES:
        with guarded_read(path, ".h5"), hdf5.opened(path) as file:
            return Origin(None, hdf5_record(file))
    if path.suffix != ".npz":
        return Origin()
    with guarded_read(path, ".npz"), npz.Archive(path) as archive:
        names = None
        with suppress(InputError):  # an array of that name that is something else
            names = npz_texts(archive, FILE)
        return Origin(names if names and len(names) == n_rows else None, npz_record(archive))
