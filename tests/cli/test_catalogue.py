"""What the shell lists, and what it gives to begin with."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import fgen
from fgen.config import to_mapping
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.experiment.committed import committed_experiments, experiment_on
from fgen.experiment.config import ExperimentConfig, named_config
from fgen.reports import catalogue

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def own(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_dataset(toy, "own.npz")


def test_new_lists_every_experiment_of_the_checkout(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shell("new") == 0
    assert [line.split()[0] for line in shell.out.splitlines()] == sorted(p.stem for p in EXPERIMENTS.glob("*.toml"))
    assert "fgen2026_ridge_emoji                ridge on emoji" in shell.out
    assert not list(tmp_path.iterdir())


def test_new_copies_an_experiment_as_it_is_and_replaces_nothing_unless_told(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "fgen2026_clswgan_toy"
    original = (EXPERIMENTS / f"{name}.toml").read_text()
    assert shell("new", name) == 0
    assert Path(f"{name}.toml").read_text() == original
    Path(f"{name}.toml").write_text("edited")
    assert "--overwrite" in shell.refuses("new", name)
    assert Path(f"{name}.toml").read_text() == "edited"
    assert shell("new", name, "--overwrite", "--out", f"{name}.toml") == 0
    assert Path(f"{name}.toml").read_text() == original
    assert shell("new", name, "--out", "-") == 0
    assert shell.out == original
    assert f"Did you mean '{name}'?" in shell.refuses("new", "fgen2026_clswgn_toy")


def test_new_writes_settings_for_data_of_ones_own_that_run(shell, own):
    assert shell("new", "--data", "own.npz") == 0
    assert Path("own.toml").read_text().startswith("# Settings of fgen's fgen2026_priorgan_emoji, for toy.\n")
    small = ("model.epochs=1", "model.hidden_dim=8", "protocol.calibrate=false", "bank.n_per_class=5")
    assert shell("run", "own.toml", *(word for each in small for word in ("--set", each))) == 0, shell.err
    assert shell.out.startswith("priorgan on toy")


def but_for_the_data(config):
    settings = replace(config, paper={}, ours={}).to_mapping()
    settings["dataset"] = {k: v for k, v in settings["dataset"].items() if k not in ("name", "path", "embedding")}
    return settings


@pytest.mark.parametrize("kinds", [("words",), ("words", "parts")])
def test_every_experiment_keeps_its_settings_on_other_data(toy, own, kinds):
    embeddings = dict.fromkeys(kinds, toy.class_embeddings)
    save_dataset(ZSLDataset(toy.features, toy.labels, embeddings, splits=toy.splits), "own.npz", overwrite=True)
    data = load_dataset("own.npz")
    for name, path in committed_experiments().items():
        before = ExperimentConfig.from_file(path)
        after = ExperimentConfig.from_mapping(tomllib.loads(experiment_on(name, data)))
        assert (after.dataset.source, after.dataset.embedding) == ("own.npz", ("words",) if kinds[1:] else None)
        assert but_for_the_data(before) == but_for_the_data(after), name
        assert not after.paper
        assert not after.ours


def test_run_and_train_know_the_experiments_by_name(shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = []
    for name in ("run", "train_only"):
        monkeypatch.setattr(f"fgen.experiment.runner.{name}", lambda config, **_: begun.append(config) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shell(name[:5].rstrip("_"), "fgen2026_ridge_emoji", "--out", "x")
    expected = ExperimentConfig.from_file(EXPERIMENTS / "fgen2026_ridge_emoji.toml")
    assert begun == [expected, expected]
    assert "Did you mean 'fgen2026_ridge_emoji'?" in shell.refuses("run", "fgen2026_ridge_emoj")
    assert "fgen new lists" in shell.refuses("run", "qqq")
    Path("fgen2026_ridge_emoji").write_text('[dataset]\nname = "toy"\n[model]\nname = "ridge"')
    with pytest.raises(ZeroDivisionError):
        shell("run", "fgen2026_ridge_emoji", "--out", "x")
    assert begun[-1].dataset.name == "toy", "a file of that name goes first"


def test_methods_lists_all_that_a_config_can_name(shell):
    assert shell("methods") == 0
    names = [line.split()[0] for line in shell.out.splitlines() if line.startswith("  ")]
    assert names == [*fgen.MODELS, *fgen.BASELINES, *fgen.CLASSIFIERS]
    assert '  clswgan     f-CLSWGAN: Xian, Lorenz, Schiele, Akata, "Feature Generating' in shell.out
    assert shell("methods", "--json") == 0
    told = json.loads(shell.out)
    assert {kind: [*entries] for kind, entries in told.items()} == {
        "generators": [*fgen.MODELS],
        "baselines": [*fgen.BASELINES],
        "heads": [*fgen.CLASSIFIERS],
    }
    assert told["generators"]["clswgan"]["settings"]["cls_weight"] == fgen.MODELS["clswgan"]().cls_weight


@pytest.mark.parametrize("name", [*fgen.MODELS, *fgen.BASELINES, *fgen.CLASSIFIERS])
def test_the_settings_that_methods_shows_are_a_config_of_the_defaults(shell, name):
    assert shell("methods", name) == 0
    (section,) = settings = tomllib.loads(shell.out)
    config = named_config(section, settings[section])
    assert config == type(config)()
    assert to_mapping(config).items() <= settings[section].items()
    entry = catalogue.entry(name)
    assert entry.notes.keys() == entry.settings.keys(), "a setting without a word on what it means"
    assert all(note.split()[0] in shell.out for note in entry.notes.values())


def test_a_name_that_no_method_has_is_answered_with_the_nearest(shell):
    assert "'clswgn' is no method and no head; expected one of cadavae" in shell.refuses("methods", "clswgn")
    assert shell.err.endswith("Did you mean 'clswgan'?\n")
