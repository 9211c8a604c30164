"""Files in and out: what is saved comes back, what is hostile stays out, what is broken is said in one sentence."""

import json
import os
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from fgen import cli
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.data.predictions import Prediction, write_predictions
from fgen.data.tables import read_descriptions_csv, read_embeddings_csv, read_features
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.features.encoder_record import EncoderRecord
from fgen.io.atomic import expect_free
from fgen.io.reading import nearest_sibling
from tests.conftest import tiny


@pytest.fixture(scope="module")
def toy():
    return make_toy(n_seen=6, n_unseen=2, rows_per_class=6)


def two_kinds(toy):
    kinds = {"zebra": toy.class_embeddings, "ant": toy.class_embeddings[:, :3]}
    return ZSLDataset(
        toy.features,
        toy.labels,
        kinds,
        class_names=toy.class_names,
        splits=toy.splits,
        embedding=["ant", "zebra"],
        name="é",
    )


@pytest.mark.parametrize("name", ["x.h5", "x.hdf5", "x.npz", "folder"])
def test_a_data_set_comes_back_the_same(toy, tmp_path, name):
    save_dataset(toy, tmp_path / name)
    back = load_dataset(tmp_path / name)
    assert back.fingerprint == toy.fingerprint
    assert back.class_names == toy.class_names
    assert back.notes == ()  # splits were complete: nothing is made anew
    assert os.listdir(tmp_path) == [name]


RECORD = EncoderRecord("torchvision:resnet50", "0" * 64, 16, {"size": 224, "mean": [0.5]})


@pytest.mark.parametrize("name", ["x.h5", "x.npz"])
def test_a_data_set_remembers_the_encoder_of_its_pictures(toy, tmp_path, name):
    data = ZSLDataset(toy.features, toy.labels, toy.class_embeddings, image_encoder=RECORD)
    save_dataset(data, tmp_path / name)
    back = load_dataset(tmp_path / name)
    assert back.image_encoder == RECORD
    assert back.validation().image_encoder == RECORD
    assert back.notes == (), "nothing in the file goes unread"
    assert back.fingerprint == ZSLDataset(toy.features, toy.labels, toy.class_embeddings).fingerprint
    with pytest.raises(InputError, match="features have 16 columns; expected 9, as torchvision:resnet50 returns"):
        ZSLDataset(toy.features, toy.labels, toy.class_embeddings, image_encoder=replace(RECORD, dim=9))


def test_mat_files_cannot_hold_the_encoder_and_a_note_says_so(toy, tmp_path, caplog):
    data = ZSLDataset(
        toy.features,
        toy.labels,
        toy.class_embeddings,
        splits=toy.splits,
        class_names=toy.class_names,
        image_encoder=RECORD,
    )
    save_dataset(data, tmp_path / "pair")
    assert ".mat files don't hold that the features are of torchvision:resnet50" in caplog.text
    assert load_dataset(tmp_path / "pair").image_encoder is None


def test_a_damaged_record_of_an_encoder_is_refused(toy, tmp_path):
    save_dataset(toy, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["image_encoder"] = '{"name": 3}'
    np.savez(
        tmp_path / "x.npz",
        features=toy.features,
        labels=toy.labels,
        class_embeddings=toy.class_embeddings,
        image_encoder=["no JSON"],
    )
    for name in ("x.h5", "x.npz"):
        with pytest.raises(InputError, match="is no record of an encoder"):
            load_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["x.h5", "x.npz"])
def test_kinds_keep_their_order_and_those_in_use(toy, tmp_path, name):
    save_dataset(two_kinds(toy), tmp_path / name)
    back = load_dataset(tmp_path / name)
    assert list(back.embeddings) == ["zebra", "ant"]
    assert back.embedding == ("ant", "zebra")
    assert back.name == "é"
    assert load_dataset(tmp_path / name, "zebra").embedding == ("zebra",)


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2, unique=True),
    kind=st.sampled_from(["f2", "f4", "f8", "i4"]),
    suffix=st.sampled_from([".h5", ".npz"]),
)
def test_any_names_and_number_types_come_back(tmp_path_factory, names, kind, suffix):
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    features = np.arange(len(names) * 6).reshape(-1, 3).astype(kind)
    data = ZSLDataset(features, np.arange(2 * len(names)) % len(names), np.eye(len(names)), class_names=names)
    save_dataset(data, path)
    assert load_dataset(path).class_names == tuple(names)
    assert load_dataset(path).fingerprint == data.fingerprint


