"""``fgen train --resume`` with more epochs: the same bytes as one unbroken training."""

import pytest

from fgen.cli import main
from fgen.data.files import save_dataset
from fgen.data.toy import make_toy

CONFIG = """
[dataset]
path = "toy.npz"
[model]
name = "clswgan"
epochs = 1
hidden_dim = 8
noise_dim = 4
batch_size = 16
cls_weight = 0.0
[bank]
n_per_class = 5
[classifier]
epochs = 2
[protocol]
seeds = [3]
evaluations = 1
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_dataset(make_toy(n_seen=6, n_unseen=3, rows_per_class=16), "toy.npz")
    (tmp_path / "toy.toml").write_text(CONFIG)

    def train(out, *settings, command="train", resume=False):
        words = [word for one in settings for word in ("--set", one)]
        return main([command, "toy.toml", "--out", out, *words, *(["--resume"] if resume else [])])

    return train


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "timing.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("first", "last"), [("model.epochs=2", "model.epochs=4"), ("model.steps=5", "model.steps=11")])
def test_more_epochs_end_in_the_bytes_of_one_unbroken_training(train, tmp_path, first, last):
    seeds = "protocol.seeds=[3, 1]" if "epochs" in first else "protocol.seeds=[3]"
    assert train("grown", first, seeds) == 0
    short = contents(tmp_path / "grown")
    assert train("grown", last, seeds, resume=True) == 0
    assert train("unbroken", last, seeds) == 0
    grown, unbroken = contents(tmp_path / "grown"), contents(tmp_path / "unbroken")
    assert grown.keys() == unbroken.keys() == short.keys()
    assert {name for name in grown if grown[name] != unbroken[name]} == set()
    changed = {name for name in grown if grown[name] != short[name]}
    assert {"config.toml", "seeds/3/bank.h5", "seeds/3/model/model.safetensors", "seeds/3/metrics.csv"} <= changed


def test_a_seed_that_a_kill_left_behind_goes_on_too(train, tmp_path, monkeypatch):
    assert train("grown", "model.epochs=2") == 0
    with monkeypatch.context() as patch:
        patch.setattr("fgen.experiment.protocol.SeedRun.train_heads", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train("grown", "model.epochs=3", resume=True)
    assert train("grown", "model.epochs=3", resume=True) == 0
    assert train("unbroken", "model.epochs=3") == 0
    assert contents(tmp_path / "grown") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["model.epochs=2"], ["model.epochs=1"]),
        (["model.epochs=2"], ["model.epochs=3", "model.lr=0.01"]),
        (["model.steps=4"], ["model.steps=5"]),
        (["model.epochs=2", "protocol.calibrate=true"], ["model.epochs=3", "protocol.calibrate=true"]),
    ],
    ids=["fewer", "another rate", "within an epoch", "a selection"],
)
def test_what_would_end_in_other_bytes_is_refused_and_stays(train, tmp_path, capsys, first, then):
    assert train("run", *first) == 0
    before = contents(tmp_path / "run")
    assert train("run", *then, resume=True) == 2
    assert "was started with another config" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def test_a_run_which_selects_is_not_gone_on_with_for_longer(train, tmp_path, capsys):
    assert train("run", "model.epochs=1", command="run") == 0
    before = contents(tmp_path / "run")
    for command in ("run", "train"):
        assert train("run", "model.epochs=2", command=command, resume=True) == 2
        assert "was started with another config" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before
