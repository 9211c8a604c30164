"""The examples for the shell work as they stand in ``experiments/examples``."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from setuptools import build_meta

from fgen.data.files import save_dataset
from fgen.data.tables import write_embeddings_csv
from fgen.models import plugins
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import MODELS

EXAMPLES = Path(__file__).resolve().parents[2] / "experiments" / "examples"


@pytest.fixture
def own_method(tmp_path, monkeypatch):
    """The package of ``own_method/``, installed as pip would, and gone afterwards."""
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLES / "own_method", source)
    site.mkdir()
    monkeypatch.chdir(source)
    build_meta.prepare_metadata_for_build_wheel(str(site))
    shutil.copy(source / "own_method.py", site)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(site)
    plugins.installed.cache_clear()
    yield
    FeatureGenerator.methods.pop("triplet", None)
    MODELS.data.pop("triplet", None)
    sys.modules.pop("own_method", None)
    plugins.installed.cache_clear()


def test_a_method_of_ones_own_package_works_in_every_command(shell, config, toy, tmp_path, own_method):
    settings = ("triplet_weight=0.5", "epochs=1", "cls_weight=0.0", "hidden_dim=8")
    words = [word for each in settings for word in ("--set", f"model.{each}")]
    model = ("--set", 'model={name="triplet", noise_dim=4}', *words, "--set", "protocol.seeds=[0]")
    assert shell("run", config, "--out", "run", *model) == 0, shell.err
    assert shell.out.startswith("triplet on toy")
    assert shell("train", config, "--out", "trained", *model) == 0, shell.err
    assert shell("generate", "run", "--out", "bank.h5", "--n-per-class", 5) == 0, shell.err
    assert shell("evaluate", "bank.h5", "--dataset", "toy") == 0, shell.err
    np.save("x.npy", toy.features[:5])
    assert shell("predict", "trained", "x.npy") == 0, shell.err
    for path in ("run", "run/seeds/0/model", "bank.h5"):
        assert shell("inspect", path) == 0, shell.err
    assert shell("compare", "run") == 0, shell.err
    assert shell("methods", "triplet") == 0, shell.err
    assert "triplet_margin = 0.1" in shell.out


def test_the_script_of_the_shell_answers_about_new_features(shell, toy, tmp_path, monkeypatch):
    """Each of its commands runs in this process, one after the other, as the script has them."""
    monkeypatch.chdir(tmp_path)
    save_dataset(toy, "own.npz")
    np.save("new.npy", toy.features[:3])
    write_embeddings_csv("new.csv", ["wug"], toy.class_embeddings[:1])
    text = (EXAMPLES / "from_the_shell.sh").read_text()
    values = {"$data": "own.npz", "$features": "new.npy", "$classes": "new.csv"}
    values["$small"] = re.search(r'^small="(.*)"', text, re.MULTILINE)[1] + " --set model.hidden_dim=8"
    commands = [line.split("#")[0].split("|")[0] for line in text.splitlines() if line.startswith("fgen ")]
    assert len(commands) == 7
    for command in commands:
        for name, value in values.items():
            command = command.replace(f'"{name}"', value).replace(name, value)
        assert shell(*command.split()[1:]) == 0, shell.err
    answers = json.loads(Path("answers.json").read_text())
    assert [one["row"] for one in answers] == [0, 1, 2]
    assert {one["class_name"] for one in answers} <= {*toy.class_names, "wug"}


def test_the_script_of_the_shell_is_one_that_a_shell_reads():
    done = subprocess.run(
        ["sh", "-n", str(EXAMPLES / "from_the_shell.sh")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
