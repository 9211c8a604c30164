"""Any-shot tasks: which rows move, what stays as it was, and that a run makes use of them."""

import json

import numpy as np
import pytest

import fgen
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.data.toy import make_toy, toy_world
from fgen.errors import InputError
from fgen.experiment.config import DatasetConfig, ExperimentConfig
from fgen.models.registry import MODELS
from tests.conftest import ANY_WIDTHS, THREADS, tiny


def uneven():
    """Two seen classes; unseen classes 2 to 5 with 1, 2, 4 and 9 rows."""
    counts = [6, 6, 1, 2, 4, 9]
    labels = np.repeat(np.arange(6), counts)
    seen, unseen = np.flatnonzero(labels < 2), np.flatnonzero(labels >= 2)
    splits = {"trainval": seen, "test_unseen": unseen}
    rows = np.arange(len(labels), dtype=np.float32)[:, None]
    return ZSLDataset(rows, labels, np.eye(6), class_names=list("abcdef"), splits=splits)


def moved(task, shots):
    """How many rows of each class left the test."""
    before, after = (np.bincount(d.labels[d.splits["test_unseen"]], minlength=d.n_classes) for d in (task, shots))
    return (before - after).tolist()


def test_k_rows_of_each_unseen_class_go_from_the_test_to_training_and_no_row_is_lost():
    task = make_toy()
    shots = task.with_shots(3)
    assert moved(task, shots) == [0] * 20 + [3] * 5
    gained = np.setdiff1d(shots.splits["trainval"], task.splits["trainval"])
    assert np.array_equal(gained, np.setdiff1d(task.splits["test_unseen"], shots.splits["test_unseen"]))
    assert not np.intersect1d(shots.splits["trainval"], shots.splits["test_unseen"]).size
    for name in ("test_seen", "train", "val", "val_seen"):
        assert np.array_equal(shots.splits[name], task.splits[name])
    assert np.array_equal(shots.seen, task.seen)
    assert np.array_equal(shots.unseen, task.unseen)
    assert shots.name == "toy (3-shot)"
    assert shots.fingerprint != task.fingerprint
    assert task.shots is None
    assert task.with_shots(0) is task


def test_a_class_keeps_a_row_for_the_test_and_the_notes_name_it():
    task = uneven()
    shots = task.with_shots(3)
    assert moved(task, shots) == [0, 0, 0, 1, 3, 3]
    notes = " ".join(shots.notes)
    assert "7 rows of 3 of the 4 unseen classes" in notes
    assert "1 classes gave fewer than 3 shots to keep a row for the test: d (1)" in notes
    assert "1 classes with a single row could give no shot: c" in notes


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(None, 3), (1.0, 3), (0.5, 2), (0.01, 1), (1, 1), (3, 3), (["f", "d"], 2), ("e", 1)],
)
def test_classes_are_chosen_by_share_number_or_name(classes, expected):
    task = uneven()
    got = np.flatnonzero(moved(task, task.with_shots(1, classes)))
    assert len(got) == expected
    if isinstance(classes, list):
        assert got.tolist() == [3, 5]


def test_the_seed_names_rows_and_classes_and_a_class_draws_alike_in_any_company():
    task = make_toy()

    def rows(k, classes=None, seed=0):
        return np.setdiff1d(task.splits["test_unseen"], task.with_shots(k, classes, seed=seed).splits["test_unseen"])

    assert np.array_equal(rows(4), rows(4))
    assert not np.array_equal(rows(4), rows(4, seed=1))
    assert np.isin(rows(4, ["class 22"]), rows(4)).all()
    assert np.isin(rows(2), rows(4)).all(), "more shots add to fewer, so that a curve over k is one of nested sets"
    assert len({tuple(np.unique(task.labels[rows(1, 2, seed=seed)])) for seed in range(9)}) > 1


def test_the_validation_task_mirrors_it_and_reaches_no_row_of_an_unseen_class():
    task = make_toy()
    plain, shots = task.validation(), task.with_shots(3, 2 / 5).validation()
    n_val = len(plain.unseen)
    assert n_val > 2
    assert sorted(moved(plain, shots))[-n_val:] == [0] * (n_val - round(n_val * 2 / 5)) + [3] * round(n_val * 2 / 5)
    assert np.array_equal(shots.unseen, plain.unseen)
    assert np.array_equal(shots.seen, plain.seen)
    reachable = np.concatenate(list(shots.splits.values()))
    assert not np.isin(task.labels[reachable], task.unseen).any()
    assert np.array_equal(shots.splits["test_seen"], plain.splits["test_seen"])
    assert shots.name == "toy (3-shot) (validation)"


