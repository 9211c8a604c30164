"""``fgen export`` and ``fgen extend``: a run's predictor as files, and heads on the disk that get classes."""

import numpy as np
import pytest
import torch

import fgen
from fgen.cli import main
from fgen.data.tables import read_embeddings_csv
from fgen.inference.extend import add_classes
from fgen.inference.from_run import predictor_of_run
from fgen.inference.linear_head import LinearHead
from tests.conftest import TINY

LATE = ["fox", "owl"]


@pytest.fixture(scope="module")
def data():
    return fgen.load_dataset("toy")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    sections = {"dataset": {"name": "toy"}, "model": {"name": "priorgan"} | TINY, "bank": {"n_per_class": 10}}
    sections |= {"classifier": {"solver": "lbfgs"}, "protocol": {"evaluations": 1, "calibrate": True}}
    return fgen.run(sections, out=tmp_path_factory.mktemp("run") / "run").out


@pytest.fixture(scope="module")
def files(run, data, tmp_path_factory):
    """A folder with the run's own head, and a table of two classes more."""
    folder = tmp_path_factory.mktemp("files")
    assert main(["export", str(run), "--format", "npz", "--out", str(folder / "head.npz")]) == 0
    mixed = (data.class_embeddings[:2] + data.class_embeddings[2:4]) / 2
    rows = [",".join([name, *map(str, row)]) for name, row in zip(LATE, mixed, strict=True)]
    (folder / "new.csv").write_text("\n".join(rows))
    return folder


def extend(files, run, out, head="head.npz", *more):
    paths = [str(files / head), "--run", str(run), "--embeddings", str(files / "new.csv"), "--out", str(out)]
    return main(["extend", *paths, *more])


@pytest.mark.numeric
def test_a_runs_head_as_npz_predicts_as_the_run_does(run, files, data):
    predictor, head = predictor_of_run(run), np.load(files / "head.npz")
    logits = data.features @ head["W"].T + head["b"]
    assert predictor.gamma != 0, "it is inside b"
    ids, _ = predictor.predict(data.features)
    assert head["classes"][logits.argmax(axis=1)].tolist() == [predictor.name(k) for k in ids]


def test_the_shell_writes_what_its_options_say_and_refuses_what_does_not_fit(run, files, data, tmp_path, capsys):
    assert main(["export", str(run), "--format", "torch", "--out", str(tmp_path / "g.pt2"), "--generator"]) == 0
    generator = torch.export.load(str(tmp_path / "g.pt2")).module()
    raw = torch.tensor(data.class_embeddings)
    assert generator(raw, torch.zeros(len(raw), TINY["noise_dim"])).shape == (data.n_classes, data.feature_dim)
    capsys.readouterr()
    for form, out, said in (("onnx", "x.npz", "ends in .onnx"), ("npz", files / "head.npz", "--overwrite")):
        assert main(["export", str(run), "--format", form, "--out", str(tmp_path / out)]) == 2
        assert said in capsys.readouterr().err
    assert main(["export", str(run), "--format", "npz", "--out", str(tmp_path / "x.npz"), "--generator"]) == 2
    assert "torch or onnx" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["g.pt2"]


@pytest.mark.numeric
def test_a_head_on_the_disk_gets_classes_and_its_rows_stay(run, files, tmp_path, capsys):
    assert extend(files, run, tmp_path / "new.npz") == 0
    told = capsys.readouterr().out
    assert "25 old classes" in told
    assert told.count("%") == 3
    before, after = np.load(files / "head.npz"), np.load(tmp_path / "new.npz")
    assert after["classes"].tolist() == [*before["classes"], *LATE]
    for name in ("W", "b", "handicap"):
        assert after[name][:25].tobytes() == before[name].tobytes(), name
    assert not after["handicap"][25:].any(), "new classes are unseen ones"
    assert extend(files, run, tmp_path / "new.npz") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert extend(files, run, tmp_path / "new.npz", "head.npz", "--gamma", "1", "--overwrite") == 0
    np.testing.assert_allclose(np.load(tmp_path / "new.npz")["b"][25:], after["b"][25:] + 1)


@pytest.mark.numeric
def test_an_exported_head_gets_the_rows_that_the_predictor_itself_would(run, files, tmp_path, data):
    names, matrix = read_embeddings_csv(files / "new.csv")
    predictor = predictor_of_run(run)
    grown, _ = add_classes(predictor, np.array(names, dtype=object), matrix, n_per_class=10, seed=0)
    assert extend(files, run, tmp_path / "new.npz") == 0
    W, b, classes = grown.to_numpy()
    found = LinearHead.load(tmp_path / "new.npz")
    assert found.classes.tolist() == classes.tolist()
    np.testing.assert_allclose(found.logits(data.features), data.features @ W.T + b, atol=0.02)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"W": np.zeros((2, 16)), "b": np.zeros(2)}, "has no array 'classes'"),
        ({"W": np.zeros((2, 16)), "b": np.zeros(3), "classes": ["a", "b"]}, "b has shape (3,); expected (2,)"),
        ({"W": np.zeros((2, 16)), "b": [0, np.nan], "classes": ["a", "b"]}, "b holds nan"),
        ({"W": np.zeros((2, 16)), "b": np.zeros(2), "classes": np.array([b"a", None])}, "holds Python objects"),
        ({"W": np.zeros((2, 16)), "b": np.zeros(2), "classes": ["a", "a"]}, "1 of 2 distinct"),
        ({"W": np.zeros((2, 16)), "b": np.zeros(2), "classes": ["class 00", "zebra"]}, "the label 'zebra'"),
        ({"W": np.zeros((2, 3)), "b": np.zeros(2), "classes": ["class 00", "class 01"]}, "3 columns of features"),
    ],
)
def test_files_that_hold_no_head_of_the_runs_classes_are_refused(arrays, said, run, files, tmp_path, capsys):
    np.savez(files / "wrong.npz", **arrays)
    assert extend(files, run, tmp_path / "new.npz", "wrong.npz") == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
