"""L-BFGS's parts against their slow twins, in float32 and in bfloat16."""

from collections import deque

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fgen.classifiers import lbfgs
from fgen.classifiers.lbfgs import SLOPE_LEFT, RecomputedLine, Stop, StoredLine, train_lbfgs, two_loop_recursion
from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.compute.device import matrix_precision
from fgen.errors import TrainingDiverged
from fgen.features.scaled_rows import CentredRows
from fgen.features.scaling import FeatureScaler

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")
N_ROWS, DIM, N_CLASSES, L2 = 150, 5, 4, 1e-2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def problem():
    """Rows of overlapping classes, far from zero, with weights of their own."""
    targets = torch.arange(N_ROWS) % N_CLASSES
    features = (draw(N_CLASSES, DIM)[targets] + draw(N_ROWS, DIM, seed=1) + 3).float().numpy()
    return features, targets, draw(N_ROWS, 1, seed=2).abs() + 0.5


def centred_rows(features, row_weights, dtype=torch.float64):
    return CentredRows(features, FeatureScaler.fit("none", features), row_weights, dtype=dtype)


@pytest.fixture(params=[StoredLine, RecomputedLine])
def kind(request, monkeypatch):
    """Both kinds of line; one has its rows in several blocks."""
    monkeypatch.setattr("fgen.features.class_scores.BLOCK_SCORES", N_CLASSES * 40)
    return request.param


def line_through(kind, problem, parameters):
    features, targets, row_weights = problem
    line = kind(centred_rows(features, row_weights), targets, N_CLASSES, L2)
    line.set_direction(parameters)
    line.step(1.0)
    return line


def loss_at(problem, parameters):
    """The loss of ``(K, D + 1)`` parameters on centred rows, by the book."""
    features, targets, row_weights = problem
    x = torch.from_numpy(features).double()
    x = x - (row_weights * x).sum(0) / row_weights.sum()
    losses = F.cross_entropy(x @ parameters[:, :-1].T + parameters[:, -1], targets, reduction="none")
    return (losses * row_weights[:, 0]).mean() + L2 / 2 * parameters[:, :-1].square().sum()


def test_the_gradient_is_autograds(kind, problem):
    parameters = draw(N_CLASSES, DIM + 1).requires_grad_()
    loss_at(problem, parameters).backward()
    torch.testing.assert_close(line_through(kind, problem, parameters.detach().clone()).gradient(), parameters.grad)


def test_the_slope_of_a_line_is_autograds(kind, problem):
    parameters, direction = draw(N_CLASSES, DIM + 1), draw(N_CLASSES, DIM + 1, seed=3)
    line = line_through(kind, problem, parameters.clone())
    line.set_direction(direction.clone())
    step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss_at(problem, parameters + step * direction).backward()
    assert line.slope(0.7) == pytest.approx(float(step.grad))


