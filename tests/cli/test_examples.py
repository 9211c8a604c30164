"""The examples for the shell work as they stand in ``experiments/examples``."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from setuptools import build_meta

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
    pytest.importorskip("matplotlib")
    assert shell("report", "run", "--out", "page.html") == 0, shell.err
