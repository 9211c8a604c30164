"""Conventional zero-shot learning: data without test rows of seen classes, of which T1 alone is reported."""

import json

import numpy as np
import pytest
import scipy.io

import fgen
from fgen.cli import main
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.errors import InputError

NONE = {"mean": None, "low": None, "high": None}
SMALL = {"name": "clswgan", "epochs": 2, "hidden_dim": 16, "noise_dim": 4, "cls_weight": 0.0}


def without_test_rows(data, *splits):
    kept = {name: np.zeros(0, np.int64) if name in splits else rows for name, rows in data.splits.items()}
    return ZSLDataset(
        data.features, data.labels, data.class_embeddings, class_names=data.class_names, splits=kept, name=data.name
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Toy data with all test rows, and with those of unseen classes alone."""
    folder, toy = tmp_path_factory.mktemp("zsl"), load_dataset("toy")
    save_dataset(without_test_rows(toy), folder / "whole.npz")
    save_dataset(without_test_rows(toy, "test_seen"), folder / "alone.npz")
    save_dataset(without_test_rows(toy, "test_seen"), folder / "pair")
    pair = scipy.io.loadmat(folder / "pair" / "att_splits.mat")
    scipy.io.savemat(
        folder / "pair" / "att_splits.mat",
        {name: value for name, value in pair.items() if name != "test_seen_loc" and not name.startswith("__")},
    )
    return folder


def settings(path, model, **protocol):
    protocol = {"seeds": [0, 1], "evaluations": 1, "calibrate": True} | protocol
    classifier = {"epochs": 3}
    bank = {"n_per_class": 10}
    return {
        "dataset": {"path": str(path)},
        "model": model,
        "protocol": protocol,
        "classifier": classifier,
        "bank": bank,
    }


@pytest.mark.parametrize(
    ("model", "name"), [({"name": "ridge"}, "honest"), ({"name": "ridge"}, "legacy"), (SMALL, "honest")]
)
def test_t1_is_that_of_the_same_data_with_all_test_rows_and_nothing_else_is_reported(folder, model, name):
    seeds = [0] if model is SMALL else [0, 1]
    whole = fgen.run(settings(folder / "whole.npz", model, name=name, seeds=seeds, setting="zsl"))
    alone = fgen.run(settings(folder / "alone.npz", model, name=name, seeds=seeds))
    assert alone.scores["T1"] == whole.scores["T1"]
    assert alone.scores["T1"]["low"] is not None
    for score in ("U", "S", "H", "AUSUC"):
        assert alone.scores[score] == NONE | {"per_seed": [None] * len(seeds)}
        assert whole.scores[score]["mean"] is not None
    assert alone.description.keys() == whole.description.keys()
    assert alone.description["setting"] == alone.description["config"]["protocol"]["setting"] == "zsl"
    lines = alone.table().splitlines()
    assert "T1 alone: there are no test rows of seen classes." in lines
    assert ["T1"] in [line.split() for line in lines]
    assert "AUSUC" not in alone.table()


def test_a_run_without_test_rows_of_seen_classes_is_told_of_kept_and_gone_on_with(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    given = settings(folder / "alone.npz", {"name": "ridge"}, setting="gzsl")
    first = fgen.run(given, out=tmp_path / "run")
    assert "toy has no test rows of seen classes (test_seen): T1 alone is reported" in caplog.text
    again = fgen.run(given, out=tmp_path / "run", resume=True)
    assert again.scores == first.scores
    kept = fgen.RunResult.load(tmp_path / "run")
    assert kept.table() == first.table()
    for mine, others in zip(kept.per_seed, first.per_seed, strict=True):
        assert mine.as_dict() == others.as_dict()
        assert np.isnan(mine.U)
    assert fgen.run(settings(folder / "pair", {"name": "ridge"})).scores["T1"]["mean"] == first.scores["T1"]["mean"]


def test_banks_are_scored_and_pages_are_written_too(folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("fgen.reports.run_report._details", lambda run: [])  # the pictures of training take seconds
    run = fgen.run(settings(folder / "alone.npz", SMALL, calibrate=False, seeds=[0]), out=tmp_path / "run")
    words = ["evaluate", tmp_path / "run/seeds/0/bank.h5", "--dataset", folder / "alone.npz", "--json"]
    assert main([str(word) for word in words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["T1"] == pytest.approx(run.scores["T1"]["mean"], abs=0.05)
    assert [told[name] for name in ("U", "S", "H", "AUSUC")] == [None] * 4
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0


def test_without_test_rows_of_unseen_classes_nothing_is_run(folder, tmp_path):
    save_dataset(without_test_rows(load_dataset("toy"), "test_unseen"), tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"toy has no rows in 'test_unseen'.*use fgen train"):
        fgen.run(settings(tmp_path / "x.npz", {"name": "ridge"}))
