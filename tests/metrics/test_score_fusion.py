"""Decision-level fusion of scores: calibration, the rules, and what is chosen on held-out rows."""

import numpy as np
import pytest
from scipy.special import softmax

from fgen.errors import InputError
from fgen.features.class_scores import NO_CANDIDATE
from fgen.metrics.decision_fusion import RULES, MemberScores, ScoreFusion

SEEN, UNSEEN = np.arange(6), np.arange(6, 10)
CANDIDATES = np.arange(10)


def members(seed, noises=(1.0, 1.0), scales=(1.0, 1.0), bias=0.0):
    """Scores of 400 rows by members whose log-probabilities are right but for their scale; class 10 is no candidate."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(CANDIDATES, 40)
    scores = []
    for noise, scale in zip(noises, scales, strict=True):
        evidence = (np.eye(11)[labels] + noise * draw.normal(size=(len(labels), 11))) / noise**2
        evidence[:, SEEN] += bias
        evidence[:, 10] = NO_CANDIDATE / scale
        scores.append((scale * evidence).astype(np.float32))
    return MemberScores(labels, tuple(scores), SEEN, UNSEEN)


def answered(scores):
    return (scores.argmax(axis=1) == members(0).labels).mean()


def test_calibration_finds_a_members_scale_and_its_bias_towards_seen_classes():
    fusion = ScoreFusion.fit("mean", [members(0, scales=(3.0, 0.1), bias=2.0), members(1, scales=(3.0, 0.1), bias=2.0)])
    np.testing.assert_allclose(fusion.slopes, [1 / 3, 10.0], rtol=0.2)
    # Both groups count the same, so each of the fewer unseen classes is likelier than a seen one.
    np.testing.assert_allclose(fusion.handicaps, 2.0 + np.log(6 / 4), atol=0.3)
    without = ScoreFusion.fit("mean", [members(0, bias=2.0)], with_handicap=False)
    assert without.handicaps == (0.0, 0.0)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_what_its_name_says_of_calibrated_probabilities(rule):
    fold = members(0, noises=(1.0, 1.5))
    fusion = ScoreFusion.fit(rule, [fold])
    parts = [
        softmax(slope * scores[:, :10] - handicap * (CANDIDATES < 6), axis=1)
        for scores, slope, handicap in zip(fold.scores, fusion.slopes, fusion.handicaps, strict=True)
    ]
    weights = fusion.weights
    if rule in ("mean", "weighted"):
        expected = weights[0] * parts[0] + weights[1] * parts[1]
    else:
        expected = parts[0] ** weights[0] * parts[1] ** weights[1]
        expected /= expected.sum(axis=1, keepdims=True)
    fused = fusion(fold.scores, SEEN, CANDIDATES)
    np.testing.assert_allclose(np.exp(fused[:, :10]), expected, rtol=1e-3, atol=1e-6)
    assert (fused[:, 10] == np.float32(NO_CANDIDATE)).all()
    if rule in ("mean", "product"):
        assert weights == ((0.5, 0.5) if rule == "mean" else (1.0, 1.0))


def test_a_member_that_knows_nothing_does_no_harm_where_weights_are_chosen():
    folds, asked = [members(seed, noises=(1.0, 50.0)) for seed in (1, 2)], members(0, noises=(1.0, 50.0))
    best = answered(asked.scores[0][:, :10] - 1.0 * (CANDIDATES < 6) * np.log(6 / 4))
    for rule in ("weighted", "stacked"):
        fusion = ScoreFusion.fit(rule, folds)
        assert answered(fusion(asked.scores, SEEN, CANDIDATES)) > best - 0.05


@pytest.mark.parametrize("rule", RULES)
def test_two_members_with_errors_of_their_own_are_better_than_one(rule):
    fusion, asked = ScoreFusion.fit(rule, [members(1)]), members(0)
    fused = answered(fusion(asked.scores, SEEN, CANDIDATES))
    assert fused > max(answered(scores[:, :10]) for scores in asked.scores) + 0.02


def test_given_weights_are_shares_and_a_fusion_can_be_kept_as_json():
    fusion = ScoreFusion.fit("weighted", [members(0)], [3.0, 1.0])
    assert fusion.weights == (0.75, 0.25)
    assert ScoreFusion.from_dict(fusion.as_dict(["a", "b"])) == fusion


def test_scores_of_other_rows_are_refused():
    fold = members(0)
    with pytest.raises(InputError, match="same rows"):
        MemberScores(fold.labels, (fold.scores[0], fold.scores[1][1:]), SEEN, UNSEEN)
