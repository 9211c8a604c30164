"""The .mat pair: what the released files look like, and what must not slip through."""

import os
import struct

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fgen.data import xlsa17
from fgen.data.dataset import ZSLDataset
from fgen.data.xlsa17 import read_xlsa17, write_xlsa17
from fgen.errors import InputError
from fgen.io.matlab import open_mat

NAMES = ["zebra", "ant", "grizzly+bear", "002.Laysan_Albatross", "Æpyornis"]
N, D, A, C = 30, 4, 3, 5


def pair(**changes):
    """The variables of a small pair, as MATLAB sees them; a change to None leaves the variable out."""
    draw = np.random.default_rng(0)
    labels = np.arange(N) % C
    seen = np.flatnonzero(labels < 3)
    variables = {
        "features": draw.random((D, N)),
        "labels": (labels + 1)[:, None].astype(np.uint8),
        "att": draw.random((A, C)),
        "original_att": draw.random((A, C)) * 100,
        "allclasses_names": np.array([*NAMES, None], dtype=object)[:-1, None],
        "trainval_loc": (seen[:12] + 1)[:, None].astype(np.uint16),
        "train_loc": (seen[:12][labels[seen[:12]] < 2] + 1)[:, None].astype(np.uint16),
        "val_loc": (seen[:12][labels[seen[:12]] == 2] + 1)[:, None].astype(np.uint16),
        "test_seen_loc": (seen[12:] + 1)[:, None].astype(np.uint16),
        "test_unseen_loc": (np.flatnonzero(labels >= 3) + 1)[:, None].astype(np.uint16),
    }
    return {key: value for key, value in (variables | changes).items() if value is not None}


def write_v5(folder, variables, compressed=False):
    folder.mkdir(exist_ok=True)
    rows = {key: variables[key] for key in ("features", "labels") if key in variables}
    classes = {key: value for key, value in variables.items() if key not in rows}
    scipy.io.savemat(folder / "res101.mat", rows, do_compression=compressed)
    scipy.io.savemat(folder / "att_splits.mat", classes, do_compression=compressed)
    return folder


def write_v73(folder, variables, chunks=None):
    """The pair as MATLAB writes it with -v7.3: a user block, transposed matrices, names behind references."""
    folder.mkdir(exist_ok=True)
    rows = {key: variables[key] for key in ("features", "labels") if key in variables}
    classes = {key: value for key, value in variables.items() if key not in rows}
    for name, contents in (("res101.mat", rows), ("att_splits.mat", classes)):
        with h5py.File(folder / name, "w", userblock_size=512) as file:
            for key, value in contents.items():
                if value.dtype != object:
                    file.create_dataset(key, data=value.T, chunks=chunks if key == "features" else None)
                    continue
                texts = file.create_group("#refs#")
                references = np.zeros(value.T.shape, dtype=h5py.ref_dtype)
                for at, text in enumerate(value.ravel()):
                    units = np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
                    references[0, at] = texts.create_dataset(str(at), data=units).ref
                file.create_dataset(key, data=references)
        with open(folder / name, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(126) + b"IM")
    return folder


@pytest.mark.parametrize("write", [write_v5, lambda f, v: write_v5(f, v, compressed=True), write_v73])
def test_both_versions_give_the_same_rows_names_and_zero_based_indices(tmp_path, write):
    variables = pair()
    data = read_xlsa17(write(tmp_path / "AWA", variables))
    assert data.name == "AWA"
    assert data.class_names == tuple(NAMES)  # in the order of the columns of att, not of the alphabet
    assert list(data.embeddings) == ["att", "original_att"]
    assert np.array_equal(data.rows(np.arange(N)), variables["features"].T.astype(np.float32))
    assert np.array_equal(data.class_embeddings, variables["att"].T.astype(np.float32))
    assert data.labels[0] == 0
    assert np.array_equal(data.splits["trainval"], variables["trainval_loc"].ravel() - 1)
    assert np.array_equal(data.splits["val"], variables["val_loc"].ravel() - 1)
    assert data.notes == ()


