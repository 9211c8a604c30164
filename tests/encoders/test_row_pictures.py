"""Which picture a row of a data set was made from."""

import numpy as np
import pytest
import torch

from fgen.data.dataset import ZSLDataset
from fgen.encoders import row_pictures
from fgen.encoders.base import ImageEncoder
from fgen.encoders.row_pictures import pictures_of_rows, small_pictures
from fgen.errors import InputError
from fgen.features.encoder_record import EncoderRecord

Image = pytest.importorskip("PIL.Image")
RECORD = EncoderRecord("mean-colour", "", 3)
NAMES = ["red", "blue"]
LABELS = np.repeat([0, 1], 12)


class MeanColour(ImageEncoder):
    """The mean of a picture's red, green and blue; it counts the pictures that it is shown."""

    record = RECORD

    def __init__(self):
        self.seen = []

    def preprocess(self, picture):
        self.seen.append(picture)
        return torch.from_numpy(np.asarray(picture).astype(np.float32).mean(axis=(0, 1)))

    def forward(self, batch):
        return batch

    def to(self, device):
        return self


@pytest.fixture
def encoder(monkeypatch):
    made = MeanColour()
    monkeypatch.setattr(row_pictures, "image_encoder", lambda name: made)
    return made


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of each of two classes, each brighter than the one before."""
    for row, label in enumerate(LABELS):
        (tmp_path / NAMES[label]).mkdir(exist_ok=True)
        Image.new("RGB", (9, 7), (200, row * 9, 30) if label == 0 else (30, row * 9, 200)).save(path_of(tmp_path, row))
    return tmp_path


def path_of(folder, row):
    return folder / NAMES[LABELS[row]] / f"{row:02}.png"


def dataset(folder, order, record=RECORD):
    """The data set whose rows were made from the pictures of these numbers."""
    colours = [np.asarray(Image.open(path_of(folder, row))).mean(axis=(0, 1)) for row in order]
    return ZSLDataset(colours, LABELS[order], np.eye(2), class_names=NAMES, image_encoder=record)


def test_rows_in_the_order_of_their_pictures_cost_a_few_looks(encoder, folder):
    mixed = np.argsort(np.arange(24) % 12, kind="stable")  # classes take turns
    assert pictures_of_rows(dataset(folder, mixed), folder) == [path_of(folder, row) for row in mixed]
    assert len(encoder.seen) <= row_pictures.CHECKED


def test_rows_in_another_order_get_the_pictures_with_their_features(encoder, folder):
    order = np.random.default_rng(0).permutation(24)
    assert pictures_of_rows(dataset(folder, order), folder) == [path_of(folder, row) for row in order]


def test_a_table_of_paths_in_the_order_of_the_rows_is_taken(encoder, folder):
    order = np.random.default_rng(0).permutation(24)
    lines = [f"{path_of(folder, row).relative_to(folder).as_posix()},{NAMES[LABELS[row]]}" for row in order]
    (folder / "paths.csv").write_text("path,class\n" + "\n".join(lines))
    found = pictures_of_rows(dataset(folder, order), folder / "paths.csv")
    assert found == [path_of(folder, row) for row in order]
    assert len(encoder.seen) <= row_pictures.CHECKED


def test_pictures_that_the_rows_were_not_made_from_are_refused(encoder, folder):
    data = dataset(folder, np.arange(24))
    for row in range(12):
        Image.new("RGB", (9, 7), (row * 9, 200, 30)).save(path_of(folder, row))
    with pytest.raises(InputError, match="row 0 of data was made from none of the 12 pictures of 'red'"):
        pictures_of_rows(data, folder)


def test_other_classes_and_other_numbers_are_refused_before_anything_is_encoded(encoder, folder):
    data = dataset(folder, np.arange(24))
    path_of(folder, 3).unlink()
    with pytest.raises(InputError, match="has 11 pictures of 'red', and data 12 rows; expected the pictures"):
        pictures_of_rows(data, folder)
    (folder / "red").rename(folder / "rad")
    with pytest.raises(InputError, match=r"pictures of 'rad', a class that data doesn't have.*Did you mean 'red'"):
        pictures_of_rows(data, folder)
    assert not encoder.seen


def test_where_no_encoder_is_known_the_order_is_taken_with_a_warning(folder, caplog):
    order = np.arange(24)
    for record in (None, EncoderRecord("timm:nothing-of-this-name", "", 3)):
        caplog.clear()
        found = pictures_of_rows(dataset(folder, order, record), folder)
        assert found == [path_of(folder, row) for row in order]
        assert "can't be checked" in caplog.text


def test_features_of_an_unrecorded_encoder_that_is_not_the_guessed_one_are_taken_in_order(
    encoder, folder, caplog, monkeypatch
):
    monkeypatch.setattr(row_pictures, "LITE0_DIM", 3)
    data = dataset(folder, np.arange(24), None)
    assert pictures_of_rows(data, folder)[1] == path_of(folder, 1)
    assert not caplog.text
    other = ZSLDataset(np.asarray(data.features)[:, ::-1] ** 2, data.labels, np.eye(2), class_names=NAMES)
    assert pictures_of_rows(other, folder)[1] == path_of(folder, 1)
    assert "aren't of mean-colour" in caplog.text


def test_small_pictures_are_the_central_squares(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (10, 200, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (small,) = small_pictures([tmp_path / "wide.png"])
    assert small.shape == (64, 64, 3)
    assert (small == (10, 200, 30)).all()