def test_features_of_an_h5_stay_on_disk(toy, tmp_path):
    save_dataset(toy, tmp_path / "x.h5")
    features = load_dataset(tmp_path / "x.h5").features
    assert isinstance(features, np.memmap)
    assert not features.flags.writeable


def test_chunked_features_stay_on_disk_and_readable(toy, tmp_path):
    save_dataset(toy, tmp_path / "x.h5")
    rewrite(tmp_path / "x.h5", "features", compression="gzip")
    data = load_dataset(tmp_path / "x.h5")
    assert isinstance(data.features, h5py.Dataset)
    assert data.fingerprint == toy.fingerprint


def test_a_file_is_not_overwritten_unasked_and_a_failed_save_leaves_the_old_one(toy, tmp_path):
    path = tmp_path / "x.h5"
    save_dataset(toy, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists"):
        save_dataset(toy, path)

    class Breaking:
        shape, dtype = (12, 2), np.dtype("f4")

        def __len__(self):
            return 12

        def __getitem__(self, key):
            raise RuntimeError("the cable was pulled")

    broken = ZSLDataset(Breaking(), np.arange(12) % 2, np.eye(2), check_finite=False)
    with pytest.raises(RuntimeError):
        save_dataset(broken, path, overwrite=True)
    assert path.read_bytes() == before
    save_dataset(two_kinds(toy), path, overwrite=True)
    assert load_dataset(path).name == "é"
    assert os.listdir(tmp_path) == ["x.h5"]


def test_saving_over_the_file_being_read_is_safe(toy, tmp_path):
    path = tmp_path / "x.h5"
    save_dataset(toy, path)
    save_dataset(load_dataset(path), path, overwrite=True)
    assert load_dataset(path).fingerprint == toy.fingerprint


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("emojy", ["'emojy' is no data set", "'emoji' or 'toy'"]),
        ("data/awa.h5", ["Did you mean", "awa1.h5"]),
        ("nowhere/x.h5", ["nowhere", "doesn't exist either"]),
        ("data/awa1.txt", ["ends in '.txt'"]),
        ("data", ["no .mat file with 'features'"]),
        ("a\0b", ["no data set and no file"]),
        ("n" * 5000, ["no data set and no file"]),
    ],
)
def test_an_unknown_source_says_what_there_is(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "awa1.h5").touch()
    (tmp_path / "data" / "awa1.txt").touch()
    with pytest.raises(InputError) as error:
        load_dataset(source)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_file_that_is_not_there_names_a_sibling_only_where_one_is_near(tmp_path):
    for name in ("own.npz", "toy.h5", "toy.npz", "toy.csv", "att_splits.mat"):
        (tmp_path / name).touch()
    for missing, near in (
        ("nothing.npy", ""),
        ("two.npy", ""),
        ("ow.npz", "own.npz"),
        ("toy.npy", "toy.npz"),
        ("att_split.mat", "att_splits.mat"),
    ):
        assert nearest_sibling(tmp_path / missing) == (f"Did you mean {tmp_path / near}?" if near else ""), missing


@pytest.mark.parametrize(("words", "overwrite"), [("--overwrite", False), ("overwrite=True", False), ("regular", True)])
def test_what_is_there_already_is_refused_with_what_each_door_calls_overwriting(tmp_path, words, overwrite):
    there = tmp_path if overwrite else tmp_path / "x.csv"
    there.touch()
    with pytest.raises(InputError, match=words):
        expect_free(there, overwrite=overwrite)


@pytest.fixture
def french(tmp_path):
    """A folder whose name is Latin-1, as many an older disk has them, and no UTF-8."""
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    return folder