@pytest.mark.parametrize("stretch", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("first", [None, 1.0])
def test_a_search_ends_lower_and_where_the_line_is_nearly_level(kind, problem, stretch, first):
    parameters = draw(N_CLASSES, DIM + 1)
    line = line_through(kind, problem, parameters.clone())
    gradient = line.gradient()
    line.set_direction(-stretch * gradient)
    at_start = line.slope(0.0)
    assert at_start == pytest.approx(-stretch * float(gradient.square().sum()))
    step = line.search(at_start, first=first)
    assert kind.slope_left * at_start <= line.slope(step) <= -SLOPE_LEFT * at_start
    assert loss_at(problem, parameters + step * line.direction) < loss_at(problem, parameters)


def test_the_two_loops_multiply_by_the_matrix_that_bfgs_would_keep():
    size = N_CLASSES * (DIM + 1)
    hessian = draw(size, size)
    hessian = hessian @ hessian.T + torch.eye(size, dtype=torch.float64)
    moves = [draw(N_CLASSES, DIM + 1, seed=seed) for seed in range(3)]
    recent = deque((move, (hessian @ move.flatten()).view_as(move)) for move in moves)
    move, change = recent[-1]
    inverse = torch.eye(size, dtype=torch.float64) * (move * change).sum() / change.square().sum()
    for move, change in ((a.flatten(), b.flatten()) for a, b in recent):
        rho, eye = 1 / (move @ change), torch.eye(size, dtype=torch.float64)
        left = eye - rho * torch.outer(move, change)
        inverse = left @ inverse @ left.T + rho * torch.outer(move, move)
    gradient = draw(N_CLASSES, DIM + 1, seed=9)
    expected = (inverse @ gradient.flatten()).view_as(gradient)
    torch.testing.assert_close(two_loop_recursion(gradient, recent), expected)


def test_in_bfloat16_the_minimum_is_float32s_to_three_digits(problem, bf16):
    features, targets, row_weights = problem
    heads = {}
    for precision in ("highest", "auto"):
        with matrix_precision(precision, CPU):
            rows = centred_rows(features, row_weights.float(), torch.float32)
            heads[precision] = train_lbfgs(rows, targets, N_CLASSES, L2)
    for whole, rounded in zip(*heads.values(), strict=True):
        assert not torch.equal(whole, rounded)
        assert (whole - rounded).norm() < 5e-3 * whole.norm()


def test_the_minimum_is_the_same_whichever_rows_tell_what_all_are_centred_about(problem, monkeypatch):
    features, targets, row_weights = problem
    heads, centres = [], []
    for number in (2048, 7):
        monkeypatch.setattr("fgen.features.scaled_rows.MEAN_ROWS", number)
        rows = centred_rows(features, row_weights)
        centres.append(rows.mean)
        heads.append(train_lbfgs(rows, targets, N_CLASSES, L2))
    mean = (row_weights * torch.from_numpy(features)).sum(0) / row_weights.sum()
    torch.testing.assert_close(centres[0], mean)
    assert not torch.allclose(centres[1], mean, rtol=0.01)
    for all_rows, some in zip(*heads, strict=True):
        torch.testing.assert_close(all_rows, some, rtol=1e-3, atol=1e-3)


def test_from_another_penaltys_minimum_it_is_fewer_steps_to_the_same(problem, monkeypatch):
    features, targets, row_weights = problem
    turns, turn = [], StoredLine.set_direction
    monkeypatch.setattr(
        StoredLine, "set_direction", lambda self, direction: (turns.append(1), turn(self, direction))[1]
    )
    rows = centred_rows(features, row_weights)

    def minimum(l2, start=None):
        turns.clear()
        return train_lbfgs(rows, targets, N_CLASSES, l2, start=start), len(turns)

    before, _ = minimum(2 * L2)
    (cold, steps), (warm, fewer) = minimum(L2), minimum(L2, before)
    for one, other in zip(cold, warm, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert fewer < steps
    assert minimum(L2, cold)[1] == 1, "where it ended it stays; the one turn is that to the start"


@pytest.mark.parametrize("first", [None, 0.3])
def test_logits_that_are_computed_anew_lead_to_the_same_minimum(problem, monkeypatch, first):
    features, targets, row_weights = problem
    monkeypatch.setattr("fgen.features.class_scores.BLOCK_SCORES", N_CLASSES * 40)
    fixed = None if first is None else torch.full((N_ROWS,), first, dtype=torch.float64)
    heads = []
    for limit in (1 << 20, 0):
        monkeypatch.setattr(lbfgs, "LOGITS_IN_MEMORY", limit)
        rows = centred_rows(features, row_weights)
        heads.append(train_lbfgs(rows, targets, N_CLASSES, L2, stop=Stop(1e-8), first_logits=fixed))
    for stored, anew in zip(*heads, strict=True):
        torch.testing.assert_close(stored, anew, atol=1e-5, rtol=1e-5)


def test_many_logits_are_not_kept(monkeypatch):
    monkeypatch.setattr(lbfgs, "LOGITS_IN_MEMORY", 1 << 20)
    targets, largest = torch.arange(3000) % 1000, []
    rows = centred_rows(draw(3000, 4).float().numpy(), torch.ones(3000, 1), torch.float32)
    monkeypatch.setattr("fgen.features.class_scores.BLOCK_SCORES", 1000 * 100)
    blocks = RecomputedLine._blocks
    monkeypatch.setattr(
        RecomputedLine, "_blocks", lambda self: (largest.append(len(x)) or (n, x) for n, x in blocks(self))
    )
    train_lbfgs(rows, targets, 1000, L2)
    assert max(largest) == 100


def test_the_rounding_of_products_does_not_reach_the_biases_of_features_far_from_zero(bf16):
    labels = np.arange(60) % 4
    features = (draw(4, 1200)[labels] / 8 + draw(60, 1200, seed=1) / 4 + 40).float().numpy()
    heads = []
    for precision in ("highest", "auto"):
        with matrix_precision(precision, CPU):
            heads.append(SoftmaxClassifier(solver="lbfgs", scaling="none", l2=1e-2).fit(features, labels))
    whole, rounded = (head.decision_function(features) for head in heads)
    np.testing.assert_allclose(rounded, whole, atol=0.02)


@pytest.mark.parametrize("size", [1e20, 1e25])
@pytest.mark.parametrize("rows", [[[1], [0.2], [-1], [-0.2]], [[1.1, 0.3], [0.1, 1.3], [-0.9, 0.3], [0.1, -0.7]]])
def test_features_too_large_to_be_multiplied_are_divergence(rows, size):
    features = np.float32(size) * np.array(rows, dtype=np.float32)
    with pytest.raises(TrainingDiverged, match=r"classifier\.scaling"):
        SoftmaxClassifier(solver="lbfgs", scaling="none").fit(features, np.array([0, 0, 1, 1]))
