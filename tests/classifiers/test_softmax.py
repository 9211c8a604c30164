"""The softmax head: the closed form against autograd, the optimum, calibration, and files."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fgen import rng
from fgen.classifiers import lbfgs
from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.lbfgs import train_lbfgs
from fgen.classifiers.registry import load_head
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig, initial_parameters, train_adam
from fgen.errors import InputError, TrainingDiverged
from fgen.features import scaled_rows
from fgen.features.scaled_rows import CentredRows, ScaledRows
from fgen.features.scaling import FeatureScaler
from fgen.io import stored_folder

pytestmark = pytest.mark.numeric

CLASSES = np.array([3, 7, 8, 20])


def blobs(n_rows=120, dim=6, seed=0, noise=1.0):
    """Rows of four classes with gaps in their numbering, about means two apart."""
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(0, 2, (len(CLASSES), dim))
    positions = np.arange(n_rows) % len(CLASSES)
    return (means[positions] + noise * draw.normal(size=(n_rows, dim))).astype(np.float32), CLASSES[positions]


def textbook(features, targets, row_weights, config, seed):
    """The obvious twin: nn.Linear, autograd, torch's plain Adam, a loop; float64."""
    weight, bias = initial_parameters(len(CLASSES), features.shape[1], seed)
    linear = torch.nn.Linear(features.shape[1], len(CLASSES), dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    adam = torch.optim.Adam(
        linear.parameters(), lr=config.lr, betas=(config.beta1, 0.999), weight_decay=config.weight_decay
    )
    for epoch in range(config.epochs):
        order = torch.from_numpy(rng.stream(seed, "head batches", epoch).permutation(len(features)))
        for batch in order.split(config.batch_size):
            losses = torch.nn.functional.cross_entropy(linear(features[batch]), targets[batch], reduction="none")
            adam.zero_grad()
            (losses * row_weights[batch, 0]).mean().backward()
            adam.step()
    return linear.weight.detach(), linear.bias.detach()


@pytest.mark.parametrize("overrides", [{}, {"weight_decay": 0.1}, {"beta1": 0.9, "lr": 0.05}])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_closed_form_gives_the_parameters_of_the_autograd_twin(overrides, weighted):
    features, labels = blobs(n_rows=107)  # so that the last batch is a short one
    targets = torch.from_numpy(np.searchsorted(CLASSES, labels))
    row_weights = (
        torch.rand(107, 1, generator=torch.Generator().manual_seed(0)) + 0.5 if weighted else torch.ones(107, 1)
    )
    config = SoftmaxConfig(epochs=3, batch_size=10, **overrides)
    rows = ScaledRows(features, FeatureScaler.fit("none", features), dtype=torch.float64)
    weight, bias = (parameter.double() for parameter in initial_parameters(4, features.shape[1], seed=5))
    train_adam(rows, targets, row_weights, (weight, bias), config, seed=5)
    expected = textbook(torch.from_numpy(features).double(), targets, row_weights, config, seed=5)
    assert (weight - expected[0]).abs().max() < 1e-5
    assert (bias - expected[1]).abs().max() < 1e-5


def test_fit_is_the_textbook_head_on_scaled_features():
    features, labels = blobs()
    head = SoftmaxClassifier(epochs=3, batch_size=16).fit(features, labels, seed=2)
    scaled = torch.from_numpy((features - features.min(0)) / np.ptp(features, axis=0)).double()
    targets = torch.from_numpy(np.searchsorted(CLASSES, labels))
    weight, bias = textbook(scaled, targets, torch.ones(len(targets), 1), head.config, seed=2)
    np.testing.assert_allclose(head.weight, weight, atol=1e-4)
    np.testing.assert_allclose(head.predict_proba(features), torch.softmax(scaled @ weight.T + bias, 1), atol=1e-4)


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_lbfgs_ends_where_the_gradient_by_autograd_is_zero(class_weight):
    features, labels = blobs(noise=2.0)
    features, labels = np.concatenate([features, features[:8] + 0.1]), np.concatenate([labels, [20] * 8])
    head = SoftmaxClassifier(solver="lbfgs", l2=1e-2, scaling="none", class_weight=class_weight).fit(features, labels)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    targets = torch.from_numpy(np.searchsorted(CLASSES, labels))
    share = (
        torch.bincount(targets)[targets] if class_weight == "balanced" else torch.full((len(labels),), len(labels) / 4)
    )
    logits = torch.from_numpy(features).double() @ weight.T + bias
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    ((losses / (4 * share)).sum() + 0.005 * weight.square().sum()).backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-4


def test_lbfgs_agrees_with_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = blobs(noise=2.0)
    twin = linear_model.LogisticRegression(C=1 / (1e-2 * len(features)), tol=1e-8, max_iter=1000)
    expected = twin.fit(features.astype(np.float64), labels).predict_proba(features)  # in float32 it ends 2e-4 away
    for tol, atol in ((1e-5, 1e-3), (1e-6, 1e-4)):
        head = SoftmaxClassifier(solver="lbfgs", l2=1e-2, scaling="none", tol=tol).fit(features, labels)
        np.testing.assert_allclose(head.predict_proba(features), expected, atol=atol)


def test_rows_too_many_for_memory_train_the_same_head(monkeypatch, tmp_path):
    features, labels = blobs()
    settings = [{"epochs": 2, "batch_size": 16}, {"solver": "lbfgs"}]
    expected = [SoftmaxClassifier(**each).fit(features, labels) for each in settings]
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=features)
        for each, head in zip(settings, expected, strict=True):
            streamed = SoftmaxClassifier(**each).fit(stored, labels)
            np.testing.assert_allclose(streamed.weight, head.weight, atol=1e-6)
            np.testing.assert_array_equal(streamed.predict(stored), head.predict(features))


