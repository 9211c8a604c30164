"""Every command of the shell door, in-process, on toy data: what it writes, prints and refuses."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import fgen
from fgen import cli
from fgen.cli import main
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.data.toy import toy_world
from fgen.encoders.base import EncoderRecord
from fgen.errors import InputError
from fgen.experiment.generation import choose_classes, default_rows
from fgen.metrics.calibration import harmonic_mean
from fgen.models.registry import load_model
from tests.cli.conftest import CONFIG

SCORES = ("T1", "U", "S", "H", "AUSUC")
OF_SKLEARN = ("logistic", "linear_svm", "knn")
CLASSIFIERS = ("softmax", *OF_SKLEARN, "cosine")


@pytest.fixture(scope="module")
def perfect_bank(tmp_path_factory):
    """Features of the unseen classes drawn from the truth, so that a head on them must be about as good as it gets."""
    world, draw = toy_world(), np.random.default_rng(0)
    data, path = world.dataset, tmp_path_factory.mktemp("bank") / "perfect.h5"
    seen = np.isin(np.arange(data.n_classes), data.seen)
    with FeatureBank.create(
        path,
        class_names=data.class_names,
        class_embeddings=data.class_embeddings,
        counts=np.where(seen, 0, 100),
        feature_dim=data.feature_dim,
        seen=seen,
        seed=0,
        config={},
    ) as writer:
        for k in data.unseen:
            writer.write(k, (world.means[k] + world.sigma * draw.normal(size=(100, 16))).astype(np.float32))
    return path, world.optimum()


# run and train


def test_run_prints_a_table_and_where_it_left_the_run(shell, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shell("run", config, "--set", "protocol.seeds=[0]", "--set", "model.epochs=1") == 0
    lines = shell.out.splitlines()
    assert lines[0] == "clswgan on toy: protocol honest, setting gzsl, 1 seed"
    assert lines[1].split() == list(SCORES)
    assert lines[-1] == "run folder: runs/toy"
    result = json.loads((tmp_path / "runs/toy/result.json").read_text())
    assert lines[3].split()[1] == f"{100 * result['scores']['T1']['mean']:.1f}"
    assert "training steps" in shell.err


def test_run_takes_settings_from_the_command_line_and_prints_json(shell, config, tmp_path):
    words = ("run", config, "--out", tmp_path / "run", "--json", "--set", "protocol.seeds=[7]")
    assert shell(*words, "--set", "model.hidden_dim=8", "--set", "protocol.name=legacy") == 0
    result = json.loads(shell.out)
    assert result["config"]["model"]["hidden_dim"] == 8
    assert result["config"]["model"]["epochs"] == 2
    assert (result["protocol"], result["test_used_for_selection"], result["seeds"]) == ("legacy", True, [7])
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())


def test_run_under_legacy_says_what_the_test_set_was_used_for(shell, config, tmp_path):
    words = ("--set", "protocol.name=legacy", "--set", "model.name=seen_only")
    bare = tmp_path / "bare.toml"
    bare.write_text('[dataset]\nname = "toy"\n[model]\nname = "ridge"\n')
    assert shell("run", bare, "--out", tmp_path / "run", *words) == 0
    assert "The TEST SET was used to choose" in shell.out


def test_run_again_needs_resume_and_gives_the_same(shell, config, run_dir):
    before = (run_dir / "result.json").read_bytes()
    assert "--resume" in shell.refuses("run", config, "--out", run_dir)
    assert (run_dir / "result.json").read_bytes() == before
    assert shell("run", config, "--out", run_dir, "--resume") == 0
    assert json.loads(before)["scores"] == json.loads((run_dir / "result.json").read_text())["scores"]


def test_train_leaves_models_that_generate(shell, config, toy, tmp_path):
    assert shell("train", config, "--out", tmp_path / "run") == 0
    models = [line for line in shell.out.splitlines() if line.startswith("model: ")]
    assert models == [f"model: {tmp_path / 'run' / 'seeds' / seed / 'model'}" for seed in "31"]
    assert shell.out.count("was chosen on 4 held-out classes") == 2
    assert not (tmp_path / "run" / "result.json").exists()
    assert shell("generate", tmp_path / "run", "--out", tmp_path / "bank.h5", "--n-per-class", 4) == 0
    with FeatureBank.open(tmp_path / "bank.h5") as bank:
        assert bank.features.shape == (4 * len(toy.unseen), 16)


# generate


def bank_of(path):
    with FeatureBank.open(path) as bank:
        return *bank.to_numpy(), bank.synthetic[:], bank.class_names


@pytest.mark.parametrize(
    ("classes", "ids"),
    [
        ("unseen", range(20, 25)),
        ("seen", range(20)),
        ("all", range(25)),
        ("class 21,class 03", [3, 21]),
        ("class 24", [24]),
    ],
)
def test_generate_writes_what_the_model_makes_of_the_classes_asked_for(shell, run_dir, toy, tmp_path, classes, ids):
    words = ("generate", run_dir, "--classes", classes, "--n-per-class", 5, "--out", tmp_path / "bank.h5")
    assert shell(*words) == 0
    assert shell.out == f"bank: {tmp_path / 'bank.h5'}\n"
    features, labels, synthetic, names = bank_of(tmp_path / "bank.h5")
    model = load_model(run_dir / "seeds/3/model")
    expected, expected_labels = model.generate(np.array(ids), 5, seed=3)
    assert features.tobytes() == expected.tobytes()
    assert labels.tolist() == expected_labels.tolist()
    assert synthetic.all()
    assert names == toy.class_names


def test_generate_without_classes_takes_the_unseen_ones(shell, run_dir, toy, tmp_path):
    assert shell("generate", run_dir, "--out", tmp_path / "bank.h5") == 0
    _, labels, _, _ = bank_of(tmp_path / "bank.h5")
    assert np.bincount(labels)[toy.unseen].tolist() == [default_rows(toy)] * 5
    assert set(labels) == set(toy.unseen)


def test_a_run_that_was_made_on_a_gpu_generates_without_one(shell, run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    text = config.read_text()
    config.write_text(text.replace('device = "auto"', 'device = "cuda:7"'))
    assert config.read_text() != text
    for run, bank in ((run_dir, "here.h5"), (tmp_path / "run", "there.h5")):
        assert shell("generate", run, "--n-per-class", 3, "--out", tmp_path / bank) == 0
    here, there = (bank_of(tmp_path / bank)[0] for bank in ("here.h5", "there.h5"))
    assert here.tobytes() == there.tobytes()


def test_descriptions_of_another_scale_or_twice_the_same_are_told_of(shell, run_dir, toy, tmp_path):
    def generate(name, rows):
        lines = [",".join([f"new {k}", *map(str, row)]) for k, row in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        words = ("--embeddings", tmp_path / f"{name}.csv", "--n-per-class", 2, "--out", tmp_path / f"{name}.h5")
        assert shell("generate", run_dir, *words) == 0
        return shell.err

    rows = toy.class_embeddings[toy.unseen]
    assert "scale" not in generate("good", rows)
    told = "5 of 5 embeddings are on another scale than the run's: 'new 0' has, once prepared, the length"
    assert told in generate("big", 1000 * rows)
    told = "1 class has the same one as another class ('new 0', 'new 1'); such classes get much the same features"
    assert told in generate("twins", rows[[0, 0, 1]])
    assert "1 class has nothing but zeros ('new 0')" in generate("zeros", 0 * rows[:1])


def test_generate_takes_the_seed_it_is_told(shell, run_dir, toy, tmp_path):
    for seed in (3, 1):
        words = ("generate", run_dir, "--n-per-class", 5, "--seed", seed, "--out", tmp_path / f"{seed}.h5")
        assert shell(*words) == 0
        expected, _ = load_model(run_dir / f"seeds/{seed}/model").generate(toy.unseen, 5, seed=seed)
        assert bank_of(tmp_path / f"{seed}.h5")[0].tobytes() == expected.tobytes()
    assert "no model of seed 2; expected one of [3, 1]" in shell.refuses(
        "generate", run_dir, "--seed", 2, "--out", tmp_path / "2.h5"
    )


def test_generate_with_real_stores_the_training_rows_too(shell, run_dir, toy, tmp_path):
    words = ("generate", run_dir, "--classes", "all", "--n-per-class", 4, "--real", "--out", tmp_path / "bank.h5")
    assert shell(*words) == 0
    features, labels, synthetic, _ = bank_of(tmp_path / "bank.h5")
    assert np.bincount(labels[synthetic]).tolist() == [4] * 25
    real, of = toy.split("trainval")
    for k in toy.seen:
        assert features[(labels == k) & ~synthetic].tobytes() == real[of == k].tobytes()
    assert not (~synthetic[np.isin(labels, toy.unseen)]).any()


@pytest.mark.parametrize("header", [True, False])
def test_generate_makes_classes_that_no_data_set_holds(shell, run_dir, toy, tmp_path, header):
    new = {"okapi": toy.class_embeddings[:2].mean(axis=0), "tapir, lowland": -toy.class_embeddings[5]}
    with open(tmp_path / "new.csv", "w", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(["name", *(f"attribute {k}" for k in range(8))])
        writer.writerows([name, *map(repr, row.tolist())] for name, row in new.items())
    words = ("--embeddings", tmp_path / "new.csv", "--n-per-class", 6, "--out", tmp_path / "bank.h5")
    assert shell("generate", run_dir, *words) == 0
    features, labels, synthetic, names = bank_of(tmp_path / "bank.h5")
    assert names == tuple(new)
    assert synthetic.all()
    matrix = np.array(list(new.values()), dtype=np.float32)
    expected, positions = load_model(run_dir / "seeds/3/model").generate(matrix, 6, seed=3, class_names=list(new))
    assert features.tobytes() == expected.tobytes()
    assert labels.tolist() == positions.tolist()
    assert "aren't among toy's" in shell.refuses("evaluate", tmp_path / "bank.h5", "--dataset", "toy")
    both = ("--classifier", "cosine", "--set", "classifier.name=knn")
    assert "--set names the head 'knn'" in shell.refuses("evaluate", tmp_path / "bank.h5", "--dataset", "toy", *both)


def test_generate_tells_of_names_that_are_known_and_refuses_what_is_no_bank(shell, run_dir, toy, tmp_path):
    width = toy.class_embeddings.shape[1]
    lines = [",".join([name, *["0.5"] * width]) for name in (toy.class_names[0], "new")]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    words = ("generate", run_dir, "--n-per-class", 2, "--embeddings", tmp_path / "new.csv")
    assert shell(*words, "--out", tmp_path / "b.h5") == 0
    assert f"describes {toy.class_names[0]!r} anew, a class of the run's own" in shell.err
    assert "labels count its own classes from 0" in shell.err
    assert shell(*words, "--out", tmp_path / "b.npz") == 2
    assert "ends in '.npz'; expected an .h5 file" in shell.err
    assert shell("generate", run_dir, "--classes", "seen,unseen", "--out", tmp_path / "c.h5") == 2
    assert "'all' is seen and unseen classes" in shell.err


def test_generate_makes_four_times_as_many_rows_of_a_class_as_a_seen_class_has(shell, run_dir, toy, tmp_path):
    """The same for classes of its own and for new ones, and the beginning of what a larger number gives."""
    mean = len(toy.splits["trainval"]) / len(toy.seen)
    n, model = round(4 * mean), load_model(run_dir / "seeds/3/model")
    assert shell("generate", run_dir, "--out", tmp_path / "bank.h5") == 0
    assert f"has {n} rows of each class: 4 times a seen class's mean number of real ones" in shell.err
    features, labels, _, _ = bank_of(tmp_path / "bank.h5")
    assert np.bincount(labels)[toy.unseen].tolist() == [n] * len(toy.unseen)
    longer = model.generate(toy.unseen, n + 5, seed=3)[0].reshape(len(toy.unseen), n + 5, -1)
    assert features.tobytes() == longer[:, :n].tobytes()
    (tmp_path / "new.csv").write_text("okapi," + ",".join(map(repr, toy.class_embeddings[0].tolist())))
    assert shell("generate", run_dir, "--embeddings", tmp_path / "new.csv", "--out", tmp_path / "new.h5") == 0
    assert len(bank_of(tmp_path / "new.h5")[1]) == n


@pytest.mark.parametrize(("real", "expected"), [(1, 10), (600, 2000)])
def test_the_default_number_of_rows_has_limits(real, expected):
    labels, stream = np.repeat(np.arange(6), real), np.random.default_rng(0)
    splits = {"trainval": np.flatnonzero(labels < 5), "test_unseen": np.flatnonzero(labels == 5)}
    data = ZSLDataset(stream.random((len(labels), 2)), labels, stream.random((6, 3)), splits=splits)
    assert default_rows(data) == expected


def test_new_classes_need_neither_the_data_set_nor_a_number_of_rows(shell, run_dir, toy, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    settings = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(settings.replace('name = "toy"', 'path = "gone.npz"'))
    (tmp_path / "new.csv").write_text("okapi," + ",".join(map(repr, toy.class_embeddings[0].tolist())))
    words = ("generate", tmp_path / "run", "--embeddings", tmp_path / "new.csv", "--out", tmp_path / "new.h5")
    assert shell(*words) == 0
    assert "has 300 rows of each class: the data set isn't there, whose rows would decide" in shell.err
    assert len(bank_of(tmp_path / "new.h5")[1]) == 300


def test_generate_replaces_a_bank_only_when_told(shell, run_dir, tmp_path):
    words = ("generate", run_dir, "--n-per-class", 3, "--out", tmp_path / "bank.h5")
    assert shell(*words) == 0
    before = (tmp_path / "bank.h5").read_bytes()
    shell.refuses(*words)
    assert (tmp_path / "bank.h5").read_bytes() == before
    assert shell(*words[:3], 2, *words[4:], "--overwrite") == 0
    assert len(bank_of(tmp_path / "bank.h5")[1]) == 2 * 5


# evaluate


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_every_classifier_is_good_on_a_bank_that_tells_the_truth(shell, perfect_bank, classifier):
    if classifier != "softmax":
        pytest.importorskip("sklearn")
    path, best = perfect_bank
    assert shell("evaluate", path, "--dataset", "toy", "--classifier", classifier, "--json") == 0
    scores = json.loads(shell.out)
    assert list(scores) == list(SCORES)
    # The field's recipe takes 25 epochs of 1e-3, too few for data as small as these; a linear SVM has no common scale.
    assert best["T1"] - (0.25 if classifier == "softmax" else 0.1) < scores["T1"] <= 1
    if classifier in ("logistic", "knn"):
        assert scores["H"] > best["H"] - 0.15
    assert scores["H"] == pytest.approx(harmonic_mean(scores["U"], scores["S"]))
    assert shell("evaluate", path, "--dataset", "toy", "--classifier", classifier) == 0
    header, _, row = shell.out.splitlines()
    assert header.split() == list(SCORES)
    assert row.split() == [classifier, *(f"{100 * scores[name]:.1f}" for name in SCORES)]


@pytest.mark.parametrize(
    ("own", "path", "words"),
    [
        ("logistic", "sklearn.linear_model.LogisticRegression", ["C=0.5", "max_iter=1000"]),
        ("linear_svm", "sklearn.svm:LinearSVC", ["C=0.5", "scaling=standard"]),
    ],
)
def test_evaluate_imports_a_class_that_the_command_line_names(shell, perfect_bank, own, path, words):
    """Its scores are those of fgen's head over the same class."""
    pytest.importorskip("sklearn")
    settings = [word for each in words for word in ("--set", f"classifier.{each}")]
    printed = []
    for classifier in (own, path):
        command = ("evaluate", perfect_bank[0], "--dataset", "toy", "--classifier", classifier, *settings)
        assert shell(*command, "--json", "--gamma", 0.5) == 0
        printed.append(json.loads(shell.out))
    assert printed[0] == pytest.approx(printed[1], abs=0.02)
    assert "unexpected keyword argument 'Q'" in shell.refuses(*command, "--set", "classifier.Q=1")
    assert "C" in shell.refuses(*command, "--gamma", 0, "--set", "classifier.C=-1")


