"""What docs/what-changed.md says of lines for 0.1.0 is what they do, and its examples run."""

import csv
import importlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import fgen
from fgen.cli import main

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "what-changed.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]
TINY = {"hidden_dim": 8, "noise_dim": 4, "epochs": 1, "cls_epochs": 1}
FEW = 10


@pytest.fixture(scope="module")
def data():
    return fgen.load_dataset("toy")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a calibrated run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    fgen.run(config(), out=folder)
    return folder


def config(**protocol):
    sections = {"dataset": {"name": "toy"}, "model": {"name": "clswgan", **TINY}, "classifier": {"epochs": 1}}
    return {**sections, "protocol": {"seeds": [0], "calibrate": True, "evaluations": 1, **protocol}}


def few_classes(data, n):
    """The rows to train on of the first ``n`` seen classes."""
    features, labels = data.split("trainval")
    rows = np.isin(labels, data.seen[:n])
    return features[rows], labels[rows]


def command(capsys, *words, code=0):
    """Run a command and return what it printed to each stream."""
    capsys.readouterr()
    try:
        found = main([str(word) for word in words])
    except SystemExit as exit:
        found = exit.code
    out, err = capsys.readouterr()
    assert found == code, err
    return out, err


def test_the_python_runs_and_its_head_is_that_of_the_old_default(data):
    names = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(code, "what-changed.md", "exec"), names)
    assert "model__epochs" not in names["old_parameters"]
    assert "model__epochs" in names["classifier"].get_params()
    now = fgen.ZeroShotClassifier(data.class_embeddings, **names["settings"]).fit(names["X"], names["y"])
    heads = [one.predictor_.head.config.solver for one in (names["classifier"], now)]
    assert heads == ["adam", "lbfgs"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_commands_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines():
        program, *words = shlex.split(line)
        assert program == "fgen"
        command(capsys, *words)
    with fgen.FeatureBank.open("bank.h5") as bank:
        assert np.bincount(bank.to_numpy()[1]).max() == 300
    assert not Path("runs/trained/seeds/0/choice.json").exists()


def test_names_that_are_gone_have_the_successors_that_it_names():
    moved = re.findall(r"`from (fgen\.\S+) import (\w+)` \|.*\| `from (fgen\.\S+) import (\w+)`", TEXT)
    assert len(moved) == 2
    for old, old_name, new, name in moved:
        with pytest.raises((ImportError, AttributeError)):
            getattr(importlib.import_module(old), old_name)
        assert hasattr(importlib.import_module(new), name)
    for holder, method in re.findall(r"`(ExperimentConfig|SoftmaxClassifier)\.(\w+)\(", TEXT):
        assert not hasattr(getattr(fgen, holder), method)
    assert hasattr(fgen.ExperimentConfig, "candidates")
    assert isinstance(fgen.MODELS, Mapping)
    assert not isinstance(fgen.MODELS, dict)
    assert list(dict(fgen.MODELS)) == list(fgen.MODELS)


def test_two_classes_have_one_score_that_is_positive_for_the_second(data):
    features, labels = few_classes(data, 2)
    classifier = fgen.ZeroShotClassifier(data.class_embeddings[data.seen[:2]], model=TINY, calibrate=False)
    scores = classifier.fit(features, np.searchsorted(data.seen[:2], labels)).decision_function(features)
    assert scores.shape == (len(features),)
    assert ((scores > 0) == (classifier.predict(features) == classifier.classes_[1])).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_three_classes_have_no_gamma(data):
    classifier = fgen.ZeroShotClassifier(data.class_embeddings, model=TINY).fit(*few_classes(data, 3))
    assert classifier.gamma_ == 0


def test_one_fold_is_the_old_choice_of_few_classes(tmp_path, data):
    kept = np.isin(data.labels, [*data.seen[:FEW], *data.unseen])
    splits = {name: np.flatnonzero(np.isin(np.flatnonzero(kept), data.splits[name])) for name in data.splits}
    splits = {name: splits[name] for name in ("trainval", "test_seen", "test_unseen")}
    own = fgen.ZSLDataset(data.features[kept], data.labels[kept], data.class_embeddings, splits=splits)
    fgen.save_dataset(own, tmp_path / "own.npz")
    classes = {}
    for folds in (1, "auto"):
        settings = config(folds=folds) | {"dataset": {"path": str(tmp_path / "own.npz")}}
        said = " ".join(fgen.run(settings).calibration())
        classes[folds] = int(re.search(r"(\d+) held-out classes", said)[1])
    assert classes[1] < classes["auto"] == FEW


def test_a_banks_labels_are_tensors_and_its_default_size_depends_on_the_data(run, tmp_path, capsys):
    command(capsys, "generate", run, "--out", tmp_path / "bank.h5")
    with fgen.FeatureBank.open(tmp_path / "bank.h5") as bank:
        label = bank.torch_dataset()[0][1]
        assert np.bincount(bank.to_numpy()[1]).max() == 120
    assert label.dtype == torch.int64


def test_a_table_of_a_run_has_more_lines_and_is_its_repr(run, capsys):
    result = fgen.RunResult.load(run)
    assert repr(result) == result.table()
    assert "uncalibrated" in result.table()
    assert result.description["setting"] == "gzsl"


def test_predictions_and_metrics_are_read_by_the_names_of_their_columns(run, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", data.features[:3])
    out, _ = command(capsys, "predict", run, "x.npy", "--out", "-")
    assert out.splitlines()[0] == "row,class_id,class_name,score,rank,probability"
    assert not Path("-").exists()
    command(capsys, "predict", run, "x.npy", "--out", "./-")
    assert Path("-").read_text(encoding="utf-8") == out
    with (run / "seeds" / "0" / "metrics.csv").open(newline="") as file:
        phase, *columns = next(csv.reader(file))
    assert phase == "phase"
    assert columns == sorted(columns)


def test_what_is_refused(run, data, tmp_path, capsys):
    short, whole = "--n-per", "--n-per-class"
    assert any(short in row[0] and whole in row[2] for row in ROWS)
    _, err = command(capsys, "generate", run, "--out", tmp_path / "bank.h5", short, 10, code=2)
    assert f"Did you mean {whole}?" in err
    words = ("run", "fgen2026_clswgan_toy", "--set", "train.threads=2000")
    assert "1,024" in command(capsys, *words, "--out", tmp_path / "run", code=2)[1]
    names = [float("nan"), *map(str, range(1, 25))]
    with pytest.raises(fgen.InputError, match="class_names"):
        fgen.ZSLDataset(data.features, data.labels, data.class_embeddings, class_names=names)


def test_evaluate_chooses_gamma_on_a_validation_bank_beside_the_bank_and_not_with_gamma_0(run, tmp_path, capsys):
    command(capsys, "generate", run, "--out", tmp_path / "bank.h5", "--n-per-class", 5, "--real", "--validation")
    evaluate = ("evaluate", tmp_path / "bank.h5", "--dataset", "toy")
    rows = [len(command(capsys, *evaluate, *more)[0].splitlines()) for more in ((), ("--gamma", 0))]
    assert rows[0] > rows[1]
