"""Classes that came up after a run: known from a bank alone, and answered beside the run's own."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import fgen
from fgen.cli import main
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.generation import generate_from_run
from fgen.experiment.runner import train_only
from fgen.inference.from_run import predictor_of_run
from tests.estimators.test_zero_shot_classifier import MODEL

numeric = pytest.mark.numeric

LATE = [22, 23]


@pytest.fixture(scope="module")
def world():
    return toy_world(n_seen=20, n_unseen=4, rows_per_class=16, embedding_dim=4, sigma=0.4)


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A run on a world that lacks the last two classes."""
    folder, data = tmp_path_factory.mktemp("late"), world.dataset
    kept = np.flatnonzero(~np.isin(data.labels, LATE))
    splits = {name: rows[np.isin(rows, kept)] for name, rows in data.splits.items()}
    known = ZSLDataset(
        data.features[kept],
        data.labels[kept],
        data.class_embeddings[:22],
        class_names=data.class_names[:22],
        splits={name: np.searchsorted(kept, rows) for name, rows in splits.items()},
    )
    save_dataset(known, folder / "known.h5")
    sections = {
        "dataset": {"path": str(folder / "known.h5"), "embedding_norm": "none"},
        "model": {"name": "clswgan"} | MODEL,
        "bank": {"n_per_class": 50},
        "classifier": {"solver": "lbfgs"},
        "protocol": {"evaluations": 1, "calibrate": True},
    }
    return fgen.run(sections, out=folder / "run").out


@pytest.fixture(scope="module")
def bank(world, run, tmp_path_factory):
    """Of the two classes, from their descriptions."""
    folder, data = tmp_path_factory.mktemp("bank"), world.dataset
    lines = [",".join([data.class_names[k], *map(str, data.class_embeddings[k])]) for k in LATE]
    (folder / "late.csv").write_text("\n".join(lines))
    generate_from_run(run, out=folder / "late.h5", embeddings=folder / "late.csv", n_per_class=50)
    return folder / "late.h5"


@numeric
def test_new_classes_are_recognised_and_the_old_ones_still_are(world, run, bank):
    before, after = predictor_of_run(run), predictor_of_run(run, [bank])
    labels = world.dataset.labels
    old, late = (world.dataset.splits["test_seen"], np.flatnonzero(np.isin(labels, LATE)))
    right = {
        name: np.mean(r.predict(world.dataset.rows(old))[0] == labels[old])
        for name, r in (("before", before), ("after", after))
    }
    assert right["after"] > right["before"] - 0.1
    answers, scores = after.predict(world.dataset.rows(late))
    assert np.mean(answers == labels[late]) > 0.6, "chance is 1 / 24"
    assert np.isfinite(scores).all()
    assert [after.name(k) for k in LATE] == [world.dataset.class_names[k] for k in LATE]
    assert np.array_equal(after.seen, before.seen)


@numeric
def test_a_larger_bank_of_new_classes_does_not_outweigh_the_runs_own(world, run, bank, tmp_path):
    lines = [",".join([world.dataset.class_names[k], *map(str, world.dataset.class_embeddings[k])]) for k in LATE]
    (tmp_path / "late.csv").write_text("\n".join(lines))
    generate_from_run(run, out=tmp_path / "large.h5", embeddings=tmp_path / "late.csv", n_per_class=400)
    rows = world.dataset.features[:]
    few, many = (predictor_of_run(run, [path]).predict(rows) for path in (bank, tmp_path / "large.h5"))
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True)), "the first rows of a class are the same"


def test_raw_rows_go_to_a_heads_own_space_and_others_latents_are_refused(world, run, tmp_path):
    config = ExperimentConfig.from_file(RunDirectory.open(run).config).to_mapping()
    for name, batch_size in (("own", 64), ("other", 32)):
        model = {"name": "cadavae", "hidden_dim": 32, "epochs": 2, "batch_size": batch_size}
        fgen.run(config | {"model": model}, out=tmp_path / name)
    data = world.dataset
    (tmp_path / "late.csv").write_text(",".join(["late", *map(str, data.class_embeddings[22])]))
    generate_from_run(tmp_path / "own", out=tmp_path / "late.h5", embeddings=tmp_path / "late.csv", n_per_class=50)
    predictor = predictor_of_run(tmp_path / "own", [tmp_path / "late.h5"])
    answers, scores = predictor.predict(data.features[:])
    assert predictor.name(22) == "late"
    assert 22 in predictor.head.classes_
    assert np.isfinite(scores).all()
    assert answers.max() <= 22
    with pytest.raises(InputError, match="made by another cadavae"):
        predictor_of_run(tmp_path / "own", [RunDirectory.open(tmp_path / "other").seed(0).bank])