def test_evaluate_trains_what_a_file_in_the_working_directory_makes(shell, perfect_bank, tmp_path, monkeypatch):
    (tmp_path / "own_means.py").write_text(
        """
import numpy as np
class Means:
    def fit(self, X, y):
        self.means = np.stack([X[y == k].mean(axis=0) for k in range(y.max() + 1)])
    def decision_function(self, X):
        return -((X[:, None] - self.means) ** 2).sum(axis=2)
make = Means
"""
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path, best = perfect_bank
    assert shell("evaluate", path, "--dataset", "toy", "--classifier", "own_means:make", "--json") == 0
    assert json.loads(shell.out)["H"] > best["H"] - 0.15
    assert shell("evaluate", path, "--dataset", "toy", "--classifier", "own_means:make") == 0
    assert shell.out.splitlines()[-1].startswith("own_means:make ")


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module ``trace_of_import`` that can be imported; call this to know whether it was."""
    (tmp_path / "trace_of_import.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\nmake = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / "imported").exists
    sys.modules.pop("trace_of_import", None)


@pytest.mark.parametrize("path", ["trace_of_import:make", "trace_of_import.make"])
def test_no_path_is_imported_that_a_config_or_a_run_names(shell, run_dir, tmp_path, trap, path):
    run, rows = tmp_path / "run", tmp_path / "rows.npy"
    shutil.copytree(run_dir, run)
    np.save(rows, np.zeros((2, 16), np.float32))
    for head in (f'name = "{path}"', f'estimator = "{path}"', f'name = "estimator"\nestimator = "{path}"'):
        (run / "config.toml").write_text(CONFIG.replace("[classifier]\n", f"[classifier]\n{head}\n"))
        for words in (
            ("run", run / "config.toml", "--out", tmp_path / "other"),
            ("run", run / "config.toml", "--resume"),
            ("train", run / "config.toml", "--out", tmp_path / "other"),
            ("generate", run, "--out", tmp_path / "bank.h5"),
            ("predict", run, rows, "--out", tmp_path / "out.csv"),
            ("inspect", run / "config.toml"),
        ):
            assert "classifier.name is" in (message := shell.refuses(*words)) or "classifier.estimator" in message
    assert "classifier.name is" in shell.refuses("run", run / "config.toml", "--set", f"classifier={{name='{path}'}}")
    assert not trap()


def test_no_path_is_imported_that_a_bank_names(shell, run_dir, tmp_path, trap):
    """--classifier alone names what to import, and its settings are those of the command line."""
    for path in ("trace_of_import:make", "trace_of_import.make"):
        bank = bank_with_config(run_dir, tmp_path / "bank.h5", {"classifier": {"name": path, "width": 3}})
        assert shell("inspect", bank) == 0
        assert shell("evaluate", bank, "--dataset", "toy", "--set", "classifier.epochs=1") == 0
        bank = bank_with_config(run_dir, bank, {"classifier": {"name": "softmax", "estimator": path}})
        assert "unknown key classifier.estimator" in shell.refuses("evaluate", bank, "--dataset", "toy")
        assert not trap()
    bank = bank_with_config(run_dir, bank, {"classifier": {"name": "trace_of_import:make", "scaling": "odd"}})
    words = ("evaluate", bank, "--dataset", "toy", "--classifier", "trace_of_import:make")
    assert "the classifier dict has no fit" in shell.refuses(*words)
    assert trap()


def bank_with_config(run_dir, path, config):
    """A copy of a run's bank with another config."""
    shutil.copy(run_dir / "seeds" / "3" / "bank.h5", path)
    with h5py.File(path, "r+") as file:
        del file["config"]
        text = json.dumps(config).encode()
        file.create_dataset("config", data=text, dtype=h5py.string_dtype(length=len(text)))
    return path


def test_evaluate_gives_a_runs_bank_the_runs_own_scores(shell, run_dir):
    """Without calibration, as a bank knows of none."""
    uncalibrated = json.loads((run_dir / "result.json").read_text())["uncalibrated"]
    for words in ((), ("--run", run_dir)):
        bank = run_dir / "seeds" / "3" / "bank.h5"
        assert shell("evaluate", bank, "--dataset", "toy", "--seed", 3, "--json", *words) == 0
        assert json.loads(shell.out) == {name: uncalibrated[name]["per_seed"][0] for name in SCORES}


def test_evaluate_takes_the_calibration_and_the_settings_of_a_run(shell, run_dir):
    room = run_dir / "seeds" / "3"
    gamma = json.loads((room / "choice.json").read_text())["gamma"]
    result = json.loads((run_dir / "result.json").read_text())
    calibrated, uncalibrated = result["scores"], result["uncalibrated"]
    words = ("evaluate", room / "bank.h5", "--dataset", "toy", "--seed", 3, "--json")
    assert gamma != 0
    assert shell(*words, "--gamma", gamma) == 0
    scores = json.loads(shell.out)
    assert scores == {name: calibrated[name]["per_seed"][0] for name in SCORES}
    adjusted = ("solver=lbfgs", "logit_adjustment=1.0", "prior_ratio=1000")
    assert shell(*words, *(word for each in adjusted for word in ("--set", f"classifier.{each}"))) == 0
    assert json.loads(shell.out)["U"] > uncalibrated["U"]["per_seed"][0]
    assert "unknown key classifier.prior" in shell.refuses(*words, "--set", "classifier.prior=30")
    assert "--set names the section 'model'" in shell.refuses(*words, "--set", "model.lr=1")
    assert "gamma is nan" in shell.refuses(*words, "--gamma", "nan")


def test_real_rows_in_a_bank_change_no_score(shell, run_dir, tmp_path):
    """The data set brings its own."""
    printed = set()
    for name, words in (("synthetic", []), ("both", ["--real"])):
        bank = tmp_path / f"{name}.h5"
        assert shell("generate", run_dir, "--n-per-class", 9, "--out", bank, *words) == 0
        assert shell("evaluate", bank, "--dataset", "toy", "--json") == 0
        printed.add(shell.out)
    assert len(printed) == 1


def test_evaluate_takes_the_split_seed_of_the_run_that_a_bank_comes_from(shell, config, tmp_path):
    """The toy data are others with each seed."""
    settings = ("--set", "dataset.split_seed=7", "--set", "protocol.seeds=[3]", "--set", "protocol.calibrate=false")
    assert shell("run", config, "--out", tmp_path / "run", *settings, "--json") == 0
    own = json.loads(shell.out)["scores"]
    assert shell("evaluate", tmp_path / "run/seeds/3/bank.h5", "--dataset", "toy", "--seed", 3, "--json") == 0
    assert json.loads(shell.out) == {name: own[name]["per_seed"][0] for name in SCORES}
    assert "other data" not in shell.err


def test_evaluate_matches_classes_by_name_and_refuses_a_bank_that_lacks_one(shell, run_dir, tmp_path):
    words = ("generate", run_dir, "--classes", "class 20,class 21", "--n-per-class", 3, "--out", tmp_path / "bank.h5")
    assert shell(*words) == 0
    message = shell.refuses("evaluate", tmp_path / "bank.h5", "--dataset", "toy")
    assert "no synthetic features for 3 unseen classes, 'class 22' among them" in message


def test_evaluate_takes_the_head_of_the_run_that_a_bank_comes_from(shell, config, tmp_path):
    settings = ("--set", "classifier.solver=lbfgs", "--set", "classifier.l2=0.01", "--set", "protocol.seeds=[3]")
    assert shell("run", config, "--out", tmp_path / "run", *settings) == 0
    own = json.loads((tmp_path / "run" / "result.json").read_text())["uncalibrated"]
    assert shell("evaluate", tmp_path / "run/seeds/3/bank.h5", "--dataset", "toy", "--seed", 3, "--json") == 0
    assert json.loads(shell.out) == {name: own[name]["per_seed"][0] for name in SCORES}


def test_evaluate_shows_the_uncalibrated_row_beside_the_calibrated_one(shell, run_dir, tmp_path):
    """On the validation bank that generate makes; a gamma that is given wins, and without either it says so."""
    words = ("generate", run_dir, "--n-per-class", 20, "--validation", "--out", tmp_path / "bank.h5")
    assert shell(*words) == 0
    assert shell.out.splitlines()[1] == f"validation bank: {tmp_path / 'bank.validation.h5'}"
    evaluate = ("evaluate", tmp_path / "bank.h5", "--dataset", "toy", "--classifier", "cosine")
    assert shell(*evaluate) == 0
    _, _, plain, calibrated, sentence = shell.out.splitlines()
    gamma = sentence.split()[1]
    assert sentence == f"gamma {gamma} was chosen on 4 held-out classes (120 rows)"
    assert calibrated.startswith(f"cosine, gamma {gamma} ")
    assert shell(*evaluate, "--json") == 0
    told = json.loads(shell.out)
    assert (f"{told['gamma']:.3g}", told["calibration"]) == (gamma, sentence)
    assert [f"{100 * told['uncalibrated'][name]:.1f}" for name in SCORES] == plain.split()[1:]
    assert [f"{100 * told[name]:.1f}" for name in SCORES] == calibrated.split()[3:]
    assert shell(*evaluate, "--gamma", 0) == 0
    assert [line.split() for line in shell.out.splitlines()[2:]] == [plain.split()]
    (tmp_path / "bank.validation.h5").unlink()
    assert shell(*evaluate) == 0
    assert shell.out.splitlines()[2].split() == plain.split()
    assert "uncalibrated: there is no" in shell.err
    assert "--validation makes it" in shell.err


def test_a_run_does_not_go_on_from_the_models_of_train_nor_with_other_data(shell, config, tmp_path, toy):
    words = (config, "--out", tmp_path / "run", "--set", "protocol.seeds=[0]", "--set", "model.epochs=3")
    words += ("--set", "protocol.calibrate=false")  # else both choose alike, and the run goes on
    assert shell("train", *words) == 0
    choice = {"epochs": 1, "gamma": 0.0, "val_H": 0.5, "history": []}
    (tmp_path / "run" / "seeds" / "0" / "choice.json").write_text(json.dumps(choice))
    assert shell("run", *words, "--resume") == 2
    assert "trained for 3 epochs, by the other of" in shell.err.splitlines()[-1]
    save_dataset(toy, tmp_path / "data.h5")
    other = (*words[:1], "--out", tmp_path / "own", *words[3:], "--set", f"dataset.path={tmp_path / 'data.h5'}")
    other += ("--set", "dataset.name=none")
    assert shell("run", *other) == 0
    changed = ZSLDataset(
        toy.features[:] + 1, toy.labels, toy.class_embeddings, class_names=toy.class_names, splits=toy.splits
    )
    save_dataset(changed, tmp_path / "data.h5", overwrite=True)
    assert shell("run", *other, "--resume") == 2
    assert "made from other data than" in shell.err.splitlines()[-1]


@pytest.mark.parametrize("classifier", OF_SKLEARN)
def test_a_run_with_a_head_of_scikit_learn_ends_well_and_keeps_no_head(shell, config, run_dir, tmp_path, classifier):
    pytest.importorskip("sklearn")
    bare = tmp_path / "bare.toml"
    bare.write_text(config.read_text().replace("[classifier]\nepochs = 5\n", ""))
    words = ("--out", tmp_path / "run", "--set", f"classifier.name={classifier}", "--json")
    assert shell("run", bare, *words) == 0
    scores = json.loads(shell.out)["scores"]
    assert scores["S"]["mean"] > 0.3
    assert scores != json.loads((run_dir / "result.json").read_text())["scores"]
    assert not (tmp_path / "run/seeds/3/head").exists()
    bank = tmp_path / "run/seeds/3/bank.h5"
    message = shell.refuses("predict", tmp_path / "run", bank, "--out", tmp_path / "p.csv")
    assert "has no saved head; expected a finished run whose classifier.name is 'softmax' or 'cosine'" in message


# inspect and convert


def test_inspect_tells_what_is_there(shell, config, run_dir, tmp_path):
    kinds = {
        "toy": {"kind": "data set", "features": "1,000 x 16", "seen classes": 20, "unseen classes": 5},
        config: {"kind": "config"},
        run_dir: {"kind": "run folder", "finished": True, "protocol": "honest", "seeds": [3, 1]},
        run_dir / "seeds/3/model": {"kind": "model", "method": "clswgan", "classes": 25, "feature columns": 16},
        run_dir / "seeds/3/head": {"kind": "head", "classes": 25, "feature columns": 16},
        run_dir / "seeds/3/bank.h5": {"kind": "bank", "features": "100 x 16 float32", "classes": 25, "seed": 3},
    }
    for path, expected in kinds.items():
        assert shell("inspect", path, "--json") == 0, path
        facts = json.loads(shell.out)
        assert {key: facts[key] for key in expected} == expected
        assert shell("inspect", path) == 0
        assert [line.partition(":")[0] for line in shell.out.splitlines()] == list(facts)
    assert shell("train", config, "--out", tmp_path / "trained", "--set", "protocol.seeds=[0]") == 0
    assert shell("inspect", tmp_path / "trained", "--json") == 0
    assert json.loads(shell.out)["finished"] is False


def test_convert_goes_round_without_loss(shell, toy, tmp_path):
    stops = ["toy", tmp_path / "a.h5", tmp_path / "b.npz", tmp_path / "mats", tmp_path / "c.npz", tmp_path / "d.h5"]
    for source, target in pairwise(stops):
        assert shell("convert", source, target) == 0
        assert shell.out.splitlines()[-1] == f"written: {target}"
        data = load_dataset(target)
        np.testing.assert_array_equal(data.rows(np.arange(len(toy.labels))), toy.features)
        np.testing.assert_array_equal(data.labels, toy.labels)
        np.testing.assert_array_equal(data.class_embeddings, toy.class_embeddings)
        assert data.class_names == toy.class_names
        for name in ("trainval", "test_seen", "test_unseen"):
            np.testing.assert_array_equal(data.splits[name], toy.splits[name])
    assert {path.suffix for path in (tmp_path / "mats").iterdir()} == {".mat"}
    assert (
        load_dataset(tmp_path / "b.npz").fingerprint == toy.fingerprint == load_dataset(tmp_path / "a.h5").fingerprint
    )


def test_a_converted_data_set_gives_the_same_scores(shell, config, run_dir, tmp_path):
    assert shell("convert", "toy", tmp_path / "toy.h5") == 0
    bare = tmp_path / "bare.toml"
    bare.write_text(CONFIG.replace('name = "toy"', f'path = "{tmp_path / "toy.h5"}"'))
    assert shell("run", bare, "--out", tmp_path / "run", "--json") == 0
    assert json.loads(shell.out)["scores"] == json.loads((run_dir / "result.json").read_text())["scores"]


def test_convert_replaces_a_file_only_when_told(shell, tmp_path):
    (tmp_path / "a.npz").write_text("precious")
    shell.refuses("convert", "toy", tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "precious"
    assert shell("convert", "toy", tmp_path / "a.npz", "--overwrite") == 0
    assert load_dataset(tmp_path / "a.npz").n_classes == 25


# Refusals: one sentence that says what was found, what was expected and what to do.


@pytest.mark.parametrize(
    ("override", "found", "expected", "remedy"),
    [
        ("model.epoch=3", "unknown key model.epoch;", "expected one of epochs", "Did you mean epochs?"),
        ("model.hiden_dim=3", "unknown key model.hiden_dim;", "hidden_dim", "Did you mean hidden_dim?"),
        ("train.epochs=3", "unknown key train.epochs;", "device, threads", ""),
        ("protocl.name=legacy", "unknown key config.protocl;", "expected one of dataset", "Did you mean protocol?"),
        ("protocol.name=honets", "'honets'", "expected one of 'honest', 'legacy'", "Did you mean honest?"),
        ("protocol.seeds=3", "protocol.seeds is 3", "expected a list", "Write [3]"),
        (
            "classifier.C=3",
            "classifier.C is set, which softmax",
            "linear_svm",
            """--set 'classifier={name = "softmax"}'""",
        ),
        ("protocol.seeds=[1, 1]", "seeds are [1, 1]", "expected one or more different numbers", ""),
        ("model.name=clswgen", "model.name is 'clswgen'", "expected one of cadavae, cegzsl", ""),
        ("model.lr=fast", "model.lr is 'fast'", "expected a number", ""),
        ("model.lr=0", "lr is 0", "expected a number between 0 and 1", "1e-4"),
        ("model.epochs=2.0", "model.epochs is 2.0", "expected a whole number", "Write 2"),
        ("bank.n_per_class=0", "n_per_class is 0", "expected at least 1", ""),
        ("classifier.name=svm", "classifier.name is 'svm'", "expected one of softmax", ""),
        ("dataset.path=x.h5", "name = 'toy' and path = 'x.h5'", "expected exactly one of them", "--set dataset.path"),
        ("dataset.name=tyo", "'tyo' is no data set", "expected 'emoji' or 'toy'", ""),
        ("dataset.embedding=words", "embedding 'words'", "expected one of att", ""),
        ("model.epochs", "'model.epochs' is not an assignment", "expected section.key=value", "Try --set"),
        ("train.device=abacus", "abacus", "expected 'auto', 'cpu' or 'cuda'", ""),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    shell, config, tmp_path, override, found, expected, remedy
):
    for command in ("run", "train"):
        assert shell(command, config, "--out", tmp_path / command, "--set", override) == 2
        message = shell.err.splitlines()[-1]
        assert message.startswith("fgen: ")
        assert "Traceback" not in shell.err
        assert all(part in message for part in (found, expected, remedy)), message
        assert not (tmp_path / command).exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("run nowhere.toml", ["nowhere.toml can't be read", "expected a TOML file"]),
        ("train nowhere.toml --out x", ["nowhere.toml can't be read", "expected a TOML file"]),
        ("train CONFIG --out x --set model={name='ridge'}", ["'ridge', a baseline", "expected a generator: cadavae"]),
        ("generate nowhere --out x.h5", ["nowhere is no run folder", "the --out of fgen run"]),
        ("generate RUN --classes class_21 --out x.h5", ["names 'class_21'", "Did you mean 'class 21'"]),
        (
            "generate RUN --classes zebra --out x.h5",
            ["names 'zebra'", "expected unseen, seen, all", "There are 25, as 'class 00'"],
        ),
        ("generate RUN --n-per-class 0 --out x.h5", ["--n-per-class is 0", "expected at least 1"]),
        ("generate RUN --embeddings nowhere.csv --out x.h5", ["nowhere.csv"]),
        ("generate RUN --embeddings narrow.csv --out x.h5", ["line 1: 'okapi' has 2 numbers", "expected 8"]),
        ("generate RUN --real --embeddings narrow.csv --out x.h5", ["both given", "expected one of them"]),
        (
            "generate RUN --classes all --embeddings narrow.csv --out x.h5",
            ["--classes and --embeddings were both"],
        ),
        ("generate RUN --out no/folder/x.h5", ["no/folder doesn't exist", "Create it first"]),
        ("evaluate nowhere.h5 --dataset toy", ["nowhere.h5 doesn't exist", "expected a bank"]),
        ("evaluate BANK --dataset nowhere", ["'nowhere' is no data set", "expected 'emoji' or 'toy'"]),
        ("evaluate BANK --dataset toy --classifier tree", ["'tree'", "expected one of softmax, logistic"]),
        ("evaluate BANK --dataset toy --classifier nowhere.Tree", ["no module nowhere", "module:function"]),
        ("evaluate BANK --dataset toy --classifier fgen.cli:mane", ["no attribute 'mane'", "Did you mean 'main'"]),
        ("evaluate BANK --dataset toy --classifier collections.Counter", ["Counter has no fit", "decision_function"]),
        ("evaluate BANK --dataset toy --run nowhere", ["nowhere is no run folder"]),
        ("evaluate narrow.csv --dataset toy", ["narrow.csv is no readable bank"]),
        ("evaluate narrow.npz --dataset toy", ["ends in '.npz'", "as fgen generate writes it"]),
        ("run nearby.toml", ["nearby.toml can't be read", "Did you mean near_by.toml?"]),
        ("run RUN", ["a TOML file. Of a run folder, give", "config.toml"]),
        ("inspect RUNS", ["holds run folders", "Try fgen inspect"]),
        ("predict nowhere BANK --out p.csv", ["nowhere is no run folder"]),
        ("predict RUN nowhere.npy --out p.csv", ["nowhere.npy doesn't exist"]),
        ("predict RUN near_by.toml --out p.csv", ["ends in '.toml'", "expected one of .h5"]),
        ("predict RUN narrow.csv --out p.csv", ["line 1, column 1, is 'okapi'", "expected a finite number"]),
        ("predict RUN BANK --top 0 --out p.csv", ["--top is 0", "expected at least 1"]),
        ("inspect nowhere", ["'nowhere' is no data set", "expected 'emoji' or 'toy'"]),
        ("inspect narrow.csv", ["ends in '.csv'", "expected a folder with .mat files"]),
        ("convert nowhere x.h5", ["'nowhere' is no data set"]),
        ("convert toy x.txt", ["x.txt ends in '.txt'", "expected an .h5 file"]),
    ],
)
def test_a_wrong_command_is_refused_in_one_message(shell, config, run_dir, tmp_path, monkeypatch, words, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "narrow.csv").write_text("okapi,1,2\n")
    (tmp_path / "near_by.toml").touch()
    places = {"CONFIG": config, "RUN": run_dir, "RUNS": run_dir.parent, "BANK": run_dir / "seeds/3/bank.h5"}
    message = shell.refuses(*(places.get(word, word) for word in words.split(" ")))
    assert all(part in message for part in parts), message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow.csv", "near_by.toml"]


def test_a_class_that_is_unknown_is_named_among_known_ones(shell, run_dir, tmp_path):
    words = ("generate", run_dir, "--out", tmp_path / "x.h5", "--classes")
    assert "'clas 03'" in shell.refuses(*words, "class 21,clas 03,class 04")
    assert not list(tmp_path.iterdir())


def test_a_run_whose_data_are_elsewhere_is_told_by_name(shell, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_dataset(toy, "toy.h5")
    (tmp_path / "short.toml").write_text(CONFIG.replace('name = "toy"', 'path = "toy.h5"').replace("[3, 1]", "[3]"))
    assert shell("train", "short.toml", "--out", "run") == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    message = shell.refuses("generate", "../run", "--out", "x.h5")
    assert "../run was made from toy.h5, which isn't there" in message
    assert "mend dataset.path in ../run/config.toml" in message


def test_names_that_hold_commas_are_asked_for_in_quotes():
    names = ("bear, brown", 'the "okapi"', "cat")
    toy = SimpleNamespace(name_of=names.__getitem__, n_classes=3, name="zoo", seen=None, unseen=None)
    assert choose_classes('cat,"bear, brown"', toy).tolist() == [2, 0]
    assert choose_classes('"the ""okapi"""', toy).tolist() == [1]
    assert choose_classes('the "okapi"', toy).tolist() == [1], "a name as it is needs no quotes"
    for text, name in (("cat,bear", "'bear'"), ('"cat', "'\"cat'"), ("", "''"), ("cat\nbear", r"'cat\\nbear'")):
        with pytest.raises(InputError, match=f"names {name}"):
            choose_classes(text, toy)


@pytest.mark.parametrize(
    "error", [MemoryError("6 GB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 6 GB")]
)
def test_too_little_memory_is_told_in_one_message(shell, config, tmp_path, monkeypatch, error):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr("fgen.experiment.runner.run", fails)
    message = shell.refuses("run", config, "--out", tmp_path / "run")
    assert "not enough memory" in message
    assert "6 GB" in message


def test_an_error_of_our_own_keeps_its_traceback(config, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("fgen.experiment.runner.run", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["run", str(config), "--out", str(tmp_path / "run")])


# Help.

OPTIONS = {
    "run": ["CONFIG", "--out", "--set", "--resume", "--json"],
    "train": ["CONFIG", "--out", "--set", "--resume"],
    "generate": [
        *("RUN", "--classes", "--n-per-class", "--out", "--embeddings", "--seed", "--real", "--validation"),
        "--overwrite",
    ],
    "evaluate": ["BANK", "--dataset", "--classifier", "--gamma", "--run", "--json"],
    "predict": ["RUN", "FEATURES", "--out"],
    "inspect": ["PATH", "--json"],
    "convert": ["SOURCE", "TARGET", "--overwrite"],
}


def test_help_lists_every_command(shell):
    assert shell("--help") == 0
    assert all(f"    {command} " in shell.out for command in OPTIONS)
    assert shell.err == ""


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_lists_its_options(shell, command):
    assert shell(command, "--help") == 0
    assert all(option.lower() in shell.out.lower() for option in OPTIONS[command])


def test_the_help_of_evaluate_lists_every_head(shell):
    assert shell("evaluate", "--help") == 0
    assert all(name in shell.out for name in CLASSIFIERS)
    assert set(CLASSIFIERS) == set(fgen.CLASSIFIERS)


@pytest.mark.parametrize(
    ("words", "answer"), [(["--help"], 0), (["--version"], 0), (["run", "--help"], 0), (["inspect", "nowhere"], 2)]
)
def test_help_version_and_a_typing_error_answer_without_torch(words, answer):
    code = f"import sys; from fgen.cli import main; print(main({words}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith(f"{answer} False\n"), done.stderr


def test_the_version_is_printed(shell):
    assert shell("--version") == 0
    assert shell.out == f"fgen {fgen.__version__}\n"


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["train", "x.toml"], ["generate"], ["inspect", "toy", "--jsn"]])
def test_words_that_no_command_has_are_refused_with_the_usage(shell, words):
    assert shell(*words) == 2
    assert "usage: fgen" in shell.err
    assert "Traceback" not in shell.err
    assert shell.out == ""


def test_a_bank_from_a_run_with_shots_is_never_tested_on_them(shell, config, tmp_path):
    """What evaluate scores is what the run scored: the shots were training rows there."""
    run = tmp_path / "shots"
    options = ("--set", "dataset.shots=5", "--set", "protocol.seeds=[0]", "--set", "protocol.calibrate=false", "--json")
    assert shell("run", config, "--out", run, *options) == 0
    told = json.loads(shell.out)["scores"]
    bank = run / "seeds/0/bank.h5"
    assert shell("evaluate", bank, "--dataset", "toy", "--json") == 0
    scores = json.loads(shell.out)
    assert scores["U"] == pytest.approx(told["U"]["mean"], abs=0.05)
    assert scores["S"] == pytest.approx(told["S"]["mean"], abs=0.05)


@pytest.mark.parametrize("command", ["run", "train", "generate", "features", "embed", "report"])
def test_a_command_with_a_bar_runs_where_output_and_errors_are_closed(
    shell, config, run_dir, toy, tmp_path, monkeypatch, command
):
    """As a daemon's, where Python has None in their place."""
    (tmp_path / "names.csv").write_text("ant,1\nbee,2\n")
    ones = SimpleNamespace(
        record=EncoderRecord("sentence", "", 2), encode=lambda texts, **_: np.ones((len(texts), 2), np.float32)
    )
    monkeypatch.setattr("fgen.encoders.text.text_encoder", lambda *_: ones)
    monkeypatch.setattr("fgen.encoders.image.image_encoder", lambda *_: None)
    monkeypatch.setattr("fgen.encoders.image_folder.dataset_of_pictures", lambda *a, keep, **k: keep.touch() or toy)
    if command == "report":
        pytest.importorskip("matplotlib")
    words = {
        "run": ("run", config, "--out", tmp_path / "out", "--set", "protocol.seeds=[0]"),
        "train": ("train", config, "--out", tmp_path / "out", "--set", "protocol.seeds=[0]"),
        "generate": ("generate", run_dir, "--n-per-class", 2, "--out", tmp_path / "out.h5"),
        "features": ("features", tmp_path, "--embeddings", tmp_path / "names.csv", "--out", tmp_path / "out.npz"),
        "embed": ("embed", tmp_path / "names.csv", "--out", tmp_path / "out.csv"),
        "report": ("report", run_dir, "--out", tmp_path / "out.html"),
    }
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    assert main([str(word) for word in words[command]]) == 0
    assert list(tmp_path.glob("out*"))
    assert main(["inspect", "nowhere"]) == 2


def test_a_file_never_takes_the_place_of_a_closed_stream():
    """What is printed would end in it."""
    code = "import os; from fgen import cli; cli.open_closed_streams(); print(1); os._exit(os.open('.', os.O_RDONLY))"
    closed = f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed], check=False).returncode > 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
