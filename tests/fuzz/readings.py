"""What fgen reads of a file, and what h5py, NumPy or SciPy read of it: the same numbers and names."""

import csv

import h5py
import numpy as np
import scipy.io

from fgen.data.bank import FeatureBank
from fgen.data.files import load_dataset
from fgen.data.tables import read_embeddings_csv, read_features


def compared(subject, target):
    """``"equal"``, ``"different: ..."``, or that the other library reads nothing of it."""
    ours = OURS[subject](target)
    try:
        theirs = {name: value for name, value in THEIRS[subject](target).items() if value is not None}
    except Exception as error:
        return f"read by fgen alone ({type(error).__name__})"
    different = [name for name in ours if name in theirs and not same(ours[name], theirs[name])]
    return f"different: {', '.join(different)}" if different else "equal"


def same(one, other):
    if np.asarray(one).dtype.kind in "OUST":
        return list(map(_text, np.ravel(one))) == list(map(_text, np.ravel(other)))
    with np.errstate(all="ignore"):
        return np.array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _of_data_set(path):
    data = load_dataset(path)
    given = {f"class_embeddings {kind}": matrix for kind, matrix in data.embeddings.items()}
    names = {} if data.class_names is None else {"class_names": data.class_names}
    return {"features": data.rows(np.arange(len(data.labels))), "labels": data.labels} | given | names


def _of_bank(path):
    with FeatureBank.open(path) as bank:
        names = ("labels", "class_ptr", "synthetic", "seen", "class_embeddings", "class_names")
        return {name: getattr(bank, name) for name in names} | {"features": bank.to_numpy()[0]}


def _of_pair(path):
    """Of a folder: of classes that one file describes and the other has rows of."""
    data = load_dataset(path)
    return {"features": data.rows(np.arange(len(data.labels))), "labels": data.labels, "att": data.embeddings["att"]}


def _h5py(path):
    with h5py.File(path) as file:
        found = {name: file[name][...] for name in file if isinstance(file[name], h5py.Dataset)}
        kinds = file.get("class_embeddings")
        if isinstance(kinds, h5py.Group):
            found |= {f"class_embeddings {kind}": kinds[kind][...] for kind in kinds}
        return found


def _numpy(path):
    with np.load(path) as arrays:
        kinds = {name: arrays[name] for name in arrays.files if name.startswith("class_embeddings.")}
        found = {f"class_embeddings {name.partition('.')[2]}": array for name, array in kinds.items()}
        return found | {name: arrays[name] for name in ("features", "labels", "class_names") if name in arrays.files}


def _scipy(folder):
    rows = scipy.io.loadmat(folder / "res101.mat", variable_names=["features", "labels"])
    classes = scipy.io.loadmat(folder / "att_splits.mat", variable_names=["att"])
    return {"features": rows["features"].T, "labels": rows["labels"].ravel() - 1.0, "att": classes["att"].T}


def _h5py_pair(folder):
    with h5py.File(folder / "res101.mat") as rows, h5py.File(folder / "att_splits.mat") as classes:
        found = {"features": rows["features"][...], "att": classes["att"][...]}
        return found | {"labels": rows["labels"][...].ravel() - 1.0}


def _csv(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    rows = rows[1:] if len(rows[0]) > 1 and not any(map(_is_number, rows[0][1:])) else rows
    numbers = np.array([[float(cell) for cell in row[1:]] for row in rows], np.float32)
    return {"names": [row[0].strip() for row in rows], "numbers": numbers}


def _is_number(cell):
    try:
        return bool(str(float(cell)))
    except ValueError:
        return False


OURS = {
    ".h5": _of_data_set,
    "bank": _of_bank,
    ".npz": _of_data_set,
    ".npy": lambda path: {"features": read_features(path)[0]},
    ".mat": _of_pair,
    "hdf5 .mat": _of_pair,
    ".csv": lambda path: dict(zip(("names", "numbers"), read_embeddings_csv(path), strict=True)),
}
THEIRS = {
    ".h5": _h5py,
    "bank": _h5py,
    ".npz": _numpy,
    ".npy": lambda path: {"features": np.load(path)},
    ".mat": _scipy,
    "hdf5 .mat": _h5py_pair,
    ".csv": _csv,
}
