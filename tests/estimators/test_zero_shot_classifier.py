"""``ZeroShotClassifier``: labels of any kind in, classes it never saw out, with scikit-learn and without."""

import json
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from types import MappingProxyType

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import load_file, save

from fgen import ZeroShotClassifier
from fgen.classifiers.registry import load_head
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.estimators import training
from fgen.models.registry import load_model
from fgen.reports.inspection import inspect

MODEL = {
    "epochs": 60,
    "hidden_dim": 32,
    "noise_dim": 8,
    "lr": 2e-3,
    "critic_steps": 3,
    "gp_weight": 1.0,
    "feature_scaling": "standard",
    "output": "linear",
    "cls_epochs": 5,
}
GOOD = {"model": MODEL, "classifier": {"solver": "lbfgs"}, "n_per_class": 50, "embedding_norm": "none"}
GOOD |= {"embedding_scale": 1.0}
#: Enough to look at shapes and messages.
QUICK = GOOD | {"model": MODEL | {"epochs": 2}, "n_per_class": 10}


@pytest.fixture(scope="module")
def world():
    """20 seen and 4 unseen classes that the best classifier hardly ever confuses."""
    return toy_world(n_seen=20, n_unseen=4, rows_per_class=16, embedding_dim=4, sigma=0.4)


@pytest.fixture(scope="module")
def data(world):
    return world.dataset


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data.split("trainval")
    return ZeroShotClassifier(class_embeddings=data.class_embeddings, **GOOD).fit(X, y)


@pytest.mark.numeric
def test_it_predicts_classes_it_never_saw(world, data, fitted):
    assert world.optimum()["U"] > 0.95
    X, y = data.split("test_unseen")
    assert not np.isin(y, data.split("trainval")[1]).any()
    assert np.mean(fitted.predict(X) == y) > 0.75, "chance is 1 / 24"
    X, y = data.split("test_seen")
    assert np.mean(fitted.predict(X) == y) > 0.6


@pytest.mark.numeric
def test_ties_are_answered_as_scores_have_it(data, fitted):
    X, _ = data.split("test_unseen")
    seen, gamma = np.isin(fitted.classes_, fitted.seen_), fitted.gamma_
    try:
        for row in X:
            fitted.gamma_ = 0.0
            scores = fitted.decision_function(row[None])[0].astype(np.float64)
            fitted.gamma_ = scores[seen].max() - scores[~seen].max()
            assert fitted.predict(row[None])[0] in fitted.seen_, "at the margin itself the seen class leads"
            fitted.gamma_ = np.nextafter(fitted.gamma_, np.inf)
            assert fitted.predict(row[None])[0] in fitted.unseen_
    finally:
        fitted.gamma_ = gamma


def test_a_label_that_is_not_described_is_told_of_with_what_was_meant(data):
    X, y = data.split("trainval")
    names = np.array([f"class {k}" for k in range(24)])
    described = dict(zip(names, data.class_embeddings, strict=True))
    wrong = names[y].astype(object)
    wrong[0] = "clas 3"
    for embeddings, labels, remedy in (
        (described, wrong, "Did you mean 'class 3'?"),
        (data.class_embeddings, names[y], "Name the rows of class_embeddings by classes"),
        (dict(enumerate(data.class_embeddings)), y.astype(str), "of another type"),
        (described, names[y].astype("S"), "y holds bytes: make text of them, by y.astype(str) or label.decode()"),
        (dict(zip(names.astype("S"), data.class_embeddings, strict=True)), names[y], "The classes' labels are bytes"),
        (data.class_embeddings, y + 24 - y.max(), "Labels are rows of class_embeddings, counted from 0"),
    ):
        with pytest.raises(InputError, match=re.escape(remedy)):
            ZeroShotClassifier(class_embeddings=embeddings, **QUICK).fit(X, labels)


@pytest.mark.parametrize("missing", [np.nan, None])
def test_rows_without_a_label_are_told_of_by_their_number(data, missing):
    X, y = data.split("trainval")
    names = [*(f"class {k}" for k in range(23)), "banana"]
    model = ZeroShotClassifier(dict(zip(names, data.class_embeddings, strict=True)), **QUICK)
    for kind in (list, np.array, lambda labels: np.array(labels, dtype=object)):
        labels = [names[k] for k in y]
        labels[3] = missing
        with pytest.raises(
            InputError, match=rf"y holds {missing} in row 3; .* Drop rows without a label, from X"
        ) as told:
            model.fit(X, kind(labels))
        assert "mean" not in str(told.value)
    with pytest.raises(InputError, match=r"y holds nan in row 0; expected a label"):
        ZeroShotClassifier(data.class_embeddings, **QUICK).fit(X, np.where(np.arange(len(y)) == 0, np.nan, y))


def test_labels_that_seem_to_count_from_one_are_told_of(data):
    X, y = data.split("trainval")
    kept = y > 0
    quick = QUICK | {"calibrate": False}
    with pytest.warns(UserWarning, match="no row has the label 0, .*: were they counted from 1"):
        ZeroShotClassifier(data.class_embeddings, **quick).fit(X[kept], y[kept])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ZeroShotClassifier(data.class_embeddings, **quick).fit(X, y)
        ZeroShotClassifier(data.class_embeddings, classes=np.arange(24), **quick).fit(X[kept], y[kept])
        ZeroShotClassifier(dict(enumerate(data.class_embeddings)), **quick).fit(X[kept], y[kept])
        ZeroShotClassifier(data.class_embeddings, **quick).fit(X[kept & (y != 5)], y[kept & (y != 5)])