def test_lbfgs_in_blocks_is_lbfgs_at_once(monkeypatch):
    features, labels = blobs()
    whole = SoftmaxClassifier(solver="lbfgs", l2=1e-2).fit(features, labels)
    monkeypatch.setattr("fgen.features.scaled_rows.BLOCK_ROWS", 7)
    monkeypatch.setattr(lbfgs, "BLOCK_ROWS", 7)
    blocks = SoftmaxClassifier(solver="lbfgs", l2=1e-2).fit(features, labels)
    np.testing.assert_allclose(blocks.weight, whole.weight, atol=1e-3)
    monkeypatch.setattr(scaled_rows, "IN_MEMORY", 0)
    monkeypatch.setattr(
        "fgen.features.rows.BLOCK_BYTES", 50 * 4 * features.shape[1]
    )  # what is read at once is no whole blocks
    streamed = SoftmaxClassifier(solver="lbfgs", l2=1e-2).fit(features, labels)
    np.testing.assert_allclose(streamed.weight, whole.weight, atol=1e-3)


def test_lbfgs_needs_no_seed():
    features, labels = blobs()
    heads = [SoftmaxClassifier(solver="lbfgs").fit(features, labels, seed=seed) for seed in (0, 1)]
    assert torch.equal(heads[0].weight, heads[1].weight)


def test_arrays_tensors_and_files_train_the_same_head(tmp_path):
    features, labels = blobs()
    expected = SoftmaxClassifier(epochs=2).fit(features, labels).weight
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=features.shape)
    mapped[:] = features
    for source in (mapped, torch.from_numpy(features), features.astype(np.float64), features.tolist()):
        assert torch.equal(SoftmaxClassifier(epochs=2).fit(source, torch.from_numpy(labels)).weight, expected)


def test_the_given_arrays_are_left_as_they_were():
    features, labels = blobs()
    before = features.copy()
    SoftmaxClassifier(epochs=1, scaling="none").fit(torch.from_numpy(features), labels).predict(features)
    assert (features == before).all()


