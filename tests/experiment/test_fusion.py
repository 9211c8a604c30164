"""Several kinds of class embedding in an experiment: weights that are given or chosen on held-out classes."""

import json

import numpy as np
import pytest

import fgen
from fgen.cli import main
from fgen.data.files import save_dataset
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.experiment import selection
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.fused_runs import fuse_runs
from fgen.experiment.generation import generate_from_run
from fgen.experiment.records import read_predictions
from fgen.experiment.runner import train_only
from fgen.experiment.weights import candidate_weights
from fgen.inference.from_run import predictor_of_run
from fgen.metrics.decision_fusion import RULES
from fgen.reports.run_report import write_report

SECTIONS = {
    "model": {"name": "flow", "epochs": 1, "hidden_dim": 16},
    "bank": {"n_per_class": 20},
    "classifier": {"solver": "lbfgs"},
    "protocol": {"calibrate": True, "evaluations": 1},
}


def save_kinds(file, labels=None):
    """The toy world, described by its own embeddings and by noise, perhaps with other labels of the test rows."""
    toy = make_toy(seed=0)
    noise = np.random.default_rng(0).normal(size=toy.class_embeddings.shape).astype(np.float32)
    kinds = {"own": toy.class_embeddings, "noise": noise}
    data = fgen.ZSLDataset(toy.features, toy.labels if labels is None else labels, kinds, splits=toy.splits)
    save_dataset(data, file)
    return file


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_kinds(tmp_path_factory.mktemp("kinds") / "kinds.h5")


@pytest.fixture(scope="module")
def shuffled_path(tmp_path_factory):
    """The same data with the labels of its test rows shuffled, within seen and within unseen classes."""
    toy = make_toy(seed=0)
    labels, draw = toy.labels.copy(), np.random.default_rng(0)
    for name in ("test_seen", "test_unseen"):
        labels[toy.splits[name]] = draw.permutation(labels[toy.splits[name]])
    return save_kinds(tmp_path_factory.mktemp("shuffled") / "kinds.h5", labels)


def config(path, model=None, **dataset):
    section = {"path": str(path), "embedding": ["own", "noise"], "embedding_norm": "l2"} | dataset
    return ExperimentConfig.from_mapping(SECTIONS | {"dataset": section} | ({"model": model} if model else {}))


def choice_of(folder):
    return json.loads((folder / "seeds/0/choice.json").read_text())


def test_a_table_of_weights_names_the_kinds_sorted_and_a_list_keeps_its_order(path):
    of_table, of_list = config(path, embedding={"own": 0.7, "noise": 0.3}), config(path)
    assert of_table.dataset.load().embedding == ("noise", "own")
    assert of_list.dataset.load().embedding == ("own", "noise")
    assert of_table.embedding.weights == {"own": 0.7, "noise": 0.3}
    assert ExperimentConfig.from_mapping(of_table.to_mapping()) == of_table


def test_settings_without_weights_are_written_as_before(path):
    assert {"embedding_weights", "fusion"}.isdisjoint(config(path).to_mapping()["dataset"])


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"embedding": "own", "fusion": "average"}, "several kinds"),
        ({"embedding": {"own": 1.0, "noise": -1.0}}, "at least 0"),
        ({"embedding": {"own": 1.0, "noise": 1.0}, "embedding_weights": "auto"}, "one of them"),
        ({"embedding_weights": "automatic"}, "embedding_weights"),
    ],
)
def test_settings_of_kinds_that_do_not_fit_are_refused(path, dataset, told):
    with pytest.raises(InputError, match=told):
        config(path, **dataset)


