"""Work that a run does once: scalings that are fitted, centred copies of rows that are made, models that are begun."""

import pytest

import fgen
from fgen.classifiers import base
from fgen.features.scaled_rows import CentredRows
from fgen.features.scaling import FeatureScaler
from fgen.models.base.generator import FeatureGenerator

pytestmark = pytest.mark.numeric


@pytest.fixture
def counts(monkeypatch):
    """How often each is called."""
    found = dict.fromkeys(("scalings", "centred copies", "models"), 0)

    def counting(name, function):
        def counted(*given, **options):
            found[name] += 1
            return function(*given, **options)

        return counted

    monkeypatch.setattr(FeatureScaler, "fit", staticmethod(counting("scalings", FeatureScaler.fit)))
    monkeypatch.setattr(base, "CentredRows", counting("centred copies", CentredRows))
    monkeypatch.setattr(FeatureGenerator, "begin", counting("models", FeatureGenerator.begin))
    return found


def toy_run(out, **model):
    """A run of toy with five evaluations of three penalties."""
    return fgen.run(
        {
            "dataset": {"name": "toy"},
            "model": {"name": "clswgan", "hidden_dim": 8, "noise_dim": 4, "epochs": 5, "cls_epochs": 1, **model},
            "train": {"threads": 1, "device": "cpu"},
            "bank": {"n_per_class": 5},
            "classifier": {"solver": "lbfgs", "l2": [1e-2, 1e-3, 1e-4]},
            "protocol": {"evaluations": 5},
        },
        out=out,
    )


def test_a_run_fits_a_scaling_once_for_each_set_of_rows_and_centres_rows_once_for_all_penalties(tmp_path, counts):
    run = toy_run(tmp_path / "run")
    assert len([row for row in run.outcomes[0].choice["history"] if "val_H" in row]) == 5
    assert counts["scalings"] <= 4
    assert counts["centred copies"] <= 7, "one for each evaluation, two for the heads of the run"


def test_heads_of_another_scaling_than_the_models_fit_theirs_once_for_all_penalties(tmp_path, counts):
    toy_run(tmp_path / "run", feature_scaling="standard")
    assert counts["scalings"] <= 2 + 5 + 1, "two models', one for each evaluation, one for the heads of the run"
    assert counts["centred copies"] <= 7


def test_a_run_begins_no_model_but_those_that_it_trains(tmp_path, counts):
    toy_run(tmp_path / "run")
    assert counts["models"] == 2
