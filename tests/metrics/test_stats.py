from __future__ import annotations

import numpy as np
import pytest

from fgen.errors import InputError
from fgen.metrics.accuracy import GZSLScores, gzsl_scores
from fgen.metrics.calibration import harmonic_mean
from fgen.metrics.stats import _draw, _interval, _resample, paired_interval, summarise


def make(u, s, *, area: float | None = None, seen_offset: int = 100) -> GZSLScores:
    u, s = np.asarray(u, dtype=float), np.asarray(s, dtype=float)
    mean_u, mean_s = float(np.nanmean(u)), float(np.nanmean(s))
    return GZSLScores(
        T1=mean_u,
        U=mean_u,
        S=mean_s,
        H=harmonic_mean(mean_u, mean_s),
        AUSUC=area,
        gamma=0.0,
        accuracy=0.0,
        seen=np.arange(len(s)) + seen_offset,
        unseen=np.arange(len(u)),
        per_class_T1=u,
        per_class_U=u,
        per_class_S=s,
        curve=None,
    )


def random_scores(n_seeds: int, n_classes: int, *, key: int = 0) -> list[GZSLScores]:
    stream = np.random.default_rng(key)
    ease = stream.uniform(0.1, 0.6, (2, n_classes))
    return [make(*(ease + stream.uniform(0, 0.05, ease.shape)), area=stream.uniform(0.3, 0.5)) for _ in range(n_seeds)]


def test_the_mean_lies_in_its_interval_and_the_seeds_are_listed():
    per_seed = random_scores(5, 20)
    for name, line in summarise(per_seed).items():
        assert line["low"] < line["mean"] < line["high"]
        assert line["per_seed"] == [getattr(scores, name) for scores in per_seed]
        assert line["mean"] == pytest.approx(np.mean(line["per_seed"]))


def test_resampled_scores_equal_those_of_a_plain_loop_over_drawn_seeds_and_classes():
    per_seed = random_scores(3, 4)
    draws = _draw(per_seed[0], 3, seed=0, n_resamples=20)
    fast = _resample(per_seed, draws)
    for b in range(20):
        h = []
        for r in np.repeat(np.arange(3), draws["seeds"][b]):
            u = np.mean([per_seed[r].per_class_U[c] for c in np.repeat(np.arange(4), draws["U"][b])])
            s = np.mean([per_seed[r].per_class_S[c] for c in np.repeat(np.arange(4), draws["S"][b])])
            h.append(2 * u * s / (u + s))
        assert fast["H"][b] == pytest.approx(np.mean(h))


def test_classes_widen_the_interval_even_where_all_seeds_agree():
    scores = make([0.1, 0.5, 0.9], [0.2, 0.4, 0.6])
    line = summarise([scores] * 5)["U"]
    assert line["high"] - line["low"] > 0.2


def test_more_classes_give_a_narrower_interval():
    few, many = (summarise(random_scores(5, n))["H"] for n in (8, 200))
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    stream = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        scores = make(stream.uniform(0, 1, 40), stream.uniform(0, 1, 40))
        line = summarise([scores], n_resamples=400)["U"]
        hits += line["low"] <= 0.5 <= line["high"]
    assert 0.88 <= hits / 200 <= 0.99


def test_an_interval_leaves_out_a_fortieth_of_the_resamples_at_either_end():
    assert _interval(np.arange(4001)) == (100, 3900)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_the_same():
    per_seed = random_scores(3, 10)
    first, again, other = (summarise(per_seed, seed=seed)["H"] for seed in (0, 0, 1))
    assert first == again
    assert first["low"] != other["low"]
    assert first["low"] == pytest.approx(other["low"], abs=0.02)


def test_classes_without_rows_take_no_part():
    with_gap = summarise([make([0.2, np.nan, 0.6], [0.5, 0.7])])
    without = summarise([make([0.2, 0.6], [0.5, 0.7])])
    assert with_gap["H"] == without["H"]


def test_what_is_undefined_is_none_and_no_interval_of_width_zero_is_claimed():
    predicted_ids = gzsl_scores([0, 0], [0, 0], seen=[0], unseen=[1])
    summary = summarise([predicted_ids])
    for name in ("T1", "U", "H", "AUSUC"):
        assert summary[name] == {"mean": None, "low": None, "high": None, "per_seed": [None]}
    assert summary["S"]["mean"] == 1.0
    one_seed = summarise(random_scores(1, 5))["AUSUC"]
    assert one_seed["mean"] is not None
    assert one_seed["low"] is None


def test_a_method_does_not_differ_from_itself():
    per_seed = random_scores(3, 10)
    for name in ("T1", "U", "S", "H", "AUSUC"):
        expected = {"difference": 0.0, "low": 0.0, "high": 0.0, "share_positive": 0.0}
        assert paired_interval(per_seed, per_seed, name) == expected


def test_a_small_constant_gain_is_found_though_each_method_alone_varies_more():
    base = random_scores(3, 20)
    better = [make(x.per_class_U + 0.02, x.per_class_S + 0.02, area=x.AUSUC) for x in base]
    result = paired_interval(better, base, "U")
    alone = summarise(base)["U"]
    assert result["difference"] == pytest.approx(0.02)
    assert (result["low"], result["high"]) == pytest.approx((0.02, 0.02))
    assert result["share_positive"] == 1.0
    assert alone["high"] - alone["low"] > 0.04
    assert paired_interval(base, better, "H")["high"] < 0


def test_a_difference_that_hangs_on_one_class_is_not_called_certain():
    base = make(np.full(10, 0.5), np.full(10, 0.5))
    lucky = make([1.0] + [0.5] * 9, np.full(10, 0.5))
    assert paired_interval([lucky], [base], "U")["low"] == 0


def test_scores_that_cannot_be_paired_are_refused():
    a, b = random_scores(2, 5), random_scores(3, 5)
    with pytest.raises(InputError, match="2 and 3 seeds"):
        paired_interval(a, b)
    with pytest.raises(InputError, match="one of T1, U, S, H, AUSUC"):
        paired_interval(a, a, "accuracy")
    with pytest.raises(InputError, match="different classes"):
        summarise([make([0.5], [0.5]), make([0.5], [0.5], seen_offset=7)])
    with pytest.raises(InputError, match="same test rows"):
        summarise([make([0.5, 0.5], [0.5]), make([0.5, np.nan], [0.5])])
    with pytest.raises(InputError, match="at least one seed"):
        summarise([])