@pytest.mark.parametrize(
    ("k", "classes", "words"),
    [
        (-1, None, "shots is -1"),
        (1, 0, "shot_classes is 0; expected a share"),
        (1, 4, "number from 1 to 3"),
        (1, 0.0, r"shot_classes is 0\.0"),
        (1, 1.5, r"shot_classes is 1\.5"),
        (1, ["z"], "'z'; expected unseen classes"),
        (1, ["a"], "'a'; expected unseen classes"),
        (1, ["c"], "'c' has fewer than 2 test rows"),
        (1, ["d", "d"], "each once"),
        (1, [], "one or more names"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(k, classes, words):
    with pytest.raises(InputError, match=words):
        uneven().with_shots(k, classes)


def test_shots_are_drawn_once_and_only_where_there_are_rows():
    with pytest.raises(InputError, match="has shots already"):
        uneven().with_shots(1).with_shots(1)
    nothing = ZSLDataset(np.ones((4, 1)), np.array([0, 0, 1, 1]), np.eye(3), splits={"trainval": np.arange(4)})
    with pytest.raises(InputError, match="no unseen class with 2 test rows"):
        nothing.with_shots(1)


def test_the_section_reads_numbers_shares_and_names_and_refuses_classes_without_shots():
    for given in (2, 0.5, ["a", "b"]):
        section = {"name": "toy", "shots": 1, "shot_classes": given}
        config = ExperimentConfig.from_mapping({"dataset": section, "model": {"name": "ridge"}})
        written = config.to_mapping()["dataset"]["shot_classes"]
        assert written == given
        assert type(written) is type(given)
    with pytest.raises(InputError, match="shot_classes is set, and nothing uses it"):
        DatasetConfig(name="toy", shot_classes=0.5)
    with pytest.raises(InputError, match="shots is -1"):
        DatasetConfig(name="toy", shots=-1)


@pytest.fixture(scope="module")
def misdescribed(tmp_path_factory):
    """A world whose unseen classes bear each other's descriptions: only their rows can tell them apart."""
    data = toy_world(n_seen=12, n_unseen=4, rows_per_class=24, seed=3).dataset
    embeddings = data.class_embeddings.copy()
    embeddings[data.unseen] = np.roll(embeddings[data.unseen], 1, axis=0)
    path = tmp_path_factory.mktemp("data") / "misdescribed.h5"
    save_dataset(
        ZSLDataset(data.features, data.labels, embeddings, class_names=data.class_names, splits=data.splits), path
    )
    return path


@pytest.mark.numeric
@pytest.mark.parametrize("model", ["clswgan", "ridge"])
def test_a_run_learns_from_the_shots_what_descriptions_do_not_tell(misdescribed, tmp_path, model):
    generator = {"hidden_dim": 32, "noise_dim": 4, "batch_size": 32, "epochs": 4, "lr": 1e-3, "cls_epochs": 1}
    result = {}
    for shots in (0, 12):
        config = {
            "dataset": {"path": str(misdescribed), "shots": shots},
            "model": {"name": model} | (generator if model == "clswgan" else {}),
            "bank": {"n_per_class": 4},
            "classifier": {"epochs": 30, "batch_size": 16, "lr": 1e-2},
            "train": {"threads": THREADS},
            "protocol": {"evaluations": 1, "calibrate": True},
        }
        result[shots] = fgen.run(config, out=tmp_path / str(shots))
    assert result[12].scores["U"]["mean"] > result[0].scores["U"]["mean"] + 0.2
    assert result[12].scores["T1"]["mean"] > result[0].scores["T1"]["mean"]
    written = json.loads((tmp_path / "12" / "result.json").read_text())["dataset"]
    assert (written["n_seen"], written["n_unseen"]) == (12, 4)
    assert any("12-shot: 48 rows of 4 of the 4 unseen classes" in note for note in written["notes"])
    assert "(12-shot)" in result[12].table()
    assert "shot" not in result[0].table()
    tested = np.load(tmp_path / "12" / "seeds" / "0" / "predictions.npz")
    assert (np.bincount(tested["labels"])[-4:] == 12).all(), "the rows that were trained on are tested on no more"


@pytest.mark.parametrize("name", sorted([*MODELS, *ANY_WIDTHS]))
def test_every_method_and_baseline_takes_shots(misdescribed, tmp_path, name):
    """One option for all: their rows are trained on, and tested on no more."""
    small = tiny(name) | {"steps": 2, "batch_size": 16} if name in MODELS else {}
    config = {
        "dataset": {"path": str(misdescribed), "shots": 3, "shot_classes": 2},
        "model": {"name": name} | small,
        "bank": {"n_per_class": 4},
        "classifier": {"epochs": 1},
        "train": {"threads": THREADS},
        "protocol": {"evaluations": 1},
    }
    result = fgen.run(config, out=tmp_path / "run")
    assert np.isfinite([result.scores[score]["mean"] for score in ("T1", "U", "S", "H")]).all()
    tested = np.load(tmp_path / "run" / "seeds" / "0" / "predictions.npz")
    assert sorted(np.bincount(tested["labels"])[-4:]) == [21, 21, 24, 24]


def test_classes_are_named_in_bytes_or_counted_by_numpys_numbers_too():
    task = uneven()
    assert moved(task, task.with_shots(1, [b"e", b"f"])) == moved(task, task.with_shots(1, ["e", "f"]))
    assert moved(task, task.with_shots(1, np.int64(2))) == moved(task, task.with_shots(1, 2))
    with pytest.raises(InputError, match=r"shot_classes\[0\] is None, no text"):
        task.with_shots(1, [None])
