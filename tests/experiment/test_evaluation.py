"""A bank put to use: with the rows and the precision of the run that it comes from."""

import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

import fgen
from fgen.classifiers.registry import CLASSIFIERS
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment import evaluation
from fgen.experiment.directory import RunDirectory
from fgen.experiment.generation import generate_from_run


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


@pytest.mark.numeric
def test_a_head_that_has_not_learned_its_own_rows_is_told_of(tmp_path, caplog):
    toy = fgen.load_dataset("toy")
    bank_of_seen_classes(tmp_path / "bank", toy, toy.seen, {})
    for settings, told in (({"solver": "lbfgs"}, False), ({"epochs": 1, "lr": 1e-6}, True)):
        caplog.clear()
        evaluation.evaluate_bank(tmp_path / "bank", toy, CLASSIFIERS["softmax"](**settings))
        assert ("of its own training rows rightly, so scores say little" in caplog.text) == told
        assert ("try more classifier.epochs" in caplog.text) == told


@pytest.mark.numeric
def test_heads_are_trained_in_the_runs_precision(tmp_path, monkeypatch):
    toy, asked = fgen.load_dataset("toy"), []
    train = evaluation.train_heads
    monkeypatch.setattr(evaluation, "train_heads", lambda *a, **k: (asked.append(a[0].precision), train(*a, **k))[1])
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
        config |= {"classifier": {"epochs": 1}}
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


@pytest.mark.parametrize("told", [3, 0, 10**9, True, "3", None])
def test_heads_are_trained_and_asked_on_the_runs_threads(tmp_path, threads_of_heads, told):
    """A bank comes from anybody: what is no number of threads is passed over."""
    toy, before = fgen.load_dataset("toy"), torch.get_num_threads()
    bank_of_seen_classes(tmp_path / "bank", toy, toy.seen, {"run": {"train": {"threads": told}}})
    evaluation.evaluate_bank(tmp_path / "bank", toy, CLASSIFIERS["softmax"](solver="lbfgs"))
    assert {*threads_of_heads} == {3 if told == 3 else before}
    assert torch.get_num_threads() == before


# Of which data, and of which run.