@numeric
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bank": {"n_per_class": 50, "n_per_seen_class": 20, "real": False}},
        {"model": {"name": "cadavae", "hidden_dim": 32, "epochs": 30}},
        {"classifier": {"solver": "lbfgs", "l2": [1e-2, 1e-3]}},
    ],
)
def test_a_training_alone_answers_seen_and_unseen_classes(world, run, tmp_path, caplog, changes):
    """As where there are no rows to test on, and so no run."""
    data = world.dataset
    seen = np.flatnonzero(np.isin(data.labels, data.seen))
    rows = {"features": data.features[seen], "labels": data.labels[seen], "class_embeddings": data.class_embeddings}
    np.savez(tmp_path / "own.npz", **rows)
    config = ExperimentConfig.from_file(RunDirectory.open(run).config).to_mapping()
    config = ExperimentConfig.from_mapping(config | changes | {"dataset": {"path": str(tmp_path / "own.npz")}})
    train_only(config, out=tmp_path / "trained")
    predictor = predictor_of_run(tmp_path / "trained")
    choice = json.loads(RunDirectory.open(tmp_path / "trained").seed(0).choice.read_text())
    assert predictor.gamma == choice["gamma"]
    for group, least in (("test_seen", 0.4), ("test_unseen", 0.25)):
        own = data.splits[group]
        assert np.mean(predictor.predict(data.rows(own))[0] == data.labels[own]) > least, f"{group}: chance is 1 / 24"
    assert "scaled" not in caplog.text
    predictor.predict(data.rows(own) / 10)
    assert caplog.text.count("are they scaled as the run's were?") == 1


def test_a_run_that_was_stopped_answers_nothing_yet(run, bank, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = RunDirectory.open(tmp_path / "run").seed(0)
    folder.bank.unlink()
    shutil.rmtree(folder.head)
    for banks in ([], [bank]):
        with pytest.raises(InputError, match="has no saved head; expected a finished run"):
            predictor_of_run(tmp_path / "run", banks)


def test_the_shell_answers_new_classes_by_name(world, run, bank, tmp_path):
    np.save(tmp_path / "x.npy", world.dataset.rows(np.flatnonzero(world.dataset.labels == LATE[0])))
    words = ["predict", str(run), str(tmp_path / "x.npy"), "--out", str(tmp_path / "p.csv")]
    assert main([*words, "--bank", str(bank)]) == 0
    assert f"22,{world.dataset.class_names[22]}," in (tmp_path / "p.csv").read_text()


def test_banks_that_do_not_fit_are_refused(run, bank, tmp_path):
    own = RunDirectory.open(run).seed(0).bank
    with pytest.raises(InputError, match=r"rows of 'class 20', which is answered already; expected classes that are"):
        predictor_of_run(run, [own])
    with pytest.raises(InputError, match=r"late.h5 has rows of 'class 22', which is answered already"):
        predictor_of_run(run, [bank, bank])
    with FeatureBank.open(bank) as full:
        parts = {"class_names": ["new"], "class_embeddings": full.class_embeddings[:1], "counts": np.array([1])}
    with FeatureBank.create(
        tmp_path / "none.h5", **parts, feature_dim=16, seen=np.array([False]), seed=0, config={}
    ) as writer:
        writer.write(0, np.ones((1, 16)))
    with h5py.File(tmp_path / "none.h5", "r+") as file:  # as another program may have written it
        for key, value in {"features": np.zeros((0, 16), "f4"), "labels": [], "synthetic": []}.items():
            kind = file[key].dtype
            del file[key]
            file[key] = np.asarray(value, kind)
        file["class_ptr"][:] = 0
    with pytest.raises(InputError, match=r"none\.h5 has no rows; expected some of each new class"):
        predictor_of_run(run, [tmp_path / "none.h5"])
    for name, width, columns, message in (
        ("wide.h5", 17, 4, "holds 17 columns of the space 'raw'; expected 16"),
        ("other.h5", 16, 5, "new classes have 5 columns; expected 4"),
    ):
        with FeatureBank.create(
            tmp_path / name,
            class_names=["new"],
            class_embeddings=np.ones((1, columns)),
            counts=np.array([2]),
            feature_dim=width,
            seen=np.array([False]),
            seed=0,
            config={},
        ) as writer:
            writer.write(0, np.ones((2, width)))
        with pytest.raises(InputError, match=message):
            predictor_of_run(run, [tmp_path / name])


def test_a_head_is_trained_and_asked_on_the_runs_threads(world, run, bank, tmp_path, threads_of_heads):
    before, config = torch.get_num_threads(), ExperimentConfig.from_file(run / "config.toml", ["train.threads=3"])
    train_only(replace(config, model=replace(config.model, epochs=1)), out=tmp_path / "trained")
    threads_of_heads.clear()
    predictor = predictor_of_run(tmp_path / "trained", [bank])
    predictor.predict(world.dataset.features[:5])
    assert {*threads_of_heads} == {3}
    assert torch.get_num_threads() == before