@pytest.mark.parametrize("scaling", ["minmax", "standard", "sqrt", "none"])
def test_features_on_quite_another_scale_are_told_of(data, scaling):
    X, y = data.split("trainval")
    settings = QUICK | {"model": MODEL | {"epochs": 1, "feature_scaling": scaling}, "calibrate": False}
    model = ZeroShotClassifier(data.class_embeddings, **settings).fit(100 * X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (100 * X, 100 * X[:1], 40 * X, 250 * X, 25 * X[:1], np.zeros((0, 16))):
            model.predict(rows)
    for rows in (X, 10 * X, 1000 * X, 10 * X[:1]):
        for method in (model.predict, model.predict_proba, model.decision_function):
            with pytest.warns(UserWarning, match="the median length of a row .* normalised alike") as told:
                method(rows)
            assert len(told) == 1
            assert told[0].filename == __file__


def without_lengths(folder):
    """Saved files as they were before scalings had a length."""
    for file in folder.rglob("*.safetensors"):
        tensors = load_file(file)
        del tensors["feature.length"]
        file.write_bytes(save(tensors))


def test_a_forgotten_normalisation_is_told_of_by_saved_classifiers_too_also_by_older_ones(data, saved, tmp_path):
    X, _ = data.split("test_unseen")
    with pytest.warns(UserWarning, match="the median length of a row .* normalised alike"):
        ZeroShotClassifier.load(saved).predict(10 * X)
    shutil.copytree(saved, tmp_path / "older")
    without_lengths(tmp_path / "older")
    older = ZeroShotClassifier.load(tmp_path / "older")
    with pytest.warns(UserWarning, match=r"a row .* was about \d.* normalised alike"):
        older.predict(100 * X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert older.predict(X).tolist() == ZeroShotClassifier.load(saved).predict(X).tolist()
    older.save(tmp_path / "again")
    assert trees(tmp_path / "again") == trees(tmp_path / "older")


def test_it_is_printed_in_short(data):
    described = {f"sort {k}": row for k, row in enumerate(np.zeros((2000, 312)))}
    model = ZeroShotClassifier(described, n_per_class=7)
    assert repr(model) == "ZeroShotClassifier(class_embeddings=<dict of 2000>, n_per_class=7)"
    model.set_params(class_embeddings=np.zeros((2000, 312)), classes=list(described), n_per_class=100)
    assert repr(model).split() == [
        "ZeroShotClassifier(class_embeddings=<ndarray",
        "(2000,",
        "312)>,",
        "classes=<list",
        "of",
        "2000>)",
    ]


# On disk.


def trees(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "classifier"
    fitted.save(path)
    return path


@pytest.mark.numeric
def test_a_saved_one_predicts_the_same_bytes(data, fitted, saved):
    loaded = ZeroShotClassifier.load(saved)
    X = data.rows(np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]]))
    for method in ("predict", "predict_proba", "decision_function"):
        assert getattr(loaded, method)(X).tobytes() == getattr(fitted, method)(X).tobytes()
    for name in ("classes_", "seen_", "unseen_", "gamma_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(fitted, name))
    assert loaded.gamma_ != 0
    given, kept = fitted.get_params(), loaded.get_params()
    np.testing.assert_array_equal(kept.pop("class_embeddings"), given.pop("class_embeddings"))
    assert kept == given
    assert set(trees(saved)) == {
        "classifier.json",
        "head/head.json",
        "head/head.safetensors",
        "model/model.json",
        "model/model.safetensors",
    }


@pytest.mark.numeric
@pytest.mark.parametrize("method", ["cadavae", "free"])
def test_so_does_one_whose_head_lives_elsewhere_or_is_the_cosine(data, tmp_path, method):
    X, y = data.split("trainval")
    settings = {"epochs": np.int64(1), "hidden_dim": 16, "lr": np.float32(1e-3)}
    head = {"name": "cosine"} if method == "free" else {"solver": "lbfgs", "l2": (1e-3,)}
    model = ZeroShotClassifier(
        data.class_embeddings, method=method, model=MappingProxyType(settings), classifier=head, calibrate=False
    )
    model.fit(X, y).save(tmp_path / "it")
    loaded = ZeroShotClassifier.load(str(tmp_path / "it"))
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    loaded.save(tmp_path / "again")
    assert trees(tmp_path / "again") == trees(tmp_path / "it")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([f"sort {k:02d}é" for k in range(24)]),
        np.array([f"sort {k}" for k in range(24)], dtype=object),
        100 - 7 * np.arange(24, dtype=np.int16),
        np.arange(24) / np.float32(3),
        np.arange(24, dtype=float),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_labels_come_back_as_they_were(data, tmp_path, labels):
    X, y = data.split("trainval")
    described = dict(zip(labels.tolist(), data.class_embeddings, strict=True))
    for model in (
        ZeroShotClassifier(data.class_embeddings, classes=labels, calibrate=False, **QUICK),
        ZeroShotClassifier(described, calibrate=False, **QUICK),
    ):
        model.fit(X, labels[y]).save(tmp_path / "it")
        loaded = ZeroShotClassifier.load(tmp_path / "it")
        predicted, expected = loaded.predict(X), model.predict(X)
        assert predicted.dtype == expected.dtype
        assert predicted.tolist() == expected.tolist()
        assert loaded.fit(X, labels[y]).predict(X).dtype == expected.dtype


@pytest.mark.numeric
def test_a_loaded_one_is_fitted_again_as_a_new_one(data, tmp_path):
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, **(QUICK | {"random_state": 4})).fit(X, y)
    model.save(tmp_path / "it")
    loaded = ZeroShotClassifier.load(tmp_path / "it")
    before = loaded.decision_function(X).tobytes()
    loaded.set_params(random_state=5)
    with pytest.raises(InputError, match="hold nan"):
        loaded.fit(np.full_like(X, np.nan), y)
    with pytest.raises(InputError, match="y holds the label"):
        loaded.set_params(classes=np.arange(24) + 100).fit(X, y)
    assert loaded.decision_function(X).tobytes() == before, "what fails leaves the older fit"
    assert loaded.classes_.tolist() == list(range(24))
    loaded.set_params(classes=None, random_state=4)
    assert loaded.fit(X, y).decision_function(X).tobytes() == before


@pytest.mark.numeric
def test_equal_ones_are_equal_bytes_and_replace_each_other(fitted, saved, tmp_path):
    for _ in range(2):
        fitted.save(tmp_path / "it")
        assert trees(tmp_path / "it") == trees(saved)
    assert [file.name for file in tmp_path.iterdir()] == ["it"]


@pytest.fixture(scope="module")
def another(data, fitted):
    """A classifier of the same shapes as ``fitted``, with another model and another head."""
    changes = {"random_state": 77, "model": MODEL | {"epochs": 2}}
    return ZeroShotClassifier(**(fitted.get_params(deep=False) | changes)).fit(*data.split("trainval"))


def test_one_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(fitted, another, tmp_path, monkeypatch):
    path = tmp_path / "it"
    fitted.save(path)

    def late(folder):
        monkeypatch.undo()
        another.save(path)
        return load_head(folder)

    monkeypatch.setattr("fgen.inference.predictor.load_head", late)
    ZeroShotClassifier.load(path).save(tmp_path / "read")
    another.save(tmp_path / "another")
    assert trees(tmp_path / "read") == trees(tmp_path / "another")