def test_contiguous_features_of_version_73_stay_on_disk(tmp_path):
    data = read_xlsa17(write_v73(tmp_path / "a", pair()))
    assert isinstance(data.features, np.memmap)
    chunked = read_xlsa17(write_v73(tmp_path / "b", pair(), chunks=(7, 2)))
    assert isinstance(chunked.features, h5py.Dataset)
    assert chunked.fingerprint == data.fingerprint


def test_missing_train_and_val_are_made_from_the_seed(tmp_path):
    folder = write_v5(tmp_path / "CUB", pair(train_loc=None, val_loc=None))
    data = read_xlsa17(folder, seed=3)
    assert "made with seed 3" in data.notes[0]
    assert set(data.labels[data.splits["val"]]).isdisjoint(data.labels[data.splits["train"]])
    assert np.array_equal(np.union1d(data.splits["train"], data.splits["val"]), data.splits["trainval"])


def test_train_rows_that_are_test_rows_are_left_out_and_told(tmp_path):
    usual = pair()
    leaking = np.concatenate([usual["train_loc"], usual["test_seen_loc"][:2]])
    data = read_xlsa17(write_v5(tmp_path / "SUN", pair(train_loc=leaking)))
    assert not np.intersect1d(data.splits["train"], data.splits["test_seen"]).size
    assert "2 rows outside 'trainval' (2 of them test rows)" in data.notes[0]


def test_a_release_without_names_and_original_att_is_read(tmp_path):
    data = read_xlsa17(write_v5(tmp_path / "FLO", pair(allclasses_names=None, original_att=None)))
    assert data.class_names is None
    assert list(data.embeddings) == ["att"]


def test_a_class_without_images_is_unseen(tmp_path):
    draw = np.random.default_rng(1)
    names = np.array([*NAMES, "okapi", None], dtype=object)[:-1, None]
    folder = write_v5(tmp_path / "x", pair(att=draw.random((A, 6)), original_att=None, allclasses_names=names))
    assert list(read_xlsa17(folder).unseen) == [3, 4, 5]


def bad(key, change):
    """A pair in which one variable is ``change`` of what it should be."""
    return pair(**{key: change(pair()[key])})


def set_first(value):
    def change(array):
        array = array.astype(np.float64)
        array[0, 0] = value
        return array

    return change


@pytest.mark.parametrize("write", [write_v5, write_v73])
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (bad("labels", lambda x: x - 1), ["res101.mat", "labels[1] is 0", "add 1"]),
        (bad("trainval_loc", lambda x: x.astype(int) - 1), ["att_splits.mat", "trainval_loc[1] is 0", "add 1"]),
        (bad("labels", set_first(6)), ["labels[1] is 6", "1 to 5"]),
        (bad("labels", set_first(1.5)), ["labels[1] is 1.5", "whole numbers"]),
        (bad("labels", set_first(np.nan)), ["labels[1] is nan"]),
        (bad("test_seen_loc", set_first(31)), ["test_seen_loc[1] is 31", "1 to 30, the rows"]),
        (bad("features", lambda x: x.T), ["res101.mat", "looks transposed"]),
        (bad("features", lambda x: x[:, :-1]), ["29 columns", "30 entries"]),
        (bad("features", set_first(np.inf)), ["res101.mat", "features hold inf in row 0, column 0"]),
        (bad("features", set_first(1e300)), ["features hold inf in row 0"]),
        (bad("att", set_first(np.nan)), ["att_splits.mat", "'att'", "nan in row 0, column 0"]),
        (pair(att=np.ones((5, 3)), original_att=None), ["att has 3 columns", "5 names", "looks transposed"]),
        (bad("original_att", lambda x: x[:, 1:]), ["original_att has 4 columns and att has 5"]),
        (bad("allclasses_names", lambda x: x[1:]), ["att has 5 columns", "4 names"]),
        (bad("allclasses_names", lambda x: np.where(x == "ant", "zebra", x)), ["'zebra' twice"]),
        (bad("test_unseen_loc", lambda x: pair()["trainval_loc"]), ["res101.mat", "both in 'trainval'"]),
        (pair(att=None), ["att_splits.mat: There is no 'att'", "trainval_loc"]),
        (pair(trainval_loc=None), ["no 'trainval_loc'"]),
        (pair(labels=None), ["no .mat file with 'features' and 'labels'"]),
    ],
)
def test_what_does_not_fit_is_refused_with_file_key_and_offender(tmp_path, write, variables, words):
    folder = write(tmp_path / "x", variables)
    with pytest.raises(InputError) as error:
        read_xlsa17(folder)
    assert [word for word in words if word not in str(error.value)] == []