@pytest.mark.parametrize("name", ["x.h5", "x.npz", "pair"])
def test_a_source_whose_name_is_no_utf_8_is_read_and_converted(toy, french, tmp_path, name):
    source = french / name.replace("x", os.fsdecode(b"\xe9"))
    save_dataset(ZSLDataset(toy.features, toy.labels, toy.class_embeddings, splits=toy.splits), source)
    if name == "x.npz":  # NumPy's own, which has no name in it
        with np.load(source) as arrays:
            np.savez(source, **{key: value for key, value in arrays.items() if key != "name"})
        assert load_dataset(source).name == "?"
    for target in ("a.h5", "a.npz", "a"):
        save_dataset(load_dataset(source), tmp_path / target)
        assert np.array_equal(load_dataset(tmp_path / target).features, toy.features)


def test_a_run_in_a_folder_whose_name_is_no_utf_8_comes_to_its_end(toy, french, tmp_path, monkeypatch):
    save_dataset(make_toy(n_seen=6, n_unseen=2, rows_per_class=20), french)
    config = {"dataset": {"path": "."}, "model": {"name": "clswgan"} | tiny("clswgan"), "classifier": {"epochs": 1}}
    (french / "c.toml").write_text(tomli_w.dumps(config | {"bank": {"n_per_class": 3}, "protocol": {"evaluations": 1}}))
    monkeypatch.chdir(french)
    assert cli.main(["run", "c.toml", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["dataset"]["name"] == "donn?es"
    assert cli.main(["run", "c.toml", "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.h5")
    with pytest.raises(InputError, match="no regular file"):
        load_dataset(tmp_path / "x.h5")


def rewrite(path, name, **how):
    with h5py.File(path, "r+") as file:
        values = file[name][...]
        del file[name]
        file.create_dataset(name, **{"data": values, **how})


def external_link(path, outside):
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file["labels"] = h5py.ExternalLink(outside, "labels")


def soft_link(path, outside):
    with h5py.File(path, "r+") as file:
        file["splits/val_seen"].file.move("labels", "other")
        file["labels"] = h5py.SoftLink("/other")


def link_among_splits(path, outside):
    with h5py.File(path, "r+") as file:
        del file["splits/val"]
        file["splits/val"] = h5py.ExternalLink(outside, "splits/val")


def external_storage(path, outside):
    rewrite(path, "labels", data=None, shape=(48,), dtype="i4", external=[("secret.bin", 0, 192)])


def virtual_dataset(path, outside):
    with h5py.File(path, "r+") as file:
        del file["labels"]
        layout = h5py.VirtualLayout((48,), "i4")
        layout[:] = h5py.VirtualSource(outside, "labels", (48,))
        file.create_virtual_dataset("labels", layout)


def giant_claim(path, outside):
    rewrite(path, "features", data=None, shape=(10**12, 16), dtype="f4", chunks=(64, 16))


def giant_contiguous_claim(path, outside):
    rewrite(path, "labels", data=None, shape=(10**12,), dtype="i4")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (external_link, "'labels' is a link to elsewhere"),
        (soft_link, "'labels' is a link to elsewhere"),
        (link_among_splits, "'val' is a link to elsewhere"),
        (external_storage, "keeps its data in another file"),
        (virtual_dataset, "virtual dataset"),
        (giant_claim, "doesn't hold that much data"),
        (giant_contiguous_claim, "doesn't hold that much data"),
    ],
)
def test_an_h5_that_points_outside_or_claims_too_much_is_refused(toy, tmp_path, harm, words):
    for name in ("x.h5", "outside.h5"):
        save_dataset(toy, tmp_path / name)
    (tmp_path / "secret.bin").write_bytes(bytes(192))
    harm(tmp_path / "x.h5", str(tmp_path / "outside.h5"))
    with pytest.raises(InputError, match=words):
        load_dataset(tmp_path / "x.h5")


@pytest.mark.parametrize("text", [b"fgen-dataset", b"class 03"])
def test_a_text_that_claims_gigabytes_is_refused_before_hdf5_allocates_them(toy, tmp_path, text):
    """A text of variable length is a length, the address of a heap, and its number there."""
    path = tmp_path / "x.h5"
    save_dataset(toy, path)
    content = bytearray(path.read_bytes())
    heap = content.rindex(b"GCOL", 0, content.index(text))
    number = int.from_bytes(content[content.index(text) - 16 :][:2], "little")
    reference = heap.to_bytes(8, "little") + number.to_bytes(4, "little")
    at = content.index(len(text).to_bytes(4, "little") + reference)
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"text of more than 16,384 bytes|string of 4,294,967,295 bytes"):
        load_dataset(path)


