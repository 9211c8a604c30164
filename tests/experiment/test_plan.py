"""``fgen.plan``: what it tells of a run, held against what the run does."""

import json

import pytest

import fgen
from fgen.cli import main
from fgen.config import dump_toml
from fgen.errors import InputError
from fgen.experiment.footprint import one_task, seed_disk
from fgen.experiment.plan import Work
from fgen.experiment.runner import load_to_run, read_experiment, trainings
from fgen.training import loop

#: Small, and with one evaluation, so that the chosen epoch is the last.
TOY = {
    "dataset": {"name": "toy"},
    "model": {
        "name": "clswgan",
        "hidden_dim": 8,
        "noise_dim": 4,
        "epochs": 2,
        "cls_epochs": 2,
        "feature_scaling": "standard",
        "output": "linear",
    },
    "train": {"threads": 1, "device": "cpu"},
    "bank": {"n_per_class": 40},
    "classifier": {"solver": "lbfgs", "l2": [1e-2, 1e-3], "scaling": "standard"},
    "protocol": {"evaluations": 1, "seeds": [0, 1]},
}
EMOJI = TOY | {
    "dataset": {"name": "emoji", "embedding": "attributes"},
    "model": {"name": "clswgan", "hidden_dim": 32, "noise_dim": 8, "steps": 2, "cls_epochs": 1},
    "bank": {"n_per_class": 20, "dtype": "f2"},
    "classifier": {"name": "cosine"},
    "protocol": {"evaluations": 1},
}


def kinds(**sections):
    """Toy with other sections."""
    return {name: section | sections.get(name, {}) for name, section in TOY.items()}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"protocol": {"folds": 2, "calibrate": True, "seeds": [0]}},
        {"classifier": {"solver": "adam", "l2": 1e-4, "epochs": 3}},
        {"protocol": {"name": "legacy"}},
    ],
    ids=["one fold", "folds", "adam", "legacy"],
)
def test_a_plan_names_each_phase_of_the_run_and_as_many_steps_as_it_takes(change, tmp_path, monkeypatch):
    taken, step = [], loop.train_step
    planned = fgen.plan(kinds(**change))
    monkeypatch.setattr(loop, "train_step", lambda *given: taken.append(0) or step(*given))
    result = fgen.run(kinds(**change), out=tmp_path / "run")
    assert {work.phase for work in planned.works} == result.outcomes[0].seconds.keys()
    assert sum(work.number for work in planned.works if work.name == "training") == len(taken)
    assert all(work.seconds >= 0 for work in planned.works)


def test_the_numbers_of_a_plan_follow_from_evaluations_penalties_and_seeds():
    numbers = {(work.phase, work.name): (work.number, work.unit) for work in fgen.plan(TOY).works}
    assert numbers["selection", "heads"] == (2 * 2 * 500, "step")  # seeds, penalties, L-BFGS's limit
    assert numbers["heads", "heads"] == (2 * 500, "step")
    assert numbers["training", "pre-training"] == (2 * 2, "epoch")
    assert numbers["bank", "bank"] == (2 * 5, "class")
    by_adam = fgen.plan(kinds(classifier={"solver": "adam", "l2": 1e-4, "epochs": 3})).works
    assert [(work.number, work.unit) for work in by_adam if work.phase == "heads"] == [(2 * 3, "epoch")]


def test_minutes_are_those_of_all_works():
    assert Work("training", "training", 120, "step", 0.5).minutes == 1
    planned = fgen.plan(TOY)
    assert planned.minutes == pytest.approx(sum(work.number * work.seconds for work in planned.works) / 60)


@pytest.mark.parametrize("settings", [kinds(model={"hidden_dim": 256}), EMOJI], ids=["toy", "emoji"])
def test_the_disk_that_is_told_is_what_a_run_writes_but_for_tables(settings, tmp_path):
    config = read_experiment(settings)
    dataset, config = load_to_run(config)
    told = seed_disk(one_task(config, dataset), len(trainings(config, dataset)))
    fgen.run(settings, out=tmp_path / "run")
    files = [path for path in (tmp_path / "run/seeds/0").rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files if path.suffix in (".safetensors", ".h5"))
    assert written / 1.25 < told < written * 1.25


def test_the_command_prints_a_plan_or_json_and_leaves_no_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "toy.toml").write_text(dump_toml(TOY))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "toy.toml", "--plan"]) == 0
    out = capsys.readouterr().out
    assert all(told in out for told in ("selection: training", "of disk", "L-BFGS"))
    assert main(["run", "toy.toml", "--plan", "--json"]) == 0
    assert {"works", "minutes", "memory", "disk"} == json.loads(capsys.readouterr().out).keys()
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]


def test_a_baseline_is_planned_too_and_writes_no_bank():
    planned = fgen.plan({"dataset": {"name": "toy"}, "model": {"name": "ridge"}})
    assert [work.unit for work in planned.works] == ["fit", "fit"]
    assert planned.disk == 0


def test_what_a_run_refuses_a_plan_refuses_with_the_same_words(tmp_path):
    for wrong in (kinds(dataset={"name": "other"}), kinds(model={"epochs": -1}), kinds(train={"device": "none"})):
        said = []
        for call in (fgen.plan, fgen.run):
            with pytest.raises(InputError) as told:
                call(wrong)
            said.append(str(told.value))
        assert said[0] == said[1]


def test_a_run_tells_once_how_long_all_of_its_trainings_take(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("fgen.experiment.runner.WORTH_TELLING", 0)
    with caplog.at_level("INFO", "fgen"):
        fgen.run(TOY, out=tmp_path / "run")
    (told,) = [one for one in (record.getMessage() for record in caplog.records) if "trainings take" in one]
    steps = sum(work.number for work in fgen.plan(TOY).works if work.name == "training")
    assert told.startswith(f"{steps:,} steps of 4 trainings take at most about ")