@pytest.mark.parametrize("model", [{"name": "ridge"}, {"name": "gaussian"}, SECTIONS["model"]], ids=lambda m: m["name"])
def test_chosen_weights_favour_the_kind_that_tells_and_do_not_depend_on_test_labels(
    path, shuffled_path, tmp_path, model
):
    choices = []
    for k, file in enumerate((path, shuffled_path)):
        result = fgen.run(config(file, model, embedding_weights="auto"), out=tmp_path / str(k))
        choices.append(choice_of(tmp_path / str(k)))
    assert choices[0] == choices[1]
    weights, tried = choices[0]["embedding_weights"], choices[0]["weights_tried"]
    assert [one["weights"] for one in tried] == candidate_weights(("own", "noise"))
    assert max(tried, key=lambda one: one["val_H"])["weights"] == weights
    assert weights["own"] > weights["noise"]
    assert result.description["choice"][0]["embedding_weights"] == weights
    if model["name"] == "flow":
        assert "and weights noise 0.333, own 1" in result.table()
        with fgen.FeatureBank.open(tmp_path / "0/seeds/0/bank.h5") as bank:
            assert bank.config["dataset"]["embedding_weights"] == weights
            assert bank.config["dataset"]["embedding"] == ["own", "noise"]
        model_file = json.loads((tmp_path / "0/seeds/0/model/model.json").read_text())
        assert model_file["embedding"]["kinds"] == ["own", "noise"]
        assert model_file["embedding"]["weights"] == weights


def test_a_stopped_choice_of_weights_goes_on_to_the_same(path, tmp_path, monkeypatch):
    whole, fit, calls = config(path, embedding_weights="auto"), selection.fit, []
    train_only(whole, out=tmp_path / "whole")

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(selection, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_only(whole, out=tmp_path / "stopped")
    train_only(whole, out=tmp_path / "stopped", resume=True)
    assert len(calls) == 4, "what was chosen before is kept"
    assert choice_of(tmp_path / "stopped") == choice_of(tmp_path / "whole")


def test_weights_that_are_to_be_chosen_without_a_selection_are_refused(path, tmp_path):
    settings = config(path, embedding_weights="auto").to_mapping()
    settings["protocol"]["calibrate"] = False
    with pytest.raises(InputError, match="'auto', and nothing chose them"):
        train_only(ExperimentConfig.from_mapping(settings), out=tmp_path / "run")


def decided(path, rule=None, model=None, **dataset):
    return config(path, model, fusion="decision", **({"fusion_rule": rule} if rule else {}), **dataset)


@pytest.mark.parametrize("rule", RULES)
def test_a_decision_level_fusion_does_not_depend_on_test_labels(path, shuffled_path, tmp_path, rule):
    choices = []
    for k, file in enumerate((path, shuffled_path)):
        result = fgen.run(decided(file, rule, {"name": "ridge"}), out=tmp_path / str(k))
        choices.append(choice_of(tmp_path / str(k)))
    assert choices[0] == choices[1]
    assert choices[0]["fusion"]["members"] == ["own", "noise"]
    assert choices[0]["fusion"]["rule"] == rule
    assert f"fused by {rule}" in result.table()


@pytest.fixture(scope="module")
def fused_run(path, tmp_path_factory):
    out = tmp_path_factory.mktemp("fused") / "run"
    fgen.run(decided(path, "stacked"), out=out)
    return out


def test_a_fused_run_keeps_a_member_for_each_kind_and_goes_on_where_it_stopped(path, fused_run, tmp_path, monkeypatch):
    members = fused_run / "seeds/0/members"
    for number, kind in enumerate(("own", "noise")):
        with fgen.FeatureBank.open(members / str(number) / "bank.h5") as bank:
            assert bank.config["dataset"]["embedding"] == kind
    fit, calls = selection.fit, []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    settings = decided(path, "stacked")
    monkeypatch.setattr(selection, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        fgen.run(settings, out=tmp_path / "stopped")
    resumed = fgen.run(settings, out=tmp_path / "stopped", resume=True)
    assert len(calls) == 5, "a choice and scores that are there are kept"
    assert resumed.scores == fgen.RunResult.load(fused_run).scores
    assert choice_of(tmp_path / "stopped") == choice_of(fused_run)


def test_weights_of_a_table_weigh_probabilities(path, tmp_path):
    settings = decided(path, None, {"name": "ridge"}, embedding={"own": 3.0, "noise": 1.0})
    fgen.run(settings, out=tmp_path / "run")
    assert (
        choice_of(tmp_path / "run")["fusion"] | {"rule": "weighted", "weights": [0.25, 0.75]}
        == choice_of(tmp_path / "run")["fusion"]
    )


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"fusion_rule": "mean"}, "fusion = 'decision'"),
        ({"fusion": "decision", "fusion_rule": "stacked", "embedding": {"own": 1.0, "noise": 2.0}}, "'weighted'"),
        ({"fusion": "decision", "fusion_rule": "vote"}, "'product'"),
    ],
)
def test_settings_of_a_decision_that_do_not_fit_are_refused(path, dataset, told):
    with pytest.raises(InputError, match=told):
        config(path, **dataset)


