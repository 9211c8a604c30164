"""The pair of heads that a bank is judged by: told the seen classes, saved and loaded whatever their kind."""

import json
import warnings

import numpy as np
import pytest
import torch

from fgen import load_dataset
from fgen.classifiers.registry import CLASSIFIERS, load_head
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.errors import InputError
from fgen.experiment import heads as heads_module
from fgen.experiment.heads import HeadRecipe, Heads

pytestmark = pytest.mark.numeric


def train_heads(*given, **options):
    """The heads of the one candidate."""
    (heads,) = heads_module.train_heads(*given, **options)
    return heads


@pytest.fixture(scope="module")
def task():
    return load_dataset("toy")


@pytest.fixture(scope="module")
def bank(task):
    """Synthetic rows of the unseen classes: a blurred choice of their real ones."""
    draw = np.random.default_rng(0)
    rows = task.splits["test_unseen"]
    rows = np.concatenate([rows[task.labels[rows] == c][:10] for c in task.unseen])
    noise = draw.normal(size=(len(rows), task.feature_dim)) * task.features[:].std(axis=0)
    return (task.rows(rows) + noise).astype(np.float32), task.labels[rows]


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_heads_are_told_which_classes_are_seen(task, bank, solver):
    plain = CLASSIFIERS["softmax"](solver=solver)
    adjusted = CLASSIFIERS["softmax"](solver=solver, logit_adjustment=1.0, prior_ratio=1e6)
    scores = [train_heads(HeadRecipe(config), task, *bank).score(task).at(0.0)[0] for config in (plain, adjusted)]
    assert scores[1].U > scores[0].U
    assert scores[1].S < scores[0].S


@pytest.mark.parametrize("name", ["softmax", "cosine"])
def test_both_heads_of_a_run_come_back_as_what_they_were(task, bank, name, tmp_path):
    heads = train_heads(HeadRecipe(CLASSIFIERS[name]()), task, *bank)
    heads.save(tmp_path / "gzsl", tmp_path / "zsl")
    for head, folder in ((heads.gzsl, "gzsl"), (heads.zsl, "zsl")):
        loaded = load_head(tmp_path / folder)
        assert type(loaded) is type(head)
        rows = task.rows(task.splits["test_unseen"])
        assert (loaded.scores(rows, task.n_classes) == head.scores(rows, task.n_classes)).all()


def test_the_cosine_head_recognises_the_toy_classes(task, bank):
    scores, _ = train_heads(HeadRecipe(CLASSIFIERS["cosine"]()), task, *bank).score(task).at(0.0)
    assert scores.T1 > 0.8
    assert scores.H > 0.6


def test_without_real_rows_heads_learn_from_generated_ones_and_shots_alone(task, bank):
    seen_rows = task.rows(task.splits["trainval"]) + 1.0
    rows = np.concatenate([seen_rows, bank[0]])
    labels = np.concatenate([task.labels[task.splits["trainval"]], bank[1]])
    config, real = CLASSIFIERS["softmax"](solver="lbfgs"), task.rows(task.splits["trainval"])
    heads = train_heads(HeadRecipe(config, with_real=False, precision="highest"), task, rows, labels)
    alone = config.build().fit(rows, labels, scaling_rows=real)
    assert torch.equal(heads.gzsl.weight, alone.weight)
    both = train_heads(HeadRecipe(config, precision="highest"), task, rows, labels)
    assert not torch.equal(heads.gzsl.weight, both.gzsl.weight)
    shots = task.with_shots(2, None, seed=0)
    with_shots = train_heads(HeadRecipe(config, with_real=False, precision="highest"), shots, rows, labels)
    kept = shots.splits["trainval"][np.isin(shots.labels[shots.splits["trainval"]], shots.unseen)]
    assert len(kept) == 2 * len(task.unseen)
    rows, labels = np.concatenate([task.rows(kept), rows]), np.concatenate([task.labels[kept], labels])
    alone = config.build().fit(rows, labels, scaling_rows=shots.rows(shots.splits["trainval"]))
    assert torch.equal(with_shots.gzsl.weight, alone.weight)


