"""A bank of the validation task beside a bank: what it holds, that it goes on, and that gamma is chosen on it."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import fgen
from fgen.classifiers.registry import CLASSIFIERS
from fgen.data.bank import FeatureBank
from fgen.errors import InputError
from fgen.experiment import validation_bank
from fgen.experiment.directory import RunDirectory
from fgen.experiment.evaluation import evaluate_bank
from fgen.experiment.generation import generate_from_run
from fgen.features.scaling import FeatureScaler
from fgen.models.registry import load_model
from fgen.reports.inspection import inspect

SETTINGS = {
    "dataset": {"name": "toy"},
    "model": {"name": "clswgan", "hidden_dim": 8, "epochs": 2, "cls_epochs": 1},
    "bank": {"n_per_class": 4},
    "protocol": {"evaluations": 2},
    "classifier": {"name": "cosine"},
}
HEAD = CLASSIFIERS["cosine"]()


def changed(section, **keys):
    return SETTINGS | {section: SETTINGS[section] | keys}


@pytest.fixture(scope="module")
def toy():
    return fgen.load_dataset("toy")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a run, its bank.h5 and the validation bank beside it."""
    folder = tmp_path_factory.mktemp("kept")
    fgen.run(SETTINGS, out=folder / "run")
    generate_from_run(folder / "run", out=folder / "bank.h5", n_per_class=5, real=True, validation=True)
    return folder


@pytest.fixture
def own(kept, tmp_path):
    """A copy of both banks, to change; the path of the first."""
    for name in ("bank.h5", "bank.validation.h5"):
        shutil.copy(kept / name, tmp_path / name)
    return tmp_path / "bank.h5"


