"""ZSLDataset: validated once, immutable, and never copying what is on disk."""

import copy
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgen.data.dataset import ZSLDataset, iter_blocks
from fgen.data.files import load_dataset, save_dataset
from fgen.data.toy import make_toy
from fgen.errors import InputError


def small(**changes):
    usual = {
        "features": np.arange(12, dtype=np.float32).reshape(6, 2),
        "labels": np.array([0, 0, 1, 1, 2, 2]),
        "class_embeddings": np.eye(3),
        "splits": {"trainval": np.arange(4), "test_unseen": np.array([4, 5])},
    }
    return ZSLDataset(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": np.zeros(6)}, r"features has shape \(6,\)"),
        ({"features": np.array([["a", "b"]] * 6)}, "type <U1"),
        ({"features": np.full((6, 2), np.nan)}, "nan in row 0, column 0"),
        ({"features": np.array([[0, 1]] * 5 + [[0, -np.inf]])}, "-inf in row 5, column 1"),
        ({"features": np.array([[np.inf, -np.inf]] * 6)}, "inf in row 0"),
        ({"features": np.full((6, 2), 1e300)}, "inf in row 0"),
        ({"labels": np.arange(5)}, r"labels has shape \(5,\); expected \(6,\)"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, r"labels\[5\] is 3; expected 0 to 2"),
        ({"labels": np.array([0, 0, 1, 1, -1, 2])}, r"labels\[4\] is -1"),
        ({"labels": np.array(list("aabbcc"))}, "named labels"),
        ({"class_embeddings": {}}, "empty"),
        ({"class_embeddings": {"a": np.eye(3), "b": np.eye(4)}}, "different numbers of classes"),
        ({"class_embeddings": np.array([[1.0], [np.nan], [2.0]])}, "nan in row 1, column 0"),
        ({"class_embeddings": np.full((3, 1), 1e300)}, "inf in row 0"),
        ({"class_names": ["a", "b"]}, "2 names; expected 3"),
        ({"class_names": ["a", "b", "a"]}, "'a' twice"),
        ({"embedding": "words"}, "'words' isn't in the data set; expected one of attributes"),
        ({"embedding": ["attributes", "attributes"]}, "each once"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, words):
    with pytest.raises(InputError, match=words):
        small(**changes)


def test_names_by_the_hundred_thousand_are_checked_at_once():
    names = [str(number) for number in range(100_000)]
    names[-1] = "99998"
    with pytest.raises(InputError, match="'99998' twice"):
        small(class_embeddings=np.ones((100_000, 1)), class_names=names)


def test_nothing_can_be_changed_and_the_caller_keeps_the_right_to_his_own():
    mine = np.zeros((6, 2), np.float32)
    data = small(features=mine)
    for array in (data.features, data.labels, data.class_embeddings, *data.splits.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    mine[0] = 1


@pytest.mark.parametrize("kept", ["memory", "mapped", "chunked"])
@pytest.mark.parametrize("again", [lambda data: pickle.loads(pickle.dumps(data)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_same_content_and_can_not_be_changed_either(tmp_path, kept, again):
    data, path = small(), tmp_path / "x.h5"
    save_dataset(data, path)
    if kept == "chunked":
        with h5py.File(path, "r+") as file:
            del file["features"]
            file.create_dataset("features", data=data.features, chunks=(2, 2))
    data = data if kept == "memory" else load_dataset(path)
    assert isinstance(data.features, h5py.Dataset) == (kept == "chunked")
    twin = again(data)
    assert twin.fingerprint == data.fingerprint
    assert twin.rows([4, 0]).tobytes() == data.rows([4, 0]).tobytes()
    arrays = (twin.features, twin.labels, twin.class_embeddings, *twin.embeddings.values(), *twin.splits.values())
    for array in arrays[kept == "chunked" :]:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


def test_a_pickled_data_set_whose_file_was_changed_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", data=small().features, chunks=(2, 2))
    with h5py.File(tmp_path / "x.h5") as file:
        kept = pickle.dumps(small(features=file["features"]))
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["more"] = 1
    with pytest.raises(InputError, match="was changed since"):
        pickle.loads(kept)


def test_features_of_a_file_that_is_being_written_are_pickled_whole(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        kept = pickle.dumps(small(features=file.create_dataset("features", data=small().features, chunks=(2, 2))))
    assert pickle.loads(kept).fingerprint == small().fingerprint


def test_rows_come_in_the_order_asked_for_from_memory_and_from_hdf5(tmp_path):
    data = small()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        on_disk = small(features=file.create_dataset("features", data=data.features, chunks=(2, 1)))
        wanted = np.array([5, 0, 3, 0])
        assert np.array_equal(on_disk.rows(wanted), data.rows(wanted))
        assert data.rows(wanted).tolist() == [[10, 11], [0, 1], [6, 7], [0, 1]]
        assert on_disk.fingerprint == data.fingerprint
        assert isinstance(on_disk.features, h5py.Dataset)


def test_a_memory_map_stays_one(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((6, 2), np.float32))
    assert isinstance(small(features=np.load(tmp_path / "x.npy", mmap_mode="r")).features, np.memmap)


def test_kinds_side_by_side_are_in_the_order_asked_for():
    data = small(class_embeddings={"a": np.full((3, 2), 1), "b": np.full((3, 1), 2)}, embedding=["b", "a"])
    assert data.class_embeddings.tolist() == [[2, 1, 1]] * 3
    assert data.embedding_widths == (1, 2)
    assert data.with_embedding("a").class_embeddings.shape == (3, 2)
    assert data.class_embeddings.shape == (3, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([0, 1, 0, 1, 2, 2])},
        {"class_embeddings": 2 * np.eye(3)},
        {"class_names": ["a", "b", "c"]},
        {"splits": {"trainval": np.arange(3), "test_seen": np.array([3]), "test_unseen": np.array([4, 5])}},
        {"features": np.zeros((6, 2))},
    ],
)
def test_the_fingerprint_sees_every_part(change):
    assert small(**change).fingerprint != small().fingerprint
    assert small(name="other", features=small().features.astype(np.float64)).fingerprint == small().fingerprint


def test_classes_without_images_are_unseen():
    data = small(class_embeddings=np.eye(5))
    assert list(data.unseen) == [2, 3, 4]


def test_the_validation_view_has_its_own_fingerprint_and_name():
    data = make_toy()
    view = data.validation()
    assert view.fingerprint != data.fingerprint
    assert view.name == "toy (validation)"
    assert view.features is data.features


def test_one_seen_class_cannot_be_validated_on():
    data = small(splits={"trainval": np.array([0]), "test_unseen": np.array([4])})
    with pytest.raises(InputError, match="1 seen class, none of which can be held out"):
        data.validation()


@settings(max_examples=30, deadline=None)
@given(n_rows=st.integers(1, 40), step_bytes=st.integers(1, 200))
def test_blocks_cover_every_row_once(n_rows, step_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fgen.data.dataset.BLOCK_BYTES", step_bytes)
        features = np.arange(n_rows * 3).reshape(n_rows, 3)
        assert np.array_equal(np.concatenate(list(iter_blocks(features))), features)


@pytest.mark.parametrize(("first", "noted"), [(1, True), (0, False), (2, False)])
def test_labels_that_seem_to_be_counted_from_one_are_told_of(first, noted):
    labels = first + np.arange(12) % 3
    data = ZSLDataset(np.random.default_rng(0).random((12, 4)), labels, np.eye(6))
    assert any("were they counted from 1?" in note for note in data.notes) == noted
