"""The toy world: its optimum is what it says it is."""

import math

import numpy as np
import pytest

from fgen.data.toy import make_toy, toy_world
from fgen.errors import InputError


def test_the_optimum_leaves_room_below_and_above():
    scores = [toy_world(seed=seed).optimum()["H"] for seed in range(8)]
    assert 0.85 < np.mean(scores) < 0.95
    assert max(scores) < 0.99


def test_between_two_classes_the_optimum_is_the_closed_form():
    world = toy_world(n_seen=2, n_unseen=2, feature_dim=3, rows_per_class=40_000, sigma=1.0, seed=5)
    features, labels = world.dataset.split("test_unseen")
    accuracy = np.mean(world.classify(features, np.array([2, 3])) == labels)
    exact = 0.5 * (1 + math.erf(np.linalg.norm(world.means[2] - world.means[3]) / (2 * world.sigma) / math.sqrt(2)))
    assert 0.6 < exact < 0.99
    assert accuracy == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 80_000))


def test_no_other_nearest_mean_rule_beats_the_optimum():
    world = toy_world(rows_per_class=400)
    features, labels = world.dataset.split("test_unseen")
    best = world.optimum()["T1"]
    draw = np.random.default_rng(0)
    for _ in range(10):
        moved = world.means[world.dataset.unseen] + draw.normal(scale=0.4, size=(5, 16))
        nearest = np.argmin(((features[:, None] - moved) ** 2).sum(axis=2), axis=1)
        assert np.mean(world.dataset.unseen[nearest] == labels) < best


def test_means_of_unseen_classes_are_linear_in_their_descriptions():
    """So a method that learns on seen classes can, in principle, reach the optimum."""
    world = toy_world()
    data = world.dataset
    inputs = np.column_stack([data.class_embeddings, np.ones(data.n_classes)])
    weights, *_ = np.linalg.lstsq(inputs[data.seen], world.means[data.seen], rcond=None)
    assert np.allclose(inputs[data.unseen] @ weights, world.means[data.unseen], atol=1e-5)


def test_features_are_hardly_ever_negative():
    assert np.mean(make_toy(rows_per_class=400).features < 0) < 1e-4


def test_a_seed_names_a_world():
    assert make_toy(seed=3).fingerprint == toy_world(seed=3).dataset.fingerprint
    assert make_toy(seed=3).fingerprint != make_toy(seed=4).fingerprint


def test_splits_hold_three_quarters_of_the_seen_rows_for_training():
    data = make_toy()
    assert {
        name: len(rows) for name, rows in data.splits.items() if name in ("trainval", "test_seen", "test_unseen")
    } == {
        "trainval": 600,
        "test_seen": 200,
        "test_unseen": 200,
    }
    assert len(data.seen) == 20
    assert data.class_names[7] == "class 07"


@pytest.mark.parametrize(
    ("change", "words"), [({"n_seen": 1}, "n_seen is 1"), ({"sigma": 0.0}, "sigma is 0"), ({"rows_per_class": 1}, "2")]
)
def test_a_world_that_cannot_be_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        make_toy(**change)