def test_a_fused_run_predicts_what_it_was_tested_with(path, fused_run):
    data, predictor = fgen.load_dataset(path), predictor_of_run(fused_run)
    predictions, _ = read_predictions(fused_run / "seeds/0/predictions.npz")
    ids, _ = predictor.predict(data.rows(predictions.rows))
    assert np.array_equal(ids, predictions.gzsl)
    with pytest.raises(InputError, match="fusion of several models"):
        predictor.to_numpy()
    with pytest.raises(InputError, match="fuses the decisions of several models"):
        generate_from_run(fused_run, out=fused_run.parent / "bank.h5")


@pytest.fixture(scope="module")
def two_networks(tmp_path_factory):
    """Runs of ridge over the columns of two networks, on the same rows, and one over other splits."""
    folder, toy = tmp_path_factory.mktemp("networks"), make_toy(seed=0)
    for name, columns in {"a": slice(0, 8), "b": slice(8, 16)}.items():
        data = fgen.ZSLDataset(toy.features[:, columns], toy.labels, toy.class_embeddings, splits=toy.splits)
        save_dataset(data, folder / f"{name}.h5")
        dataset = {"path": str(folder / f"{name}.h5")}
        fgen.run(SECTIONS | {"dataset": dataset, "model": {"name": "ridge"}}, out=folder / name)
    protocol = SECTIONS["protocol"] | {"seeds": [1]}
    settings = {"dataset": {"path": str(folder / "a.h5")}, "model": {"name": "ridge"}, "protocol": protocol}
    fgen.run(SECTIONS | settings, out=folder / "other")
    return folder


@pytest.mark.parametrize("rule", RULES)
def test_runs_over_two_networks_together_are_better_than_each_alone(two_networks, rule):
    runs = [two_networks / name for name in ("a", "b")]
    fused = fuse_runs(runs, rule=rule)
    alone = [fgen.RunResult.load(run).scores["H"]["mean"] for run in runs]
    assert fused.scores["H"]["mean"] > max(alone) + 0.03
    assert fused.description["choice"][0]["fusion"]["members"] == ["a", "b"]


def test_the_shell_fuses_runs_and_refuses_what_does_not_fit(two_networks, capsys):
    a, b, other = (str(two_networks / name) for name in ("a", "b", "other"))
    assert main(["fuse", a, b, "--rule", "weighted", "--weights", "1", "3"]) == 0
    assert "fused by weighted (a 0.25, b 0.75)" in capsys.readouterr().out
    for arguments, told in {
        (a, other): "protocol.seeds",
        (a, a): "different ones",
        (a, b, "--rule", "vote"): "one of mean",
        (a, b, "--weights", "1", "2"): "'weighted'",
    }.items():
        assert main(["fuse", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_the_report_tells_how_decisions_were_fused(fused_run, tmp_path):
    pytest.importorskip("matplotlib")
    write_report([fused_run], tmp_path / "report.html")
    assert "fused by stacked (noise" in (tmp_path / "report.html").read_text()
