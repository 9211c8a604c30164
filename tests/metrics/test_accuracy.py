from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgen.errors import InputError
from fgen.features import class_scores
from fgen.features.class_scores import predict_classes
from fgen.metrics.accuracy import gzsl_scores, mean_accuracy, per_class_accuracy
from fgen.metrics.calibration import CalibrationCurve, ausuc, best_gamma, harmonic_mean

SEEN, UNSEEN = [0, 2, 5], [1, 3]
N_CLASSES = 6  # class 4 is in neither group


@st.composite
def tasks(draw):
    """Labels and small whole-number scores, so that ties and absent classes are common."""
    n = draw(st.integers(1, 12))
    labels = draw(st.lists(st.sampled_from(SEEN + UNSEEN), min_size=n, max_size=n))
    row = st.lists(st.integers(-3, 3), min_size=N_CLASSES, max_size=N_CLASSES)
    return np.array(labels), np.array(draw(st.lists(row, min_size=n, max_size=n)), dtype=np.float32)


def slow_per_class(labels, predictions, classes):
    result = []
    for c in classes:
        right = [p == y for y, p in zip(labels, predictions, strict=True) if y == c]
        result.append(sum(right) / len(right) if right else float("nan"))
    return result


def slow_predictions(scores, gamma):
    result = []
    for row in scores:
        best_seen = max(row[c] for c in SEEN)
        best_unseen = max(row[c] for c in UNSEEN)
        group, best = (SEEN, best_seen) if best_seen - gamma >= best_unseen else (UNSEEN, best_unseen)
        result.append(next(c for c in group if row[c] == best))
    return result


def slow_mean(values):
    present = [v for v in values if v == v]
    return sum(present) / len(present) if present else float("nan")


@given(tasks(), st.integers(-14, 14).map(lambda x: x / 2))
def test_all_scores_equal_those_of_a_plain_loop(task, gamma):
    labels, scores = task
    result = gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN, gamma=gamma)
    predictions = slow_predictions(scores.tolist(), gamma)
    u = slow_per_class(labels, predictions, UNSEEN)
    s = slow_per_class(labels, predictions, SEEN)
    among_unseen = [max(UNSEEN, key=lambda c, row=row: (row[c], -c)) for row in scores.tolist()]
    np.testing.assert_allclose(result.per_class_U, u)
    np.testing.assert_allclose(result.per_class_S, s)
    np.testing.assert_allclose(result.per_class_T1, slow_per_class(labels, among_unseen, UNSEEN))
    np.testing.assert_allclose([result.U, result.S], [slow_mean(u), slow_mean(s)])
    assert result.accuracy == np.mean(labels == predictions)
    assert predict_classes(scores, seen=SEEN, unseen=UNSEEN, gamma=gamma).tolist() == predictions


@given(tasks())
def test_the_curve_equals_rescoring_at_every_calibration(task):
    labels, scores = task
    curve = gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN).curve
    between = (curve.breakpoints[1:] + curve.breakpoints[:-1]) / 2
    for gamma in [-99.0, 99.0, *curve.breakpoints, *between]:
        exact = gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN, gamma=gamma)
        np.testing.assert_allclose(curve.at(gamma), (exact.S, exact.U), atol=1e-12)


@given(tasks())
def test_the_area_is_the_trapezoids_under_the_rescored_points(task):
    labels, scores = task
    points = [gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN, gamma=g) for g in np.arange(-7.25, 8, 0.5)]
    area = sum((b.U - a.U) * (a.S + b.S) / 2 for a, b in pairwise(points))
    np.testing.assert_allclose(points[0].AUSUC, area, atol=1e-12)


@given(tasks())
def test_no_calibration_beats_the_best_gamma_and_rescoring_there_gives_its_h(task):
    labels, scores = task
    if len(set(labels) & set(SEEN)) == 0 or len(set(labels) & set(UNSEEN)) == 0:
        return
    gamma, h = best_gamma(gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN).curve)
    every = [gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN, gamma=g).H for g in np.arange(-7.25, 8, 0.25)]
    assert h == pytest.approx(max(every))
    rescored = gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN, gamma=gamma).H
    assert rescored == pytest.approx(h)


@given(tasks())
def test_raising_gamma_never_helps_seen_classes_nor_harms_unseen_ones(task):
    curve = gzsl_scores(*task, seen=SEEN, unseen=UNSEEN).curve
    if not np.isnan(curve.H).any():
        assert (np.diff(curve.seen) <= 0).all()
        assert (np.diff(curve.unseen) >= 0).all()
        assert curve.seen[-1] == curve.unseen[0] == 0
        assert 0 <= ausuc(curve) <= 1