def test_a_bank_given_as_a_data_set_is_sent_where_it_belongs(tmp_path):
    with h5py.File(tmp_path / "bank.h5", "w") as file:
        file.attrs["format"] = "fgen-bank"
    with pytest.raises(InputError, match="fgen evaluate"):
        load_dataset(tmp_path / "bank.h5")


def test_a_plain_h5_is_told_a_way_in_that_works(toy, tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        for name in ("features", "labels", "class_embeddings"):
            file[name] = getattr(toy, name)
    with pytest.raises(InputError, match=r"no attribute 'format'.*numpy\.savez: features, labels, class_embeddings"):
        load_dataset(tmp_path / "own.h5")
    with h5py.File(tmp_path / "own.h5") as file:
        np.savez(tmp_path / "own.npz", **{name: file[name][:] for name in file})
    assert np.array_equal(load_dataset(tmp_path / "own.npz").labels, toy.labels)


def test_objects_in_an_npz_are_never_unpickled(toy, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    np.savez(tmp_path / "x.npz", features=np.array([[Bomb()]], dtype=object), labels=[0], class_embeddings=[[1.0]])
    with pytest.raises(InputError, match="Python objects"):
        load_dataset(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.array([[Bomb()]], dtype=object))
    with pytest.raises(InputError):
        read_features(tmp_path / "x.npy")
    assert not (tmp_path / "boom").exists()


def test_an_npz_array_that_claims_more_than_its_member_holds_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        with archive.open("features.npy", "w") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)}
            np.lib.format.write_array_header_1_0(stream, header)
        archive.writestr("labels.npy", b"")
    with pytest.raises(InputError, match="doesn't hold that much data"):
        load_dataset(tmp_path / "x.npz")


def test_a_small_npz_that_unpacks_to_much_memory_is_refused_unread(toy, tmp_path):
    own = {"labels": toy.labels, "class_embeddings": toy.class_embeddings}
    np.savez_compressed(tmp_path / "x.npz", **own, features=np.zeros((len(toy.labels), 400_000), np.float32))
    with pytest.raises(InputError, match=r"'features' claims 76,800,128 bytes and is packed in .* Write it with numpy"):
        load_dataset(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "x.npz", **own, features=np.zeros((len(toy.labels), 50_000), np.float32))
    assert load_dataset(tmp_path / "x.npz").feature_dim == 50_000, "a small one may be packed as tightly as can be"


