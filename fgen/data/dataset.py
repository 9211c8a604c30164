"""A zero-shot data set: features, labels, class embeddings and splits, checked once and then immutable."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import h5py
import numpy as np

from fgen.data.shots import ShotClasses, Shots, draw_shots
from fgen.data.splits import SPLIT_NAMES, Splits, complete_splits
from fgen.errors import InputError, visible, wrong_array
from fgen.features.checks import as_matrix, as_text, checked_names, mended_text
from fgen.features.encoder_record import EncoderRecord
from fgen.features.frames import rows_by_name
from fgen.features.labels import labels_of_rows, one_based_warning, unusual_embeddings_warning
from fgen.features.rows import Features, as_rows, iter_blocks, read_rows, refuse_non_finite
from fgen.io import hdf5


class ZSLDataset:
    """A zero-shot data set. Rows stay where they are: a memory map or an HDF5 dataset is never copied whole.

    Args:
        features: ``(N, D)`` finite numbers; an array, a memory map or an open h5py dataset.
        labels: ``(N,)`` integers in ``[0, C)``, rows of ``class_embeddings``; or names that are in ``class_names``.
        class_embeddings: ``(C, A)`` finite numbers, or ``{kind: (C, A_kind)}`` for several kinds side by side. The
            index of a table, such as pandas' DataFrame, holds names: its rows are put in the order of ``class_names``.
        class_names: C distinct names, text or bytes of UTF-8; or None, which takes those of a table's index.
        splits: index arrays by name, see :func:`fgen.data.splits.complete_splits`; None trains on every row.
        name: what reports call the data set.
        embedding: the kind or kinds in use; by default the first.
        seed: names the random choice of validation classes where ``splits`` has none.
        check_finite: read the features once and refuse NaN and infinities.
        image_encoder: what made the features of pictures, where it is known.

    Attributes:
        seen: ids of the classes with rows in ``trainval``.
        unseen: ids of all other classes; a class without a single image is legal.
        shots: which rows of unseen classes are trained on, see :meth:`with_shots`; None is zero-shot.
        source: what :func:`fgen.load_dataset` was given, and the seed of its splits; None of any other data set, of a
            task within one, and of one with more classes or shots.

    Raises:
        InputError: shapes, labels, names, splits or values that don't fit; the message names the offender.

    Example:
        >>> features = [[0.0, 1.0], [1.0, 0.0], [0.9, 0.2]]
        >>> names = ["cat", "dog", "fox"]
        >>> words = [[1.0, 0.0], [0.0, 1.0], [0.7, 0.6]]
        >>> data = fgen.ZSLDataset(features, ["cat", "dog", "dog"], words, class_names=names)
        >>> data.labels.tolist(), [data.name_of(k) for k in data.unseen]
        ([0, 1, 1], ['fox'])
    """

    def __init__(
        self,
        features: Features,
        labels: Any,
        class_embeddings: Any,
        *,
        class_names: Sequence[str] | None = None,
        splits: Mapping[str, np.ndarray] | None = None,
        name: str = "data",
        embedding: str | Sequence[str] | None = None,
        seed: int = 0,
        check_finite: bool = True,
        notes: Sequence[str] = (),
        image_encoder: EncoderRecord | None = None,
    ) -> None:
        self.name = mended_text(str(name))
        self.features = _checked_features(features)
        class_embeddings, class_names = rows_by_name(class_embeddings, class_names)
        self.embeddings = _checked_embeddings(class_embeddings)
        self.class_names = None if class_names is None else checked_names(class_names, self.n_classes)
        self.labels = _frozen(labels_of_rows(labels, len(self.features), self.n_classes, self.class_names))
        self.embedding = _checked_kinds(embedding, self.embeddings)
        if check_finite:
            refuse_non_finite(self.features)
        if image_encoder is not None:
            image_encoder.require_width(self.feature_dim)
        self.image_encoder = image_encoder
        self.splits, repairs = _completed(self.labels, splits, seed)
        self._given = splits and {name: np.array(rows) for name, rows in splits.items()}, self.splits
        self._own_notes = (*notes, *filter(None, [one_based_warning(self.labels, self.class_names)]))
        self._notes = (*self._own_notes, *repairs)
        self.seen = np.unique(self.labels[self.splits["trainval"]])
        self.unseen = np.setdiff1d(np.arange(self.n_classes), self.seen)
        self.shots: Shots | None = None
        self.source: tuple[str, int] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Return remarks for a reader of results: repairs of splits, unusual labels, unusual class embeddings."""
        return (*self._notes, *filter(None, [self._embeddings_warning]))

    @cached_property
    def _embeddings_warning(self) -> str:
        return unusual_embeddings_warning(self.class_embeddings, self.class_names, self.labels)

    @property
    def n_classes(self) -> int:
        """Return C, the number of classes."""
        return len(next(iter(self.embeddings.values())))

    @property
    def feature_dim(self) -> int:
        """Return D, the number of columns of the features."""
        return int(self.features.shape[1])

    @cached_property
    def class_embeddings(self) -> np.ndarray:
        """Return ``(C, A)`` float32, unscaled: the columns of the kinds in use, concatenated."""
        return _frozen(np.concatenate([self.embeddings[kind] for kind in self.embedding], axis=1))

    @property
    def embedding_widths(self) -> tuple[int, ...]:
        """Return the number of columns of each kind in use."""
        return tuple(self.embeddings[kind].shape[1] for kind in self.embedding)

    def name_of(self, label: int) -> str:
        """Return the name of a class, ``"class 7"`` where the data set has no names."""
        return f"class {label}" if self.class_names is None else self.class_names[label]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Read some rows of the features.

        Args:
            indices: ``(n,)`` row numbers, in any order and with repeats.

        Returns:
            ``(n, D)`` float32, in the order of ``indices``.
        """
        return read_rows(self.features, indices)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Read the features ``(n, D)`` float32 and labels ``(n,)`` of one split."""
        return self.rows(self.splits[name]), self.labels[self.splits[name]]

    def with_embedding(self, embedding: str | Sequence[str] | None) -> Self:
        """Return the same data with another kind of class embedding in use, or several concatenated."""
        return self if embedding is None else self._copy(embedding=_checked_kinds(embedding, self.embeddings))

    def with_split_seed(self, seed: int) -> Self:
        """Return the same data with the splits that were made from a seed made again from this seed. A view (with
        shots, or a validation task) is returned unchanged.
        """
        given, completed = self._given
        if self.splits is not completed:  # with shots, or a validation task
            return self
        splits, repairs = _completed(self.labels, given, seed)
        source = self.source and (self.source[0], seed)
        return self._copy(splits=splits, _notes=(*self._own_notes, *repairs), _given=(given, splits), source=source)

    def with_shots(self, k: int, classes: ShotClasses = None, *, seed: int = 0) -> Self:
        """Return the any-shot task: k real rows of each chosen unseen class move from the test rows to the training
        rows.

        ``seen`` and ``unseen`` stay as they are, and with them what T1, U and S mean. The validation task mirrors
        it: as large a share of its unseen classes gets k shots, from their own rows. It is a view to train and score
        on, not to save: the file forms promise that unseen classes have no training row.

        Args:
            k: rows of each class, drawn by ``seed``; a class keeps at least one for the test. 0 is zero-shot.
            classes: which unseen classes: a share of them (0.5), a number, names, or None for all that can.
            seed: names the rows and the classes.

        Raises:
            InputError: k below 0, classes that don't fit, no row to spare, or a task that has shots already.
        """
        if k < 0:
            raise InputError(f"shots is {k}", "a whole number of at least 0")
        if self.shots is not None:
            raise InputError(f"{self.name} has shots already", "the zero-shot task")
        if k == 0:
            return self
        names = {int(label): self.name_of(label) for label in self.unseen}
        shots, rows, notes = draw_shots(self.labels, self.splits["test_unseen"], names, k, classes, seed)
        splits = self.splits | {
            "trainval": np.union1d(self.splits["trainval"], rows),
            "test_unseen": np.setdiff1d(self.splits["test_unseen"], rows),
        }
        notes = (*self._notes, *notes)
        return self._copy(name=f"{self.name} ({k}-shot)", splits=splits, _notes=notes, shots=shots, source=None)

    def with_classes(self, class_names: Sequence[str], class_embeddings: np.ndarray) -> Self:
        """Return the same data with more classes, which are unseen and have no rows.

        Args:
            class_names: ``K`` names that no class has yet.
            class_embeddings: ``(K, A)``, the kinds in use side by side, as :attr:`class_embeddings` has them.

        Raises:
            InputError: the data set has no names, a name is there already, or embeddings of another width.
        """
        if self.class_names is None:
            raise InputError(f"{self.name} has no class names", "names, to tell new classes from its own")
        class_embeddings, _ = rows_by_name(class_embeddings, class_names)
        matrix = as_matrix("class_embeddings", class_embeddings)
        if matrix.shape[1] != sum(self.embedding_widths):
            raise InputError(f"new classes have {matrix.shape[1]} columns", f"{sum(self.embedding_widths)}, as others")
        new = checked_names(class_names, len(matrix), each="embedding")
        names = checked_names([*self.class_names, *new])
        parts = np.split(matrix, np.cumsum(self.embedding_widths)[:-1], axis=1)
        kinds = dict(zip(self.embedding, parts, strict=True))
        embeddings = {kind: np.concatenate([self.embeddings[kind], part]) for kind, part in kinds.items()}
        unseen = np.append(self.unseen, np.arange(self.n_classes, self.n_classes + len(matrix)))
        return self._copy(class_names=names, embeddings=embeddings, unseen=unseen, source=None)

    def validation(self) -> Self:
        """Return the smaller zero-shot task within this one, on which hyperparameters are chosen.

        Its seen classes are those of ``train`` (trained without the ``val_seen`` rows, which play
        ``test_seen``), its unseen classes those of ``val``. No test row can be reached through it, and the
        classes of the outer task that are unseen are no candidates in it.

        Raises:
            InputError: the data set has no ``val`` classes.
        """
        if not len(self.splits["val"]):
            found = f"{self.name} has {len(self.seen)} seen class, none of which can be held out"
            raise InputError(found, "at least 3 seen classes", "Give more classes")
        splits = {
            "trainval": np.setdiff1d(self.splits["train"], self.splits["val_seen"]),
            "test_seen": self.splits["val_seen"],
            "test_unseen": self.splits["val"],
        }
        view, shots = self.inner("validation", splits), self.shots
        return view if shots is None else view.with_shots(shots.k, shots.share, seed=shots.seed)._copy(name=view.name)

    def inner(self, name: str, splits: Mapping[str, np.ndarray], unseen: np.ndarray | None = None) -> Self:
        """Return a smaller task within this one, for a choice without its test rows.

        Args:
            name: what tells it from others within this data set.
            splits: row numbers of ``trainval``, ``test_seen`` and ``test_unseen``.
            unseen: ids of the unseen candidates; None takes the classes of ``test_unseen``. The seen classes are the
                others of ``trainval``.
        """
        rows = dict.fromkeys(SPLIT_NAMES, np.zeros(0, dtype=np.int64)) | dict(splits)
        view = self._copy(name=f"{self.name} ({name})", splits=rows, _notes=(), shots=None, source=None)
        view.unseen = np.unique(self.labels[rows["test_unseen"]]) if unseen is None else unseen
        view.seen = np.setdiff1d(self.labels[rows["trainval"]], view.unseen)
        return view

    def require_test_rows(self) -> None:
        """Refuse a data set without test rows of unseen classes, on which nothing of the field can be scored."""
        if not len(self.splits["test_unseen"]):
            remedy = "To train without a test use fgen train, or ZeroShotClassifier"
            expected = "test rows of unseen classes, and where there are some of seen ones"
            raise InputError(f"{self.name} has no rows in 'test_unseen'", expected, remedy)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the content: values, labels, embeddings, names and splits. The file's name and format
        have no part in it.
        """
        return self.digests["all"]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return SHA-256 sums that tell which part of two data sets differs.

        ``all`` is :attr:`fingerprint`; ``features``, ``labels``, ``classes`` (names and embeddings) and ``training``
        (the rows of trainval) each cover one part.
        """
        digest = self._features_digest.copy()
        labels = np.ascontiguousarray(self.labels, dtype="<i8").tobytes()
        kinds = (kind.encode() + self.embeddings[kind].astype("<f4").tobytes() for kind in sorted(self.embeddings))
        classes = b"".join(kinds) + "\0".join(self.class_names or ()).encode()
        digest.update(labels + classes)
        for name, rows in sorted(self.splits.items()):
            digest.update(name.encode() + np.ascontiguousarray(rows, dtype="<i8").tobytes())
        training = np.ascontiguousarray(self.splits["trainval"], dtype="<i8").tobytes()
        parts = {"labels": labels, "classes": classes, "training": training}
        own = {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}
        return {"all": digest.hexdigest(), "features": self._features_digest.hexdigest()} | own

    @cached_property
    def _features_digest(self) -> Any:
        digest = hashlib.sha256()
        for block in iter_blocks(self.features):
            digest.update(np.ascontiguousarray(block, dtype="<f4").data)
        return digest

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(rows):,}" for name, rows in self.splits.items())
        kinds = ", ".join(f"{visible(kind)} {matrix.shape[1]}" for kind, matrix in self.embeddings.items())
        return (
            f"ZSLDataset({self.name!r}: {len(self.labels):,} x {self.feature_dim} features, "
            f"{len(self.seen)} seen + {len(self.unseen)} unseen classes; embeddings: {kinds}; rows: {sizes})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy. Features that stay in an HDF5 file are stored as the file's place and the
        dataset's name.
        """
        derived = ("class_embeddings", "_features_digest", "_embeddings_warning")
        state = {key: value for key, value in self.__dict__.items() if key not in derived}
        if isinstance(self.features, h5py.Dataset):
            place = hdf5.Place.of(self.features.file)
            state["features"] = self.features[...] if place is None else (place, self.features.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.features, tuple):
            place, name = self.features
            self.features = hdf5.dataset(place.open(), name, ndim=2)
        for array in (self.features, self.labels, *self.embeddings.values(), *self.splits.values()):
            if isinstance(array, np.ndarray):
                _frozen(array)

    def _copy(self, **changes: Any) -> Self:
        copy = object.__new__(type(self))
        derived = ("class_embeddings", "digests", "_embeddings_warning")
        copy.__dict__.update({key: value for key, value in self.__dict__.items() if key not in derived} | changes)
        return copy


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return the array itself, made read-only."""
    array.flags.writeable = False
    return array


def _completed(labels: np.ndarray, given: Mapping[str, np.ndarray] | None, seed: int) -> tuple[Splits, tuple[str, ...]]:
    """Return what :func:`fgen.data.splits.complete_splits` does, with read-only rows."""
    splits, repairs = complete_splits(labels, given, seed=seed)
    return {name: _frozen(rows) for name, rows in splits.items()}, repairs


def _checked_features(features: Features) -> Features:
    """Return features ``(N, D)`` with at least one row, arrays as read-only views."""
    features = as_rows(features)
    if not features.shape[0]:
        raise wrong_array("features", features, "a matrix (N, D) of numbers")
    if isinstance(features, h5py.Dataset):
        features = hdf5.matrix(features)
    return _frozen(features.view()) if isinstance(features, np.ndarray) else features


def _checked_embeddings(class_embeddings: Any) -> dict[str, np.ndarray]:
    """Return a read-only copy ``(C, A)`` float32 of each kind; a single matrix is the kind "attributes"."""
    if not isinstance(class_embeddings, Mapping):
        return {"attributes": _frozen(as_matrix("class_embeddings", class_embeddings).copy())}
    if not class_embeddings:
        raise InputError("class_embeddings is empty", "a matrix (C, A), or one or more kinds of it")
    checked: dict[str, np.ndarray] = {}
    for kind, given in class_embeddings.items():
        name = as_text("a kind of class_embeddings", kind if isinstance(kind, bytes) else str(kind))
        checked[name] = _frozen(as_matrix(f"class_embeddings[{kind!r}]", given).copy())
    counts = {kind: len(matrix) for kind, matrix in checked.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"class_embeddings describe different numbers of classes: {counts}", "the same for each kind")
    return checked


def _checked_kinds(embedding: str | Sequence[str] | None, embeddings: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    if embedding is None:
        return (next(iter(embeddings)),)
    given = [embedding] if isinstance(embedding, str | bytes) else embedding
    kinds = checked_names(given, name="embedding", distinct=False)
    for kind in kinds:
        if kind not in embeddings:
            raise InputError(f"embedding {kind!r} isn't in the data set", f"one of {', '.join(embeddings)}")
    if not kinds or len(set(kinds)) < len(kinds):
        raise InputError(f"embedding is {list(kinds)}", "one or more kinds, each once")
    return kinds
