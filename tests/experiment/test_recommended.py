"""A recipe that is chosen on held-out classes: what decides, what is kept of it, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import fgen
from fgen.classifiers.cosine import CosineConfig
from fgen.cli import main
from fgen.data.files import load_dataset
from fgen.data.folds import validation_folds
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.experiment import recommended
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.prior_search import PriorSetting, scored_priors
from fgen.experiment.recipe_search import score_trial
from fgen.experiment.recommended import recommend, trials
from fgen.experiment.steps import Task
from fgen.metrics.gamma import calibrated_scores, choose
from fgen.nn.kernel_ridge import SemanticPrior

SETTING = PriorSetting("standard", "l2", 1.0, 0.3)


@pytest.fixture(autouse=True)
def short_list(monkeypatch):
    """Few settings, and a few steps for each generator."""
    monkeypatch.setattr(recommended, "WIDTHS", (0.3, 100.0))
    monkeypatch.setattr(recommended, "ALPHAS", (0.3,))
    monkeypatch.setattr(recommended, "PENALTIES", (1e-2,))
    monkeypatch.setattr(recommended, "PRIORGAN_STEPS", 4)
    monkeypatch.setattr(recommended, "CLSWGAN_STEPS", 4)


@pytest.fixture
def data():
    return make_toy(n_seen=8, n_unseen=3, rows_per_class=12)


def test_the_same_seed_makes_the_same_choice(data):
    assert recommend(data, seed=3, budget=2).as_dict() == recommend(data, seed=3, budget=2).as_dict()


def test_no_test_row_has_a_part_in_the_choice(data):
    features = np.array(data.features)
    tested = np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])
    features[tested] = np.random.default_rng(0).normal(size=(len(tested), features.shape[1]))
    other = fgen.ZSLDataset(features, data.labels, data.embeddings, class_names=data.class_names, splits=data.splits)
    assert recommend(other, budget=0).tried == recommend(data, budget=0).tried


def test_settings_read_back_and_load_the_same_data(data, tmp_path):
    fgen.save_dataset(data, tmp_path / "own.h5")
    dataset = fgen.load_dataset(tmp_path / "own.h5")
    config = fgen.recommended(dataset, seed=5, budget=0)
    assert fgen.ExperimentConfig.from_mapping(config.to_mapping()) == config
    assert config.dataset.load().fingerprint == dataset.fingerprint
    assert config.dataset.load().embedding == dataset.embedding
    assert config.protocol.seeds == (5,)
    assert config.protocol.calibrate
    assert {"candidate", "head", "T1", "H"} <= set(config.ours["tried"][0])
    assert any("prior" in one for one in config.ours["tried"])


def test_a_split_seed_is_among_the_settings(tmp_path):
    config = fgen.recommended(fgen.load_dataset("toy", seed=2), budget=0)
    assert (config.dataset.name, config.dataset.split_seed) == ("toy", 2)


def test_data_in_memory_are_refused_with_what_to_do_and_have_a_recipe_all_the_same(data):
    with pytest.raises(fgen.InputError, match=r"built in memory.*save_dataset"):
        fgen.recommended(data)
    assert recommend(data, budget=0).recipe.model.name == "priorgan"


def test_a_view_of_loaded_data_has_no_source():
    dataset = fgen.load_dataset("toy", seed=1)
    assert dataset.source == ("toy", 1)
    assert dataset.with_split_seed(4).source == ("toy", 4)
    views = [dataset.validation(), dataset.with_shots(1), dataset.with_classes(["new"], np.ones((1, 8)))]
    assert [view.source for view in views] == [None] * 3


def test_too_few_classes_are_refused():
    with pytest.raises(fgen.InputError, match="3 seen classes"):
        recommend(make_toy(n_seen=3, n_unseen=1))


@pytest.mark.parametrize("budget", [-1, float("nan")])
def test_a_budget_below_0_is_refused(data, budget):
    with pytest.raises(fgen.InputError, match="budget"):
        recommend(data, budget=budget)


def test_a_budget_decides_on_how_many_folds_generators_are_trained(data):
    def folds(budget):
        tried = recommend(data, budget=budget).tried
        return {(one["candidate"], one["head"]): one["folds"] for one in tried if "candidate" in one}

    closed = {("prior", "cosine"): 3}
    assert folds(0) == closed
    assert folds(2) == closed | {("prior", "softmax"): 1, ("priorgan", "cosine"): 1}
    assert folds(100) == closed | {("prior", "softmax"): 3, ("priorgan", "cosine"): 3}


def test_f_clswgan_is_tried_where_classes_have_many_rows(data):
    assert [trial.name for trial in trials(data, SETTING, 0)] == ["prior", "prior", "priorgan"]
    many = make_toy(n_seen=4, n_unseen=2, rows_per_class=40)
    found = recommend(many, budget=9).tried
    assert "clswgan + matching" in {one.get("candidate") for one in found}


@pytest.mark.numeric
def test_the_closed_form_scores_are_those_of_a_trained_run(data):
    fold = validation_folds(data, 2)[0]
    head = CosineConfig(scaling="standard", whitening=1.0)
    ((_, scored),) = scored_priors(fold, [SETTING], head)
    closed = scored.held_out()
    first = trials(data, SETTING, 0)[0]
    recipe = replace(first.recipe, model=replace(first.recipe.model, truncation=0.0))
    (trained,) = score_trial(Task(recipe, fold, 0), replace(first, heads=(head,))).values()
    np.testing.assert_allclose(closed.margin, trained.margin, atol=2e-3)
    assert (closed.right == trained.right).mean() > 0.99


def test_the_widest_kernel_is_the_linear_one(data):
    embeddings = torch.nn.functional.normalize(torch.tensor(data.class_embeddings).double(), dim=1)
    means = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 5)))
    prior = SemanticPrior(8, 8, 5, (8,), alpha=0.3, width=100.0)
    prior.fit(embeddings[:8], means)
    centred = embeddings[:8] - embeddings[:8].mean(dim=0)
    gram = centred @ centred.T
    dual = torch.linalg.solve(gram + 0.3 * gram.diagonal().mean() * torch.eye(8), means - means.mean(dim=0))
    linear = (embeddings[8:] - embeddings[:8].mean(dim=0)) @ centred.T @ dual + means.mean(dim=0)
    torch.testing.assert_close(prior(embeddings[8:].float()), linear.float(), atol=0.02, rtol=0.02)


def test_the_prior_alone_stays_unless_another_is_clearly_better(data, monkeypatch):
    tried = recommend(data, budget=100).tried
    monkeypatch.setattr(recommended, "LEAST_GAIN", -1.0)
    best = recommend(data, budget=100).tried[0]
    monkeypatch.setattr(recommended, "LEAST_GAIN", 1.0)
    assert recommend(data, budget=100).tried[0]["head"] == "cosine"
    others = [one for one in tried if one.get("candidate", "prior") != "prior" or one.get("head") == "softmax"]
    assert best["T1"] + best["H"] == pytest.approx(max(one["T1"] + one["H"] for one in others), abs=2e-4)


def test_calibrated_scores_are_those_that_choose_compares(data):
    fold = validation_folds(data, 2)[0]
    ((_, scored),) = scored_priors(fold, [SETTING], CosineConfig(whitening=1.0))
    held = scored.held_out()
    whole = choose([held])
    assert calibrated_scores([held]) == (pytest.approx(whole.expected["T1"].mean), whole.H)


def test_data_in_place_of_a_config_are_trained_by_a_choice_and_a_resumed_run_keeps_it(tmp_path, monkeypatch, capsys):
    choose = recommended.recommended
    monkeypatch.setattr(recommended, "recommended", lambda dataset, **options: choose(dataset, budget=0))
    words = ["toy", "--set", "bank.n_per_class=12", "--set", "dataset.split_seed=1", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    assert "expected" in capsys.readouterr().out
    config = ExperimentConfig.from_file(tmp_path / "run" / "config.toml")
    assert (config.dataset.name, config.dataset.split_seed, config.bank.n_per_class) == ("toy", 1, 12)
    assert config.ours["tried"]
    monkeypatch.setattr(recommended, "recommended", None)
    assert main(["train", *words, "--resume"]) == 0


def test_the_estimator_chooses_for_itself(tmp_path):
    data = load_dataset("toy")
    X, y = data.split("trainval")
    few = X[::3], y[::3]
    classifier = fgen.ZeroShotClassifier(data.class_embeddings, method="recommended").fit(*few)
    rows, labels = data.split("test_unseen")
    assert np.mean(classifier.predict(rows) == labels) > 0.4
    assert "held-out classes" in classifier.calibration_["sentence"]
    classifier.save(tmp_path / "kept")
    loaded = fgen.ZeroShotClassifier.load(tmp_path / "kept")
    assert loaded.method == "recommended"
    assert loaded.predict(rows).tolist() == classifier.predict(rows).tolist()
    with pytest.raises(InputError, match="method is 'recommended', and model is set"):
        fgen.ZeroShotClassifier(data.class_embeddings, method="recommended", model={"epochs": 3}).fit(*few)