def test_an_npz_whose_arrays_are_the_same_bytes_is_refused(toy, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("features", "labels", "class_embeddings"):
            with archive.open(f"{name}.npy", "w") as stream:
                np.save(stream, getattr(toy, name))
        archive.filelist += archive.filelist[:1] * 9
    with pytest.raises(InputError, match="has arrays that share their bytes"):
        load_dataset(tmp_path / "x.npz")


def test_arrays_of_an_npz_that_nothing_reads_are_told_of_and_splits_by_another_name_refused(toy, tmp_path):
    own = {"features": toy.features[:], "labels": toy.labels, "class_embeddings": toy.class_embeddings}
    np.savez(tmp_path / "own.npz", **own, image_files=np.array(["a.png"]))
    assert "arrays that weren't read: image_files" in load_dataset(tmp_path / "own.npz").notes
    np.savez(tmp_path / "own.npz", **own, trainval=toy.splits["trainval"])
    with pytest.raises(InputError, match=r"has an array 'trainval'; expected 'splits\.trainval'"):
        load_dataset(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", **own | {"labels": toy.labels + 1})
    with pytest.raises(InputError, match="They seem to count from 1: subtract 1"):
        load_dataset(tmp_path / "own.npz")


def test_an_npz_that_numpy_wrote_is_read(toy, tmp_path):
    np.savez_compressed(
        tmp_path / "x.npz",
        **{"features": toy.features, "labels": toy.labels, "class_embeddings": toy.class_embeddings},
        **{f"splits.{name}": rows for name, rows in toy.splits.items()},
    )
    data = load_dataset(tmp_path / "x.npz")
    assert data.embedding == ("attributes",)
    assert np.array_equal(data.splits["test_unseen"], toy.splits["test_unseen"])


@pytest.mark.parametrize("kind", ["U", "S"])
def test_an_npz_may_name_its_labels_and_hold_its_names_as_bytes(toy, tmp_path, kind):
    names = np.array([f"sort {k}" for k in range(toy.n_classes)][::-1]).astype(kind)
    own = {"features": toy.features[:], "class_embeddings": toy.class_embeddings, "name": np.array(b"donn\xe9es")}
    np.savez(tmp_path / "own.npz", **own, labels=names[toy.labels], class_names=names)
    data = load_dataset(tmp_path / "own.npz")
    assert data.labels.tolist() == toy.labels.tolist()
    assert data.class_names[0] == f"sort {toy.n_classes - 1}"
    save_dataset(data, tmp_path / "own.h5")
    back = load_dataset(tmp_path / "own.h5")
    assert (back.fingerprint, back.name) == (data.fingerprint, "donn?es")


@pytest.mark.parametrize("name", ["ant\0", "\ud800"])
def test_names_that_no_hdf5_file_holds_are_refused_wherever_they_come_from(toy, tmp_path, name):
    names = [name + "x", *toy.class_names[1:]]
    own = {"features": toy.features[:], "labels": toy.labels, "class_embeddings": toy.class_embeddings}
    np.savez(tmp_path / "own.npz", **own, class_names=np.array(names))
    with pytest.raises(InputError, match=r"class_names\[0\] .* without NUL and lone surrogates"):
        load_dataset(tmp_path / "own.npz")
    if "\0" in name:
        (tmp_path / "new.csv").write_text(f"bee,1,2\n{name},1,2\n")
        with pytest.raises(InputError, match=r"line 2: the class's name is 'ant\\x00'; expected text without NUL"):
            read_embeddings_csv(tmp_path / "new.csv")


def test_a_folder_whose_name_is_no_utf8_gives_a_name_that_can_be_written(toy, tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/donn\xe9es")
    save_dataset(toy, folder)
    data = load_dataset(folder)
    assert data.name == "donn?es"
    save_dataset(data, tmp_path / "x.h5")
    assert load_dataset(tmp_path / "x.h5").name == "donn?es"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no classes"),
        (b"name,a,b\n", "no classes"),
        (b"ant,1,2\nant,3,4\n", "line 2: 'ant' is already in line 1"),
        (b"ant,1,2\nbee,3\n", "line 2: 'bee' has 1 numbers; expected 2"),
        (b"ant,1,two\n", "line 1, column 3, is 'two'"),
        (b"name,a,b\nant,1,nan\n", "line 2, column 3, is 'nan'"),
        (b"ant,1,1e39\n", "'1e39'"),
        (b"ant,1,2\nbee,\xff,2\n", "line 2, isn't UTF-8"),
        (b"ant,1,2\n,3,4\n", "line 2, has no class name"),
        (b"zebra,O.5,0.5\nant,1,2\n", "line 1, column 2, is 'O.5'"),  # a slip of the pen is no header
        (b"ant;1;2\n", "line 1: 'ant;1;2' has 0 numbers"),
        (b"ant;1;2\n", "Save the table with commas"),
        (b"okapi,a striped browser\nbear,brown\n", "Of descriptions in words, fgen embed makes numbers"),
        (b"name,description\nokapi,a striped browser\n", "Of descriptions in words, fgen embed makes numbers"),
        (b"okapi,1,2\nbear,a brown thing\n", "Of descriptions in words, fgen embed makes numbers"),
        (b"a;" * 900 + b"\n", "a;a;a;…' has 0 numbers"),
        (b"okapi,a striped browser\n", "Of descriptions in words, fgen embed makes numbers"),
        (b"ant,1," + b"9" * 200_000, "line 1: field larger"),
    ],
)
def test_a_csv_of_classes_is_refused_by_line(tmp_path, content, words):
    (tmp_path / "new.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"no classes|line") as error:
        read_embeddings_csv(tmp_path / "new.csv")
    assert words in str(error.value)


def test_a_csv_of_another_width_names_the_width_expected(tmp_path):
    (tmp_path / "new.csv").write_text("okapi,1,2,3\n")
    with pytest.raises(InputError, match="has 3 numbers; expected 85"):
        read_embeddings_csv(tmp_path / "new.csv", width=85)


@pytest.mark.parametrize(
    "content", ['\ufeffname,a,b\n"Bear, brown",1,-2e-1\r\n\r\nÖkapi, 0 ,3\n', '"Bear, brown",1,-.2\nÖkapi,0,3']
)
def test_a_csv_is_read_with_or_without_header_quotes_and_byte_order_mark(tmp_path, content):
    (tmp_path / "new.csv").write_text(content, encoding="utf-8")
    names, matrix = read_embeddings_csv(tmp_path / "new.csv")
    assert names == ["Bear, brown", "Ökapi"]
    assert np.array_equal(matrix, np.array([[1, -0.2], [0, 3]], np.float32))


def test_the_header_that_pandas_counts_is_no_class(tmp_path):
    (tmp_path / "new.csv").write_text("name,0,1,2,3\nant,0,1,2,3\n")
    assert read_embeddings_csv(tmp_path / "new.csv")[0] == ["ant"]
    (tmp_path / "new.csv").write_text("ant,0,1\n")
    assert read_embeddings_csv(tmp_path / "new.csv")[0] == ["ant"]


@pytest.mark.parametrize(
    "header",
    [
        ",0,1,2",  # pandas: DataFrame.to_csv
        "name,0,1,2",  # with the index named
        "0,1,2,3",  # with the names as a column, index=False
        '"","1","2","3"',  # R: write.csv of a matrix with column names 1:3
        '"1","2","3"',  # write.table of it, one cell short
        '"name","1","2","3"',  # write.csv of data.frame(name, matrix, check.names=FALSE)
        "1,2,3,4",
    ],
)
def test_a_header_that_counts_its_columns_is_no_class(tmp_path, header):
    (tmp_path / "new.csv").write_text(f"{header}\nant,0.1,0.3,0.5\nbee,0.2,0.4,0.6\n")
    for width in (None, 3):
        names, matrix = read_embeddings_csv(tmp_path / "new.csv", width=width)
        assert names == ["ant", "bee"]
        assert matrix.shape == (2, 3)


def test_a_long_header_that_counts_from_one_is_no_class_and_a_first_class_that_counts_is(tmp_path):
    (tmp_path / "new.csv").write_text("animals,1,2,3,4,5\nant,1,2,3,4,5\n")
    assert read_embeddings_csv(tmp_path / "new.csv")[0] == ["ant"]
    for content in (
        "ant,1,2,3\nbee,4,5,6\n",
        "7,1,2\n8,3,4\n",
        "0,1\n1,2\n",
        "class 1,5\nclass 2,6\n",
        "a; b,1\nc,2\n",
    ):
        (tmp_path / "new.csv").write_text(content)
        assert len(read_embeddings_csv(tmp_path / "new.csv")[0]) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ant 0.1 0.2\nbee 0.3 0.4\n", "expected at least 1, separated by commas. Save the table with commas"),  # GloVe
        ("2 2\nant 0.1 0.2\n", "separated by commas. Save the table with commas"),  # word2vec
        ("ant\t0.1\t0.2\n", "Save the table with commas"),
        ("ant;0,5;0,25\nbee;0,1;0,2\n", "and points in its numbers"),
        ("ant;0,5;0,25;1,5\nbee;0,1;0,2;1,5\n", "line 1: 'ant;0' has 3 numbers"),  # not taken for a header
        ("ant;0,5\nbee;0,1\n", "and points in its numbers"),  # not taken for a class with one number
        ("name;a\nant;0,5\n", "Save the table with commas"),
        ("ant\t0,5\t0,25\n", "and points in its numbers"),
        ('ant,"0,5","0,25"\n', "line 1, column 2, is '0,5'; expected a finite number. Write numbers with a point"),
        ('name,a,b\nant,"0,5","0,25"\n', "Write numbers with a point"),
    ],
)
def test_a_table_of_numbers_in_another_form_is_not_sent_to_embed(tmp_path, content, words):
    (tmp_path / "new.csv").write_text(content)
    with pytest.raises(InputError, match="line") as error:
        read_embeddings_csv(tmp_path / "new.csv")
    assert words in str(error.value)
    assert "fgen embed" not in str(error.value)


