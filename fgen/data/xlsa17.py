"""The field's two-file form: ``res101.mat`` with features and labels, ``att_splits.mat`` with classes and splits.

Released with Xian et al., "Zero-Shot Learning: A Comprehensive Evaluation of the Good, the Bad and the Ugly"
(TPAMI 2019). Indices count from 1 in these files and from 0 everywhere else; only this file knows of both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError, wrong_array
from fgen.features.rows import Features
from fgen.io.atomic import beside, expect_free, recover_files, replace_files
from fgen.io.consistent_read import read_consistently
from fgen.io.matlab import NUMBERS, TEXT_KINDS, MatVariable, open_mat
from fgen.io.reading import guarded_read

FEATURES_FILE = "res101.mat"
SPLITS_FILE = "att_splits.mat"
#: Each is a variable NAME_loc; ``val_seen`` is fgen's own addition, which other readers pass over.
SPLITS = ("trainval", "train", "val", "test_seen", "test_unseen", "val_seen")
REQUIRED_SPLITS = ("trainval", "test_unseen")
V5_LIMIT_BYTES = 2**31
ROWS = "rows"


def read_xlsa17(folder: str | Path, *, features_file: str | None = None, seed: int = 0) -> ZSLDataset:
    """Read a folder with the pair of .mat files, of version 5 or 7.3.

    Args:
        folder: holds ``att_splits.mat`` and a .mat file with ``features`` ``(D, N)`` and ``labels`` ``(N, 1)``.
        features_file: the name of that file; needed where several have features and none is ``res101.mat``.
        seed: names the random choice of validation classes where the file has none.

    Returns:
        The data set, named as the folder; embeddings ``att``, ``original_att`` and any ``att_<kind>`` the file
        has as a matrix of numbers. Variables that aren't needed may be of any MATLAB class. Features of a contiguous
        version 7.3 or uncompressed version 5 file stay on disk.

    Raises:
        InputError: damage, missing keys or values that don't fit; the message names file, key and offender.
    """
    folder = Path(folder)
    pair = [folder / FEATURES_FILE, folder / SPLITS_FILE, beside(folder / FEATURES_FILE, "new")]
    return read_consistently(pair, lambda: _read_pair(folder, features_file, seed))


def _read_pair(folder: Path, features_file: str | None, seed: int) -> ZSLDataset:
    try:
        recover_files(folder, FEATURES_FILE)
    except OSError as error:
        found = f"the pair in {folder} is being replaced, which can't be finished here ({error.strerror or error})"
        raise InputError(found, "a folder that can be written to", "Run fgen inspect on it there once") from error
    features_path = _features_path(folder, features_file)
    splits_path = folder / SPLITS_FILE
    with guarded_read(features_path, ".mat"):
        features, labels = _features_and_labels(open_mat(features_path))
    with guarded_read(splits_path, ".mat"):
        variables = open_mat(splits_path)
        embeddings, notes = _embeddings(variables)
        names = _class_names(variables, embeddings["att"].shape)
        splits = {
            split: _zero_based(f"{split}_loc", _vector(variables, f"{split}_loc"), len(labels), ROWS)
            for split in SPLITS
            if f"{split}_loc" in variables or split in REQUIRED_SPLITS
        }
    with guarded_read(features_path, ".mat"):
        labels = _zero_based("labels", labels, len(embeddings["att"]), "classes of att")
        name = folder.resolve().name
        try:
            return ZSLDataset(
                features, labels, embeddings, class_names=names, splits=splits, name=name, seed=seed, notes=notes
            )
        except InputError as error:
            raise InputError(f"{features_path} with {SPLITS_FILE}: {error}") from error


def write_xlsa17(dataset: ZSLDataset, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write ``res101.mat`` and ``att_splits.mat`` (version 5) into a folder, which is made if need be.

    The kind ``att`` is written as ``att``; where there is none, the first kind in use takes its place. Other
    kinds become ``att_<kind>``.

    Raises:
        InputError: the files exist, the features are beyond the 2 GiB of version 5, or the disk refuses.
    """
    folder = Path(folder)
    n_rows, dim = dataset.features.shape
    if 4 * n_rows * dim >= V5_LIMIT_BYTES:
        expected = f"at most {V5_LIMIT_BYTES:,}, which is all a .mat file of version 5 holds"
        raise InputError(f"The features take {4 * n_rows * dim:,} bytes", expected, "Write fgen's own .h5 instead")
    first = "att" if "att" in dataset.embeddings else dataset.embedding[0]
    classes: dict[str, Any] = {"att": dataset.embeddings[first].T}
    classes |= {_kind_key(kind): matrix.T for kind, matrix in dataset.embeddings.items() if kind != first}
    if dataset.class_names is not None:
        classes["allclasses_names"] = np.array([*dataset.class_names, None], dtype=object)[:-1, None]
    classes |= {f"{split}_loc": (dataset.splits[split] + 1).astype(np.int32)[:, None] for split in SPLITS}
    rows = {
        "features": dataset.rows(np.arange(n_rows)).T,
        "labels": (dataset.labels + 1).astype(np.int32)[:, None],
    }
    try:
        folder.mkdir(exist_ok=True)
        with replace_files(folder, FEATURES_FILE) as partial:
            for name, content in ((SPLITS_FILE, classes), (FEATURES_FILE, rows)):
                expect_free(folder / name, overwrite=overwrite)
                scipy.io.savemat(partial / name, content, appendmat=False)
    except OSError as error:
        raise InputError(f"The folder {folder} can't be written to ({error.strerror or error})") from error


