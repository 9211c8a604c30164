"""ZSLDataset: validated once, immutable, and never copying what is on disk."""

import copy
import pickle

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.features.rows import iter_blocks


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
        patch.setattr("fgen.features.rows.BLOCK_BYTES", step_bytes)
        features = np.arange(n_rows * 3).reshape(n_rows, 3)
        assert np.array_equal(np.concatenate(list(iter_blocks(features))), features)


@pytest.mark.parametrize(("first", "noted"), [(1, True), (0, False), (2, False)])
def test_labels_that_seem_to_be_counted_from_one_are_told_of(first, noted):
    labels = first + np.arange(12) % 3
    data = ZSLDataset(np.random.default_rng(0).random((12, 4)), labels, np.eye(6))
    assert any("were they counted from 1?" in note for note in data.notes) == noted


# Labels and names.


@pytest.mark.parametrize("kind", ["text", "bytes", "objects", "objects of bytes"])
def test_labels_by_name_are_looked_up_in_class_names_whatever_their_alphabet(kind):
    names, positions = np.array(["zébra", "ant", "mule"]), np.array([0, 0, 1, 1, 2, 2])
    encoded = np.array([name.encode() for name in names])
    labels = {"text": names, "bytes": encoded, "objects": names.astype(object), "objects of bytes": encoded.astype("O")}
    data = small(labels=labels[kind][positions], class_names=names)
    assert data.labels.tolist() == positions.tolist(), "not by the alphabet: ant is 1"
    assert data.labels.dtype == np.int64
    assert small(labels=labels[kind][positions].tolist(), class_names=encoded).labels.tolist() == positions.tolist()


def test_the_remedy_for_labels_by_name_does_it_when_it_is_copied():
    names = np.array(["zebra", "ant", "mule"])
    labels = names[[0, 0, 1, 1, 2, 2]]
    with pytest.raises(InputError, match=r"the text 'zebra'; .* give class_names=\[\.\.\.\], a name for each row"):
        small(labels=labels)
    assert [names[k] for k in small(labels=labels, class_names=names).labels] == labels.tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["a", "a", "b", "b", "c", "cc"]}, "the label 'cc'; .* in class_names. Did you mean 'c'"),
        ({"labels": ["a", "a", "b", "b", "c", None]}, "labels holds None in row 5; .* from features as well"),
        ({"labels": [0.0, 0, 1, 1, 2, np.nan]}, "type float64; .* as row 5, from features as well"),
        ({"labels": [0.0, 0, 1, 1, 2, 2]}, "type float64; .* numpy.asarray\\(labels, dtype=int\\)"),
        ({"labels": np.ma.array([0, 0, 1, 1, 2, 2], mask=[0, 0, 0, 0, 0, 1])}, "labels is a masked array that hides 1"),
        ({"class_names": [b"a", b"b", b"\xff"]}, r"class_names\[2\] is b'\\xff'; expected text"),
        ({"class_names": [0, 1, 2]}, r"class_names\[0\] is 0, no text"),
        ({"class_names": ["a", "b", None]}, r"class_names\[2\] is None, no text"),
        ({"class_names": ["a", "b", "c\0"]}, "without NUL"),
        ({"class_names": ["a", "b", "\ud800"]}, "lone surrogates"),
        ({"features": np.ma.array(np.zeros((6, 2)), mask=np.eye(6, 2))}, "features is a masked array that hides 2"),
        ({"class_embeddings": np.eye(3) * 1j}, "class_embeddings holds complex numbers"),
        ({"class_embeddings": [[1.0], [1.0, 2.0], [3.0]]}, "class_embeddings is no array of numbers"),
        ({"class_embeddings": {"a": torch.eye(3).to_sparse()}}, r"class_embeddings\['a'\] is a tensor of layout"),
        ({"class_embeddings": {"\ud800": np.eye(3)}}, "a kind of class_embeddings"),
        ({"splits": {"trainval": np.arange(6) < 4}}, "type bool; .* Of a mask take numpy.flatnonzero"),
    ],
)
def test_labels_and_names_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        small(**({"class_names": ["a", "b", "c"]} | changes))


def test_whole_numbers_that_are_objects_are_labels_and_bytes_are_names():
    data = small(labels=np.array([0, 0, 1, 1, 2, 2], dtype=object), class_names=[b"a", "b", "\u00e9".encode()])
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names == ("a", "b", "é")
    assert data.with_embedding(b"attributes").embedding == ("attributes",)
    assert data.with_classes([b"d"], np.ones((1, 3))).class_names == ("a", "b", "é", "d")


@pytest.mark.parametrize("change", [lambda e: e.requires_grad_(), lambda e: e.bfloat16()])
def test_tensors_are_embeddings_as_arrays_are(change):
    assert np.array_equal(small(class_embeddings=change(torch.eye(3))).class_embeddings, np.eye(3))


def test_a_name_that_no_file_can_hold_is_mended_and_has_a_fingerprint():
    data = small(name="donn\udce9es", class_names=["a", "b", "c"])
    assert data.name == "donn?es"
    assert data.fingerprint == small(class_names=["a", "b", "c"]).fingerprint


# What class embeddings say.


def test_embeddings_that_are_zero_or_equal_are_told_of_with_their_number_and_three_names():
    names = [f"class {k}" for k in range(12)]
    matrix = np.random.default_rng(0).random((12, 4))
    matrix[[2, 5]] = [[0.0], [-0.0]]
    matrix[[7, 8, 9, 10]] = matrix[6]
    data = small(class_embeddings={"a": matrix, "b": np.eye(12)}, class_names=names)
    (note,) = [note for note in data.notes if "class embeddings" in note]
    assert "2 classes have nothing but zeros ('class 2', 'class 5')" in note
    assert "4 classes have the same one as another class ('class 6', 'class 7', 'class 8', ...)" in note
    assert "picture" not in note
    both = data.with_embedding(["a", "b"])
    assert not [note for note in both.notes if "class embeddings" in note], "the kinds in use differ"
    assert both.with_embedding("a").notes == data.notes
    assert data.validation().notes == (note,)


def test_one_embedding_for_each_picture_is_told_of_as_such():
    labels = np.repeat(np.arange(4), 16)
    features, describe = np.random.default_rng(0).random((64, 3)), np.random.default_rng(1)
    repeated = ZSLDataset(features, labels, describe.random((4, 5))[labels])
    assert "only 4 embeddings differ: is there one for each picture, not for each class?" in "; ".join(repeated.notes)
    captions = ZSLDataset(features, labels, describe.random((64, 5)))
    assert "there are as many as rows of features: is there one for each picture" in "; ".join(captions.notes)
    assert "picture" not in "; ".join(ZSLDataset(features, labels, describe.random((60, 5))).notes)