def test_the_batch_is_as_large_as_the_bank_has_rows_of_a_class(task, bank):
    weights = [
        train_heads(HeadRecipe(CLASSIFIERS["softmax"](epochs=1, batch_size=size)), task, *bank).gzsl.weight
        for size in (None, 10, 64)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_batch_does_not_count_generated_rows_of_seen_classes(task, bank):
    rows, labels = bank
    more = np.repeat(rows[:1], 30, axis=0), np.full(30, task.seen[0])
    both = np.concatenate([rows, more[0]]), np.concatenate([labels, more[1]])
    weights = [
        train_heads(HeadRecipe(CLASSIFIERS["softmax"](epochs=1, batch_size=size)), task, *both).gzsl.weight
        for size in (None, 10)
    ]
    assert torch.equal(*weights)


def test_t1_is_the_unseen_heads_and_h_is_not(task, bank):
    heads = train_heads(HeadRecipe(CLASSIFIERS["softmax"](solver="lbfgs")), task, *bank)
    shifted = task.unseen[(np.searchsorted(task.unseen, bank[1]) + 1) % len(task.unseen)]
    wrong = train_heads(HeadRecipe(CLASSIFIERS["softmax"](solver="lbfgs")), task, bank[0], shifted)
    right, mixed = heads.score(task).at(0.0)[0], Heads(heads.gzsl, wrong.zsl).score(task).at(0.0)[0]
    assert mixed.T1 < 0.5 < right.T1
    assert (mixed.U, mixed.S, mixed.H) == (right.U, right.S, right.H)


def test_a_head_that_cannot_be_saved_leaves_no_folder(task, bank, tmp_path):
    pytest.importorskip("sklearn")
    heads = train_heads(HeadRecipe(CLASSIFIERS["knn"]()), task, *bank)
    Heads(heads.gzsl, None).save(tmp_path / "gzsl", tmp_path / "zsl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["fgen-model", None, ["fgen-softmax"], 3])
def test_unknown_formats_are_refused_and_the_file_is_named(tmp_path, form):
    (tmp_path / "head.json").write_text(json.dumps({"format": form, "format_version": 1}))
    with pytest.raises(InputError, match=r"head\.json"):
        load_head(tmp_path)


def test_a_head_of_another_kind_is_refused_by_its_format(task, bank, tmp_path):
    train_heads(HeadRecipe(CLASSIFIERS["cosine"]()), task, *bank).gzsl.save(tmp_path / "head")
    with pytest.raises(InputError, match="fgen-cosine 1"):
        SoftmaxClassifier.load(tmp_path / "head")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_head(tmp_path / "nowhere")


def test_heads_train_in_the_precision_they_are_told_and_leave_torchs_as_it_was(task, bank, bf16):
    config = CLASSIFIERS["softmax"](solver="lbfgs")
    whole, again, rounded = (
        train_heads(HeadRecipe(config, precision=name), task, *bank).gzsl.weight
        for name in ("highest", "highest", "auto")
    )
    assert torch.equal(whole, again)
    assert 0 < (whole - rounded).norm() < 0.02 * whole.norm()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", ["softmax", "cosine", "logistic"])
def test_a_head_tells_its_user_once_of_rows_that_were_normalised_otherwise_and_a_run_never(name):
    if name == "logistic":
        pytest.importorskip("sklearn")
    stream = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = (labels[:, None] + stream.random((60, 4))).astype(np.float32)
    head = CLASSIFIERS[name]().build().fit(features, labels)
    for method in filter(None, (head.predict, head.decision_function, getattr(head, "predict_proba", None))):
        with pytest.warns(UserWarning, match="the median length of a row .* normalised alike") as told:
            method(20 * features)
        assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head.predict(features)
        head.scores(20 * features)