def test_one_whose_writer_was_killed_between_its_two_moves_is_read_and_inspected(fitted, saved, tmp_path):
    shutil.copytree(saved, tmp_path / ".it.fgen.old")
    ZeroShotClassifier.load(tmp_path / "it").save(tmp_path / "read")
    assert trees(tmp_path / "read") == trees(saved)
    assert inspect(str(tmp_path / "it"))["kind"] == "saved ZeroShotClassifier"
    for part, kind in (("model", "model"), ("head", "head")):
        shutil.copytree(saved / part, tmp_path / f".{part}.fgen.old")
        assert inspect(str(tmp_path / part))["kind"] == kind
    fitted.save(tmp_path / "it")
    assert sorted(entry.name for entry in tmp_path.iterdir() if "it" in entry.name) == ["it"]


def test_savers_in_threads_leave_one_of_theirs_whole(fitted, another, saved, tmp_path):
    another.save(tmp_path / "another")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda model: model.save(tmp_path / "it"), [fitted, another] * 3))
    assert trees(tmp_path / "it") in (trees(saved), trees(tmp_path / "another"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["another", "it"]


def test_saving_before_fit_is_refused_as_predicting_is(data, tmp_path):
    with pytest.raises(InputError, match=r"isn't fitted; expected fit\(\) before predicting"):
        ZeroShotClassifier(data.class_embeddings).save(tmp_path / "it")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_left_alone(fitted, saved, tmp_path):
    def folder(name, *files):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("mine")
        return tmp_path / name

    shutil.copytree(saved, tmp_path / "theirs")
    for path in (
        folder("notes", "notes.txt"),
        folder("alike", "model/weights.bin", "head/head.json", "classifier.json"),
        folder("models", "model/model.json", "model/model.safetensors"),
        folder("theirs", "head/notes.txt"),
        folder(".", "file") / "file",
    ):
        before = trees(tmp_path)
        with pytest.raises(InputError, match=r"; expected a (new )?folder"):
            fitted.save(path)
        assert trees(tmp_path) == before
    (tmp_path / "empty").mkdir()
    fitted.save(tmp_path / "empty")


def test_what_no_json_can_hold_is_refused_before_anything_is_written(data, tmp_path):
    X, y = data.split("trainval")
    days = np.array([date(2000, 1, 1 + k) for k in range(24)])
    labels = [days, days.astype("M8[ns]"), np.array([f"{k}" for k in range(24)], dtype="S")]
    for kind in labels:
        model = ZeroShotClassifier(data.class_embeddings, classes=kind, calibrate=False, **QUICK).fit(X, kind[y])
        with pytest.raises(
            InputError, match=r"the label .* is of type .*; expected text or finite numbers, which JSON"
        ):
            model.save(tmp_path / "it")
    pytest.importorskip("sklearn")
    knn = QUICK | {"classifier": {"name": "knn"}, "calibrate": False}
    with pytest.raises(
        InputError, match=r"'knn' is scikit-learn's and can only be pickled; expected 'softmax' or 'cos"
    ):
        ZeroShotClassifier(data.class_embeddings, **knn).fit(X, y).save(tmp_path / "it")
    assert not any(tmp_path.iterdir())


def test_what_is_no_classifier_is_refused(fitted, saved, tmp_path):
    fitted.generator_.save(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    for name, remedy in (
        ("empty", "Name another folder"),
        ("model", "fgen.load_model reads"),
        ("emty", "Did you mean"),
    ):
        with pytest.raises(InputError, match=rf"holds no classifier.json; expected a folder .* {remedy}"):
            ZeroShotClassifier.load(tmp_path / name)
    with pytest.raises(InputError, match="abacus"):
        ZeroShotClassifier.load(saved, device="abacus")


@pytest.mark.parametrize(
    "file",
    ["classifier.json", "head/head.json", "head/head.safetensors", "model/model.json", "model/model.safetensors"],
)
def test_damaged_files_are_one_error_that_names_where(saved, tmp_path, file):
    content = (saved / file).read_bytes()
    for broken in (None, b"", content[: len(content) // 2], b"[]", b"{}", b"\xff" * 40):
        shutil.rmtree(tmp_path / "it", ignore_errors=True)
        shutil.copytree(saved, tmp_path / "it")
        (tmp_path / "it" / file).unlink() if broken is None else (tmp_path / "it" / file).write_bytes(broken)
        with pytest.raises(InputError, match=str(tmp_path / "it")):
            ZeroShotClassifier.load(tmp_path / "it")


@pytest.mark.parametrize("kind", ["<U50", "text"])
def test_labels_wider_than_they_need_be_come_back(data, tmp_path, kind):
    X, y = data.split("trainval")
    labels = np.array([f"class {k}" for k in range(24)], dtype=kind if kind != "text" else np.dtypes.StringDType())
    model = ZeroShotClassifier(data.class_embeddings, classes=labels, calibrate=False, **QUICK).fit(X, labels[y])
    model.save(tmp_path / "it")
    loaded = ZeroShotClassifier.load(tmp_path / "it")
    assert loaded.predict(X).tolist() == model.predict(X).tolist()


def test_a_saved_one_is_inspected(saved):
    facts = inspect(saved)
    assert (facts["kind"], facts["seen"], facts["unseen"]) == ("saved ZeroShotClassifier", 20, 4)
    with pytest.raises(InputError, match=r"is no readable model.* There is .*classifier/model\."):
        load_model(saved)


def test_a_description_that_does_not_fit_is_refused(data, saved, tmp_path):
    whole = json.loads((saved / "classifier.json").read_text())
    changes = [
        {"format": "fgen-model"},
        {"format_version": 2},
        {"labels": whole["labels"][:-1]},
        {"labels": whole["labels"][::-1]},
        {"labels": [str(label) for label in whole["labels"]]},
        {"labels": [[label] for label in whole["labels"]]},
        {"label_type": "<M8[ns]"},
        {"label_type": "nonsense"},
        {"seen": []},
        {"seen": [1.5]},
        {"seen": [-1, 0]},
        {"seen": [0, 24]},
        {"seen": [1, 1]},
        {"seen": [[0, 1]]},
        {"gamma": None},
        {"gamma": "0"},
        {"parameters": []},
        {"parameters": whole["parameters"] | {"classes": None}},
        {"parameters": whole["parameters"] | {"method": "ridge"}},
        {"parameters": whole["parameters"] | {"model": {"epochs": "many"}}},
    ]
    shutil.copytree(saved, tmp_path / "it")
    for change in changes:
        (tmp_path / "it" / "classifier.json").write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match=r"it/classifier\.json"):
            ZeroShotClassifier.load(tmp_path / "it")
    for key in whole:
        (tmp_path / "it" / "classifier.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(InputError, match=r"it/classifier\.json"):
            ZeroShotClassifier.load(tmp_path / "it")


@pytest.mark.parametrize("part", ["model", "head", "classifier.json"])
def test_parts_of_two_classifiers_do_not_go_together(data, saved, tmp_path, part):
    X, y = data.split("trainval")
    keep = y < 10
    other = ZeroShotClassifier(data.class_embeddings[:12], calibrate=False, **QUICK).fit(X[keep], y[keep])
    other.save(tmp_path / "it")
    if part == "classifier.json":
        shutil.copy(saved / part, tmp_path / "it")
    else:
        shutil.rmtree(tmp_path / "it" / part)
        shutil.copytree(saved / part, tmp_path / "it" / part)
    with pytest.raises(InputError, match="saved with it"):
        ZeroShotClassifier.load(tmp_path / "it")


def test_a_limit_in_steps_holds_after_a_choice_too(data, monkeypatch):
    monkeypatch.setattr(training, "choose_epochs", lambda *_, **__: {"epochs": 2, "gamma": 0.0})
    X, y = data.split("trainval")
    limited = QUICK | {"model": MODEL | {"epochs": 9, "steps": 7, "batch_size": 64}}
    model = ZeroShotClassifier(class_embeddings=data.class_embeddings, **limited).fit(X, y).generator_
    assert model.config.n_steps(len(X)) == 7


def test_attributes_name_what_was_seen_and_what_was_not(data, fitted):
    assert fitted.classes_.tolist() == list(range(24))
    assert fitted.seen_.tolist() == data.seen.tolist()
    assert fitted.unseen_.tolist() == data.unseen.tolist()
    assert fitted.n_features_in_ == data.feature_dim
    features, labels = fitted.generator_.generate([21], 3, seed=0)
    assert features.shape == (3, data.feature_dim)
    assert labels.tolist() == [21] * 3


@pytest.mark.parametrize(("how", "kind"), [("dict", "strings"), ("classes", "integers")])
def test_labels_may_be_strings_or_any_integers(data, how, kind):
    labels = np.array([f"sort {k:02d}" for k in range(24)]) if kind == "strings" else 100 - 7 * np.arange(24)
    if how == "dict":
        described = dict(zip(labels.tolist(), data.class_embeddings, strict=True))
        model = ZeroShotClassifier(described, calibrate=False, **GOOD)
    else:
        model = ZeroShotClassifier(data.class_embeddings, classes=labels, calibrate=False, **GOOD)
    X, y = data.split("trainval")
    model.fit(X, labels[y])
    assert model.classes_.tolist() == labels.tolist()
    assert sorted(model.unseen_.tolist()) == sorted(labels[data.unseen].tolist())
    X, y = data.split("test_unseen")
    predicted = model.predict(X)
    assert predicted.dtype == labels.dtype
    assert np.mean(predicted == labels[y]) > 0.6


@pytest.mark.numeric
def test_probabilities_belong_to_classes_and_add_up_to_one(data, fitted):
    X, _ = data.split("test_unseen")
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (len(X), len(fitted.classes_))
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert fitted.classes_[probabilities.argmax(axis=1)].tolist() == fitted.predict(X).tolist()


@pytest.mark.numeric
def test_the_handicap_of_seen_classes_is_in_the_decisions(data, fitted):
    X, _ = data.split("test_unseen")
    decisions, gamma = {}, fitted.gamma_
    for fitted.gamma_ in (0.0, 1.5, gamma):
        decisions[fitted.gamma_] = fitted.decision_function(X)
    np.testing.assert_allclose((decisions[0] - decisions[1.5])[:, data.seen], 1.5, rtol=1e-3)
    np.testing.assert_array_equal(decisions[0][:, data.unseen], decisions[1.5][:, data.unseen])
    assert gamma != 0, "it was chosen on held-out classes"


@pytest.mark.numeric
def test_what_was_chosen_on_held_out_classes_is_what_is_trained(data, monkeypatch):
    monkeypatch.setattr(training, "choose_epochs", lambda *_, **__: {"epochs": 1, "gamma": 0.25})
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, **QUICK).fit(X, y)
    assert (len(model.generator_.history), model.gamma_) == (1, 0.25)


@pytest.mark.numeric
def test_of_several_penalties_one_is_chosen_on_held_out_classes(data, monkeypatch):
    X, y = data.split("trainval")
    settings = GOOD | {"model": MODEL | {"epochs": 20}, "classifier": {"solver": "lbfgs", "l2": [10.0, 1e-3]}}
    model = ZeroShotClassifier(data.class_embeddings, **settings).fit(X, y)
    assert model.predictor_.head.config.l2 == 1e-3
    model.set_params(calibrate=False)
    monkeypatch.setattr(training, "fit", lambda *_: pytest.fail("it is told before anything is trained"))
    with pytest.raises(InputError, match=r"l2 holds several penalties, .*; expected one of them, or calibrate=True"):
        model.fit(X, y)


@pytest.mark.numeric
def test_the_same_seed_gives_the_same_predictions(data, fitted):
    X, y = data.split("trainval")
    tests = data.rows(np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]]))

    def decisions(seed):
        model = ZeroShotClassifier(data.class_embeddings, random_state=seed, **QUICK)
        return model.fit(X, y).decision_function(tests)

    first = decisions(5)
    assert first.tobytes() == decisions(5).tobytes()
    assert not np.array_equal(first, decisions(6))


@pytest.mark.numeric
def test_lists_do_as_well_as_arrays(data):
    X, y = data.split("trainval")
    by_array = ZeroShotClassifier(data.class_embeddings, **QUICK).fit(X, y)
    by_list = ZeroShotClassifier(data.class_embeddings.tolist(), **QUICK).fit(X.tolist(), y.tolist())
    assert by_list.decision_function(X[:9].tolist()).tobytes() == by_array.decision_function(X[:9]).tobytes()


@pytest.mark.numeric
def test_tensors_do_as_well_as_arrays_also_those_that_carry_gradients(data):
    X, y = data.split("trainval")
    by_array = ZeroShotClassifier(data.class_embeddings, **QUICK).fit(X, y)
    tensor = torch.tensor(X, requires_grad=True)
    described = torch.tensor(data.class_embeddings, requires_grad=True)
    by_tensor = ZeroShotClassifier(described, **QUICK).fit(tensor, torch.tensor(y))
    assert by_tensor.decision_function(tensor).tobytes() == by_array.decision_function(X).tobytes()


@pytest.mark.numeric
def test_without_unseen_classes_it_is_an_ordinary_classifier(data):
    X, y = data.split("trainval")
    head = {"epochs": 50, "lr": 0.02}  # Adam, whose batch size is the number of features per unseen class
    model = ZeroShotClassifier(data.class_embeddings[data.seen], **(QUICK | {"classifier": head})).fit(X, y)
    assert len(model.unseen_) == 0
    X, y = data.split("test_seen")
    assert model.score(X, y) > 0.6, "chance is 1 / 20"


@pytest.mark.parametrize(("n_classes", "n_rows"), [(2, 12), (6, 3)])
def test_too_little_to_hold_out_is_said_and_does_not_stop_it(data, n_classes, n_rows):
    X, y = data.split("trainval")
    rows = np.concatenate([np.flatnonzero(y == c)[:n_rows] for c in range(n_classes)])
    with pytest.warns(UserWarning, match="too few to calibrate on"):
        model = ZeroShotClassifier(data.class_embeddings, **QUICK).fit(X[rows], y[rows])
    assert model.gamma_ == 0
    assert len(model.generator_.history) == QUICK["model"]["epochs"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ZeroShotClassifier(data.class_embeddings, calibrate=False, **QUICK).fit(X[rows], y[rows])


# Refusals.


def test_predicting_before_fit_is_refused(data):
    model = ZeroShotClassifier(data.class_embeddings)
    for method in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(InputError, match=r"isn't fitted; expected fit\(\) before predicting"):
            method(data.rows(np.arange(2)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"class_embeddings": None}, "class_embeddings is missing"),
        ({"class_embeddings": np.zeros((3, 4))}, r"y holds the label 3; expected labels that class_embeddings"),
        ({"class_embeddings": {0: [1.0], "a": [2.0]}}, r"labels of the classes are int, str; expected numbers or text"),
        ({"class_embeddings": {(0, 1): [1.0], (0, 2): [2.0]}}, r"has the key \(0, 1\); expected numbers or text"),
        ({"class_embeddings": {(0,): [1.0], (0, 2): [2.0]}}, r"labels of the classes are of several lengths"),
        ({"class_embeddings": {str(k): [1.0] for k in range(24)}}, r"label 0; .* There is '0', of another type"),
        ({"train": {"device": "meta"}}, "device 'meta' can't be used"),
        ({"classes": 5}, r"classes has shape \(\); expected \(24,\)"),
        ({"classes": np.zeros((24, 2))}, r"classes has shape \(24, 2\)"),
        ({"random_state": -1}, "random_state is -1; expected a whole number from 0 to"),
        ({"class_embeddings": {"a": [1.0, 2.0]}}, r"y holds the label 0"),
        (
            {"class_embeddings": {k: [1.0] * (1 + (k == 5)) for k in range(24)}},
            r"class_embeddings\[5\] has 2 numbers; expected 1",
        ),
        (
            {"class_embeddings": {k: ["tall"] for k in range(24)}},
            r"class_embeddings\[0\] holds the text 'tall'.*`fgen embed`",
        ),
        ({"class_embeddings": {"cat": "a small animal"}}, r"\['cat'\] holds the text 'a small.* fgen.encoders.text"),
        ({"class_embeddings": np.full((24, 4), "tall")}, r"class_embeddings holds the text 'tall'.*`fgen embed`"),
        ({"class_embeddings": [[1.0], [2.0, 3.0]]}, "class_embeddings is no array of numbers; .* as many for each"),
        ({"class_embeddings": dict.fromkeys(range(24), 1.0)}, r"class_embeddings\[0\] has shape \(\); expected \(A,\)"),
        (
            {"class_embeddings": {f"sort {k}": [1.0, np.nan][: 1 + (k == 12)] for k in range(24)}},
            r"\['sort 12'\] has 2",
        ),
        (
            {"class_embeddings": {k: [1.0, np.nan if k == 12 else 0] for k in range(24)}},
            r"\[12\] holds nan in column 1",
        ),
        ({"class_embeddings": {k: [1.0, 1e300] for k in range(24)}}, r"\[0\] holds inf in column 1; expected finite"),
        ({"class_embeddings": {}}, "class_embeddings is an empty dict; expected {label: embedding}"),
        ({"class_embeddings": []}, r"class_embeddings has shape \(0,\); expected \(C, A\)"),
        ({"class_embeddings": np.zeros(24)}, r"class_embeddings has shape \(24,\)"),
        ({"class_embeddings": np.full((24, 4), np.nan)}, "class_embeddings holds nan in row 0, column 0"),
        ({"classes": list(range(23))}, r"classes has shape \(23,\).*\(24,\), one for each embedding"),
        ({"classes": [0, *range(23)]}, "classes has '0' twice; expected distinct labels"),
        ({"classifier": "knn"}, r"classifier is 'knn'; expected a dict of settings"),
        ({"classifier": "sklearn.svm.SVC"}, r"classifier is 'sklearn.svm.SVC'; .*, or an object with fit\(X, y\)"),
        ({"classifier": torch.nn.Linear(2, 2)}, r"classifier is Linear\(.*, or an object with fit\(X, y\)"),
        ({"classifier": ZeroShotClassifier}, "the classifier is the class ZeroShotClassifier; expected an object"),
        ({"classifier": {"estimator": "sklearn.svm.SVC"}}, "estimator is the text 'sklearn.svm.SVC', as files keep"),
        ({"classifier": {"estimator": None, "C": 1}}, "unknown key classifier.C; expected one of scaling, estimator"),
        ({"model": {"name": "zsml"}}, r"model\['name'\] is 'zsml', and method 'clswgan'.* Pass method='zsml'\."),
        ({"model": {"name": "ridge"}}, r"model\['name'\] is 'ridge', and method 'clswgan'.* Pass method='ridge'\."),
        ({"model": {"name": "wgan"}}, r"model\['name'\] is 'wgan'; .* Did you mean method='clswgan'\?"),
        ({"model": "ridge"}, "model is 'ridge'; expected a dict of settings.* Pass method='ridge'"),
        ({"model": "clswgn"}, "model is 'clswgn'; expected a dict of settings.* Did you mean method='clswgan'?"),
        ({"model": "free"}, "model is 'free'; expected a dict of settings.* Pass method='free'"),
        ({"class_embeddings": {"a": [1.0]}, "classes": ["a"]}, "a dict, and classes is given"),
        ({"random_state": None}, "random_state is None; expected a whole number"),
        ({"random_state": np.random.RandomState(0)}, "random_state is RandomState.*; expected a whole number"),
        ({"random_state": 0.5}, "random_state is 0.5; expected a whole number"),
        ({"method": "ridge"}, "classifier is set; expected none with 'ridge', a baseline, which scores classes itself"),
        ({"method": "ridge", "classifier": None}, r"model.epochs is set, which ridge doesn't have"),
        ({"method": "ridg"}, r"method is 'ridg'; .*, of the baselines ridge, .* Did you mean method='ridge'\?"),
        ({"method": "tfvegan"}, r"method is 'tfvegan'; .* Did you mean method='tfvaegan'\?"),
        ({"method": ["free"]}, r"method is \['free'\]; expected one of the generators"),
        ({"method": "nope"}, r"method is 'nope'; expected one of the generators cadavae"),
        ({"model": {"epoch": 3}}, r"model.epoch; .* Did you mean epochs\?"),
        ({"classifier": {"solver": "sgd"}}, r"classifier.solver is 'sgd'"),
        ({"train": {"device": "abacus"}}, "abacus"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(data, parameters, message):
    X, y = data.split("trainval")
    model = ZeroShotClassifier(**({"class_embeddings": data.class_embeddings} | QUICK | parameters))
    with pytest.raises(InputError, match=message):
        model.fit(X, y)


def test_rows_that_do_not_fit_are_refused(data, fitted):
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, **QUICK)
    with pytest.raises(InputError, match=r"labels has shape"):
        model.fit(X, y[:-1])
    with pytest.raises(InputError, match=r"y has shape \(240, 1\); expected \(N,\)"):
        model.fit(X, y[:, None])
    with pytest.raises(InputError, match=r"sparse csr_matrix; expected a dense matrix. Call its toarray"):
        model.fit(scipy.sparse.csr_matrix(X), y)
    broken = X.copy()
    broken[2, 1] = np.nan
    with pytest.raises(InputError, match=r"hold nan in row 2, column 1"):
        model.fit(broken, y)
    model.set_params(calibrate=False)
    with pytest.raises(InputError, match="of at least 2 seen classes"):
        model.fit(X[y == 0], y[y == 0])
    with pytest.raises(InputError, match=r"X has shape \(2, 3\); expected \(N, 16\)"):
        fitted.predict(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"X has shape \(16,\); expected \(N, 16\)"):
        fitted.predict([0.0] * 16)
    with pytest.raises(InputError, match="rows of several lengths"):
        fitted.predict([[0.0] * 16, [0.0]])
    with pytest.raises(InputError, match=r"X has shape \(16,\)"):
        fitted.predict(X[0])


def test_masks_imaginary_parts_and_sparse_tensors_are_refused_and_nothing_is_dropped(data):
    X, y = data.split("trainval")
    mask = np.zeros(X.shape, bool)
    mask[3] = True
    for embeddings, rows, labels, words in (
        (data.class_embeddings, np.ma.array(X, mask=mask), y, "features is a masked array that hides 16"),
        (data.class_embeddings, X, np.ma.array(y, mask=mask[:, 0]), "y is a masked array that hides 1"),
        (data.class_embeddings, X + 1j, y, "type complex64; .* real part"),
        (data.class_embeddings, torch.tensor(X).to_sparse(), y, r"Call its to_dense\(\)"),
        (data.class_embeddings + 1j, X, y, "class_embeddings holds complex numbers"),
        (dict(enumerate(data.class_embeddings + 1j)), X, y, r"class_embeddings\[0\] holds complex numbers"),
        (np.ma.array(data.class_embeddings, mask=np.eye(24, 4)), X, y, "class_embeddings is a masked array"),
    ):
        with pytest.raises(InputError, match=words):
            ZeroShotClassifier(embeddings, calibrate=False, **QUICK).fit(rows, labels)


def test_objects_that_are_numbers_do_as_well_as_numbers(data):
    X, y = data.split("trainval")
    usual = ZeroShotClassifier(data.class_embeddings, calibrate=False, **QUICK).fit(X, y)
    objects = (array.astype(object) for array in (data.class_embeddings, X, y))
    embeddings, rows, labels = objects
    model = ZeroShotClassifier(embeddings, calibrate=False, **QUICK).fit(rows, labels)
    tensors = [torch.tensor(row, requires_grad=True) for row in X]
    for other in (rows, tensors):
        assert model.decision_function(other).tobytes() == usual.decision_function(X).tobytes()


def test_labels_that_are_bytes_name_their_classes_as_text(data):
    X, y = data.split("trainval")
    labels = np.array([f"sört {k}".encode() for k in range(24)])
    model = ZeroShotClassifier(data.class_embeddings, classes=labels, calibrate=False, **QUICK).fit(X, labels[y])
    assert model.generator_.class_names[:2] == ("sört 0", "sört 1")
    assert set(model.predict(X)) <= set(labels)
    words = re.escape("make text of them, by [label.decode() for label in y]")
    with pytest.raises(InputError, match=words):
        ZeroShotClassifier(data.class_embeddings, classes=[f"sört {k}" for k in range(24)], **QUICK).fit(X, labels[y])


def test_text_of_numpys_own_type_is_scored_as_any_text(data):
    X, y = data.split("trainval")
    names = np.array([f"sort {k}" for k in range(24)])
    model = ZeroShotClassifier(
        data.class_embeddings, classes=names.astype(np.dtypes.StringDType()), calibrate=False, **QUICK
    ).fit(X, names[y])
    assert model.score(X, names[y]) == np.mean(model.predict(X) == names[y])


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_class_without_a_label_is_refused(data, missing):
    X, y = data.split("trainval")
    labels = np.array([*range(23), missing], dtype=object)
    for model in (
        ZeroShotClassifier(data.class_embeddings, classes=labels, **QUICK),
        ZeroShotClassifier(dict(zip(labels.tolist(), data.class_embeddings, strict=True)), **QUICK),
    ):
        with pytest.raises(InputError, match=f"labels of the classes hold {missing}; expected a label for each"):
            model.fit(X, y)


def test_embeddings_that_are_zero_or_equal_are_told_of(data):
    X, y = data.split("trainval")
    odd = data.class_embeddings.copy()
    odd[22], odd[23] = odd[21], 0
    words = "1 class has nothing but zeros ('b23'); 1 class has the same one as another class ('b21', 'b22')"
    for model in (
        ZeroShotClassifier({f"b{k}": row for k, row in enumerate(odd)}, calibrate=False, **QUICK),
        ZeroShotClassifier(odd, classes=[f"b{k}" for k in range(24)], calibrate=False, **QUICK),
    ):
        with pytest.warns(UserWarning, match=re.escape(words)) as told:
            model.fit(X, np.array([f"b{k}" for k in range(24)])[y])
        assert told[0].filename == __file__


# The scikit-learn side.


def test_scikit_learn_can_clone_it_and_set_its_parameters(data):
    sklearn = pytest.importorskip("sklearn.base")
    model = ZeroShotClassifier(data.class_embeddings, **QUICK)
    parameters = model.get_params(deep=False)
    assert set(parameters) == set(ZeroShotClassifier.__init__.__code__.co_varnames) - {"self"}
    copy = sklearn.clone(model)
    assert copy is not model
    assert copy.get_params()["model"] == QUICK["model"]
    np.testing.assert_array_equal(copy.class_embeddings, data.class_embeddings)
    assert sklearn.is_classifier(model)
    assert model.set_params(n_per_class=7, random_state=3) is model
    assert (model.get_params()["n_per_class"], copy.get_params()["n_per_class"]) == (7, 10)
    with pytest.raises(ValueError, match="n_per_clas"):
        model.set_params(n_per_clas=3)


def test_a_clone_of_a_fitted_one_is_unfitted(data, fitted):
    sklearn = pytest.importorskip("sklearn.base")
    with pytest.raises(InputError, match="isn't fitted"):
        sklearn.clone(fitted).predict(data.rows(np.arange(2)))


def test_it_works_at_the_end_of_a_pipeline_and_in_cross_validation(data):
    pytest.importorskip("sklearn")
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = data.split("trainval")
    names = np.array([f"sort {k}" for k in range(24)])
    classifier = ZeroShotClassifier(data.class_embeddings, classes=names, calibrate=False, **QUICK)
    pipeline = make_pipeline(StandardScaler(), classifier)
    scores = cross_val_score(pipeline, X, names[y], cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert scores.mean() > 0.5, "20 seen classes that are easily told apart"
    pipeline.fit(X, names[y])
    assert set(pipeline.predict(data.split("test_unseen")[0])) <= set(names)


# Columns with names, as a table's.


class Named:
    """What of pandas' DataFrame fgen looks at, for features."""

    def __init__(self, rows, columns):
        self.rows, self.columns, self.shape = np.asarray(rows), columns, np.shape(rows)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


def framed(rows, columns):
    return pytest.importorskip("pandas").DataFrame(np.asarray(rows), columns=columns)


@pytest.mark.parametrize("table", [Named, framed])
def test_columns_in_another_order_or_of_other_names_are_refused_also_after_loading(data, tmp_path, table):
    X, y = data.split("trainval")
    names = [f"f{k}" for k in range(16)]
    model = ZeroShotClassifier(data.class_embeddings, calibrate=False, **QUICK).fit(table(X, names), y)
    model.save(tmp_path / "it")
    for fitted in (model, ZeroShotClassifier.load(tmp_path / "it")):
        assert fitted.feature_names_in_.tolist() == names
        assert fitted.feature_names_in_.dtype == object
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected = fitted.predict(table(X, names))
        swapped, short = [*names[::-1]], [*names[:-1]]
        for method in (fitted.predict, fitted.predict_proba, fitted.decision_function):
            for given, message in (
                (
                    table(X[:, ::-1], swapped),
                    r"column 0 is 'f15', and was 'f0'; .* Pass X\[classifier.feature_names_in_\]",
                ),
                (table(X[:, :-1], short), "'f15' seen at fit time, yet now missing; expected the same names"),
                (table(X, [*short, "g"]), "'g' unseen at fit time; 'f15' seen at fit time, yet now missing"),
            ):
                with pytest.raises(ValueError, match=r"^The feature names should match those that were passed") as told:
                    method(given)
                assert isinstance(told.value, InputError)
                assert re.search(message, str(told.value))
            with pytest.warns(
                UserWarning, match="X does not have valid feature names, but ZeroShotClassifier was fi"
            ) as w:
                method(X)
            assert [warning.filename for warning in w] == [__file__]
        with pytest.warns(UserWarning, match="valid feature names"):
            assert fitted.predict(X).tolist() == expected.tolist()
    model.fit(X, y)
    assert not hasattr(model, "feature_names_in_")
    with pytest.warns(
        UserWarning, match="X has feature names, but ZeroShotClassifier was fitted without feature names"
    ):
        model.predict(table(X, names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(table(X, range(16)))


def test_names_of_columns_that_no_fit_can_have_had_are_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "it")
    whole = json.loads((saved / "classifier.json").read_text())
    assert "feature_names" not in whole
    for names in ("f0", ["f0"], [0] * 16, 5):
        (tmp_path / "it" / "classifier.json").write_text(json.dumps(whole | {"feature_names": names}))
        with pytest.raises(InputError, match=r"it/classifier\.json.*feature_names is"):
            ZeroShotClassifier.load(tmp_path / "it")


def test_an_unfitted_one_raises_what_scikit_learn_expects(data):
    exceptions = pytest.importorskip("sklearn.exceptions")
    model = ZeroShotClassifier(data.class_embeddings)
    for method in (model.predict, model.predict_proba, model.decision_function, model.save):
        with pytest.raises(exceptions.NotFittedError, match=r"isn't fitted; expected fit\(\) before") as told:
            method(data.features[:2])
        assert isinstance(told.value, InputError)
        assert type(pickle.loads(pickle.dumps(told.value))) is type(told.value)


def test_numbers_in_arrays_of_objects_are_taken_and_anything_else_refused(data, fitted):
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, calibrate=False, **QUICK)
    by_number = model.fit(X, y).decision_function(X[:9]).tobytes()
    objects = X.astype(object)
    objects[0, 0] = np.float32(objects[0, 0])
    assert model.fit(objects, y.astype(object)).decision_function(objects[:9]).tobytes() == by_number
    for value in (None, "1.5", 1j):
        objects[1, 2] = value
        for call in (lambda: fitted.predict(objects), lambda: model.fit(objects, y)):
            with pytest.raises(InputError, match=r"expected .*numbers"):
                call()


def test_tables_of_nullable_numbers_are_taken(data):
    pandas = pytest.importorskip("pandas")
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, calibrate=False, **QUICK)
    by_number = model.fit(X, y).decision_function(X[:9]).tobytes()
    table = pandas.DataFrame(X).astype("Float32").astype({0: object})
    labels = pandas.Series(y).astype("Int64")
    assert model.fit(table, labels).decision_function(table[:9]).tobytes() == by_number
    table.iloc[3, 2] = pandas.NA
    with pytest.raises(InputError):
        model.fit(table, labels)


def test_the_decisions_of_two_classes_are_one_column_positive_for_the_second(data):
    X, y = data.split("trainval")
    rows = y < 2
    X, y = X[rows], np.array(["b", "a"])[y[rows]]
    model = ZeroShotClassifier(data.class_embeddings[:2], classes=["b", "a"], calibrate=False, **GOOD).fit(X, y)
    decisions, probabilities = model.decision_function(X), model.predict_proba(X)
    assert decisions.shape == (len(X),)
    np.testing.assert_allclose(decisions, np.log(probabilities[:, 1] / probabilities[:, 0]), rtol=1e-3, atol=1e-3)
    assert model.classes_[(decisions > 0).astype(int)].tolist() == model.predict(X).tolist()
    model.predictor_ = replace(model.predictor_, gamma=1.5, seen=np.array([0]))  # as where the second class is unseen
    np.testing.assert_allclose(model.decision_function(X), decisions + 1.5, rtol=1e-4)


@pytest.mark.parametrize("ensemble", ["VotingClassifier", "StackingClassifier", "BaggingClassifier"])
def test_scikit_learns_ensembles_are_named_where_they_number_labels_anew(data, ensemble):
    ensembles = pytest.importorskip("sklearn.ensemble")
    X, y = data.split("trainval")
    names = np.array([f"c{k}" for k in range(24)])
    member = ZeroShotClassifier(dict(zip(names, data.class_embeddings, strict=True)), calibrate=False, **QUICK)
    many = (
        ensembles.BaggingClassifier(member) if ensemble[0] == "B" else getattr(ensembles, ensemble)([("one", member)])
    )
    with pytest.raises(InputError, match=f"y holds the label .*{ensemble}.* average predict_proba. .* such as 'c0'"):
        many.fit(X, names[y])
    assert ensemble in ZeroShotClassifier.__doc__


def test_the_average_of_probabilities_that_a_message_advises_answers_unseen_classes(data):
    X, y = data.split("trainval")
    names = np.array([f"c{k}" for k in range(24)])
    described = dict(zip(names, data.class_embeddings, strict=True))
    members = [ZeroShotClassifier(described, calibrate=False, random_state=s, **GOOD).fit(X, names[y]) for s in (0, 1)]
    X, y = data.split("test_unseen")
    mean = np.mean([member.predict_proba(X) for member in members], axis=0)
    assert np.mean(members[0].classes_[mean.argmax(axis=1)] == names[y]) > 0.6


WITHOUT_SKLEARN = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
    del sys.modules[name]
sys.modules["sklearn"] = None
import numpy as np
import torch
torch.set_num_threads(1)
from fgen import FeatureSynthesizer, ZeroShotClassifier
from fgen.data.toy import make_toy
from fgen.errors import InputError
assert ZeroShotClassifier.__mro__[1].__module__ == "fgen.estimators.base"
data = make_toy(n_seen=6, n_unseen=2, rows_per_class=20)
X, y = data.split("trainval")
small = {"hidden_dim": 8, "cls_epochs": 1}
model = ZeroShotClassifier(data.class_embeddings, model=small, classifier={"epochs": 1}, n_per_class=10)
assert model.set_params(model=small | {"epochs": 2}) is model
assert model.get_params()["model"] == small | {"epochs": 2}
try:
    model.set_params(epochs=2)
except InputError as error:
    assert "parameter 'epochs' is unknown" in str(error)
else:
    raise AssertionError("an unknown parameter was taken")
assert repr(model).startswith("ZeroShotClassifier(class_embeddings=<ndarray (8, "), repr(model)
model.fit(X, y)
assert np.allclose(model.predict_proba(X).sum(axis=1), 1)
assert model.score(X, y) == np.mean(model.predict(X) == y)


class Table:
    def __init__(self, rows, columns):
        self.rows, self.columns, self.shape = rows, columns, rows.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


names = [f"f{k}" for k in range(X.shape[1])]
model.fit(Table(X, names), y)
try:
    model.predict(Table(X[:, ::-1], names[::-1]))
except InputError as error:
    assert "The feature names should match" in str(error)
else:
    raise AssertionError("columns in another order were taken")
try:
    ZeroShotClassifier(data.class_embeddings).predict(X)
except AttributeError as error:
    assert isinstance(error, InputError)
sampler = FeatureSynthesizer(data.class_embeddings, method="flow").set_params(model__steps=1, model__hidden_dim=4)
assert set(sampler.fit_resample(X, y)[1]) == set(range(8))
assert repr(sampler).startswith("FeatureSynthesizer(class_embeddings=<ndarray (8, "), repr(sampler)
print("done", len(model.classes_))
"""


def test_it_works_without_scikit_learn():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SKLEARN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", "8"]


@pytest.mark.numeric
@pytest.mark.parametrize("method", ["clswgan", "tfvaegan"])
def test_its_heads_are_trained_and_asked_on_the_threads_that_it_is_told(data, tmp_path, threads_of_heads, method):
    X, y = data.split("trainval")
    before, model = torch.get_num_threads(), {"steps": 1, "hidden_dim": 8}
    settings = QUICK | {"method": method, "model": model, "train": {"threads": 3}}
    fitted = ZeroShotClassifier(class_embeddings=data.class_embeddings, **settings).fit(X, y)
    fitted.save(tmp_path / "saved")
    for predictor in (fitted, ZeroShotClassifier.load(tmp_path / "saved")):
        predictor.predict(X)
        predictor.predict_proba(X[:3])
    assert {*threads_of_heads} == {3}
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match=r"train\.threads"):
        fitted.set_params(train={"threads": "many"}).predict(X)
