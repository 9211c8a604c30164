"""Lists of pictures, and the splits that a table of paths gives to a data set."""

import os

import numpy as np
import pytest

from fgen.cli import main
from fgen.data.files import load_dataset
from fgen.encoders.picture_list import are_pictures, classified_pictures, list_pictures, read_paths_csv
from fgen.errors import InputError
from tests.encoders.fakes import MeanColour, encode_by

Image = pytest.importorskip("PIL.Image")
SPLITS = ("train", "val", "val_seen", "test", "test", "test_unseen")
CLASSES = ("ant", "bee", "ant", "ant", "cat", "dog")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Six pictures below ``pictures/``, and a table of them."""
    (tmp_path / "pictures").mkdir()
    for k in range(6):
        Image.new("RGB", (4, 4), (40 * k, 0, 0)).save(tmp_path / "pictures" / f"{k}.png")
    lines = [f"pictures/{k}.png,{name},{split}" for k, (name, split) in enumerate(zip(CLASSES, SPLITS, strict=True))]
    (tmp_path / "paths.csv").write_text("\n".join(["path,class,split", *lines]))
    (tmp_path / "e.csv").write_text("ant,1,0\nbee,0,1\ncat,1,1\ndog,2,1\n")
    encode_by(monkeypatch, lambda: MeanColour(dim=3))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "paths.csv"


def test_a_table_gives_classes_and_splits(table, monkeypatch):
    monkeypatch.chdir("/")  # its paths begin where it is
    out = table.with_name("own.npz")
    assert main(["features", str(table), "--embeddings", str(table.with_name("e.csv")), "--out", str(out)]) == 0
    data = load_dataset(out)
    assert data.name == "paths"
    assert [data.name_of(k) for k in data.labels] == [*CLASSES]
    assert data.features[:, 0].tolist() == [40 * k for k in range(6)]
    expected = {"trainval": [0, 1, 2], "train": [0, 2], "val": [1], "val_seen": [2]}
    expected |= {"test_seen": [3], "test_unseen": [4, 5]}
    assert {name: data.splits[name].tolist() for name in expected} == expected
    assert [data.name_of(k) for k in data.unseen] == ["cat", "dog"]


def test_without_splits_unseen_classes_may_be_listed_in_a_file(table, capsys):
    table.write_text(table.read_text().replace(",split", ",note").replace("dog", "cat"))
    table.with_name("unseen.txt").write_text("cat\n")
    words = ["features", "paths.csv", "--embeddings", "e.csv", "--unseen", "unseen.txt"]
    assert main([*words, "--out", "own.npz"]) == 0
    data = load_dataset("own.npz")
    assert data.labels[data.splits["test_unseen"]].tolist() == [2, 2]
    assert len(data.splits["test_seen"]) == 1
    table.with_name("unseen.txt").write_text("cta\n")
    assert main([*words, "--out", "other.npz"]) == 2
    assert "the unseen class 'cta' isn't described" in capsys.readouterr().err


def test_features_of_pictures_without_classes_are_the_same_bytes_twice(table, capsys):
    for name in ("a.npz", "b.npz"):
        assert main(["features", "pictures", "--out", name]) == 0
    assert table.with_name("a.npz").read_bytes() == table.with_name("b.npz").read_bytes()
    with np.load("a.npz") as stored:
        assert stored["file"].tolist() == [f"pictures/{k}.png" for k in range(6)]
        assert stored["features"].shape == (6, 3)
    for words, message in (
        (("pictures", "--embeddings", "e.csv", "--out", "c.npz"), "Without --embeddings, features alone are written"),
        (("pictures", "--unseen", "ant", "--out", "c.npz"), "--unseen was given without --embeddings"),
        (("pictures", "--out", "c.h5"), "expected an .npz file for features without classes"),
        (("paths.csv", "--embeddings", "e.csv", "--unseen", "ant", "--out", "c.npz"), "has splits, and unseen classes"),
    ):
        assert main(["features", *words]) == 2
        assert message in capsys.readouterr().err
    assert not table.with_name("c.npz").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,class\na.png,ant\n", "has no column 'path'; expected a first row of path,class,split"),
        ("path,class\n", "has no pictures"),
        ("path,class\na.png,\n", "line 2, has no class"),
        ("path,class\na.png\n", "line 2, has no class"),
        ("path,class\na.png,ant\na.png,bee\n", "line 3: 'a.png' is already in line 2"),
        ("path,class,split\na.png,ant,test_sen\n", "the split is 'test_sen'; .* Did you mean 'test_seen'?"),
    ],
)
def test_a_table_of_paths_is_refused_by_its_line(tmp_path, content, words):
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        read_paths_csv(tmp_path / "p.csv")


def test_a_table_without_training_pictures_and_one_without_classes_are_refused(table, capsys):
    table.write_text("path,class,split\npictures/0.png,ant,test\n")
    words = ["features", "paths.csv", "--embeddings", "e.csv", "--out", "own.npz"]
    assert main(words) == 2
    assert "no picture has a split for training" in capsys.readouterr().err
    table.write_text("path\npictures/0.png\n")
    with pytest.raises(InputError, match="has no column 'class'"):
        classified_pictures(table)


def test_a_folder_is_listed_with_those_below_it_whatever_links_lead_where(tmp_path, caplog):
    for name in ("b.png", "a.JPG", "deep/c.png", ".hidden/d.png", "deep/._c.png", "notes.txt"):
        (tmp_path / "asked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "asked" / name).write_bytes(b"")
    os.symlink(tmp_path / "asked", tmp_path / "asked" / "deep" / "back")
    found = list_pictures([tmp_path / "asked"])
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "asked/a.JPG",
        "asked/b.png",
        "asked/deep/c.png",
    ]
    assert "1 files that are no pictures are passed over" in caplog.text
    (tmp_path / "empty").mkdir()
    for source, words in ((tmp_path / "empty", "has no pictures"), (tmp_path / "x.png", "doesn't exist")):
        with pytest.raises(InputError, match=words):
            list_pictures([source])


def test_a_table_of_numbers_is_none_of_paths(tmp_path):
    (tmp_path / "x.csv").write_text("0.5,1\n2,3\n")
    (tmp_path / "p.csv").write_text("Path,class\na.png,ant\n")
    assert not are_pictures(tmp_path / "x.csv")
    assert are_pictures(tmp_path / "p.csv")
    assert are_pictures(tmp_path)
