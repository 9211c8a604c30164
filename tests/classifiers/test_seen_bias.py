"""Row weights and prior offsets: against loops, duplicated rows and autograd, and what they do to the answers."""

import math

import numpy as np
import pytest
import torch

from fgen.classifiers.seen_bias import log_prior, row_weights
from fgen.classifiers.softmax import SoftmaxClassifier, SoftmaxConfig, initial_parameters, train_adam
from fgen.errors import InputError
from fgen.features.scaled_rows import ScaledRows
from fgen.features.scaling import FeatureScaler

pytestmark = pytest.mark.numeric

CLASSES = np.array([3, 7, 8, 20])
SEEN = [3, 8]
IS_SEEN = torch.tensor([True, False, True, False])


def overlapping(counts=(60, 20, 40, 20), seed=0):
    """Rows of four classes whose clouds overlap; the seen ones have more."""
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(0, 0.7, (4, 6))
    positions = np.repeat(np.arange(4), counts)
    return (means[positions] + draw.normal(size=(len(positions), 6))).astype(np.float32), CLASSES[positions]


def positions_of(labels):
    return torch.from_numpy(np.searchsorted(CLASSES, labels))


def slow_log_prior(targets, is_seen, ratio):
    """Class by class, from the paper's two factors."""
    targets, is_seen = targets.tolist(), is_seen.tolist()
    counts = [targets.count(c) for c in range(len(is_seen))]
    result = []
    for c, seen in enumerate(is_seen):
        of_group = sum(n for n, other in zip(counts, is_seen, strict=True) if other == seen)
        result.append(math.log(counts[c] / of_group) + math.log((ratio if seen else 1) / (1 + ratio)))
    return torch.tensor(result)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 30.0])
def test_offsets_are_the_papers_two_factors(ratio):
    targets = torch.tensor([0] * 5 + [1] * 2 + [2] * 3 + [3] * 2)
    expected = slow_log_prior(targets, IS_SEEN, ratio)
    torch.testing.assert_close(log_prior(targets, IS_SEEN, ratio), expected)
    of_unseen = log_prior(targets, IS_SEEN, ratio)[~IS_SEEN].exp()
    torch.testing.assert_close(of_unseen, torch.full((2,), 0.5 / (1 + ratio)))  # 1 / U each, as published


def test_without_a_ratio_the_prior_is_the_share_of_the_rows():
    targets = torch.tensor([0] * 5 + [1] * 2 + [2] * 3 + [3] * 2)
    torch.testing.assert_close(log_prior(targets, IS_SEEN, None).exp(), torch.tensor([5.0, 2, 3, 2]) / 12)