SETTINGS = {
    "model": {"name": "clswgan", "hidden_dim": 8, "epochs": 1, "cls_epochs": 1},
    "bank": {"n_per_class": 4},
    "protocol": {"evaluations": 1},
    "classifier": {"name": "cosine"},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the toy data, without validation classes, and runs on them with another seed of splits."""
    folder, toy = tmp_path_factory.mktemp("kept"), fgen.load_dataset("toy")
    splits = {f"splits.{name}": toy.splits[name] for name in ("trainval", "test_seen", "test_unseen")}
    parts = {"features": toy.features, "labels": toy.labels, "class_embeddings": toy.class_embeddings}
    np.savez(folder / "toy.npz", **parts, class_names=np.array(toy.class_names), **splits)
    for name, shots in (("run", 0), ("shots", 2)):
        data = {"path": str(folder / "toy.npz"), "split_seed": 5, "shots": shots}
        fgen.run(SETTINGS | {"dataset": data}, out=folder / name)
    return folder


def changed(toy, **changes):
    parts = {"features": toy.features, "labels": toy.labels, "class_embeddings": toy.class_embeddings}
    return ZSLDataset(**parts | {"class_names": toy.class_names, "splits": toy.splits, "name": "other"} | changes)


def other_release(toy):
    """The same rows, and others of them for the test."""
    own = np.concatenate([toy.splits["trainval"], toy.splits["test_seen"]])
    rows = np.random.default_rng(0).permutation(own)
    splits = {"trainval": rows[20:], "test_seen": rows[:20], "test_unseen": toy.splits["test_unseen"]}
    return changed(toy, splits=splits)


def warnings(caplog, path, data, **options):
    caplog.clear()
    evaluation.evaluate_bank(path, data, CLASSIFIERS["cosine"](), **options)
    return "\n".join(record.message for record in caplog.records if "other data" in record.message)


@pytest.mark.parametrize("run", ["run", "shots"])
def test_a_bank_is_judged_without_a_word_on_the_data_that_it_was_made_for(kept, tmp_path, caplog, run):
    """Whichever seed made their validation classes, and in whichever form they are."""
    toy = fgen.load_dataset(kept / "toy.npz")
    fgen.save_dataset(fgen.load_dataset(kept / "toy.npz", seed=5), tmp_path / "toy.h5")
    generate_from_run(kept / run, out=tmp_path / "bank.h5", n_per_class=3)
    for path in (kept / run / "seeds/0/bank.h5", tmp_path / "bank.h5"):
        for data in (toy, fgen.load_dataset(tmp_path / "toy.h5")):
            assert warnings(caplog, path, data) == ""
    assert warnings(caplog, path, toy, run=kept / run) == ""


def test_a_bank_is_told_of_on_other_data_and_of_what_differs(kept, tmp_path, caplog):
    toy = fgen.load_dataset(kept / "toy.npz")
    turned = changed(toy, features=toy.features[:, ::-1].copy())
    generate_from_run(kept / "run", out=tmp_path / "bank.h5", n_per_class=3)
    shutil.copy(kept / "run/seeds/0/bank.h5", tmp_path / "alone.h5")
    own, alone = (kept / "run/seeds/0/bank.h5", tmp_path / "bank.h5"), tmp_path / "alone.h5"
    for path in own:
        told = warnings(caplog, path, turned)
        assert "other features (of another network" in told
        assert "training rows" not in told
        told = warnings(caplog, path, other_release(toy))
        assert "other training rows: test rows may have been trained on" in told
        assert "features" not in told
        more = changed(toy, class_embeddings=toy.class_embeddings + 1)
        assert warnings(caplog, path, more).endswith("other holds: other class names or embeddings")
    for data in (turned, other_release(toy)):
        told = warnings(caplog, alone, data)
        assert "another network's" in told
        assert "test rows may have been trained on" in told
    assert warnings(caplog, alone, turned, run=kept / "run").count("other features (of") == 2, "of the run, too"


def test_a_bank_without_a_fingerprint_says_nothing_of_data(kept, tmp_path, caplog):
    toy = fgen.load_dataset(kept / "toy.npz")
    bank_of_seen_classes(tmp_path / "bank", toy, toy.seen, {})
    assert warnings(caplog, tmp_path / "bank", other_release(toy)) == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": []}', '{"sha256": "x", "parts": 3}'])
def test_what_a_damaged_folder_notes_of_its_data_stops_no_evaluation(kept, tmp_path, caplog, text):
    toy, folder = fgen.load_dataset(kept / "toy.npz"), tmp_path / "0"
    shutil.copytree(kept / "run/seeds/0", folder)
    (folder / "data.json").write_text(text)
    assert warnings(caplog, folder / "bank.h5", toy) == ""
    assert "test rows may have been trained on" in warnings(caplog, folder / "bank.h5", other_release(toy))


def test_a_merged_bank_keeps_one_fingerprint_or_lists_several(kept, tmp_path, caplog):
    toy = fgen.load_dataset(kept / "toy.npz")
    bank_of_seen_classes(tmp_path / "none", toy, toy.seen, {})
    paths = [kept / "run/seeds/0/bank.h5", kept / "shots/seeds/0/bank.h5", tmp_path / "none"]
    with FeatureBank.open(paths[0]) as own, FeatureBank.open(paths[1]) as other, FeatureBank.open(paths[2]) as none:
        first, second = own.data_sha256, other.data_sha256
        FeatureBank.merge(tmp_path / "same.h5", [own, own, none])
        FeatureBank.merge(tmp_path / "both.h5", [own, other, none])
        FeatureBank.merge(tmp_path / "none.h5", [none, none])
    with FeatureBank.open(tmp_path / "both.h5") as both:
        FeatureBank.merge(tmp_path / "again.h5", [both, both])
    for name, one, all_of_them in (
        ("same.h5", first, (first,)),
        ("both.h5", "", (first, second)),
        ("again.h5", "", (first, second)),
        ("none.h5", "", ()),
    ):
        with FeatureBank.open(tmp_path / name) as bank:
            assert (bank.data_sha256, bank.data_fingerprints) == (one, all_of_them), name
    assert warnings(caplog, tmp_path / "same.h5", toy) == ""
    assert "test rows may have been trained on" in warnings(caplog, tmp_path / "both.h5", toy), "those with shots"


def test_a_merged_bank_is_judged_without_the_rows_that_were_shots(kept, tmp_path):
    with FeatureBank.open(kept / "shots/seeds/0/bank.h5") as bank:
        FeatureBank.merge(tmp_path / "twice.h5", [bank, bank])
    toy = fgen.load_dataset(kept / "toy.npz")
    with FeatureBank.open(tmp_path / "twice.h5") as bank:
        assert len(evaluation.with_shots_of(bank, toy).splits["test_unseen"]) == len(toy.splits["test_unseen"]) - 10


def test_a_config_that_was_changed_since_is_told_of(kept, tmp_path, caplog):
    path = shutil.copy(kept / "run/seeds/0/bank.h5", tmp_path / "bank.h5")
    with h5py.File(path, "r+") as file:
        text = file["config"][()]
        del file["config"]
        file["config"] = text.replace(b'"split_seed": 5', b'"split_seed": 4')
    evaluation.evaluate_bank(path, fgen.load_dataset(kept / "toy.npz"), CLASSIFIERS["cosine"]())
    assert "its config isn't the one it was written with" in caplog.text


def test_a_split_seed_that_is_no_number_is_refused(tmp_path):
    toy = fgen.load_dataset("toy")
    bank_of_seen_classes(tmp_path / "bank", toy, toy.seen, {"dataset": {"split_seed": "5"}})
    with pytest.raises(InputError, match=r"has '5' as dataset\.split_seed"):
        evaluation.evaluate_bank(tmp_path / "bank", toy, CLASSIFIERS["cosine"]())


def test_a_validation_task_is_judged_as_it_is(kept):
    toy = fgen.load_dataset(kept / "toy.npz").validation()
    assert evaluation.with_shots_of(SimpleNamespace(config={"dataset": {"split_seed": 9}}), toy) is toy


def test_latents_of_another_seed_or_of_other_data_are_refused(kept, tmp_path):
    toy, head = fgen.load_dataset(kept / "toy.npz"), CLASSIFIERS["cosine"]()
    fgen.save_dataset(other_release(toy), tmp_path / "other.npz")
    model = {"name": "cadavae", "hidden_dim": 8, "epochs": 1}
    banks = {}
    for name, path, seed in (
        ("own", kept / "toy.npz", 0),
        ("seed", kept / "toy.npz", 1),
        ("data", tmp_path / "other.npz", 0),
    ):
        config = SETTINGS | {
            "model": model,
            "dataset": {"path": str(path)},
            "protocol": {"seeds": [seed], "evaluations": 1},
        }
        banks[name] = RunDirectory.open(fgen.run(config, out=tmp_path / name).out).seed(seed).bank
    evaluation.evaluate_bank(banks["own"], toy, head, run=tmp_path / "own")
    with pytest.raises(InputError, match=r"the bank is of seed 1, and .* has no model of it"):
        evaluation.evaluate_bank(banks["seed"], toy, head, run=tmp_path / "own")
    with pytest.raises(InputError, match=r"the bank was made from other data than .*own"):
        evaluation.evaluate_bank(banks["data"], toy, head, run=tmp_path / "own")
    with FeatureBank.open(banks["own"]) as own:
        for name in ("seed", "data"):
            with FeatureBank.open(banks[name]) as other, pytest.raises(InputError, match="banks are of several models"):
                FeatureBank.merge(tmp_path / "merged.h5", [own, other])