def test_scaling_is_fitted_on_the_rows_that_are_named_for_it():
    features, labels = blobs()
    head = SoftmaxClassifier(epochs=1).fit(features, labels, scaling_rows=features[:10])
    np.testing.assert_array_equal(head.scaler.offset, features[:10].min(0))


def test_balanced_weights_rescue_a_rare_class():
    features, labels = blobs(n_rows=400, noise=3.0)
    keep = (labels != 20) | (np.arange(400) < 40)
    rare = {}
    for kind in ("none", "balanced"):
        head = SoftmaxClassifier(solver="lbfgs", class_weight=kind).fit(features[keep], labels[keep])
        rare[kind] = (head.predict(features[labels == 20]) == 20).mean()
    assert rare["balanced"] > rare["none"] + 0.05


# Scores and predictions.


def test_scores_stand_in_the_column_of_their_class_and_the_others_are_finite_but_hopeless():
    features, labels = blobs()
    head = SoftmaxClassifier(epochs=2).fit(features, labels, classes=[1, *CLASSES])
    scores = head.scores(features, 25)
    assert scores.shape == (120, 25)
    assert (scores[:, head.classes_] == head.decision_function(features)).all()
    others = np.setdiff1d(np.arange(25), head.classes_)
    assert (scores[:, others] == np.float32(NO_CANDIDATE)).all()
    assert np.isfinite(scores[:, :1] - scores[:, 24:]).all()
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(1), 1, rtol=1e-5)
    assert head.scores(features).shape == (120, 21)
    assert SoftmaxClassifier(epochs=1).fit(features, labels, n_classes=30).scores(features).shape == (120, 30)
    with pytest.raises(InputError, match="n_classes is 20"):
        head.scores(features, 20)


def test_a_candidate_without_rows_has_a_row_of_weights():
    features, labels = blobs()
    head = SoftmaxClassifier(solver="lbfgs").fit(features, labels, classes=np.append(CLASSES, 30))
    assert head.weight.shape[0] == 5
    assert 30 not in head.predict(features)


def test_gamma_moves_rows_from_seen_to_unseen_classes_by_the_rule_of_the_scores():
    from fgen.features.class_scores import predict_classes

    features, labels = blobs(noise=2.0)
    head = SoftmaxClassifier(epochs=5).fit(features, labels)
    seen, unseen = [3, 8], [7, 20]
    plain = head.predict(features)
    assert (head.predict(features, 0.0, seen) == plain).all()
    assert np.isin(head.predict(features, 1e6, seen), unseen).all()
    assert np.isin(head.predict(features, -1e6, seen), seen).all()
    scores = head.scores(features)
    for gamma in (-0.3, 0.2, 1.0):
        expected = predict_classes(scores, seen=seen, unseen=unseen, gamma=gamma)
        assert (head.predict(features, gamma, seen) == expected).all()
    with pytest.raises(InputError, match="without seen"):
        head.predict(features, 0.5)


def test_no_rows_have_no_predictions():
    features, labels = blobs()
    head = SoftmaxClassifier(epochs=1).fit(features, labels)
    assert head.predict(features[:0]).shape == (0,)
    assert head.scores(features[:0], 21).shape == (0, 21)


# Files.


def fitted(**overrides):
    features, labels = blobs()
    return SoftmaxClassifier(**({"epochs": 2} | overrides)).fit(features, labels, seed=4)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_writes_the_same_bytes_in_another_process(tmp_path):
    fitted().save(tmp_path / "here")
    code = "import sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1]); import test_softmax as t; "
    code += "t.fitted().save(__import__('pathlib').Path(sys.argv[2]))"
    folder = str(__import__("pathlib").Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, folder, str(tmp_path / "there")], check=True)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_another_seed_trains_another_head():
    features, labels = blobs()
    weights = [SoftmaxClassifier(epochs=1).fit(features, labels, seed=seed).weight for seed in (0, 1)]
    assert not torch.equal(*weights)
    assert not torch.equal(*(initial_parameters(4, 6, seed)[0] for seed in (0, 1)))


