"""``fgen features`` and ``fgen predict`` of pictures: a run answers about pictures that its own encoder encodes."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fgen.cli import main
from fgen.data.files import load_dataset
from fgen.data.tables import write_embeddings_csv
from fgen.errors import InputError
from fgen.inference.from_run import predictor_of_run
from fgen.inference.predictor import Predictor
from tests.encoders.fakes import MeanColour, encode_by

Image = pytest.importorskip("PIL.Image")
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "grey": (90, 90, 90)}
ASKED = ("a.png", "b.png", "deep/c.png")


class Painted(MeanColour):
    """An encoder whose weights are known by a number."""

    def __init__(self, weights="1" * 64, name="efficientnet-lite0"):
        super().__init__(name, dim=6)
        self.record = replace(self.record, weights=weights, preprocessing={"size": 8})


def paint(path, colour, stream):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = stream.integers(-25, 25, (8, 12, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def painted(config, tmp_path_factory):
    """Pictures of classes, pictures to ask about, and a run on the former."""
    folder, stream = tmp_path_factory.mktemp("painted"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for k in range(5):
            paint(folder / "classes" / name / f"{k}.png", colour, stream)
    for name, colour in zip(ASKED, COLOURS.values(), strict=False):
        paint(folder / "asked" / name, colour, stream)
    embeddings = np.array([*COLOURS.values(), (200, 200, 30)]) / 255
    write_embeddings_csv(folder / "e.csv", [*COLOURS, "yellow"], embeddings)
    settings = ("dataset.name=none", f"dataset.path={folder / 'own.npz'}", "protocol.seeds=[0]")
    words = [word for each in (*settings, "protocol.calibrate=false") for word in ("--set", each)]
    with pytest.MonkeyPatch.context() as patch:
        encode_by(patch, Painted)
        own = ["--embeddings", f"{folder}/e.csv", "--out", f"{folder}/own.npz"]
        assert main(["features", f"{folder}/classes", *own]) == 0
    assert main(["train", str(config), "--out", str(folder / "run"), *words]) == 0
    return folder


@pytest.fixture
def encoded(monkeypatch):
    encode_by(monkeypatch, Painted)


def refused(shell, *words):
    """The last line that a refused command prints: what it noted before may stand above."""
    assert shell(*words) == 2
    return shell.err.splitlines()[-1]


def records(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_data_set_and_a_run_remember_the_encoder(shell, painted, tmp_path):
    record = Painted().record
    assert load_dataset(painted / "own.npz").image_encoder == record
    predictor = predictor_of_run(painted / "run")
    assert predictor.image_encoder == record
    predictor.save(tmp_path / "saved")
    assert Predictor.load(tmp_path / "saved").image_encoder == record
    for source in (painted / "own.npz", painted / "run", tmp_path / "saved"):
        assert shell("inspect", source) == 0
        assert "image encoder: efficientnet-lite0" in shell.out


def test_pictures_are_answered_by_name_however_they_are_given(shell, painted, encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(painted)
    assert shell("predict", "run", "asked", "--top", 2) == 0
    answers = records(shell.out)
    assert list(answers[0]) == ["row", "class_id", "class_name", "score", "rank", "probability", "file"]
    assert [line["file"] for line in answers] == [f"asked/{name}" for name in ASKED for _ in range(2)]
    assert shell("predict", "run", *(f"asked/{name}" for name in ASKED), "--top", 2) == 0
    assert records(shell.out) == answers
    (painted / "asked.csv").write_text("note,path\n" + "".join(f"x,asked/{name}\n" for name in ASKED))
    assert shell("predict", "run", "asked.csv", "--top", 2, "--json") == 0
    assert [one["file"] for one in json.loads(shell.out)] == [line["file"] for line in answers]
    assert shell("features", "asked", "--out", tmp_path / "asked.npz") == 0
    assert "3 x 6 features of efficientnet-lite0" in shell.out
    assert shell("predict", "run", tmp_path / "asked.npz", "--top", 2, "--out", tmp_path / "p.csv") == 0
    assert records((tmp_path / "p.csv").read_text()) == answers
    assert shell("predict", "run", "asked", "--out", tmp_path / "p.csv") == 0, "it takes the place of an older one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.npz", "p.csv"]


def test_another_encoder_than_the_runs_is_refused(shell, painted, monkeypatch, tmp_path):
    words = ("predict", painted / "run", painted / "asked")
    for encoder, message in (
        (Painted("2" * 64), "efficientnet-lite0 has other weights (SHA-256 222222222222); expected those that"),
        (Painted("3" * 64, "efficientnet-lite1"), "expected efficientnet-lite0, as those that"),
    ):
        encode_by(monkeypatch, lambda encoder=encoder: encoder)
        assert message in shell.refuses(*words)
        assert shell("features", painted / "asked", "--out", tmp_path / "x.npz", "--overwrite") == 0
        assert message in shell.refuses("predict", painted / "run", tmp_path / "x.npz")
    other = Painted()
    other.record = replace(other.record, preprocessing={"size": 9})
    encode_by(monkeypatch, lambda: other)
    assert "prepares pictures by {'size': 9}; expected {'size': 8}" in shell.refuses(*words)
    encode_by(monkeypatch, lambda: Painted(name="hf:moved"))
    assert shell(*words) == 0, "the same weights under another name"
    encode_by(monkeypatch, lambda: Painted(""))
    assert shell(*words) == 0
    assert "whether the weights of efficientnet-lite0 are those" in shell.err


def test_weights_that_are_not_at_hand_are_asked_for(shell, painted, monkeypatch):
    def missing():
        raise InputError("the weights can't be downloaded", "a file with weights")

    encode_by(monkeypatch, missing)
    message = shell.refuses("predict", painted / "run", painted / "asked")
    assert "learned from features of efficientnet-lite0: the weights can't be downloaded" in message
    assert "Give --encoder and --weights as fgen features had them" in message


@pytest.fixture
def unknowing(painted, tmp_path):
    """The run, as one that an earlier fgen trained: without a record of its encoder."""
    run = tmp_path / "unknowing"
    shutil.copytree(painted / "run", run)
    noted = json.loads((run / "seeds/0/data.json").read_text())
    del noted["image_encoder"]
    (run / "seeds/0/data.json").write_text(json.dumps(noted))
    return run


def test_a_run_that_does_not_know_its_encoder_takes_the_usual_one_and_says_so(shell, painted, unknowing, encoded):
    assert shell("predict", unknowing, painted / "asked") == 0
    assert "doesn't say which encoder its features are of: efficientnet-lite0 is taken" in shell.err
    assert "the encoder is 'lite'" in refused(shell, "predict", unknowing, painted / "asked", "--encoder", "lite")


def test_a_run_on_features_of_another_width_is_refused_before_pictures_are_looked_at(
    shell, painted, unknowing, monkeypatch
):
    encode_by(monkeypatch, lambda: MeanColour(dim=5))
    monkeypatch.setattr("fgen.inference.pictures.features_of_pictures", lambda *_, **__: pytest.fail("looked"))
    assert "features have 5 columns; expected 6" in refused(shell, "predict", unknowing, painted / "asked")


def test_broken_pictures_are_named_or_left_out(shell, painted, encoded, tmp_path):
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "a.png").write_bytes((painted / "asked" / "a.png").read_bytes())
    (tmp_path / "asked" / "b.png").write_bytes(b"\x89PNG cut short")
    words = ("predict", painted / "run", tmp_path / "asked")
    assert "b.png is no readable picture" in refused(shell, *words)
    assert shell(*words, "--skip-broken", "--html", tmp_path / "sheet.html") == 0
    assert [line["file"] for line in records(shell.out)] == [str(tmp_path / "asked" / "a.png")]
    assert "b.png is no readable picture" in shell.err
    assert (tmp_path / "sheet.html").read_text().count("<figure>") == 1
    (tmp_path / "asked" / "a.png").unlink()
    assert "none of 1 files is a picture" in refused(shell, *words, "--skip-broken")


def test_the_sheet_shows_each_picture_with_its_answers_and_needs_no_other_file(shell, painted, encoded, tmp_path):
    paint(tmp_path / "<b>.png", (9, 9, 9), np.random.default_rng(0))
    words = ("predict", painted / "run", painted / "asked", tmp_path / "<b>.png", "--html")
    for _ in range(2):  # the second takes the place of the first
        assert shell(*words, tmp_path / "sheet.html", "--top", 3) == 0
    sheet = (tmp_path / "sheet.html").read_text()
    assert len(re.findall(r'<img alt="[^"]*" src="data:image/jpeg;base64,', sheet)) == len(ASKED) + 1
    assert sheet.count('class="answer') == 3 * (len(ASKED) + 1)
    assert "<b>" not in sheet
    assert "http" not in sheet
    assert "shows" in shell.refuses("predict", painted / "run", painted / "own.npz", "--html", tmp_path / "sheet.html")
    assert "doesn't exist" in shell.refuses(*words, tmp_path / "no" / "x.html")
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    assert "is no report" in shell.refuses(*words, tmp_path / "mine.html")