def test_descriptions_between_tabs_are_refused_rather_than_taken_for_names(tmp_path):
    (tmp_path / "new.csv").write_text("okapi\ta striped browser\n")
    with pytest.raises(InputError, match="has no comma"):
        read_descriptions_csv(tmp_path / "new.csv")


def test_predictions_are_written_whole_or_not_at_all(tmp_path):
    path, wrong = tmp_path / "p.csv", Prediction(1, 0, "bee", "half", 1, 0.5)
    with pytest.raises(ValueError, match="format code"):
        write_predictions(path, [Prediction(0, 1, "ant", 0.5, 1, 0.5), wrong])
    assert os.listdir(tmp_path) == []
    second = Prediction(1, 0, "ant", 1 / 3, 1, 0.5)
    write_predictions(path, [Prediction(0, np.int64(1), "bear, brown", np.float32(0.25), 1, 1.0), second])
    header = "row,class_id,class_name,score,rank,probability"
    assert path.read_text() == f'{header}\n0,1,"bear, brown",0.25,1,1\n1,0,ant,0.333333,1,0.5\n'


def test_features_to_predict_on_stay_on_disk_and_bring_their_labels(toy, tmp_path):
    save_dataset(toy, tmp_path / "x.h5")
    np.save(tmp_path / "x.npy", toy.features)
    np.savez(tmp_path / "x.npz", features=toy.features)
    features, labels = read_features(tmp_path / "x.h5")
    assert isinstance(features, np.memmap)
    assert np.array_equal(labels, toy.labels)
    assert isinstance(read_features(tmp_path / "x.npy")[0], np.memmap)
    assert read_features(tmp_path / "x.npz")[1] is None


