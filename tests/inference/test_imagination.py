"""Pictures of unseen classes: whose drawings train the decoder, what it makes of them, and what the sheet says."""

import io
from dataclasses import replace

import numpy as np
import pytest

from fgen.cli import main
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.encoders import picture_decoder
from fgen.encoders.picture_decoder import DecoderConfig, decode, fit_decoder
from fgen.inference import imagination
from fgen.inference.imagination import Drawings, PictureError, imagine
from fgen.models.registry import load_model
from fgen.reports.imagination_sheet import caption_of, write_sheet

Image = pytest.importorskip("PIL.Image")
#: A decoder that is trained in a second.
SMALL = DecoderConfig(width=16, steps=120, batch_size=16, lr=4e-3, dropout=0.1)
NAMES = [f"class {letter}" for letter in "abcdefgh"]
UNSEEN = [2, 5]
#: Drawings of a class.
N = 6


def drawing(colour, column):
    """A coloured square on white, ``(64, 64, 3)``."""
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[16:48, column : column + 24] = colour
    return picture


@pytest.fixture(scope="module")
def drawn():
    """Drawings of classes that differ in colour, and features that tell the colour and the place."""
    stream = np.random.default_rng(0)
    colours = stream.integers(0, 200, (len(NAMES), 3))
    labels = np.repeat(np.arange(len(NAMES)), N)
    columns = stream.integers(0, 40, len(labels))
    pictures = np.stack([drawing(colours[k], column) for k, column in zip(labels, columns, strict=True)])
    latent = np.column_stack([colours[labels] / 200, columns / 40])
    features = latent @ stream.normal(size=(4, 12)) + stream.normal(scale=0.02, size=(len(labels), 12))
    of_unseen, in_test = np.isin(labels, UNSEEN), np.arange(len(labels)) % N == 0
    splits = {
        "trainval": np.flatnonzero(~of_unseen & ~in_test),
        "test_seen": np.flatnonzero(~of_unseen & in_test),
        "test_unseen": np.flatnonzero(of_unseen),
    }
    data = ZSLDataset(features, labels, colours / 200, class_names=NAMES, splits=splits, name="squares")
    return data, pictures


@pytest.fixture(scope="module")
def folder(drawn, tmp_path_factory):
    """The data set in a file, a run on it, and its drawings as PNG files."""
    (data, pictures), at = drawn, tmp_path_factory.mktemp("squares")
    save_dataset(data, at / "squares.npz")
    for row, picture in enumerate(pictures):
        inner = at / "drawings" / NAMES[data.labels[row]]
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(inner / f"{row:03}.png")
    (at / "c.toml").write_text(
        f'[dataset]\npath = "{(at / "squares.npz").as_posix()}"\n[model]\nname = "clswgan"\nsteps = 2\n'
        "hidden_dim = 8\nnoise_dim = 4\ncls_epochs = 1\n[protocol]\ncalibrate = false\n"
    )
    assert main(["train", str(at / "c.toml"), "--out", str(at / "run")]) == 0
    return at


@pytest.fixture(scope="module")
def found(folder):
    return imagine(folder / "run", folder / "drawings", config=SMALL)


def test_decoding_beats_the_mean_picture_on_drawings_that_it_was_not_trained_on(found):
    error = found.errors["held out"]
    assert error.n == len(NAMES) - len(UNSEEN)
    assert error.decoded < 0.9 * error.mean_picture


def test_no_drawing_of_a_test_row_or_of_an_unseen_class_trains_the_decoder(drawn, folder, monkeypatch):
    """Shots, too, are drawings of unseen classes, and are left out."""
    data, pictures = drawn
    trained = []
    monkeypatch.setattr(imagination, "fit_decoder", lambda *given, **options: trained.append(given) or 1 / 0)
    for shots in (data, data.with_shots(2)):
        drawings = Drawings(shots, load_model(folder / "run" / "seeds" / "0" / "model"), pictures, seed=0)
        assert {*drawings.trained} == {*data.splits["trainval"]}
        assert {*drawings.held_out} == {*data.splits["test_seen"]}
    with pytest.raises(ZeroDivisionError):
        imagine(folder / "run", folder / "drawings")
    ((features, given),) = trained
    assert np.array_equal(given, pictures[data.splits["trainval"]])
    assert len(features) == len(given)


def test_without_test_drawings_some_training_drawings_are_held_out(drawn, folder):
    data, pictures = drawn
    alone = ZSLDataset(data.features, data.labels, data.class_embeddings, class_names=NAMES)
    drawings = Drawings(alone, load_model(folder / "run" / "seeds" / "0" / "model"), pictures, seed=0)
    assert len(drawings.held_out) == len(pictures) // 10
    assert {*drawings.held_out} | {*drawings.trained} == {*range(len(pictures))}
    assert not {*drawings.held_out} & {*drawings.trained}