def test_a_loaded_head_predicts_as_before_and_saves_the_same_bytes(tmp_path):
    head = fitted(scaling="standard", class_weight="balanced")
    head.save(tmp_path / "head")
    again = SoftmaxClassifier.load(tmp_path / "head")
    features, _ = blobs(seed=1)
    assert (again.scores(features) == head.scores(features)).all()
    assert again.config == head.config
    again.save(tmp_path / "again")
    assert contents(tmp_path / "head") == contents(tmp_path / "again")


def test_saving_over_an_older_head_leaves_nothing_of_it_but_takes_no_other_file(tmp_path):
    fitted().save(tmp_path / "head")
    stray = tmp_path / "head" / "stray"
    stray.touch()
    with pytest.raises(InputError, match=r"head also holds 'stray'"):
        fitted(epochs=1).save(tmp_path / "head")
    stray.rename(tmp_path / "stray")
    with pytest.raises(InputError, match=r"stray is a file"):
        fitted(epochs=1).save(tmp_path / "stray")
    (tmp_path / "stray").unlink()
    fitted(epochs=1).save(tmp_path / "head")
    assert SoftmaxClassifier.load(tmp_path / "head").config.epochs == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["head", "head.json", "head.safetensors"]


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("length", [0, 1, 9, 60, -1])
def test_truncated_files_are_refused(tmp_path, name, length):
    fitted().save(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:length] if length >= 0 else data[: -len(data) // 3])
    with pytest.raises(InputError, match=name):
        SoftmaxClassifier.load(tmp_path)


@pytest.mark.parametrize("position", range(0, 400, 13))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path, position):
    fitted().save(tmp_path)
    for name in ("head.json", "head.safetensors"):
        path = tmp_path / name
        data = bytearray(path.read_bytes())
        data[position % len(data)] ^= 0x55
        path.write_bytes(data)
    try:
        head = SoftmaxClassifier.load(tmp_path)
    except InputError:
        return
    assert np.isfinite(head.weight).all()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "[" * 100_000,
        "\xff",
        '{"format": "fgen-softmax"}',
        '{"format": "fgen-softmax", "format_version": 2}',
        '{"format": "fgen-softmax", "format_version": 1, "config": {"epochs": 1, "epoch": 2}}',
        '{"format": "fgen-softmax", "format_version": 1, "config": {"epochs": -1}}',
        '{"format": "fgen-softmax", "format_version": 1, "config": {}, "n_classes": 2}',
        '{"format": "fgen-softmax", "format_version": 1, "config": {}, "n_classes": "many"}',
        '{"format": "fgen-softmax", "format_version": 1, "config": {}, "n_classes": 1e400}',
    ],
)
def test_hostile_descriptions_are_refused(tmp_path, text):
    fitted().save(tmp_path)
    (tmp_path / "head.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"head\.(json|safetensors)"):
        SoftmaxClassifier.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": torch.zeros(4, 5)},
        {"weight": torch.zeros(4, 6, dtype=torch.int64)},
        {"weight": torch.full((4, 6), torch.nan)},
        {"bias": torch.zeros(1)},
        {"classes": torch.tensor([3, 3, 8, 20])},
        {"classes": torch.tensor([-1, 3, 8, 20])},
        {"classes": torch.tensor([3.0, 7.0, 8.0, 20.0])},
        {"classes": torch.tensor(3)},
        {"feature.scale": torch.zeros(6)},
        {"feature.offset": torch.zeros(5)},
    ],
)
def test_tensors_that_no_training_can_have_made_are_refused(tmp_path, change):
    fitted().save(tmp_path)
    save_file(load_file(tmp_path / "head.safetensors") | change, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"head\.safetensors"):
        SoftmaxClassifier.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        SoftmaxClassifier.load(tmp_path / "nowhere")


def test_the_description_is_plain_json(tmp_path):
    fitted().save(tmp_path)
    assert json.loads((tmp_path / "head.json").read_text())["config"]["epochs"] == 2


# What the user can do wrong.