def _features_path(folder: Path, features_file: str | None) -> Path:
    """Return the path of the folder's .mat file with the features."""
    if features_file is not None:
        return folder / features_file
    candidates, broken, others = [], None, []
    for path in sorted({*folder.glob("*.mat")} - {folder / SPLITS_FILE}):
        try:
            with guarded_read(path, ".mat"):
                variables = open_mat(path)
                if {"features", "labels"} <= set(variables):
                    candidates.append(path)
                else:
                    others.append(f"{path.name} has {_listed(variables)}")
        except InputError as error:
            broken = broken or error
    if folder / FEATURES_FILE in candidates:
        return folder / FEATURES_FILE
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(path.name for path in candidates)
        remedy = f"Give the one to use in place of the folder, as {candidates[0]}"
        raise InputError(f"{folder} has several files with features: {names}", "one", remedy)
    found = f"{folder} has no .mat file with 'features' and 'labels'"
    raise broken or InputError(found, f"one beside {SPLITS_FILE}", "; ".join(others[:3]))


def _matrix(variables: Mapping[str, MatVariable], key: str, expected: str) -> Features:
    """Return a variable that is a matrix of numbers, with its axes reversed; perhaps on disk."""
    values = _variable(variables, key).numbers()
    if len(values.shape) != 2 or values.dtype.kind not in "fiu" or 0 in values.shape:
        raise wrong_array(key, values, expected)
    return values


def _vector(variables: Mapping[str, MatVariable], key: str) -> np.ndarray:
    """Return a variable that is a row or column vector of numbers as ``(n,)``."""
    values = _variable(variables, key).numbers()
    if values.dtype.kind not in "fiu" or (sum(size != 1 for size in values.shape) > 1 and 0 not in values.shape):
        raise wrong_array(key, values, "a vector of integers")
    return np.asarray(values[...]).reshape(-1)


def _variable(variables: Mapping[str, MatVariable], key: str) -> MatVariable:
    if key not in variables:
        raise InputError(f"There is no {key!r}", f"it beside {_listed(variables)}")
    return variables[key]


def _listed(variables: Mapping[str, MatVariable]) -> str:
    """Return the names of the first 20 variables, each with its kind where that is no matrix of numbers."""
    kinds = {name: variables[name].kind for name in sorted(variables)[:20]}
    return ", ".join(name if kind == NUMBERS else f"{name} (a {kind})" for name, kind in kinds.items()) or "nothing"