def test_the_file_with_the_features_is_found_by_its_keys_and_several_are_refused(tmp_path):
    folder = write_v5(tmp_path / "x", pair())
    (folder / "res101.mat").rename(folder / "googlenet.mat")
    scipy.io.savemat(folder / "captions.mat", {"words": np.eye(3)})
    first = read_xlsa17(folder)
    scipy.io.savemat(folder / "vgg.mat", {"features": np.ones((2, N)), "labels": pair()["labels"]})
    with pytest.raises(InputError, match=r"googlenet\.mat, vgg\.mat"):
        read_xlsa17(folder)
    assert read_xlsa17(folder, features_file="googlenet.mat").fingerprint == first.fingerprint
    assert read_xlsa17(folder, features_file="vgg.mat").feature_dim == 2


def test_a_damaged_features_file_is_named_rather_than_overlooked(tmp_path):
    folder = write_v5(tmp_path / "x", pair(), compressed=True)
    content = (folder / "res101.mat").read_bytes()
    (folder / "res101.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"res101\.mat: The file claims an element"):
        read_xlsa17(folder)


def test_cells_nested_without_end_are_refused(tmp_path):
    """A general reader follows them until the stack is gone."""
    folder = write_v5(tmp_path / "x", pair(allclasses_names=None))
    element = b""
    for _ in range(2_000):
        header = np.array([6, 8, 1, 0, 5, 8, 1, 1, 1, 0], "<u4").tobytes()
        element = np.array([14, len(header + element)], "<u4").tobytes() + header + element
    body = np.array([6, 8, 1, 0, 5, 8, 1, 1, 1, 16], "<u4").tobytes() + b"allclasses_names" + element
    with open(folder / "att_splits.mat", "ab") as file:
        file.write(np.array([14, len(body)], "<u4").tobytes() + body)
    with pytest.raises(InputError, match="entry of MATLAB class 1"):
        read_xlsa17(folder)


# What other writers put beside, or in place of, what is needed.


def element(kind, data):
    """An element of version 5: its tag, its data, and zeros up to eight bytes."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix_element(array_class, *parts):
    return element(14, element(6, struct.pack("<II", array_class, 0)) + b"".join(parts))


def matlab_object(name, class_name):
    """A string, table or other object as MATLAB writes it with -v7, but for the packing."""
    content = np.array([0xDD000000, 2, 1, 1, 1, 1], "<u4").tobytes()
    reference = matrix_element(13, element(5, struct.pack("<ii", 6, 1)), element(1, b""), element(6, content))
    return matrix_element(17, *(element(1, text.encode()) for text in (name, "MCOS", class_name)), reference)


def append(path, *elements):
    with open(path, "ab") as file:
        file.write(b"".join(elements))


def without(variables, *keys):
    return {key: value for key, value in variables.items() if key not in keys}


@pytest.mark.parametrize("class_name", ["string", "table", "datetime", "containers.Map", "my.Net"])
def test_an_object_beside_what_is_needed_is_no_reason_to_refuse_the_file(tmp_path, class_name):
    whole = read_xlsa17(write_v5(tmp_path / "plain", pair()))
    folder = write_v5(tmp_path / "x", pair())
    for name in ("res101.mat", "att_splits.mat"):
        append(folder / name, matlab_object("net", class_name), matlab_object("eight_ch", class_name))
    assert read_xlsa17(folder).fingerprint == whole.fingerprint


def test_what_cannot_be_read_is_listed_by_name_where_something_is_missing(tmp_path):
    folder = write_v5(tmp_path / "x", pair(trainval_loc=None))
    append(folder / "att_splits.mat", matlab_object("splits", "table"))
    with pytest.raises(InputError, match=r"no 'trainval_loc'; expected it beside .*att, .*splits \(a table\)"):
        read_xlsa17(folder)
    folder = write_v5(tmp_path / "y", pair(features=None))
    append(folder / "res101.mat", matlab_object("data", "table"))
    with pytest.raises(InputError, match=r"no \.mat file with 'features'.*res101\.mat has data \(a table\), labels"):
        read_xlsa17(folder)


@pytest.mark.parametrize(
    ("key", "class_name", "words"),
    [
        ("allclasses_names", "string", ["a MATLAB string", "allclasses_names = cellstr(allclasses_names)"]),
        ("features", "table", ["a MATLAB table", "features = table2array(features)"]),
        ("features", "datetime", ["'features' is a MATLAB datetime; expected a full matrix"]),
        ("trainval_loc", "containers.Map", ["'trainval_loc' is a MATLAB containers.Map"]),
        ("labels", "categorical", ["a MATLAB categorical", "ismember(cellstr(labels), allclasses_names)"]),
    ],
)
def test_an_object_that_is_needed_is_called_by_its_class_and_has_a_remedy(tmp_path, key, class_name, words):
    folder = write_v5(tmp_path / "v5", pair(**{key: None}))
    name = "res101.mat" if key in ("features", "labels") else "att_splits.mat"
    append(folder / name, matlab_object(key, class_name))
    folder_73 = write_v73(tmp_path / "v73", pair(**{key: np.array([[0xDD000000, 2, 1, 1, 1, 1]], np.uint32)}))
    with h5py.File(folder_73 / name, "r+") as file:
        file[key].attrs["MATLAB_class"] = np.bytes_(class_name)
        file[key].attrs["MATLAB_object_decode"] = np.int32(3)
    for place in (folder, folder_73):
        with pytest.raises(InputError) as error:
            read_xlsa17(place)
        assert [word for word in words if word not in str(error.value)] == []


def test_names_as_a_char_matrix_are_read_as_savemat_writes_a_list(tmp_path):
    data = read_xlsa17(write_v5(tmp_path / "x", pair(allclasses_names=NAMES)))
    assert data.class_names == tuple(NAMES)
    characters = np.array([list(name.ljust(20)) for name in NAMES])
    units = np.vectorize(ord)(characters).astype(np.uint16)
    folder = write_v73(tmp_path / "y", pair(allclasses_names=units))
    with h5py.File(folder / "att_splits.mat", "r+") as file:
        file["allclasses_names"].attrs["MATLAB_class"] = np.bytes_("char")
    assert read_xlsa17(folder).class_names == tuple(NAMES)


def test_names_as_h5py_writes_a_list_are_read(tmp_path):
    folder = write_v73(tmp_path / "x", pair(allclasses_names=None))
    with h5py.File(folder / "att_splits.mat", "r+") as file:
        file["allclasses_names"] = NAMES
    assert read_xlsa17(folder).class_names == tuple(NAMES)


def test_a_list_of_r_as_names_is_told_how_to_become_a_vector(tmp_path):
    folder = write_v5(tmp_path / "x", pair(allclasses_names=None))
    sizes, name = element(5, struct.pack("<ii", 1, 1)), element(1, b"allclasses_names")
    no_fields = [struct.pack("<HHi", 5, 4, 32), element(1, b"")]
    append(folder / "att_splits.mat", matrix_element(2, sizes, name, *no_fields))
    with pytest.raises(InputError, match=r"is a MATLAB struct; .*in R a character vector: unlist\(allclasses_names\)"):
        read_xlsa17(folder)


def test_an_entry_of_several_rows_is_refused_rather_than_mixed(tmp_path):
    names = np.array([*NAMES[1:], np.array(["ab", "cd"]), None], dtype=object)[:-1, None]
    with pytest.raises(InputError, match=r"an entry that is a char matrix of shape \(2, 2\)"):
        read_xlsa17(write_v5(tmp_path / "x", pair(allclasses_names=names)))


def test_a_char_matrix_of_many_rows_without_characters_takes_no_time(tmp_path):
    folder = write_v5(tmp_path / "x", pair(allclasses_names=None))
    sizes, name = element(5, struct.pack("<ii", 2**31 - 1, 0)), element(1, b"allclasses_names")
    append(folder / "att_splits.mat", matrix_element(4, sizes, name, element(16, b"")))
    with pytest.raises(InputError, match="allclasses_names has 0 names"):
        read_xlsa17(folder)


def test_vectors_of_one_dimension_as_r_writes_them_are_columns(tmp_path):
    vectors = [key for key, value in pair().items() if key == "labels" or key.endswith("_loc")]
    whole, folder = read_xlsa17(write_v5(tmp_path / "plain", pair())), tmp_path / "x"
    write_v5(folder, without(pair(), *vectors))
    for key in vectors:
        values = pair()[key].ravel().astype("<f8")
        sizes, name = element(5, struct.pack("<i", len(values))), element(1, key.encode())
        path = folder / ("res101.mat" if key == "labels" else "att_splits.mat")
        append(path, matrix_element(6, sizes, name, element(9, values.tobytes())))
    assert read_xlsa17(folder).fingerprint == whole.fingerprint


def test_the_hdf5_of_octave_is_recognised(tmp_path):
    folder = write_v5(tmp_path / "x", pair())
    with h5py.File(folder / "res101.mat", "w") as file:
        for key in ("features", "labels"):
            group = file.create_group(key)
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["type"], group["value"] = np.bytes_("matrix"), pair()[key].T
    with pytest.raises(InputError, match=r"layout of Octave's save -hdf5; .*with save -v7"):
        read_xlsa17(folder)


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_a_mask_of_rows_is_sent_to_find(tmp_path, write):
    def masked(key, kind):
        mask = np.zeros((N, 1), kind)
        mask[pair()[key].ravel() - 1] = 1
        return pair(**{key: mask})

    for number, variables in enumerate([masked("trainval_loc", np.uint8), masked("test_seen_loc", float)]):
        with pytest.raises(InputError, match=r"looks like a mask: use find\(t") as error:
            read_xlsa17(write(tmp_path / str(number), variables))
        assert "add 1" not in str(error.value)


def test_adding_one_is_advised_only_where_it_helps(tmp_path):
    labels = pair()["labels"]
    with pytest.raises(InputError, match=r"labels\[1\] is 0") as error:  # an image without a class
        read_xlsa17(write_v5(tmp_path / "x", pair(labels=np.where(np.arange(N)[:, None] == 0, 0, labels))))
    assert "add 1" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (scipy.sparse.csc_matrix(np.eye(4, N)), ["a MATLAB sparse matrix", "features = full(features)"]),
        (np.array(["abcd"] * N), ["a MATLAB char matrix", "a full matrix of real numbers"]),
        (np.ones((D, N)) * 1j, ["a MATLAB complex matrix"]),
        ({"a": 1}, ["a MATLAB struct"]),
    ],
)
def test_a_class_of_matlab_is_called_by_its_name(tmp_path, value, words):
    with pytest.raises(InputError) as error:
        read_xlsa17(write_v5(tmp_path / "x", pair(features=value)))
    assert [word for word in words if word not in str(error.value)] == []


def test_labels_by_name_are_numbered_by_the_order_of_the_names_as_the_message_says(tmp_path):
    labels = [NAMES[k] for k in pair()["labels"].ravel() - 1]
    with pytest.raises(InputError, match=r"ismember\(cellstr.*\[\[names\.index\(label\) \+ 1\] for label in labels\]"):
        read_xlsa17(write_v5(tmp_path / "x", pair(labels=np.array(labels))))
    numbered = np.array([[NAMES.index(label) + 1] for label in labels])
    whole = read_xlsa17(write_v5(tmp_path / "plain", pair()))
    assert read_xlsa17(write_v5(tmp_path / "x", pair(labels=numbered))).fingerprint == whole.fingerprint


def test_names_of_attributes_are_no_kind_of_embedding(tmp_path):
    words = np.array(["stripes", "tail", "paws", None], dtype=object)[:-1, None]
    data = read_xlsa17(write_v5(tmp_path / "x", pair(att_names=words)))
    assert list(data.embeddings) == ["att", "original_att"]
    assert "att_names of att_splits.mat wasn't read: it is a MATLAB cell array" in data.notes


names_strategy = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=2,
    max_size=6,
    unique=True,
)


@settings(max_examples=40, deadline=None)
@given(names=names_strategy, width=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_is_written_is_read_back_the_same(tmp_path_factory, names, width, seed):
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(names)), 3)
    features = draw.normal(size=(len(labels), 4)).astype(np.float32)
    seen = np.flatnonzero(labels < len(names) - 1)
    splits = {"trainval": seen[seen % 3 > 0], "test_seen": seen[seen % 3 == 0]}
    embeddings = {"att": draw.normal(size=(len(names), width)), "words": draw.normal(size=(len(names), 2))}
    data = ZSLDataset(features, labels, embeddings, class_names=names, splits=splits)
    folder = tmp_path_factory.mktemp("pair")
    write_xlsa17(data, folder)
    back = read_xlsa17(folder)
    assert back.class_names == data.class_names
    assert back.fingerprint == data.fingerprint


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    kind=st.sampled_from(["u1", "i2", "u2", "i4", "i8", "u8", "f4", "f8"]),
    order=st.sampled_from("<>"),
    compressed=st.booleans(),
)
def test_numbers_are_those_that_scipy_reads(tmp_path_factory, shape, kind, order, compressed):
    path = tmp_path_factory.mktemp("numbers") / "x.mat"
    values = np.arange(shape[0] * shape[1]).reshape(shape).astype(order + kind)
    scipy.io.savemat(path, {"first": values, "second": 1}, do_compression=compressed)
    ours = {name: np.asarray(variable.numbers()).T for name, variable in open_mat(path).items()}
    theirs = scipy.io.loadmat(path)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ("first", "second"))


def test_features_beyond_version_5_are_sent_to_hdf5(tmp_path):
    wide = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape=(300_000, 2048), strides=(0, 0))
    data = ZSLDataset(wide, np.arange(300_000) % 2, np.eye(2), check_finite=False)
    with pytest.raises(InputError, match=r"2,457,600,000 bytes.*\.h5"):
        write_xlsa17(data, tmp_path / "x")
    assert not (tmp_path / "x").exists()


# Overwritten pairs.


def other_pair():
    shifted = pair()["features"] + 10
    return pair(features=shifted, att=pair()["att"] + 10, allclasses_names=None)


def versions(dataset):
    """Of which pair the features and the descriptions are."""
    return {"old" if part.max() < 5 else "new" for part in (dataset.rows(np.arange(N)), dataset.embeddings["att"])}


@pytest.fixture
def old_and_new(tmp_path):
    """A folder with a pair, and the data set that is to replace it."""
    write_v5(tmp_path / "pair", pair())
    return tmp_path / "pair", read_xlsa17(write_v5(tmp_path / "other", other_pair()))


@pytest.mark.parametrize("move", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_a_pair_is_the_old_or_the_new_one_wherever_its_writer_is_killed(old_and_new, move, after):
    folder, new = old_and_new
    child = os.fork()
    if not child:
        replace, moves = os.replace, []

        def replace_and_die(*arguments):
            moves.append(arguments)
            if len(moves) < move or after:
                replace(*arguments)
            if len(moves) == move:
                os._exit(9)

        os.replace = replace_and_die
        write_xlsa17(new, folder, overwrite=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert versions(read_xlsa17(folder)) == ({"old"} if (move, after) == (1, False) else {"new"})
    write_xlsa17(new, folder, overwrite=True)
    assert sorted(os.listdir(folder)) == ["att_splits.mat", "res101.mat"]


def test_a_pair_that_is_overwritten_while_it_is_read_is_the_new_one(old_and_new, monkeypatch):
    folder, new = old_and_new

    def late(path):
        if path.name == "att_splits.mat":
            monkeypatch.undo()
            write_xlsa17(new, folder, overwrite=True)
        return open_mat(path)

    monkeypatch.setattr(xlsa17, "open_mat", late)
    assert versions(read_xlsa17(folder)) == {"new"}


def test_a_pair_that_can_not_be_written_leaves_the_old_one_and_what_else_is_there(old_and_new, monkeypatch):
    folder, new = old_and_new
    (folder / "notes.txt").write_text("mine")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scipy.io, "savemat", full)
    with pytest.raises(InputError, match=r"can't be written to .No space left on device"):
        write_xlsa17(new, folder, overwrite=True)
    assert versions(read_xlsa17(folder)) == {"old"}
    assert sorted(os.listdir(folder)) == ["att_splits.mat", "notes.txt", "res101.mat"]
    with pytest.raises(InputError, match="exists"):
        write_xlsa17(new, folder)
