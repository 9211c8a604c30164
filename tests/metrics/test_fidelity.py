from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from fgen.errors import InputError
from fgen.metrics.fidelity import compare_features, frechet_distance, neighbour_scores


def slow_frechet(a, b):
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(s_a @ s_b))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s_a) + np.trace(s_b) - 2 * np.trace(root)


def slow_neighbour_scores(reference, rows, k):
    def distance(x, y):
        return float(np.sqrt(sum((x - y) ** 2)))

    def radii(x):
        return [sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1] for i in range(len(x))]

    r, g = radii(reference), radii(rows)
    inside = [[distance(y, x) <= r[i] for i, x in enumerate(reference)] for y in rows]
    return {
        "precision": np.mean([any(line) for line in inside]),
        "recall": np.mean([any(distance(x, y) <= g[j] for j, y in enumerate(rows)) for x in reference]),
        "density": np.sum(inside) / (k * len(rows)),
        "coverage": np.mean([any(line[i] for line in inside) for i in range(len(reference))]),
    }


def classes(n, *, n_classes=4, dim=16, shift=0.0, key=0):
    means = np.random.default_rng(99).normal(size=(n_classes, dim)) * 3
    labels = np.repeat(np.arange(n_classes), n)
    noise = np.random.default_rng(key).normal(size=(len(labels), dim))
    return means[labels] + noise + shift, labels


@given(st.integers(0, 1000), st.integers(8, 40), st.integers(8, 40))
@settings(max_examples=25, deadline=None)
def test_the_nuclear_norm_gives_the_frechet_distance_of_the_matrix_root(key, n, m):
    stream = np.random.default_rng(key)
    mix = stream.normal(size=(5, 5))
    a, b = stream.normal(size=(n, 5)), stream.normal(size=(m, 5)) @ mix + 1
    assert frechet_distance(a, b) == pytest.approx(slow_frechet(a, b), rel=1e-6)


def test_far_fewer_rows_than_columns_give_a_real_finite_distance():
    stream = np.random.default_rng(0)
    a, b = stream.normal(size=(20, 2048)).astype(np.float32), stream.normal(size=(30, 2048)).astype(np.float32)
    assert 0 < frechet_distance(a, b) < 10_000
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 1) == pytest.approx(2048, rel=1e-5)


def test_the_distance_is_symmetric_and_ignores_rotations():
    stream = np.random.default_rng(1)
    a, b = stream.normal(size=(30, 6)), 2 * stream.normal(size=(10, 6)) + 1
    rotation = np.linalg.qr(stream.normal(size=(6, 6)))[0]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b))


