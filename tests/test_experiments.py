"""The files of experiments/: accepted, consistent with their names and with themselves, and ready to run."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import fgen
from experiments.table import main
from fgen.baselines import BASELINES
from fgen.config import read_toml
from fgen.data.files import save_dataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.metrics.calibration import harmonic_mean
from fgen.models.registry import MODELS

FOLDER = Path(fgen.__file__).parent.parent / "experiments"
FILES = sorted(FOLDER.glob("*.toml"))
#: A method's variant follows it after a dash; our own experiments have the author fgen.
NAME = re.compile(
    r"(?P<author>[a-z]+)(?P<year>(19|20)\d\d)_(?P<method>[a-z0-9]+)(-[a-z0-9-]+)?_(?P<dataset>[a-z0-9]+)"
    r"(_(?P<setting>g?zsl))?"
)
#: Columns of the benchmark's class embeddings; the lineage's scripts take as many of noise.
WIDTHS = {"awa1": 85, "awa2": 85, "cub": 312, "sun": 102, "flo": 1024}
SCORES = ("T1", "U", "S", "H")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_experiments():
    assert len(FILES) >= 8


@each_file
def test_it_is_accepted_and_its_folder_of_data_can_be_set(path):
    config = ExperimentConfig.from_file(path)
    assert ExperimentConfig.from_mapping(config.to_mapping()) == config
    moved = ExperimentConfig.from_file(path, ["dataset.path=/somewhere/else"]) if config.dataset.path else config
    assert moved.dataset.source == ("/somewhere/else" if config.dataset.path else config.dataset.name)


@each_file
def test_what_its_comments_recommend_is_accepted(path):
    for one in re.findall(r"--set ('[^']+'|\S+)", path.read_text(encoding="utf-8")):
        ExperimentConfig.from_file(path, [one.strip("'").rstrip(".,;)")])


@each_file
def test_its_model_keys_are_those_of_the_method(path):
    section = read_toml(path)["model"]
    known = {field.name for field in fields((MODELS | BASELINES)[section["name"]])} | {"name"}
    assert set(section) <= known
    with pytest.raises(InputError, match=r"unknown key model\.not_a_key"):
        ExperimentConfig.from_file(path, ["model.not_a_key=1"])


@each_file
def test_all_that_it_sets_has_an_effect(path):
    assert not ExperimentConfig.from_file(path).unused()


@each_file
def test_its_name_says_who_what_where_and_how(path):
    name = NAME.fullmatch(path.stem)
    assert name, "<author><year>_<method>[-variant]_<dataset>[_zsl|_gzsl].toml"
    config = ExperimentConfig.from_file(path)
    assert name["method"] == config.model.name
    assert name["dataset"] == (config.dataset.name or Path(config.dataset.path).name).lower()
    assert name["setting"] in (None, config.protocol.setting)
    if config.paper:
        assert name["year"] in path.read_text().splitlines()[0], "the first line names the paper"
        assert name["author"] in path.read_text().splitlines()[0].lower()


@each_file
def test_it_is_honest_unless_told_otherwise_and_papers_are_met_with_several_seeds(path):
    config = ExperimentConfig.from_file(path)
    assert config.protocol.name == "honest"
    assert ExperimentConfig.from_file(path, ["protocol.name=legacy"]).protocol.name == "legacy"
    assert len(config.protocol.seeds) >= 5 or not config.paper


@each_file
def test_the_papers_numbers_are_fractions_that_agree_with_each_other(path):
    config = ExperimentConfig.from_file(path)
    for section in (config.paper, config.ours):
        numbers = {key: value for key, value in section.items() if isinstance(value, int | float)}
        assert set(numbers) & set(SCORES) or section is config.ours or not section
        for key, value in numbers.items():
            if key in (*SCORES, "AUSUC"):
                assert 0 < value < 1, f"{key} is a fraction"
        if {"U", "S", "H"} <= set(numbers):
            assert harmonic_mean(numbers["U"], numbers["S"]) == pytest.approx(numbers["H"], abs=2e-3)
    if config.paper:
        assert config.paper["read_in"], "where the numbers were read"
        wanted = {"T1"} if config.protocol.setting == "zsl" else {"U", "S"}
        assert wanted <= set(config.paper), "the score that selection looks at can be compared"


@each_file
def test_what_we_measured_says_how(path):
    ours = ExperimentConfig.from_file(path).ours
    if ours:
        assert set(ours) == {*SCORES, "seeds", "commit", "command"}
        assert re.fullmatch(r"[0-9a-f]{7,40}", ours["commit"])
        assert len(ours["seeds"]) >= 5


def test_the_table_has_the_papers_numbers_beside_ours_in_percent(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["table.py", "clswgan_cub", "clswgan_emoji"])
    assert main() == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["xian2018_clswgan_cub_gzsl"] == ["43.7", "57.7", "49.7"]
    assert lines["xian2018_clswgan_cub_zsl"] == ["57.3"]
    ours = ExperimentConfig.from_file(FOLDER / "xian2018_clswgan_emoji.toml").ours
    assert lines["xian2018_clswgan_emoji"] == [*(f"{100 * ours[name]:.1f}" for name in SCORES), ours["commit"]]
    monkeypatch.setattr("sys.argv", ["table.py", "no such method"])
    assert main() == 2


@each_file
def test_noise_has_as_many_columns_as_the_benchmarks_embedding(path):
    """Where the method's own rule is that; apy's scripts and CE-GZSL's on FLO take another number."""
    config = ExperimentConfig.from_file(path)
    dataset = Path(config.dataset.path or "").name.lower()
    if config.paper and dataset in WIDTHS and MODELS[config.model.name]().noise_dim is None:
        assert config.model.noise_dim == WIDTHS[dataset]


@each_file
def test_its_recipe_runs(path, world, tmp_path):
    """Cut short, and on other data."""
    save_dataset(world.dataset, tmp_path / "world.h5")
    config = ExperimentConfig.from_file(path)
    overrides = ["protocol.seeds=[0]", "protocol.evaluations=1", "bank.n_per_class=5", "train.device=cpu"]
    overrides += ["classifier.epochs=1"] if config.classifier.name == "softmax" else []
    if config.model.name in MODELS:
        overrides += ["model.hidden_dim=8", "model.epochs=1", "model.steps=none"]
        names = {field.name for field in fields(config.model)}
        overrides += [f"model.{name}=1" for name in names if name.endswith("_epochs")]
        overrides += [f"model.{name}=8" for name in names if name.endswith("_dim") and name != "noise_dim"]
    mapping = ExperimentConfig.from_file(path, overrides).to_mapping()
    embedding = ("embedding", "name", "path")
    mapping["dataset"] = {key: value for key, value in mapping["dataset"].items() if key not in embedding}
    mapping["dataset"]["path"] = str(tmp_path / "world.h5")
    result = fgen.run(mapping)
    assert result.description["model"] == config.model.name
    assert 0 <= result.scores["T1"]["mean"] <= 1
    assert result.description["config"].get("paper", {}) == config.paper
