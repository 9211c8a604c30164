"""The ridge baseline: against the optimum of a world made here, its primal against its dual, its settings."""

import numpy as np
import pytest

from fgen.baselines.ridge import RidgeConfig, ridge
from fgen.errors import InputError


class World:
    """Class means on a line through class embeddings, spherical noise, unseen classes last."""

    def __init__(self, embedding_dim=5, noise=0.7, seed=0):
        draw = np.random.default_rng(seed)
        self.embeddings = draw.normal(size=(30, embedding_dim))
        weights = draw.normal(size=(embedding_dim, 40))
        self.means = 5 + self.embeddings @ weights
        # Of one length about their centre, so that cosine and distance have the same optimum.
        self.means = 5 + 6 * (self.means - 5) / np.linalg.norm(self.means - 5, axis=1, keepdims=True)
        self.embeddings = np.linalg.lstsq(weights.T, (self.means - 5).T, rcond=None)[0].T
        self.labels = np.repeat(np.arange(24), 20)
        self.features = self.draw(draw, self.labels, noise)
        self.unseen = np.repeat(np.arange(24, 30), 50)
        self.test = self.draw(draw, self.unseen, noise)

    def draw(self, draw, labels, noise):
        return (self.means[labels] + noise * draw.normal(size=(len(labels), 40))).astype(np.float32)


def brute_ridge(x, y, penalty):
    """The obvious twin: least squares on rows extended by sqrt(penalty) times the identity."""
    dim = x.shape[1]
    extended = np.concatenate([x, np.sqrt(penalty) * np.eye(dim)])
    return np.linalg.lstsq(extended, np.concatenate([y, np.zeros((dim, y.shape[1]))]), rcond=None)[0]


@pytest.mark.parametrize("shape", [(10, 3), (10, 10), (10, 40)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_primal_and_dual_solve_the_same_problem(shape, penalty):
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=shape), draw.normal(size=(10, 6))
    np.testing.assert_allclose(ridge(x, y, penalty), brute_ridge(x, y, penalty), atol=1e-8)
    # Columns of zeros change nothing but force the dual.
    wide = np.concatenate([x, np.zeros((10, 50))], axis=1)
    np.testing.assert_allclose(ridge(wide, y, penalty)[: shape[1]], ridge(x, y, penalty), atol=1e-8)


@pytest.mark.parametrize("seen_prototypes", ["predicted", "mean"])
def test_unseen_classes_are_recognised_nearly_as_well_as_by_their_true_means(seen_prototypes):
    world = World()
    model = RidgeConfig(alpha=1e-3, seen_prototypes=seen_prototypes).build()
    scores = model.fit(world.features, world.labels, world.embeddings).scores(world.test)
    best = np.square(world.test[:, None] - world.means[None, 24:]).sum(2).argmin(1) + 24
    for candidates, slack in ((np.arange(24, 30), 0.02), (np.arange(30), 0.05)):
        predicted = candidates[scores[:, candidates].argmax(1)]
        optimum = (best == world.unseen).mean()
        assert (predicted == world.unseen).mean() > optimum - slack


def test_predicted_prototypes_are_the_true_means_where_rows_abound():
    world = World(noise=1e-3)
    model = RidgeConfig(alpha=1e-6).build().fit(world.features, world.labels, world.embeddings)
    np.testing.assert_allclose(model.prototypes + model.centre, world.means, atol=1e-2)


def test_how_many_rows_a_class_has_makes_no_difference():
    world = World()
    repeats = np.where(world.labels == 3, 9, 1)
    rows = np.repeat(np.arange(len(world.labels)), repeats)
    scores = [
        RidgeConfig().build().fit(world.features[r], world.labels[r], world.embeddings).scores(world.test)
        for r in (np.arange(len(world.labels)), rows)
    ]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_seen_prototypes_differ_for_seen_classes_alone():
    world = World()
    predicted, mean = (
        RidgeConfig(alpha=1.0, seen_prototypes=kind).build().fit(world.features, world.labels, world.embeddings)
        for kind in ("predicted", "mean")
    )
    np.testing.assert_array_equal(predicted.prototypes[24:], mean.prototypes[24:])
    real = world.features[world.labels == 3].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(mean.prototypes[3] + mean.centre, real, atol=1e-5)
    assert np.abs(predicted.prototypes[3] - mean.prototypes[3]).max() > 0.01


def test_scores_have_no_unit_so_that_a_gamma_transfers():
    world = World()
    plain = RidgeConfig(alpha=0.1).build().fit(world.features, world.labels, world.embeddings)
    moved = RidgeConfig(alpha=0.1).build().fit(world.features * 8 + 3, world.labels, world.embeddings * 100 - 7)
    scores = plain.scores(world.test)
    np.testing.assert_allclose(moved.scores(world.test * 8 + 3), scores, atol=1e-4)
    assert np.abs(scores).max() <= 1 + 1e-6


def test_embeddings_of_classes_without_rows_are_not_learnt_from():
    world = World()
    other = world.embeddings.copy()
    other[24:] += 100
    scores = [
        RidgeConfig().build().fit(world.features, world.labels, e).scores(world.test) for e in (world.embeddings, other)
    ]
    np.testing.assert_array_equal(scores[0][:, :24], scores[1][:, :24])


def test_the_seed_changes_nothing():
    world = World()
    scores = [
        RidgeConfig().build().fit(world.features, world.labels, world.embeddings, seed=s).scores(world.test)
        for s in (0, 1)
    ]
    np.testing.assert_array_equal(*scores)


def test_more_embedding_columns_than_classes_still_fit():
    world = World()
    wide = np.concatenate([world.embeddings, np.random.default_rng(0).normal(0, 0.01, (30, 500))], axis=1)
    scores = RidgeConfig(alpha=0.01).build().fit(world.features, world.labels, wide).scores(world.test)
    assert (scores[:, 24:].argmax(1) + 24 == world.unseen).mean() > 0.9


def test_embeddings_all_alike_predict_nothing_and_break_nothing():
    world = World()
    scores = RidgeConfig().build().fit(world.features, world.labels, np.ones((30, 4))).scores(world.test)
    assert (scores == 0).all()


def test_what_is_left_open_becomes_candidates_and_what_is_given_stays():
    assert len(RidgeConfig(alphas=(1.0, 2.0)).candidates()) == 4
    (only,) = RidgeConfig(alpha=3.0, seen_prototypes="mean").candidates()
    assert (only.alpha, only.seen_prototypes) == (3.0, "mean")
    assert all(c.alpha and c.seen_prototypes for c in RidgeConfig().candidates())


@pytest.mark.parametrize(
    "bad", [{"alpha": 0.0}, {"alpha": float("nan")}, {"alphas": (1.0, -1.0)}, {"alphas": ()}, {"seen_prototypes": "x"}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        RidgeConfig(**bad)


def test_a_baseline_prints_its_kind_and_sizes():
    baseline = RidgeConfig().build()
    assert repr(baseline).endswith(", not fitted>")
    baseline.fit(np.eye(4, 3, dtype=np.float32), [0, 1, 0, 1], np.eye(3))
    assert repr(baseline).endswith(" of 3 classes over 3 features>")