def test_features_to_predict_on_must_be_finite(toy, tmp_path):
    features = np.array(toy.features)
    features[7, 3] = np.nan
    np.save(tmp_path / "x.npy", features)
    with pytest.raises(InputError, match="nan in row 7, column 3"):
        read_features(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ant", "bee", "ant"]),
        np.array([0, np.nan, 1]),
        np.array([0, 1]),
        np.array([b"ant", b"bee", b"ant"]),
        np.array(["ant", None, 3], dtype=object),
    ],
    ids=["names", "NaN", "too few", "bytes", "objects"],
)
def test_labels_of_features_to_predict_on_are_no_reason_to_refuse_them(tmp_path, labels):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "x.npz", features=features, labels=labels)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = features
        file["labels"] = labels if labels.dtype.kind not in "UO" else [str(label) for label in labels]
    for name in ("x.npz", "x.h5"):
        read, found = read_features(tmp_path / name)
        assert np.array_equal(read, features)
        assert found is None


def test_labels_that_are_damaged_or_elsewhere_are_passed_over(tmp_path):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "x.npz", features=features, labels=np.array([7, 7, 7]))
    content = (tmp_path / "x.npz").read_bytes()
    at = content.index(np.array([7, 7, 7]).tobytes())
    (tmp_path / "x.npz").write_bytes(content[:at] + b"\1" + content[at + 1 :])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = features
        file["labels"] = h5py.ExternalLink("elsewhere.h5", "labels")
    for name in ("x.npz", "x.h5"):
        assert np.array_equal(read_features(tmp_path / name)[0], features)


def test_objects_in_an_npy_are_called_what_they_are(tmp_path):
    np.save(tmp_path / "x.npy", np.array([["a", None]], dtype=object))
    with pytest.raises(InputError, match=r"x\.npy: the array holds Python objects; expected numbers"):
        read_features(tmp_path / "x.npy")
