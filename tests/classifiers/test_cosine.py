"""The cosine head: against a loop, what it must not depend on, and files."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.cosine import CosineClassifier, CosineConfig
from fgen.errors import InputError

pytestmark = pytest.mark.numeric

CLASSES = np.array([3, 7, 8, 20])


def blobs(n_rows=120, seed=0, noise=1.0):
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(5, 2, (4, 6))
    positions = np.arange(n_rows) % 4
    return (means[positions] + noise * draw.normal(size=(n_rows, 6))).astype(np.float32), CLASSES[positions]


def slow_scores(features, labels, asked, temperature):
    """Row by row and class by class, in float64."""
    spread = features.astype(np.float64).std(0)
    features, asked = features / spread, asked / spread
    prototypes = [features[labels == c].mean(0) for c in CLASSES]
    centre = np.mean(prototypes, axis=0)
    result = np.zeros((len(asked), 4))
    for i, row in enumerate(asked):
        for k, prototype in enumerate(prototypes):
            a, b = row - centre, prototype - centre
            result[i, k] = a @ b / np.sqrt((a @ a) * (b @ b)) / temperature
        result[i] -= np.log(np.exp(result[i]).sum())
    return result


def test_scores_are_the_log_probabilities_of_a_loop_over_rows_and_classes():
    features, labels = blobs(noise=3.0)
    asked, _ = blobs(n_rows=20, seed=1, noise=3.0)
    head = CosineClassifier(temperature=0.2).fit(features, labels)
    np.testing.assert_allclose(head.decision_function(asked), slow_scores(features, labels, asked, 0.2), atol=1e-4)
    assert (head.predict(asked) == CLASSES[slow_scores(features, labels, asked, 0.2).argmax(1)]).all()


def test_how_many_rows_a_class_has_makes_no_difference():
    features, labels = blobs()
    repeats = np.where(labels == 3, 9, 1)
    once = CosineClassifier(scaling="none").fit(features, labels)
    often = CosineClassifier(scaling="none").fit(np.repeat(features, repeats, axis=0), np.repeat(labels, repeats))
    np.testing.assert_allclose(often.decision_function(features), once.decision_function(features), atol=1e-3)


def test_only_the_direction_from_the_centre_counts():
    features, labels = blobs()
    head = CosineClassifier(scaling="none").fit(features, labels)
    centre = head.centre.numpy()
    far = centre + 1000 * (features - centre)
    np.testing.assert_allclose(head.decision_function(far), head.decision_function(features), atol=1e-3)


def test_the_temperature_stretches_margins_and_changes_no_answer():
    features, labels = blobs(noise=3.0)
    warm, cold = (CosineClassifier(temperature=t).fit(features, labels) for t in (0.4, 0.04))
    assert (warm.predict(features) == cold.predict(features)).all()
    margins = [head.decision_function(features)[:, 0] - head.decision_function(features)[:, 1] for head in (warm, cold)]
    np.testing.assert_allclose(10 * margins[0], margins[1], rtol=1e-3, atol=1e-3)


def test_a_row_at_the_centre_is_as_near_to_every_class():
    head = CosineClassifier(scaling="none").fit(np.float32([[0, 0], [2, 0], [0, 2], [2, 2]]), [0, 1, 2, 3])
    np.testing.assert_allclose(head.decision_function([[1.0, 1.0]]), np.full((1, 4), np.log(0.25)), rtol=1e-6)


def test_a_prototype_at_the_centre_and_very_long_rows_give_finite_scores():
    head = CosineClassifier(scaling="none").fit(np.float32([[-1, 0], [0, 0], [1, 0]]), [0, 1, 2])
    scores = head.decision_function([[1e30, 1.0], [1e-30, 0.0]])
    assert np.isfinite(scores).all()
    assert (scores.argmax(1) == 2).all()


def test_files_in_blocks_train_the_same_head(monkeypatch, tmp_path):
    features, labels = blobs()
    expected = CosineClassifier().fit(features, labels)
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 7 * 24)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=features)
        streamed = CosineClassifier().fit(stored, labels)
        np.testing.assert_allclose(streamed.prototypes, expected.prototypes, atol=1e-6)
        np.testing.assert_allclose(streamed.scores(stored), expected.scores(features), atol=1e-4)


def test_a_candidate_without_rows_is_scored_as_none_and_scaling_rows_fit_the_scaling():
    features, labels = blobs()
    head = CosineClassifier().fit(features, labels, classes=[*CLASSES, 30], scaling_rows=features[:9], n_classes=40)
    assert (head.scores(features)[:, 30] == np.float32(NO_CANDIDATE)).all()
    assert head.scores(features).shape == (120, 40)
    np.testing.assert_allclose(head.scaler.offset, features[:9].mean(0), rtol=1e-5)


# Files.


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_loaded_head_predicts_as_before_and_any_seed_saves_the_same_bytes(tmp_path):
    features, labels = blobs()
    head = CosineClassifier(temperature=0.1).fit(features, labels, n_classes=25)
    head.save(tmp_path / "head")
    again = CosineClassifier.load(tmp_path / "head")
    assert (again.scores(features) == head.scores(features)).all()
    assert again.config == head.config
    CosineClassifier(temperature=0.1).fit(features, labels, n_classes=25, seed=9).save(tmp_path / "again")
    assert contents(tmp_path / "head") == contents(tmp_path / "again")


@pytest.mark.parametrize(
    "change",
    [
        {"directions": torch.zeros(4, 5)},
        {"directions": torch.full((4, 6), torch.nan)},
        {"centre": torch.zeros(5)},
        {"centre": torch.zeros(6, dtype=torch.float64)},
        {"classes": torch.tensor([3, 3, 8, 20])},
        {"classes": torch.tensor([3, 7, 8])},
        {"feature.scale": torch.zeros(6)},
    ],
)
def test_tensors_that_no_training_can_have_made_are_refused(tmp_path, change):
    CosineClassifier().fit(*blobs()).save(tmp_path)
    save_file(load_file(tmp_path / "head.safetensors") | change, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"head\.safetensors"):
        CosineClassifier.load(tmp_path)


# What the user can do wrong.


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"temperature": float("inf")}, {"scaling": "l2"}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        CosineConfig(**bad)


def test_untrained_heads_and_rows_that_do_not_fit_are_refused():
    features, labels = blobs()
    for use in (lambda new: new.predict(features), lambda new: new.save("never")):
        with pytest.raises(InputError, match="trained"):
            use(CosineClassifier())
    with pytest.raises(InputError, match="5 columns"):
        CosineClassifier().fit(features, labels).predict(features[:, :5])
    features[3, 2] = np.nan
    with pytest.raises(InputError, match="row 3, column 2"):
        CosineClassifier(scaling="none").fit(features, labels)


def lengthened(features, factor=30.0):
    """One column whose spread within classes drowns the others."""
    features = features.copy()
    features[:, 0] += factor * np.random.default_rng(5).normal(size=len(features)).astype(np.float32)
    return features


def test_whitening_is_fishers_angle():
    features, labels = blobs(noise=2.0)
    asked, _ = blobs(n_rows=20, seed=1)
    head = CosineClassifier(scaling="none", whitening=0.3).fit(features, labels)
    x, means = features.astype(np.float64), np.stack([features[labels == c].mean(0) for c in CLASSES])
    scatter = sum(
        np.outer(row - means[k], row - means[k]) for row, k in zip(x, np.searchsorted(CLASSES, labels), strict=True)
    )
    scatter = scatter / len(x) + 0.3 * np.trace(scatter / len(x)) / 6 * np.eye(6)
    metric, centre = np.linalg.inv(scatter), means.mean(0)
    a, b = asked - centre, means - centre
    lengths = np.sqrt(np.einsum("nd,de,ne->n", a, metric, a))[:, None] * np.sqrt(np.einsum("kd,de,ke->k", b, metric, b))
    twin = a @ metric @ b.T / lengths / 0.04
    twin -= np.log(np.exp(twin).sum(1, keepdims=True))
    np.testing.assert_allclose(head.decision_function(asked), twin, atol=2e-3)


def test_whitening_sees_through_a_noisy_column():
    features, labels = lengthened(blobs(n_rows=400)[0]), blobs(n_rows=400)[1]
    plain = CosineClassifier(scaling="none").fit(features, labels)
    round_ = CosineClassifier(scaling="none", whitening=0.01).fit(features, labels)
    assert (round_.predict(features) == labels).mean() > 0.95 > (plain.predict(features) == labels).mean()


def test_the_spread_is_that_of_the_seen_classes_where_they_are_named():
    features, labels = blobs(n_rows=400)
    unseen = np.isin(labels, [8, 20])
    noisy = np.where(unseen[:, None], lengthened(features), features)
    told = CosineClassifier(scaling="none", whitening=0.1).fit(noisy, labels, seen=[3, 7])
    clean = CosineClassifier(scaling="none", whitening=0.1).fit(features[~unseen], labels[~unseen])
    np.testing.assert_allclose(told.whitening, clean.whitening, atol=1e-5)


def test_a_whitened_head_comes_back_from_disk_and_rows_without_spread_are_legal(tmp_path):
    features, labels = blobs()
    head = CosineClassifier(whitening=1.0).fit(features, labels)
    head.save(tmp_path / "head")
    loaded = CosineClassifier.load(tmp_path / "head")
    assert loaded.decision_function(features).tobytes() == head.decision_function(features).tobytes()
    still = np.repeat(features[:4], 3, axis=0)
    flat = CosineClassifier(whitening=1.0).fit(still, np.repeat(labels[:4], 3))
    assert (flat.predict(still) == np.repeat(labels[:4], 3)).all()
