"""Selection where classes are few: folds, what is told of the choice, and the same answers through every door."""

import json
from dataclasses import asdict

import numpy as np
import pytest

import fgen
from fgen import rng
from fgen.cli import main
from fgen.data.files import save_dataset
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.experiment import selection, steps
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.runner import train_only
from fgen.inference.from_run import predictor_of_run

N_SEEN, N_UNSEEN = 8, 3
MODEL = {"name": "flow", "epochs": 4, "hidden_dim": 16}
PROTOCOL = {"calibrate": True, "evaluations": 2}


@pytest.fixture(scope="module")
def few():
    """Eight seen and three unseen classes of toy, without splits: rows of seen classes, and test rows of both."""
    toy = make_toy(seed=0)
    classes = np.concatenate([toy.seen[:N_SEEN], toy.unseen[:N_UNSEEN]])
    rows = {
        name: np.flatnonzero(np.isin(toy.labels, classes) & np.isin(np.arange(len(toy.labels)), split))
        for name, split in toy.splits.items()
    }
    new = {int(k): position for position, k in enumerate(classes)}

    def taken(name):
        return toy.rows(rows[name]), np.array([new[int(k)] for k in toy.labels[rows[name]]])

    X, y = taken("trainval")
    return X, y, toy.class_embeddings[classes], *taken("test_unseen")


@pytest.fixture(scope="module")
def path(few, tmp_path_factory):
    X, y, embeddings, *_ = few
    file = tmp_path_factory.mktemp("few") / "few.h5"
    names = [f"class {k}" for k in range(len(embeddings))]
    save_dataset(fgen.ZSLDataset(X, y, embeddings, class_names=names), file)
    return file


def config(path, **changes):
    sections = {
        "dataset": {"path": str(path), "embedding_norm": "l2", "embedding_scale": 10.0},
        "model": MODEL,
        "bank": {"n_per_class": 20},
        "classifier": {"solver": "lbfgs"},
        "protocol": PROTOCOL,
    }
    return ExperimentConfig.from_mapping(sections | changes)


def test_of_few_classes_each_is_held_out_and_the_choice_says_what_it_rests_on(path, tmp_path):
    (model,) = train_only(config(path), out=tmp_path / "run")
    choice = json.loads((model.parent / "choice.json").read_text())
    told = choice["held_out"]
    assert told["n_classes"] == N_SEEN
    assert f"{N_SEEN} held-out classes ({told['n_rows']} rows)" in told["sentence"]
    assert [row["epoch"] for row in choice["history"] if "val_H" in row] == [2, 4]
    assert choice["epochs"] in (2, 4)
    for scores in (told["expected"], told["uncalibrated"]):
        assert all(0 <= scores[name]["low"] <= scores[name]["mean"] <= scores[name]["high"] <= 1 for name in scores)


