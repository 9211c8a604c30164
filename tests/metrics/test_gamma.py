"""Choice of gamma: what a biased classifier gains, what few classes can't bear, and what is to be expected."""

import numpy as np
import pytest

from fgen import rng
from fgen.errors import InputError
from fgen.metrics.accuracy import gzsl_scores
from fgen.metrics.gamma import TOLERANCE, HeldOut, apply_gamma, choose, choose_gamma


def scored_rows(bias: float, n_classes: int = 20, per_class: int = 12, noise: float = 1.0, seed: int = 0):
    """Labels, scores with seen classes raised by ``bias``, seen ids and unseen ids."""
    labels = np.repeat(np.arange(n_classes), per_class)
    scores = 3 * np.eye(n_classes)[labels] + noise * rng.stream(seed, "scores").standard_normal(
        (len(labels), n_classes)
    )
    seen = np.arange(n_classes // 2)
    scores[:, seen] += bias
    return labels, scores, seen, np.arange(n_classes // 2, n_classes)


@pytest.mark.parametrize("bias", [3.0, -3.0, 8.0])
def test_the_bias_towards_a_group_is_taken_back(bias):
    labels, scores, seen, unseen = scored_rows(bias)
    gamma = choose_gamma(scores, labels, seen, unseen)
    before, after = (gzsl_scores(labels, scores, seen=seen, unseen=unseen, gamma=g).H for g in (0.0, gamma))
    assert after > before + 0.1
    assert abs(gamma - bias) < 1.5


def test_among_gammas_of_nearly_the_highest_h_it_is_the_one_nearest_to_0():
    labels, scores, seen, unseen = scored_rows(3.0)
    gamma = choose_gamma(scores, labels, seen, unseen)
    tried = np.linspace(-2, 8, 1001)  # the slow twin
    h = np.array([gzsl_scores(labels, scores, seen=seen, unseen=unseen, gamma=g).H for g in tried])
    assert gamma == pytest.approx(tried[h >= (1 - TOLERANCE) * h.max()].min(), abs=0.05)


def test_a_fair_classifier_keeps_gamma_0():
    labels, scores, seen, unseen = scored_rows(0.0)
    assert choose_gamma(scores, labels, seen, unseen) == 0


def test_too_few_classes_or_rows_leave_gamma_at_0_and_say_so():
    for n_classes, per_class in ((6, 12), (20, 1)):
        labels, scores, seen, unseen = scored_rows(3.0, n_classes, per_class)
        choice = choose([HeldOut.of(labels, scores, seen, unseen)])
        assert choice.gamma == 0
        assert f"{len(unseen)} held-out classes ({len(unseen) * per_class} rows) are too few" in choice.sentence


def test_a_gain_that_one_class_alone_brings_is_no_reason():
    labels, scores, seen, unseen = scored_rows(0.0, noise=0.1)
    scores[labels == unseen[0], seen[0]] += 5.0  # margin 2: they are right with a gamma of more
    scores[(np.arange(len(labels)) % 12 == 0) & (labels < len(seen)), unseen[0]] += 2.0  # wrong with a gamma of 1
    choice = choose([HeldOut.of(labels, scores, seen, unseen)])
    assert choice.gamma == 0
    assert "no other is surely better" in choice.sentence


def test_accuracies_are_means_over_the_classes_of_all_folds():
    parts = [scored_rows(3.0, seed=seed) for seed in (0, 1)]
    first, second = (HeldOut.of(*part) for part in parts)
    both = choose([first, second])
    u = [gzsl_scores(p[0], p[1], seen=p[2], unseen=p[3], gamma=both.gamma).U for p in parts]
    assert both.expected["U"].mean == pytest.approx(np.mean(u))
    assert both.n_rows == 2 * choose([first]).n_rows
    assert both.n_classes == 10


def test_expected_scores_are_those_of_the_held_out_rows():
    labels, scores, seen, unseen = scored_rows(3.0)
    choice = choose([HeldOut.of(labels, scores, seen, unseen)])
    for gamma, expected in ((choice.gamma, choice.expected), (0.0, choice.uncalibrated)):
        measured = gzsl_scores(labels, scores, seen=seen, unseen=unseen, gamma=gamma)
        for name, score in expected.items():
            assert score.mean == pytest.approx(getattr(measured, name)), name
            assert 0 <= score.low <= score.mean <= score.high <= 1


def test_the_interval_holds_other_classes_of_the_kind_and_is_wider_for_fewer():
    holds = 0
    for seed in range(20):
        labels, scores, seen, unseen = scored_rows(1.0, n_classes=80, noise=1.5, seed=seed)
        known, other = np.isin(labels % 40, np.arange(20)), np.isin(labels % 40, np.arange(20, 40))
        choice = choose([HeldOut.of(labels[known], scores[known], seen, unseen)], n_seen=20, n_unseen=20)
        test = gzsl_scores(labels[other], scores[other], seen=seen, unseen=unseen, gamma=choice.gamma)
        holds += choice.expected["H"].low <= test.H <= choice.expected["H"].high
    assert holds >= 16
    few = choose([HeldOut.of(labels, scores, seen, unseen)], n_seen=3, n_unseen=3).expected["H"]
    assert few.high - few.low > choice.expected["H"].high - choice.expected["H"].low


def test_a_given_gamma_is_described_and_not_chosen():
    labels, scores, seen, unseen = scored_rows(3.0)
    choice = choose([HeldOut.of(labels, scores, seen, unseen)], gamma=0.0)
    assert choice.gamma == 0
    assert choice.expected == choice.uncalibrated
    assert pytest.approx(gzsl_scores(labels, scores, seen=seen, unseen=unseen).H) == choice.H


def test_seen_scores_are_lowered_in_a_copy():
    scores = np.ones((2, 3), dtype=np.float16)
    assert apply_gamma(scores, [0, 2], 0.5).tolist() == [[0.5, 1, 0.5]] * 2
    assert scores.min() == 1


@pytest.mark.parametrize(
    ("scores", "seen", "gamma", "message"),
    [
        ([1.0, 2.0], [0], 1.0, r"scores have shape \(2,\)"),
        ([[1.0, 2.0]], [2], 1.0, "a column for each seen class"),
        ([[1.0, 2.0]], [0], float("nan"), "gamma is nan"),
    ],
)
def test_what_gamma_cannot_be_applied_to_is_refused(scores, seen, gamma, message):
    with pytest.raises(InputError, match=message):
        apply_gamma(scores, seen, gamma)


def test_rows_of_one_group_alone_are_refused():
    labels, scores, seen, unseen = scored_rows(0.0)
    only_seen = np.isin(labels, seen)
    with pytest.raises(InputError, match="no held-out rows of seen or of unseen classes"):
        choose_gamma(scores[only_seen], labels[only_seen], seen, unseen)