def _features_and_labels(variables: Mapping[str, MatVariable]) -> tuple[Features, np.ndarray]:
    """Return features ``(N, D)``, perhaps on disk, and labels ``(N,)`` that start at 1."""
    features, kind = _matrix(variables, "features", "numbers (D, N)"), _variable(variables, "labels").kind
    if kind in TEXT_KINDS:
        numbered = "[~, labels] = ismember(cellstr(labels), allclasses_names)"
        remedy = f"In MATLAB, with allclasses_names of {SPLITS_FILE}: {numbered}; "
        remedy += "in Python, with its list of names: [[names.index(label) + 1] for label in labels]"
        raise InputError(f"labels is a MATLAB {kind}", "the numbers of the classes, from 1", remedy)
    labels = _vector(variables, "labels")
    n_rows, dim = features.shape
    if n_rows != len(labels):
        transposed = "features looks transposed: each image is a column there" if dim == len(labels) else ""
        sizes = f"{n_rows:,} columns and labels has {len(labels):,} entries"
        raise InputError(f"features has {sizes}", "one for each", transposed)
    return features, labels


def _embeddings(variables: Mapping[str, MatVariable]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return class embeddings ``(C, A)`` by kind, ``att`` first, and a note on each variable that is named as a kind
    and holds no numbers, as names of attributes do.
    """
    kinds = {key: variables[key].kind for key in variables if key == "original_att" or key.startswith("att_")}
    embeddings = {}
    for key in ("att", *(key for key, kind in kinds.items() if kind == NUMBERS)):
        found = _matrix(variables, key, "numbers (A, C)")
        embeddings[key.removeprefix("att_")] = np.asarray(found[...])
        if len(found) != len(embeddings["att"]):
            sizes = f"{len(found)} columns and att has {len(embeddings['att'])}"
            raise InputError(f"{key} has {sizes}", "one a class")
    others = {key: kind for key, kind in kinds.items() if kind != NUMBERS}
    notes = [f"{key} of {SPLITS_FILE} wasn't read: it is a MATLAB {kind}" for key, kind in others.items()]
    return embeddings, notes


def _class_names(variables: Mapping[str, MatVariable], shape: tuple[int, ...]) -> list[str] | None:
    """Return names in the order of the columns of ``att`` (not alphabetical), or None: some releases have none."""
    if "allclasses_names" not in variables:
        return None
    names = [name.strip() for name in variables["allclasses_names"].texts()]
    n_classes, width = shape
    if len(names) != n_classes:
        transposed = "att looks transposed: each class is a column there" if len(names) == width else ""
        found = f"att has {n_classes} columns and allclasses_names has {len(names)} names"
        raise InputError(found, "one a class", transposed)
    return names


def _zero_based(key: str, values: np.ndarray, limit: int, what: str) -> np.ndarray:
    """Return indices ``(n,)`` that start at 1, checked against ``limit``, as int64 that start at 0."""
    if what == ROWS and len(values) > 2 and np.isin(values, (0, 1)).all():
        remedy = f"It looks like a mask: use find({key}), in Python numpy.flatnonzero({key}) + 1"
        raise InputError(f"{key} holds nothing but 0 and 1", "the numbers of the rows, from 1", remedy)
    bad = np.flatnonzero(~((values >= 1) & (values <= limit)) | (values != np.floor(values)))
    if bad.size:
        from_zero = values.min() == 0 and values.max() < limit and (values == np.floor(values)).all()
        remedy = "Indices of .mat files count from 1: add 1 to all of them" if from_zero else ""
        expected = f"whole numbers from 1 to {limit:,}, the {what}"
        raise InputError(f"{key}[{bad[0] + 1}] is {values[bad[0]]}", expected, remedy)
    return values.astype(np.int64) - 1


def _kind_key(kind: str) -> str:
    """Return the name of the variable for another kind of embedding."""
    if kind == "original_att":
        return kind
    key = f"att_{kind}"
    if not key.isidentifier() or not key.isascii() or len(key) > 63:
        found = f"The embedding {kind!r} can't be a variable of a .mat file"
        raise InputError(found, "letters, digits and underscores")
    return key