@pytest.mark.parametrize(("words", "code"), [("convert toy - 2>/dev/full", 2), ("--help >/dev/full", 2)])
def test_errors_that_nobody_can_read_leave_the_exit_code_as_it_is(words, code):
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = ["sh", "-c", f"{sys.executable} -m fgen {words}"]
    done = subprocess.run(command, capture_output=True, text=True, env=buffered, check=False)
    assert done.returncode == code
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


def test_streams_are_refused_wherever_a_file_is_written(shell, config, run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((3, 16), np.float32))
    for words in (
        ("generate", run_dir, "--out", "-"),
        ("run", config, "--out", "-"),
        ("train", config, "--out", "-"),
        ("report", run_dir, "--out", "-"),
        ("embed", "words.csv", "--out", "-"),
        ("features", "photos", "--embeddings", "words.csv", "--out", "-"),
        ("convert", "toy", "-"),
    ):
        assert "is '-'; expected a name for a file or folder" in shell.refuses(*words)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/../dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_devices_are_refused_too(out):
    """By the function alone: what is moved there would take the place of the system's own."""
    with pytest.raises(InputError, match="expected a name for a file or folder"):
        cli.refuse_streams({"out": out})
    cli.refuse_streams({"out": "/dev/shm/it.csv"})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_an_output_that_cannot_be_written_is_told_in_one_message(tmp_path, monkeypatch):
    words = [sys.executable, "-m", "fgen.cli", "inspect", "toy"]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert "Exception ignored" not in done.stderr
    save_dataset(variant_named(load_dataset("toy"), "データ"), tmp_path / "data.h5")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    assert main(["inspect", str(tmp_path / "data.h5")]) == 0
    assert b"name: \\u30c7" in printed.getvalue()


def variant_named(data, name):
    """The same data under another name."""
    return ZSLDataset(
        data.features, data.labels, data.class_embeddings, class_names=data.class_names, splits=data.splits, name=name
    )