@given(tasks(), st.floats(-50, 50))
def test_adding_a_constant_to_seen_scores_moves_gamma_and_changes_nothing_else(task, shift):
    labels, scores = task
    moved = scores.astype(np.float64)
    moved[:, SEEN] += round(shift)
    a, b = (gzsl_scores(labels, given, seen=SEEN, unseen=UNSEEN).curve for given in (scores, moved))
    np.testing.assert_allclose(b.breakpoints, a.breakpoints + round(shift))
    np.testing.assert_array_equal(a.seen, b.seen)


def test_a_tie_between_the_groups_goes_to_the_seen_class():
    result = gzsl_scores([0, 1], np.array([[1.0, 1.0], [1.0, 1.0]]), seen=[0], unseen=[1])
    assert (result.S, result.U) == (1.0, 0.0)


def test_a_tolerant_gamma_ignores_a_single_high_tooth_of_the_curve():
    """Twenty rows of each group whose margins agree, but for one unseen row that a far gamma also catches."""
    seen, unseen = np.linspace(4, 8, 20), np.append(np.linspace(-2, 2, 19), 4.5)
    margins = np.concatenate([seen, unseen])
    scores = np.stack([margins, np.zeros(40)], axis=1)
    curve = gzsl_scores(np.repeat([0, 1], 20), scores, seen=[0], unseen=[1]).curve
    exact, h_exact = best_gamma(curve)
    tolerant, h_tolerant = best_gamma(curve, tolerance=0.1)
    assert 2 < tolerant < 5
    assert 0.9 * h_exact <= h_tolerant <= h_exact
    rescored = gzsl_scores(np.repeat([0, 1], 20), scores, seen=[0], unseen=[1], gamma=tolerant)
    assert h_tolerant == pytest.approx(rescored.H)
    assert exact != tolerant


def test_best_gamma_stands_in_the_middle_of_its_plateau():
    scores = np.array([[5.0, 0.0], [1.0, 0.0]])  # margin 5 for the seen row, 1 for the unseen row
    gamma, h = best_gamma(gzsl_scores([0, 1], scores, seen=[0], unseen=[1]).curve)
    assert (gamma, h) == (3.0, 1.0)


def test_a_perfect_ranking_fills_the_unit_square():
    assert gzsl_scores([0, 1], np.array([[5.0, 0.0], [1.0, 0.0]]), seen=[0], unseen=[1]).AUSUC == 1.0


def test_many_rows_of_one_class_do_not_drown_the_others():
    labels = [1] * 98 + [3, 3]
    result = gzsl_scores(labels, [1] * 100, seen=SEEN, unseen=UNSEEN)
    assert result.U == 0.5
    assert result.accuracy == 0.98


def test_classes_without_rows_are_left_out_of_the_mean():
    result = gzsl_scores([0, 0, 1], [0, 2, 1], seen=SEEN, unseen=UNSEEN)
    assert (result.S, result.U) == (0.5, 1.0)
    assert np.isnan(result.per_class_S[1:]).all()


def test_without_seen_rows_s_and_h_are_undefined_and_json_gets_null():
    result = gzsl_scores([1, 3], np.eye(6)[[1, 1]], seen=SEEN, unseen=UNSEEN)
    facts = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert (facts["S"], facts["H"], facts["AUSUC"], facts["U"], facts["T1"]) == (None, None, None, 0.5, 0.5)
    assert facts["per_class_U"] == {"1": 1.0, "3": 0.0}
    with pytest.raises(InputError, match="rows of both"):
        best_gamma(result.curve)


def test_scores_of_classes_in_neither_group_never_count():
    labels, scores = np.array([0, 1]), np.eye(6)[[0, 1]]
    scores[:, 4] = [np.nan, 99]
    assert gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN).H == 1.0


def test_predicted_ids_give_no_t1_and_no_area():
    result = gzsl_scores([0, 1], [0, -1], seen=SEEN, unseen=UNSEEN)
    assert (result.T1, result.AUSUC, result.curve, result.S, result.U) == (None, None, None, 1.0, 0.0)


def test_harmonic_mean_of_two_zeros_is_zero():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_per_class_accuracy_follows_the_order_of_the_classes_asked_for(labels, data):
    predictions = data.draw(st.lists(st.integers(-1, 7), min_size=len(labels), max_size=len(labels)))
    classes = data.draw(st.permutations(range(7)))[: data.draw(st.integers(1, 7))]
    fast = per_class_accuracy(labels, predictions, classes)
    np.testing.assert_allclose(fast, slow_per_class(labels, predictions, classes))