def test_a_class_without_rows_has_a_finite_prior_below_any_other():
    offsets = log_prior(torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True]), 10.0)
    assert torch.isfinite(offsets).all()
    assert offsets[2] < offsets[0]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_with_offsets_is_the_autograd_twin_that_adds_them_to_its_logits(weight_decay):
    features, labels = overlapping()
    targets, offsets = positions_of(labels), torch.tensor([2.0, -1.0, 0.5, -3.0]).double()
    config = SoftmaxConfig(epochs=4, batch_size=len(labels), weight_decay=weight_decay, lr=0.1)
    rows = ScaledRows(features, FeatureScaler.fit("none", features), dtype=torch.float64)
    weight, bias = (parameter.double() for parameter in initial_parameters(4, 6, seed=5))
    twin = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    train_adam(rows, targets, torch.ones(len(labels), 1), (weight, bias), config, seed=5, offsets=offsets)
    adam = torch.optim.Adam(twin, lr=0.1, betas=(0.5, 0.999), weight_decay=weight_decay)
    for _ in range(4):
        adam.zero_grad()
        logits = torch.from_numpy(features).double() @ twin[0].T + twin[1] + offsets
        torch.nn.functional.cross_entropy(logits, targets).backward()
        adam.step()
    torch.testing.assert_close(weight, twin[0].detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(bias, twin[1].detach(), atol=1e-5, rtol=0)


def test_lbfgs_with_a_ratio_ends_where_the_gradient_of_the_adjusted_loss_is_zero():
    features, labels = overlapping()
    settings = {"solver": "lbfgs", "l2": 1e-2, "scaling": "none", "logit_adjustment": 0.7, "prior_ratio": 30.0}
    head = SoftmaxClassifier(**settings).fit(features, labels, seen=SEEN)
    weight, bias = head.weight.double().requires_grad_(), head.bias.double().requires_grad_()
    targets = positions_of(labels)
    logits = torch.from_numpy(features).double() @ weight.T + bias + 0.7 * slow_log_prior(targets, IS_SEEN, 30.0)
    (torch.nn.functional.cross_entropy(logits, targets) + 0.005 * weight.square().sum()).backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-4


def test_with_lbfgs_a_ratio_is_calibrated_stacking_by_its_logarithm():
    features, labels = overlapping()
    settings = {"solver": "lbfgs", "l2": 1e-2, "logit_adjustment": 1.0}
    heads = [SoftmaxClassifier(**settings, prior_ratio=r).fit(features, labels, seen=SEEN) for r in (1.0, 5.0)]
    expected = heads[0].predict(features, gamma=math.log(5), seen=SEEN)
    assert (heads[1].predict(features) == expected).mean() > 0.99
    assert (heads[0].predict(features) != expected).any()


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_larger_the_ratio_the_more_rows_go_to_unseen_classes(solver):
    features, labels = overlapping()

    def share(**settings):
        head = SoftmaxClassifier(solver=solver, epochs=60, lr=0.01, **settings).fit(features, labels, seen=SEEN)
        return (~np.isin(head.predict(features), SEEN)).mean()

    shares = [share(), *(share(logit_adjustment=1.0, prior_ratio=ratio) for ratio in (2.0, 10.0))]
    assert shares[0] + 0.05 < shares[1] < shares[2] - 0.05


def test_among_unseen_classes_alone_a_ratio_changes_nothing():
    features, labels = overlapping((30, 30, 30, 30))
    plain = SoftmaxClassifier(epochs=5).fit(features, labels, seen=[0, 1])
    adjusted = SoftmaxClassifier(epochs=5, logit_adjustment=1.0, prior_ratio=30.0).fit(features, labels, seen=[0, 1])
    np.testing.assert_allclose(adjusted.decision_function(features), plain.decision_function(features), atol=1e-4)


# Row weights.


def test_a_seen_weight_of_three_is_every_seen_row_three_times():
    features, labels = overlapping()
    repeats = np.where(np.isin(labels, SEEN), 3, 1)
    settings = {"solver": "lbfgs", "l2": 1e-2, "scaling": "none"}
    weighted = SoftmaxClassifier(**settings, seen_weight=3.0).fit(features, labels, seen=SEEN)
    repeated = SoftmaxClassifier(**settings).fit(np.repeat(features, repeats, axis=0), np.repeat(labels, repeats))
    np.testing.assert_allclose(weighted.predict_proba(features), repeated.predict_proba(features), atol=1e-3)
    plain = SoftmaxClassifier(**settings).fit(features, labels)
    assert np.abs(plain.predict_proba(features) - repeated.predict_proba(features)).max() > 0.05


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_light_seen_rows_leave_more_room_for_unseen_classes(solver):
    features, labels = overlapping()
    settings = {"solver": solver, "epochs": 60, "lr": 0.01}
    heads = [SoftmaxClassifier(**settings, seen_weight=w).fit(features, labels, seen=SEEN) for w in (1.0, 0.1)]
    shares = [np.isin(head.predict(features), SEEN).mean() for head in heads]
    assert shares[1] < shares[0] - 0.1


def test_balance_and_seen_weight_multiply_and_keep_the_mean():
    targets = torch.tensor([0] * 6 + [1] * 2 + [2] * 3 + [3] * 1)
    weights = row_weights(targets, IS_SEEN, balanced=True, seen_weight=0.1)
    assert weights.shape == (12, 1)
    sums = torch.zeros(4).index_add_(0, targets, weights[:, 0])
    torch.testing.assert_close(sums / sums[1], torch.tensor([0.1, 1.0, 0.1, 1.0]))
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))


# What the user can do wrong.


@pytest.mark.parametrize("settings", [{"seen_weight": 0.1}, {"logit_adjustment": 1.0, "prior_ratio": 30.0}])
def test_a_head_that_treats_seen_classes_apart_has_to_be_told_them(settings):
    features, labels = overlapping()
    with pytest.raises(InputError, match="without seen"):
        SoftmaxClassifier(**settings).fit(features, labels)
    with pytest.raises(InputError, match="mask"):
        SoftmaxClassifier(**settings).fit(features, labels, seen=np.array([True, False, True, False]))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"seen_weight": 0.0}, "seen_weight"),
        ({"logit_adjustment": -1.0}, "logit_adjustment"),
        ({"logit_adjustment": 1.0, "prior_ratio": 0.0}, "prior_ratio"),
        ({"prior_ratio": 30.0}, "nothing uses it.*logit_adjustment = 1"),
    ],
)
def test_settings_out_of_range_are_refused(bad, words):
    with pytest.raises(InputError, match=rf"(?s){words}"):
        SoftmaxConfig(**bad)