@pytest.mark.parametrize(
    ("features", "labels", "options", "words"),
    [
        ([[0.0, 1], [np.nan, 2], [3, 4]], [0, 1, 0], {"scaling_rows": np.eye(2)}, "nan in row 1, column 0"),
        ([[0.0, 1], [1, np.inf], [3, 4]], [0, 1, 0], {}, "column 1"),
        ([[0.0, 1], [1, 2], [3, 4]], [0, 1], {}, "2 labels"),
        ([[0.0, 1], [1, 2], [3, 4]], [5, 5, 5], {}, "all rows are of class 5"),
        ([[0.0, 1], [1, 2], [3, 4]], [5, 5, 5], {"classes": [4, 5]}, "all rows are of class 5"),
        ([[0.0, 1], [1, 2], [3, 4]], [0.0, 1, 0], {}, "labels"),
        ([[0.0, 1], [1, 2], [3, 4]], [-1, 1, 0], {}, "labels"),
        ([[0.0, 1], [1, 2], [3, 4]], [0, 1, 2], {"classes": [0, 1]}, "class 2"),
        ([[0.0, 1], [1, 2], [3, 4]], [0, 1, 2], {"n_classes": 2}, "n_classes is 2"),
        ([[0.0, 1], [1, 2], [3, 4]], [0, 1, 2], {"scaling_rows": np.eye(3)}, "3 columns"),
        ([0.0, 1, 2], [0, 1, 2], {}, "matrix"),
        (np.zeros((0, 2)), np.zeros(0, int), {}, "labels"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(features, labels, options, words):
    with pytest.raises(InputError, match=words):
        SoftmaxClassifier(epochs=1).fit(features, labels, **options)


def test_a_failed_fit_leaves_the_trained_head_alone():
    head = fitted()
    weight = head.weight.clone()
    with pytest.raises(InputError):
        head.fit(np.eye(3), [0, 1, np.nan])
    assert torch.equal(head.weight, weight)
    assert list(head.classes_) == list(CLASSES)


def test_prediction_refuses_what_it_was_not_trained_for():
    head = fitted()
    with pytest.raises(InputError, match="5 columns"):
        head.predict(np.zeros((2, 5)))
    with pytest.raises(InputError, match="row 1, column 2"):
        head.predict([[0.0] * 6, [0, 0, np.nan, 0, 0, 0]])
    for use in (lambda new: new.predict(np.zeros((1, 2))), lambda new: new.save("never")):
        with pytest.raises(InputError, match="trained"):
            use(SoftmaxClassifier())


def test_divergence_is_named():
    features, labels = blobs()
    with pytest.raises(TrainingDiverged, match="lr"):
        SoftmaxClassifier(epochs=9, lr=9.0, weight_decay=1e38, batch_size=2).fit(features, labels)


def test_a_head_that_starts_where_it_ended_keeps_its_biases_whatever_prior_is_taken_from_them():
    draw = np.random.default_rng(0)
    features, labels = draw.standard_normal((60, 4)), np.arange(60) % 3
    settings = {"solver": "lbfgs", "l2": [1e-2], "logit_adjustment": 1.0, "prior_ratio": 30.0}
    head = SoftmaxClassifier(**settings).fit(features, labels, seen=[0, 1])
    again = SoftmaxClassifier(**settings).fit(features, labels, seen=[0, 1], start=head)
    torch.testing.assert_close(again.bias, head.bias, atol=1e-3, rtol=1e-3)
    assert SoftmaxConfig(solver="lbfgs", l2=[1e-4, 1e-2]).penalties == (1e-2, 1e-4)
    with pytest.raises(InputError, match="hasn't been trained"):
        SoftmaxClassifier(**settings).fit(features, labels, seen=[0, 1], start=SoftmaxClassifier())


def test_a_head_starts_only_from_one_of_its_classes_and_columns():
    features, labels = np.random.default_rng(0).standard_normal((12, 4)), np.arange(12) % 3
    head = SoftmaxClassifier(solver="lbfgs").fit(features, labels)
    for rows, ids in ((features, labels + 1), (features[:, :3], labels)):
        with pytest.raises(InputError, match="start was trained on other classes or columns"):
            SoftmaxClassifier(solver="lbfgs").fit(rows, ids, start=head)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"beta1": 1.0},
        {"l2": -1.0},
        {"l2": ()},
        {"l2": (1e-3, -1.0), "solver": "lbfgs"},
        {"l2": (1e-3, 1e-4), "solver": "adam"},
        {"weight_decay": float("inf")},
        {"scaling": "l2"},
        {"solver": "sgd"},
        {"class_weight": "yes"},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        SoftmaxConfig(**bad)
    with pytest.raises(InputError, match=next(iter(bad))):
        SoftmaxClassifier(**bad)


def test_a_misspelt_setting_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean epochs"):
        SoftmaxClassifier(epoch=3)


def test_lbfgs_lowers_the_loss_below_any_adam_head():
    features, labels = blobs(noise=2.0)
    targets = torch.from_numpy(np.searchsorted(CLASSES, labels))
    rows = ScaledRows(features, FeatureScaler.fit("minmax", features))
    scaled = rows.take(np.arange(120))
    losses = {}
    for solver in ("adam", "lbfgs"):
        weight, bias = initial_parameters(4, 6, seed=0)
        if solver == "adam":
            train_adam(rows, targets, torch.ones(120, 1), (weight, bias), SoftmaxConfig(epochs=50), seed=0)
        else:
            centred = CentredRows(features, FeatureScaler.fit("minmax", features), torch.ones(120, 1))
            weight, bias = train_lbfgs(centred, targets, 4, l2=1e-3)
        loss = torch.nn.functional.cross_entropy(scaled @ weight.T + bias, targets)
        losses[solver] = float(loss + 0.0005 * weight.square().sum())
    assert losses["lbfgs"] < losses["adam"]


def test_lbfgs_takes_as_few_passes_however_far_the_features_lie_from_zero(monkeypatch):
    features, labels = blobs(noise=2.0)
    passes = []
    blocks = CentredRows.blocks
    monkeypatch.setattr(CentredRows, "blocks", lambda self: passes.append(1) or blocks(self))
    near = SoftmaxClassifier(solver="lbfgs", l2=1e-2, scaling="none").fit(features, labels)
    n_near = len(passes)
    far = SoftmaxClassifier(solver="lbfgs", l2=1e-2, scaling="none").fit(features + 50, labels)
    assert len(passes) - n_near < 1.5 * n_near
    np.testing.assert_allclose(far.predict_proba(features + 50), near.predict_proba(features), atol=2e-3)
    np.testing.assert_allclose(far.weight, near.weight, atol=2e-3)


def test_a_head_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    draw, path = np.random.default_rng(0), tmp_path / "head"
    features, labels = draw.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    old, new = (SoftmaxClassifier(epochs=2).fit(features, ids, seed=0) for ids in (labels, labels + 5))
    old.save(path)
    load_file = stored_folder.load_file

    def late(file):
        monkeypatch.undo()
        new.save(path)
        return load_file(file)

    monkeypatch.setattr(stored_folder, "load_file", late)
    for load in (load_head, SoftmaxClassifier.load):
        read = load(path)
        assert (read.n_classes_, read.classes_.tolist()) == (8, [5, 6, 7])
        assert torch.equal(read.weight, new.weight)
    os.replace(path, tmp_path / ".head.fgen.old")
    assert load_head(path).classes_.tolist() == [5, 6, 7]


def test_a_head_prints_its_kind_and_sizes():
    head = SoftmaxClassifier(solver="lbfgs")
    assert repr(head) == "<SoftmaxClassifier, not trained>"
    head.fit(np.eye(4, 3, dtype=np.float32), [0, 2, 0, 2])
    assert repr(head) == "<SoftmaxClassifier of 2 classes over 3 features, scaled by 'minmax'>"