def test_the_mean_of_no_class_is_undefined_without_a_warning():
    assert np.isnan(mean_accuracy(np.array([np.nan, np.nan])))


GOOD = np.zeros((2, 6))


@pytest.mark.parametrize(
    ("labels", "given_scores", "change", "part"),
    [
        ([0, 4], GOOD, {}, r"labels\[1\] is 4"),
        ([0, 9], GOOD, {}, r"labels\[1\] is 9"),
        ([0], GOOD, {}, r"expected \(1, C\)"),
        ([0, 1], GOOD[:, :4], {}, "at least 6"),
        ([0, 1], np.array([GOOD[0], [0, np.nan, 0, 0, 0, 0]]), {}, "row 1 .*nan"),
        ([0, 1], np.full((2, 6), np.inf), {}, "row 0 .*inf"),
        ([0, 1], [0, 4], {}, r"predictions\[1\] is 4"),
        ([0, 1], [0], {}, "one for each label"),
        ([0, 1], [0.0, 1.0], {}, "float64"),
        ([0, 1], [0, 1], {"gamma": 1.0}, "class scores"),
        ([0, 1], GOOD, {"gamma": float("nan")}, "gamma is NaN"),
        ([0, 1], GOOD, {"seen": [0, 1]}, "class 1 is in seen and in unseen"),
        ([0, 1], GOOD, {"seen": [True, False]}, "flatnonzero"),
        ([], np.zeros((0, 6)), {}, "at least one class id"),
        ([0, 1], GOOD * 1j, {}, "predictions_or_scores holds complex numbers"),
        ([0, 1], np.ma.array(GOOD, mask=np.eye(2, 6)), {}, "masked array that hides 2"),
        ([0, 1], [[0.0] * 6, [0.0]], {}, "predictions_or_scores is no array of numbers"),
        (["ant", "bee"], GOOD, {}, "labels holds the text 'ant' in row 0; expected numbers"),
        (np.ma.array([0, 1], mask=[0, 1]), GOOD, {}, "labels is a masked array"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(labels, given_scores, change, part):
    with pytest.raises(InputError, match=part):
        gzsl_scores(labels, given_scores, **({"seen": SEEN, "unseen": UNSEEN} | change))


def test_tensors_score_as_arrays_do():
    scores = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    labels = np.array([*SEEN, *UNSEEN])[[0, 1, -1, -2, 0, -1]]
    expected = gzsl_scores(labels, scores, seen=SEEN, unseen=UNSEEN)
    given = torch.tensor(scores, requires_grad=True)
    seen, unseen = torch.tensor(SEEN), torch.tensor(UNSEEN)
    for other in (given, given.detach().tolist(), scores.astype(object)):
        found = gzsl_scores(torch.tensor(labels), other, seen=seen, unseen=unseen)
        assert found.as_dict() == expected.as_dict()
    halves = gzsl_scores(labels, given.bfloat16(), seen=SEEN, unseen=UNSEEN)
    assert halves.as_dict() == gzsl_scores(labels, given.bfloat16().float(), seen=SEEN, unseen=UNSEEN).as_dict()


@pytest.mark.parametrize(
    ("breakpoints", "n_seen", "n_unseen"), [([0, 1], 2, 3), ([0, 1], 3, 4), ([1, 0], 3, 3), ([[0, 1]], 3, 3)]
)
def test_a_curve_whose_parts_do_not_fit_is_refused(breakpoints, n_seen, n_unseen):
    """As one read from a damaged file."""
    with pytest.raises(InputError, match="a calibration curve has breakpoints"):
        CalibrationCurve(np.array(breakpoints), np.ones(n_seen), np.ones(n_unseen))


def test_scores_in_blocks_decide_as_all_at_once_and_name_the_row_that_is_wrong(monkeypatch):
    stream = np.random.default_rng(3)
    labels, scores = stream.integers(0, 6, 50), stream.integers(0, 4, (50, 6)).astype(np.float32)
    whole = gzsl_scores(labels, scores, seen=[0, 2, 5], unseen=[1, 3, 4], gamma=0.5).as_dict()
    monkeypatch.setattr(class_scores, "BLOCK_SCORES", 6 * 7)
    assert gzsl_scores(labels, scores, seen=[0, 2, 5], unseen=[1, 3, 4], gamma=0.5).as_dict() == whole
    scores[33, 2] = np.nan
    with pytest.raises(InputError, match="row 33 has best scores nan"):
        gzsl_scores(labels, scores, seen=[0, 2, 5], unseen=[1, 3, 4])