@given(st.integers(0, 1000), st.integers(1, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_neighbour_scores_equal_those_of_plain_loops(key, k, on_a_grid):
    stream = np.random.default_rng(key)
    reference, rows = stream.normal(size=(12, 2)), stream.normal(size=(9, 2)) * 1.5
    if on_a_grid:  # ties and repeated rows
        reference, rows = np.round(reference), np.round(rows)
    assert neighbour_scores(reference, rows, k) == pytest.approx(slow_neighbour_scores(reference, rows, k))


def test_identical_features_score_one_even_where_every_row_repeats():
    x = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 8, axis=0)
    scores = neighbour_scores(x, x, k=5)
    assert (scores["precision"], scores["recall"], scores["coverage"]) == (1.0, 1.0, 1.0)


def test_blocks_do_not_change_the_scores(monkeypatch):
    stream = np.random.default_rng(0)
    a, b = stream.normal(size=(50, 4)), stream.normal(size=(40, 4))
    whole = neighbour_scores(a, b)
    monkeypatch.setattr("fgen.metrics.fidelity.BLOCK_ROWS", 7)
    assert neighbour_scores(a, b) == whole


def test_a_collapsed_generator_has_precision_without_recall():
    reference = np.random.default_rng(0).normal(size=(200, 4))
    collapsed = np.random.default_rng(1).normal(size=(200, 4)) * 0.05
    scores = neighbour_scores(reference, collapsed)
    assert scores["precision"] > 0.95
    assert scores["recall"] < 0.05


def test_features_of_the_true_distribution_score_like_real_ones():
    result = compare_features(*classes(80), *classes(50, key=1)).overall
    assert result.n_rows == 4 * 40
    assert result.synthetic.frechet == pytest.approx(result.real_split.frechet, rel=0.25)
    assert result.synthetic.coverage == pytest.approx(result.real_split.coverage, abs=0.1)
    assert result.synthetic.nearest_mean == result.real_split.nearest_mean == 1.0


def test_shifted_features_are_further_away_than_another_half_of_real_ones():
    result = compare_features(*classes(80), *classes(80, key=1, shift=2.0))
    for comparison in [result.overall, *result.per_class.values()]:
        assert comparison.synthetic.frechet > 2 * comparison.real_split.frechet
        assert comparison.synthetic.precision < comparison.real_split.precision


def test_features_under_the_wrong_label_are_seen_by_the_nearest_mean():
    synthetic, labels = classes(40, key=1)
    result = compare_features(*classes(80), synthetic, (labels + 1) % 4)
    assert result.overall.synthetic.nearest_mean == 0.0
    assert result.overall.real_split.nearest_mean == 1.0


def test_each_class_is_compared_at_one_size_for_all_three_sets():
    real, real_labels = classes(30)
    synthetic, synthetic_labels = classes(9, key=1)
    keep = synthetic_labels != 3  # class 3 has no generated rows
    result = compare_features(real, real_labels, synthetic[keep], synthetic_labels[keep])
    assert sorted(result.per_class) == [0, 1, 2]
    assert {comparison.n_rows for comparison in result.per_class.values()} == {9}
    assert result.overall.n_rows == 27


def test_a_class_of_few_rows_gets_no_made_up_numbers():
    result = compare_features(*classes(3), *classes(3, key=1))
    facts = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert facts["per_class"]["0"]["synthetic"]["frechet"] is None
    assert facts["per_class"]["0"]["synthetic"]["coverage"] is None
    assert facts["per_class"]["0"]["synthetic"]["nearest_mean"] == 1.0


def test_the_same_seed_gives_the_same_numbers_and_max_rows_bounds_the_work():
    real, synthetic = classes(60), classes(60, key=1)
    first = compare_features(*real, *synthetic, max_rows=40)
    assert first == compare_features(*real, *synthetic, max_rows=40)
    assert first != compare_features(*real, *synthetic, max_rows=40, seed=1)
    assert first.overall.n_rows == 40


def test_the_overall_comparison_takes_rows_of_every_class_however_few_it_takes():
    synthetic, labels = classes(60, key=1)
    synthetic[labels == 3] += 20
    overall = compare_features(*classes(60), synthetic, labels, max_rows=40).overall
    assert overall.n_rows == 40
    assert overall.synthetic.frechet > 10 * overall.real_split.frechet


def test_what_cannot_be_compared_is_refused():
    x, labels = classes(10)
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InputError, match="synthetic holds nan in row 3"):
        compare_features(x, labels, bad, labels)
    with pytest.raises(InputError, match="same space"):
        compare_features(x, labels, x[:, :5], labels)
    with pytest.raises(InputError, match="no class has both"):
        compare_features(x, labels, x, labels + 50)
    with pytest.raises(InputError, match="its labels"):
        compare_features(x, labels[:-1], x, labels)
    with pytest.raises(InputError, match="at least 2 rows"):
        frechet_distance(x[:1], x)
    with pytest.raises(InputError, match="k is 10"):
        neighbour_scores(x[:10], x, k=10)


def test_tensors_are_compared_as_arrays_are():
    draw = np.random.default_rng(0)
    x, y, labels = draw.normal(size=(20, 3)), draw.normal(size=(20, 3)), np.arange(20) % 2
    tensors = [torch.tensor(rows, requires_grad=True) for rows in (x, y)]
    ids = torch.tensor(labels)
    assert compare_features(tensors[0], ids, tensors[1], ids) == compare_features(x, labels, y, labels)
    assert frechet_distance(*tensors) == frechet_distance(x, y)
    assert neighbour_scores(*tensors) == neighbour_scores(x, y)
    with pytest.raises(InputError, match="real holds complex numbers"):
        compare_features(x + 1j, labels, y, labels)