def test_a_selection_that_was_stopped_between_folds_goes_on_to_the_same_choice(path, tmp_path, monkeypatch):
    task = steps.Task(config(path), config(path).dataset.load(), 0)
    whole = selection.choose_epochs(task)
    folder, fit, calls = SeedDirectory(tmp_path), selection.fit, []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(selection, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        selection.choose_epochs(task, folder=folder)
    assert selection.choose_epochs(task, folder=folder) == whole
    folder.held_out(0).unlink()
    with pytest.raises(InputError, match="lacks the evaluation of epoch 2"):
        selection.choose_epochs(task, folder=folder)


def test_the_shell_and_the_estimator_give_the_same_answers(few, path, tmp_path, capsys):
    X, y, embeddings, rows, _ = few
    names = np.array([f"class {k}" for k in range(len(embeddings))])
    estimator = fgen.ZeroShotClassifier(
        embeddings,
        classes=names,
        method="flow",
        model={key: value for key, value in MODEL.items() if key != "name"},
        classifier={"solver": "lbfgs"},
        n_per_class=20,
    )
    estimator.fit(X, names[y])
    own = config(path, protocol={"calibrate": True})
    (tmp_path / "config.toml").write_text(_toml(own))
    assert main(["train", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert estimator.calibration_["sentence"] in printed
    assert "expected" in printed
    assert RunDirectory.open(tmp_path / "run").seed(0).head.exists()
    predictor = predictor_of_run(tmp_path / "run")
    assert predictor.gamma == estimator.gamma_
    np.testing.assert_allclose(
        predictor.calibrated(predictor.scores(rows)), estimator.decision_function(rows), atol=1e-5
    )
    assert [predictor.name(k) for k in predictor.predict(rows)[0]] == estimator.predict(rows).tolist()


def test_prediction_trains_nothing_after_a_training(path, few, tmp_path, monkeypatch):
    train_only(config(path, protocol={"calibrate": False}), out=tmp_path / "run")
    monkeypatch.setattr("fgen.inference.from_run.new_heads", None)
    ids, scores = predictor_of_run(tmp_path / "run").predict(few[3])
    assert len(ids) == len(scores) == len(few[3])


def test_without_calibration_the_configs_own_epochs_are_trained(path, tmp_path, caplog):
    (model,) = train_only(config(path, protocol={"calibrate": False}), out=tmp_path / "run")
    assert fgen.load_model(model).config.epochs == MODEL["epochs"]
    assert not (model.parent / "choice.json").exists()
    caplog.set_level("INFO")
    assert predictor_of_run(tmp_path / "run").gamma == 0
    assert "its seen classes have no handicap" in caplog.text


def test_a_training_with_too_few_rows_to_hold_out_says_so_and_goes_on(tmp_path, caplog):
    features = rng.stream(0, "rows").random((6, 4))
    data = fgen.ZSLDataset(features, [0, 0, 1, 1, 2, 2], np.eye(5), class_names=list("abcde"))
    save_dataset(data, tmp_path / "tiny.h5")
    (model,) = train_only(config(tmp_path / "tiny.h5"), out=tmp_path / "run")
    assert "3 seen classes with 6 rows are too few to calibrate on" in caplog.text
    assert not (model.parent / "choice.json").exists()


def test_a_baseline_is_chosen_on_folds_too(path):
    given = config(path, model={"name": "ridge"})
    choice = selection.choose_setting(steps.Task(given, given.dataset.load(), 0))
    assert choice["held_out"]["n_classes"] == N_SEEN
    assert choice["settings"] in [asdict(candidate) for candidate in given.model.candidates()]


@pytest.mark.parametrize("folds", [0, -1, "many"])
def test_folds_are_a_number_or_auto(path, folds):
    with pytest.raises(InputError, match="folds"):
        config(path, protocol=PROTOCOL | {"folds": folds})


def test_folds_can_be_asked_for(path):
    given = config(path, protocol={"folds": 3, "evaluations": 1})
    assert len(selection.selection_tasks(steps.Task(given, given.dataset.load(), 0))) == 3


def _toml(given):
    from fgen.config import dump_toml

    return dump_toml(given.to_mapping())


def test_a_runs_table_and_page_say_what_gamma_rests_on(few, path, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    X, y, embeddings, rows, labels = few
    tested = np.concatenate([np.arange(0, len(y), 5), len(y) + np.arange(len(labels))])
    splits = {
        "trainval": np.setdiff1d(np.arange(len(y)), tested),
        "test_seen": tested[tested < len(y)],
        "test_unseen": tested[tested >= len(y)],
    }
    data = fgen.ZSLDataset(np.concatenate([X, rows]), np.concatenate([y, labels]), embeddings, splits=splits)
    save_dataset(data, tmp_path / "tested.h5")
    result = fgen.run(config(tmp_path / "tested.h5"), out=tmp_path / "run")
    sentence = result.description["choice"][0]["held_out"]["sentence"]
    assert sentence in result.table()
    assert "uncalibrated" in result.table()
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert sentence in page
    assert "H expected, seed 0" in page