def test_each_unseen_class_has_its_real_imagined_and_nearest_pictures(found, drawn):
    data, pictures = drawn
    assert [one.name for one in found.classes] == [NAMES[k] for k in UNSEEN]
    for one, label in zip(found.classes, UNSEEN, strict=True):
        assert not one.is_seen
        own = pictures[data.labels == label]
        assert all((own == real).all(axis=(1, 2, 3)).any() for real in one.real)
        assert one.decoded.shape == one.imagined.shape == one.nearest.shape == (2, 64, 64, 3)
        for picture, name in zip(one.nearest, one.nearest_names, strict=True):
            rows = [k for k in data.splits["trainval"] if NAMES[data.labels[k]] == name]
            assert (pictures[rows] == picture).all(axis=(1, 2, 3)).any()


def test_imagined_pictures_are_compared_with_all_drawings_of_their_class_and_of_another(found, drawn, folder):
    """The slow twin of two numbers of the sheet: the generator is asked again, and its features decoded by hand."""
    data, pictures = drawn
    drawings = Drawings(data, load_model(folder / "run" / "seeds" / "0" / "model"), pictures, seed=0)
    decoder = fit_decoder(drawings.features, pictures[drawings.trained], seed=0, config=SMALL)
    imagined = {k: decode(decoder, drawings.generated(k, imagination.SCORED_ROWS, 0)) / 255 for k in UNSEEN}
    for name, of in (("imagined", UNSEEN), ("another class", UNSEEN[::-1])):
        squares = [
            (imagined[other] - real / 255) ** 2
            for label, other in zip(UNSEEN, of, strict=True)
            for real in pictures[data.labels == label]
        ]
        assert found.errors[name].decoded == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5)
    unseen = pictures[np.isin(data.labels, UNSEEN)]
    mean = pictures[data.splits["trainval"]].mean(axis=0)
    assert found.errors["imagined"].mean_picture == pytest.approx(
        np.sqrt(((unseen - mean) ** 2).mean()) / 255, rel=1e-5
    )


def test_the_caption_says_what_was_seen_in_training(found):
    text = caption_of(found)
    for words in ("No drawing of these classes was seen in training.", "clswgan", "30 drawings of 6 seen classes"):
        assert words in text
    assert "drawn by seed" not in text
    fewer = replace(found, classes=found.classes[:1])
    assert "1 of 2 classes are shown, drawn by seed 0" in caption_of(fewer)


def test_the_caption_says_what_the_words_are_worth(found):
    def verdict(imagined, other):
        errors = {"imagined": PictureError(imagined, 0.3, 9), "another class": PictureError(other, 0.3, 9)}
        return caption_of(replace(found, errors=errors))

    assert "are nearer to the real ones than those of another class, and no nearer than the mean" in verdict(0.31, 0.32)
    assert "are no nearer to the real ones than those of another class, and nearer than the mean" in verdict(0.29, 0.28)


def test_the_caption_says_so_where_drawings_of_these_classes_were_seen(found):
    classes = replace(found.classes[0], is_seen=True), found.classes[1]
    texts = [
        caption_of(replace(found, classes=classes)),
        caption_of(replace(found, dataset=found.dataset.with_shots(2))),
        caption_of(replace(found, is_transductive=True)),
    ]
    for text, words in zip(
        texts, ("1 of the 2 are seen", "trained on 2 drawings of some unseen", "without"), strict=True
    ):
        assert "seen in training, but " in text
        assert words in text


def test_a_sheet_is_written_also_of_classes_without_drawings(found):
    pytest.importorskip("matplotlib")
    none = np.empty((0, 64, 64, 3), np.uint8)
    one = replace(found.classes[0], real=none, decoded=none, name="a $name$ " * 9)
    write_sheet(file := io.BytesIO(), replace(found, classes=(one, found.classes[1]), errors={}))
    with Image.open(file) as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 200


def test_the_command_writes_a_sheet_and_refuses_what_does_not_fit(folder, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(picture_decoder, "DecoderConfig", lambda: SMALL)
    run, drawings, out = str(folder / "run"), str(folder / "drawings"), str(folder / "sheet.png")

    def refused(*words):
        assert main(["imagine", *words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "ends in '.jpg'" in refused(run, "--pictures", drawings, "--out", str(folder / "sheet.jpg"))
    assert "number of classes is 0" in refused(run, "--pictures", drawings, "--out", out, "--n-classes", "0")
    assert "'class z'" in refused(run, "--pictures", drawings, "--out", out, "--classes", "class z")
    assert "is no folder" in refused(run, "--pictures", str(folder / "none"), "--out", out)
    assert main(["imagine", run, "--pictures", drawings, "--out", out, "--n-classes", "1"]) == 0
    said = capsys.readouterr()
    assert "can't be checked" in said.err
    assert said.out.splitlines()[0].startswith("held out: error 0.")
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
    assert "--overwrite" in refused(run, "--pictures", drawings, "--out", out)
    extra = folder / "drawings" / NAMES[0] / "extra.png"
    extra.write_bytes((folder / "drawings" / NAMES[0] / "001.png").read_bytes())
    found = refused(run, "--pictures", drawings, "--out", out, "--overwrite")
    extra.unlink()
    assert "has 7 pictures of 'class a', and squares 6 rows" in found