def arrays(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


def test_it_holds_the_validation_task_and_tells_the_rows_apart(kept, toy):
    """The rows are the data set's own, and the same in number and order whichever reader takes them."""
    held, task = arrays(kept / "bank.validation.h5"), toy.validation()
    sets = {"rows_train": "trainval", "rows_val_seen": "test_seen", "rows_val_unseen": "test_unseen"}
    for name, split in sets.items():
        rows = np.sort(task.splits[split])  # toy's rows are sorted by class
        assert np.array_equal(held["features"][held[name]], toy.features[rows]), name
        assert np.array_equal(held["labels"][held[name]], toy.labels[rows]), name
    assert np.flatnonzero(held["seen"]).tolist() == task.seen.tolist()
    made = np.bincount(held["labels"][held["synthetic"]], minlength=toy.n_classes)
    assert np.array_equal(made, np.where(np.isin(np.arange(toy.n_classes), task.unseen), 5, 0))
    assert not np.isin(held["labels"], toy.unseen).any(), "nothing of the test's classes"
    both = np.concatenate([held[name] for name in sets])
    assert np.array_equal(np.sort(both), np.flatnonzero(~held["synthetic"]))
    assert np.array_equal(arrays(kept / "bank.h5")["class_names"], held["class_names"]), "labels are the same"


def test_its_rows_are_of_a_generator_that_never_saw_their_classes(kept, toy):
    """It learned from the validation task's rows alone, for as many epochs as the run chose."""
    folder, task = RunDirectory.open(kept / "run").seed(0), toy.validation()
    model, epochs = load_model(folder.validation_model), json.loads(folder.choice.read_text())["epochs"]
    assert (model.n_seen, model.config.epochs) == (len(task.seen), epochs)
    again = fgen.make_model(**changed("model", epochs=epochs)["model"])
    rows = task.splits["trainval"]
    again.fit(toy.features[rows], toy.labels[rows], toy.class_embeddings, seed=0, class_names=toy.class_names)
    features, labels = again.generate(task.unseen, 5, seed=0)
    held = arrays(kept / "bank.validation.h5")
    assert np.array_equal(held["labels"][held["synthetic"]], labels)
    assert np.allclose(held["features"][held["synthetic"]], features, rtol=0, atol=1e-5)


def test_its_page_describes_it(kept):
    text = (Path(__file__).resolve().parents[2] / "docs/reading-a-bank.md").read_text(encoding="utf-8")
    section = text.split("\n## The bank of the validation task\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    with h5py.File(kept / "bank.validation.h5") as file, h5py.File(kept / "bank.h5") as bank:
        assert set(named) == set(file) - set(bank)
        assert {file[name].dtype.str for name in named} == {"<i8"}


def test_it_is_named_by_inspect_and_opened_as_any_bank(kept):
    facts = inspect(str(kept / "bank.validation.h5"))
    assert facts["kind"] == "bank of a validation task"
    assert facts["rows_val_unseen"] == 120
    assert inspect(str(kept / "bank.h5"))["kind"] == "bank"


def test_the_generator_is_trained_once_and_a_stopped_call_goes_on(kept, tmp_path, monkeypatch):
    """Where a call was stopped between both banks, the same one goes on; a whole pair isn't touched."""
    for name in ("fit", "write_bank"):
        monkeypatch.setattr(validation_bank, name, lambda *_, **__: pytest.fail("it was made again"))
    shutil.copy(kept / "bank.validation.h5", tmp_path / "bank.validation.h5")
    generate_from_run(kept / "run", out=tmp_path / "bank.h5", n_per_class=5, real=True, validation=True)
    assert (tmp_path / "bank.h5").read_bytes() == (kept / "bank.h5").read_bytes()
    with pytest.raises(InputError, match=r"bank\.h5 exists"):
        generate_from_run(kept / "run", out=tmp_path / "bank.h5", n_per_class=5, validation=True)
    shutil.copy(kept / "bank.validation.h5", tmp_path / "other.validation.h5")
    with pytest.raises(InputError, match=r"other\.validation\.h5 exists"):
        generate_from_run(kept / "run", out=tmp_path / "other.h5", n_per_class=6, validation=True)
    monkeypatch.undo()
    monkeypatch.setattr(validation_bank, "fit", lambda *_, **__: pytest.fail("it was trained again"))
    generate_from_run(kept / "run", out=tmp_path / "all.h5", classes="all", n_per_class=2, validation=True)
    with FeatureBank.open(tmp_path / "all.validation.h5") as bank:
        assert len(np.unique(bank.labels[bank.synthetic])) == 20, "seen classes have rows here where they have there"


def test_a_run_that_chose_nothing_has_one_of_its_own_epochs(tmp_path):
    from fgen.experiment.config import ExperimentConfig
    from fgen.experiment.runner import train_only

    train_only(ExperimentConfig.from_mapping(SETTINGS), out=tmp_path / "run")
    generate_from_run(tmp_path / "run", out=tmp_path / "bank.h5", n_per_class=3, validation=True)
    folder = RunDirectory.open(tmp_path / "run").seed(0)
    assert load_model(folder.validation_model).config.epochs == 2


def test_shots_are_training_rows_of_unseen_classes_there_too(tmp_path, toy):
    fgen.run(changed("dataset", shots=2), out=tmp_path / "run")
    generate_from_run(tmp_path / "run", out=tmp_path / "bank.h5", n_per_class=3, validation=True)
    held, task = arrays(tmp_path / "bank.validation.h5"), toy.with_shots(2).validation()
    of_unseen = ~held["seen"][held["labels"][held["rows_train"]]]
    assert np.count_nonzero(of_unseen) == 2 * len(task.unseen)
    assert "held-out classes" in evaluate_bank(tmp_path / "bank.h5", toy, HEAD).calibration


# A classifier is calibrated on it.


def test_gamma_is_chosen_on_it_and_serves_the_test_rows(kept, toy):
    """As the lines that a user without fgen would write choose it."""
    held = arrays(kept / "bank.validation.h5")
    rows = np.r_[held["rows_train"], np.flatnonzero(held["synthetic"])]
    scaler = FeatureScaler.fit(HEAD.scaling, held["features"][held["rows_train"]])
    seen = np.flatnonzero(held["seen"])
    head = HEAD.build().fit(held["features"][rows], held["labels"][rows], seen=seen, scaler=scaler)
    asked = np.r_[held["rows_val_seen"], held["rows_val_unseen"]]
    unseen = np.unique(held["labels"][held["rows_val_unseen"]])
    scores = head.scores(held["features"][asked], toy.n_classes)
    gamma = fgen.choose_gamma(scores, held["labels"][asked], seen, unseen)
    found = evaluate_bank(kept / "bank.h5", toy, HEAD)
    assert found.scores.gamma == pytest.approx(gamma, rel=1e-3, abs=1e-4)
    assert gamma > 0
    assert found.calibration.startswith(f"gamma {found.scores.gamma:.3g} was chosen on 4 held-out classes (120 rows)")
    assert found.uncalibrated.H < found.scores.H
    assert found.as_dict()["uncalibrated"]["H"] == found.uncalibrated.H
    given = evaluate_bank(kept / "bank.h5", toy, HEAD, gamma=0.01)
    assert (given.scores.gamma, given.calibration) == (0.01, ""), "who gives gamma has it"


def test_without_one_the_scores_are_uncalibrated_and_it_is_told_how_to_make_one(own, toy, caplog):
    whole = evaluate_bank(own, toy, HEAD)
    own.with_name("bank.validation.h5").unlink()
    bare = evaluate_bank(own, toy, HEAD)
    assert bare.scores.H == bare.uncalibrated.H == whole.uncalibrated.H
    assert f"fgen generate RUN --out {own} --validation makes it" in caplog.text
    assert list(bare.as_dict()) == ["T1", "U", "S", "H", "AUSUC"]


@pytest.mark.parametrize(
    ("part", "options", "settings"),
    [
        ("n_per_class", {"n_per_class": 6}, SETTINGS),
        ("seed", {}, changed("protocol", seeds=[1])),
        ("model", {}, changed("model", epochs=1)),
        ("data", {}, changed("dataset", split_seed=1)),
    ],
)
def test_one_of_another_bank_is_refused(kept, own, toy, tmp_path, part, options, settings):
    run = kept / "run"
    if settings != SETTINGS:
        run = fgen.run(settings, out=tmp_path / "run").out
    other = own.with_name("other.h5")
    generate_from_run(run, out=other, **{"n_per_class": 5} | options)
    shutil.copy(own.with_name("bank.validation.h5"), own.with_name("other.validation.h5"))
    with pytest.raises(InputError, match=rf"doesn't belong to .*other\.h5: it has another {part}.*--overwrite"):
        evaluate_bank(other, toy, HEAD)
    evaluate_bank(other, toy, HEAD, gamma=0.0)


def broken(own, name, rows):
    with h5py.File(own.with_name("bank.validation.h5"), "r+") as file:
        old = file[name][...]
        del file[name]
        if rows is not None:
            file[name] = rows(old)


@pytest.mark.parametrize(
    ("name", "rows", "told"),
    [
        ("rows_train", None, "the bank has the sets of rows rows_val_seen, rows_val_unseen"),
        ("rows_train", lambda old: old + 10**6, "'rows_train' names rows from"),
        ("rows_train", lambda old: old[:0], "rows_train, rows_val_seen or rows_val_unseen that overlap"),
        ("rows_val_unseen", lambda old: old[[0, 0]], "that overlap"),
        ("rows_val_unseen", lambda old: old + 5, "that overlap"),
        ("rows_val_seen", lambda old: old.astype("f4"), "of type float32"),
        ("seen", lambda old: old & False, "rows_val_seen of unseen"),
        ("rows_val_seen", lambda old: h5py.ExternalLink("elsewhere.h5", "x"), "is a link to elsewhere"),
    ],
)
def test_one_that_is_damaged_is_refused_by_name(own, toy, name, rows, told):
    broken(own, name, rows)
    with pytest.raises(InputError, match=told):
        evaluate_bank(own, toy, HEAD)


def test_another_bank_under_its_name_is_none(own, toy):
    shutil.copy(own, own.with_name("bank.validation.h5"))
    with pytest.raises(InputError, match="has no rows_train"):
        evaluate_bank(own, toy, HEAD)


def test_in_a_methods_own_space_its_rows_go_through_the_generator_that_never_saw_them(tmp_path, toy, caplog):
    model = {"name": "cegzsl", "hidden_dim": 8, "epochs": 1}
    run = fgen.run(SETTINGS | {"model": model, "protocol": {"evaluations": 1}}, out=tmp_path / "run").out
    generate_from_run(run, out=tmp_path / "bank.h5", n_per_class=4, validation=True)
    assert evaluate_bank(tmp_path / "bank.h5", toy, HEAD, run=run).calibration
    shutil.rmtree(RunDirectory.open(run).seed(0).validation_model)
    bare = evaluate_bank(tmp_path / "bank.h5", toy, HEAD, run=run)
    assert bare.calibration == ""
    assert "validation_model isn't there" in caplog.text


def test_it_is_no_obstacle_for_banks_of_classes_that_came_later(kept, tmp_path, toy):
    """Their generator is the run's, and so is what calibrates them."""
    rows = "\n".join(f"{toy.name_of(k)}," + ",".join(map(str, toy.class_embeddings[k])) for k in toy.unseen)
    (tmp_path / "new.csv").write_text(rows)
    options = {"embeddings": tmp_path / "new.csv", "n_per_class": 5, "validation": True}
    generate_from_run(kept / "run", out=tmp_path / "new.h5", **options)
    assert evaluate_bank(tmp_path / "new.h5", toy, HEAD).calibration
