"""The table of `experiments/plug_in`: it runs on small data, goes on where it stopped, and keeps test rows for last."""

import json
from dataclasses import replace

import numpy as np
import pytest

import fgen
from experiments.plug_in import cells, protocol, report
from experiments.plug_in.classifiers import CLASSIFIERS, Rows
from experiments.plug_in.protocol import Fit

NAMES = ("nearest neighbours", "fgen's softmax, L-BFGS")


@pytest.fixture
def few(monkeypatch):
    """Two of the eight classifiers."""
    chosen = {name: CLASSIFIERS[name] for name in NAMES}
    for module in (cells, protocol, report):
        monkeypatch.setattr(module, "CLASSIFIERS", chosen)


@pytest.fixture
def fresh():
    """No bank of an earlier test."""
    cells._parts.cache_clear()
    yield
    cells._parts.cache_clear()


def toy(garbage=None):
    """The toy data; with all test rows replaced by ``garbage``."""
    data = fgen.load_dataset("toy")
    features = np.array(data.features)
    if garbage is not None:
        features[np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])] = garbage
    return fgen.ZSLDataset(
        features, data.labels, data.class_embeddings, class_names=data.class_names, splits=data.splits
    )


def table_cells(out):
    return cells.compute({"f-CLSWGAN": ("fgen2026_clswgan_toy", ["model.epochs=1"])}, [0], out, 1)


@pytest.mark.usefixtures("few", "fresh")
def test_the_table_is_made_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    found = table_cells(tmp_path)
    monkeypatch.setattr(cells, "choose_fits", None)
    monkeypatch.setitem(report.RECIPE_H, "toy", 0.5)
    next(tmp_path.rglob("nearest-neighbours.json")).unlink()
    assert table_cells(tmp_path) == found
    text = report.report("toy", found, [0])
    assert all(f"| {name} |" in text for name in NAMES)
    assert "Of 2 classifiers" in text


@pytest.mark.usefixtures("few", "fresh")
def test_no_choice_depends_on_a_test_row(tmp_path, monkeypatch):
    sets = {"as it is": toy(), "garbage": toy(garbage=7.0)}
    found = {}
    for name, data in sets.items():
        cells._parts.cache_clear()
        monkeypatch.setattr("fgen.experiment.config.load_dataset", lambda *_, data=data, **__: data)
        found[name] = table_cells(tmp_path / name)
    choices = [[[seed["choice"] for seed in cell] for cell in one.values()] for one in found.values()]
    assert choices[0] == choices[1]
    assert found["as it is"] != found["garbage"]


@pytest.mark.usefixtures("few", "fresh")
def test_everything_is_chosen_before_a_test_row_is_scored(tmp_path, monkeypatch):
    n_choices = []

    def scored(whole, name, choice):
        n_choices.append(len(list(tmp_path.rglob("*.choice.json"))))
        return protocol.test_scores(whole, name, choice)

    monkeypatch.setattr(cells, "test_scores", scored)
    table_cells(tmp_path)
    assert n_choices == [len(NAMES)] * len(NAMES)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_learns_and_weights_move_rows_to_generated_classes(name):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 12)
    features = (random.standard_normal((72, 8)) + 2 * np.eye(6, 8)[labels]).astype(np.float32)
    classifier = CLASSIFIERS[name]

    def predicted(weight):
        rows = Rows(features, labels, np.arange(4), weight)
        return classifier.fit(rows, classifier.settings[0])(features).argmax(axis=1)

    assert np.mean(predicted(1.0) == labels) > 0.5
    if classifier.step:
        assert np.mean(predicted(classifier.step**2) >= 4) > np.mean(predicted(1.0) >= 4)


def test_weights_rise_until_they_do_harm(monkeypatch):
    best_weight = 4.0

    def scores(part, classifier, fit):
        labels = np.repeat(np.arange(8), 10)
        scores = np.eye(8)[labels] + np.where(np.arange(8) < 4, 2.0, 0) * abs(np.log(fit.weight / best_weight))
        return labels, scores

    class Validation:
        dataset = type("Task", (), {"seen": np.arange(4), "unseen": np.arange(4, 8), "n_classes": 8})

    monkeypatch.setattr(protocol, "scores_of", scores)
    choice = protocol.choose_fits(Validation, "logistic regression")
    assert Fit(**choice["weighted"]).weight == best_weight
    assert json.loads(json.dumps(choice)) == choice


def test_calibrated_and_plain_choose_each_their_own_penalty(monkeypatch):
    """With the penalty 1 the classifier is fair; with 2 it is better and prefers the seen classes."""

    def scores(part, classifier, fit):
        labels = np.repeat(np.arange(8), 10)
        answers = np.where(
            np.arange(80) % 10 < (6 if fit.setting == 1 else 9), labels, (labels + 1) % 4 + labels // 4 * 4
        )
        return labels, np.eye(8)[answers] + np.where(np.arange(8) < 4, 2.0 * (fit.setting == 2), 0)

    class Validation:
        dataset = type("Task", (), {"seen": np.arange(4), "unseen": np.arange(4, 8), "n_classes": 8})

    monkeypatch.setattr(protocol, "scores_of", scores)
    two = replace(CLASSIFIERS["nearest neighbours"], of_few=(1.0, 2.0))
    monkeypatch.setattr(protocol, "CLASSIFIERS", {"two": two})
    choice = protocol.choose_fits(Validation, "two")
    assert (choice["plain"]["setting"], choice["calibrated"]["setting"]) == (1, 2)
    assert choice["gamma"] > 0
