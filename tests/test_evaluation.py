"""A bank put to use: with the rows and the precision of the run that it comes from."""

from types import SimpleNamespace

import numpy as np
import pytest

import fgen
from fgen import evaluation
from fgen.classifiers import CLASSIFIERS
from fgen.data.bank import FeatureBank
from fgen.errors import InputError
from fgen.run_directory import RunDirectory


@pytest.mark.parametrize("classes", [None, ["class 20", "class 23"]])
def test_the_shots_are_the_runs_own(classes):
    toy = fgen.load_dataset("toy")
    settings = {"shots": 4, "split_seed": 7} | ({} if classes is None else {"shot_classes": classes})
    for config in ({"dataset": settings}, {"run": {"dataset": settings}}):
        found = evaluation.with_shots_of(SimpleNamespace(config=config), toy)
        expected = toy.with_shots(4, classes, seed=7)
        assert np.array_equal(found.splits["trainval"], expected.splits["trainval"])


def bank_of_seen_classes(path, toy, seen, config):
    """A bank of three real rows of each unseen class, whose generator had seen the given classes."""
    with FeatureBank.create(
        path,
        class_names=toy.class_names,
        class_embeddings=toy.class_embeddings,
        counts=np.where(np.isin(np.arange(toy.n_classes), toy.unseen), 3, 0),
        feature_dim=toy.feature_dim,
        seen=np.isin(np.arange(toy.n_classes), seen),
        seed=0,
        config=config,
    ) as writer:
        for k in toy.unseen:
            writer.write(k, toy.features[toy.labels == k][:3])


def test_a_bank_whose_generator_saw_an_unseen_class_is_told_of(tmp_path, caplog):
    toy = fgen.load_dataset("toy")
    for name, seen, told in (("own", toy.seen, False), ("leaky", [*toy.seen[1:], toy.unseen[0]], True)):
        bank_of_seen_classes(tmp_path / name, toy, seen, {})
        caplog.clear()
        evaluation.evaluate_bank(tmp_path / name, toy, CLASSIFIERS["cosine"]())
        assert ("1 of its 5 unseen classes were seen by the bank's generator" in caplog.text) == told


def test_a_head_that_has_not_learned_its_own_rows_is_told_of(tmp_path, caplog):
    toy = fgen.load_dataset("toy")
    bank_of_seen_classes(tmp_path / "bank", toy, toy.seen, {})
    for settings, told in (({"solver": "lbfgs"}, False), ({"epochs": 1, "lr": 1e-6}, True)):
        caplog.clear()
        evaluation.evaluate_bank(tmp_path / "bank", toy, CLASSIFIERS["softmax"](**settings))
        assert ("of its own training rows rightly, so scores say little" in caplog.text) == told
        assert ("try more classifier.epochs" in caplog.text) == told


def test_heads_are_trained_in_the_runs_precision(tmp_path, monkeypatch):
    toy, asked = fgen.load_dataset("toy"), []
    train = evaluation.train_heads
    monkeypatch.setattr(evaluation, "train_heads", lambda *a, **k: (asked.append(k["precision"]), train(*a, **k))[1])
    for name, config in (("run", {"run": {"train": {"precision": "highest"}}}), ("none", {})):
        bank_of_seen_classes(tmp_path / name, toy, toy.seen, config)
        evaluation.evaluate_bank(tmp_path / name, toy, CLASSIFIERS["cosine"]())
    assert asked == ["highest", "auto"]


def test_a_bank_of_another_model_is_told_of_and_refused_where_it_means_nothing(tmp_path, caplog):
    """Raw features of one method may be judged in another's space; latents of another training mean nothing."""
    toy = fgen.load_dataset("toy")

    def run(name, **model):
        sections = {"dataset": {"name": "toy"}, "model": {"name": name, "hidden_dim": 8, "epochs": 1} | model}
        config = sections | {"bank": {"n_per_class": 4}, "protocol": {"evaluations": 1}, "train": {"device": "cpu"}}
        out = tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"
        return RunDirectory.open(fgen.run(config, out=out).out)

    raw, latent, other = run("clswgan", cls_epochs=1), run("cadavae"), run("cadavae", batch_size=32)
    head = CLASSIFIERS["cosine"]()
    for bank, its, told in ((raw, raw, False), (latent, latent, False), (raw, latent, True)):
        caplog.clear()
        evaluation.evaluate_bank(bank.seed(0).bank, toy, head, run=its.path)
        assert ("was made by clswgan, not by the model of" in caplog.text) == told
    with pytest.raises(InputError, match="another cadavae than that of"):
        evaluation.evaluate_bank(latent.seed(0).bank, toy, head, run=other.path)
