"""LisGAN: its second soul term has features of its own, of every seen class or of some."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fgen
from fgen.errors import InputError
from fgen.models.registry import make_model
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("lisgan", **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def slow_soul_mean(model, data, classes, draws):
    """Class after class, and row after row."""
    n_rows = model.config.mean_rows
    noise = draws.normal("soul mean noise", (n_rows, len(classes), model.noise_dim)).unbind(1)
    gaps = []
    for own, label in zip(noise, classes, strict=True):
        rows = [model.synthesise(z[None], data.embeddings[label][None])[0].detach() for z in own]
        mean = torch.stack(rows).mean(0)
        gaps.append(min((mean - soul).square().sum().item() for soul in model.matching.souls[label]))
    return float(np.mean(gaps))


@pytest.mark.parametrize("wanted", [None, 5])
def test_the_mean_term_agrees_with_its_slow_twin(world, wanted):
    model, data = started(world, mean_rows=7, mean_classes=wanted)
    model.networks.double()
    data.embeddings = data.embeddings.double()
    model.matching.souls = model.matching.souls.double()
    draws = _DoubleDraws(0, 3, torch.device("cpu"))
    classes = np.arange(data.n_classes)[model.classes_of_means(draws)].tolist()
    assert len(set(classes)) == len(classes) == (wanted or data.n_classes)
    expected = slow_soul_mean(model, data, classes, draws)
    assert model.soul_mean(model.matching.souls, draws).item() == pytest.approx(expected, rel=1e-12)


class _DoubleDraws(Draws):
    def normal(self, purpose, shape):
        return super().normal(purpose, shape).double()


def test_other_steps_draw_other_classes(world):
    model, data = started(world, mean_classes=3)
    drawn = {tuple(model.classes_of_means(Draws(0, step, data.device)).tolist()) for step in range(20)}
    assert len(drawn) > 10
    assert {label for classes in drawn for label in classes} == set(range(data.n_classes))


def test_the_term_of_own_features_takes_the_place_of_the_batchs(world):
    model, data = started(world, soul_mean_weight=2.0, cls_epochs=1)
    batch, draws = data.batch(np.arange(16)), Draws(0, 0, data.device)
    model.pretrain(data, 0)
    own = 2 * model.soul_mean(model.matching.souls, draws)
    assert torch.equal(model.generator_terms(batch, draws)["soul_mean"], own)


def test_without_the_soul_terms_it_is_f_clswgan(world):
    model, _ = started(world, soul_weight=0.0, soul_mean_weight=0.0, cls_epochs=2)
    other = make_model("clswgan", **(TINY | {"cls_epochs": 2}))
    features, labels = world.dataset.split("trainval")
    model.fit(features, labels, world.dataset.class_embeddings, seed=0)
    other.fit(features, labels, world.dataset.class_embeddings, seed=0)
    for key, value in model.networks.state_dict().items():
        assert torch.equal(value, other.networks.state_dict()[key]), key


def test_the_share_of_pseudo_labels_is_the_configs_in_the_transductive_setting_alone():
    for transductive, expected in ((False, 0.0), (True, 0.25)):
        config = make_model("lisgan", transductive=transductive, pseudo_share=0.25).config
        assert (config.pseudo_labelled_share, config.sees_test_rows) == (expected, transductive)


@pytest.mark.parametrize("wrong", [{"mean_rows": 0}, {"mean_classes": 0}])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_model("lisgan", **wrong)


def test_the_transductive_stage_changes_heads_alone_and_is_told(tmp_path):
    toy = Path(__file__).parents[2] / "experiments" / "fgen2026_clswgan_toy.toml"
    results = {}
    for transductive in ("false", "true"):
        model = f'model={{name="lisgan",epochs=2,hidden_dim=16,cls_epochs=2,transductive={transductive}}}'
        short = ["protocol.seeds=[0]", "protocol.evaluations=1", "bank.n_per_class=20"]
        config = fgen.ExperimentConfig.from_file(toy, [model, *short])
        results[transductive] = fgen.run(config, out=tmp_path / transductive)
    plain, told = results["false"], results["true"]
    assert (plain.description["transductive"], told.description["transductive"]) == (False, True)
    assert "TRANSDUCTIVE" in told.table()
    assert "TRANSDUCTIVE" not in plain.table()
    assert not told.description["unseen_embeddings_in_training"]
    weights = [next((tmp_path / kind).rglob("model/*.safetensors")).read_bytes() for kind in results]
    banks = [fgen.FeatureBank.open(next((tmp_path / kind).rglob("bank.h5"))).to_numpy()[0] for kind in results]
    assert weights[0] == weights[1]
    assert np.array_equal(*banks)
    assert plain.outcomes[0].scores.H != told.outcomes[0].scores.H
    again = fgen.run(config, out=tmp_path / "true", resume=True)
    assert again.outcomes[0].scores.H == told.outcomes[0].scores.H


def test_the_estimator_refuses_a_stage_that_it_has_no_rows_for(world):
    data = world.dataset
    classifier = fgen.ZeroShotClassifier(
        class_embeddings=data.class_embeddings, method="lisgan", model={"transductive": True}
    )
    with pytest.raises(InputError, match="transductive"):
        classifier.fit(*data.split("trainval"))
