"""Every matching term against a slow obvious twin, at degenerate points, and in the generator it should train."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fgen.errors import InputError
from fgen.nn import matching
from fgen.nn.kmeans import soul_prototypes
from fgen.nn.networks import Generator, initialise

pytestmark = pytest.mark.numeric

B, D, A, K, H = 9, 5, 3, 3, 11
# Fewer classes than rows and more: the sums over a class take another way in each.
SIZES = [5, 40]


@pytest.fixture(params=SIZES)
def batch(request):
    random = torch.manual_seed(0)
    n_classes = request.param

    def uniform(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=random)

    embeddings = uniform(n_classes, A) - 0.3
    neighbours, similarities = matching.semantic_neighbours(embeddings, embeddings, 3)
    return {
        "fake": uniform(B, D).requires_grad_(True),
        "real": uniform(B, D),
        "labels": torch.tensor([0, 2, 2, 1, 0, 2, 4, 4, 2]) * (n_classes // 5),
        "class_means": uniform(n_classes, D),
        "souls": uniform(n_classes, K, D),
        "condition": uniform(B, A),
        "regressor": uniform(D, A),
        "neighbours": neighbours,
        "similarities": similarities,
    }


#: Every term as a function of the generated features and the rest of the batch.
TERMS = {
    "class_mean": lambda fake, b: matching.class_mean_matching(fake, b["labels"], b["class_means"]),
    "pivot": lambda fake, b: matching.pivot(fake, b["labels"], b["class_means"]),
    "moment": lambda fake, b: matching.moment_matching(fake, b["real"]),
    "mmd": lambda fake, b: matching.mmd(fake, b["real"]),
    "coral": lambda fake, b: matching.coral(fake, b["real"]),
    "soul_samples": lambda fake, b: matching.soul_samples(fake, b["labels"], b["souls"]),
    "soul_means": lambda fake, b: matching.soul_means(fake, b["labels"], b["souls"]),
    "contrastive": lambda fake, b: matching.supervised_contrastive(fake, b["labels"], 0.1),
    "cycle": lambda fake, b: matching.cycle(fake @ b["regressor"].to(fake.dtype), b["condition"]),
    "semantic": lambda fake, b: matching.semantic_regularisation(
        fake, b["labels"], b["class_means"], b["neighbours"], b["similarities"], below=0.04, above=0.01
    ),
}


def loop_means(fake, labels):
    return {int(label): fake[labels == label].mean(0) for label in labels.unique()}


def loop_class_mean(fake, b):
    rows = [(mean - b["class_means"][c]).square().mean() for c, mean in loop_means(fake, b["labels"]).items()]
    return sum(row * (b["labels"] == c).sum() for row, c in zip(rows, b["labels"].unique(), strict=True)) / B


def loop_pivot(fake, b):
    return np.mean([math.dist(mean, b["class_means"][c]) for c, mean in loop_means(fake, b["labels"]).items()])


def loop_moment(fake, b):
    total = 0.0
    for j in range(D):
        total += (np.mean(fake[:, j].numpy()) - np.mean(b["real"][:, j].numpy())) ** 2
        total += (np.std(fake[:, j].numpy(), ddof=1) - np.std(b["real"][:, j].numpy(), ddof=1)) ** 2
    return total / D


def loop_mmd(fake, b):
    rows = [*fake, *b["real"]]
    scale = np.mean([math.dist(x, y) ** 2 for x, y in itertools.permutations(rows, 2)])

    def kernel(left, right):
        exponents = [math.dist(x, y) ** 2 / scale for x in left for y in right]
        return np.mean([math.exp(-e / bandwidth) for e in exponents for bandwidth in (0.25, 0.5, 1, 2, 4)])

    return kernel(fake, fake) + kernel(b["real"], b["real"]) - 2 * kernel(fake, b["real"])


def loop_coral(fake, b):
    gap = np.cov(fake.numpy(), rowvar=False) - np.cov(b["real"].numpy(), rowvar=False)
    return np.linalg.norm(gap) ** 2 / (4 * D**2)


def nearest_soul(feature, souls):
    return min(math.dist(feature, soul) ** 2 for soul in souls)


def loop_soul_samples(fake, b):
    return np.mean([nearest_soul(row, b["souls"][label]) for row, label in zip(fake, b["labels"], strict=True)])


def loop_soul_means(fake, b):
    return np.mean([nearest_soul(mean, b["souls"][c]) for c, mean in loop_means(fake, b["labels"]).items()])


def loop_contrastive(fake, b):
    unit = [row / row.norm() for row in fake]
    rows = []
    for i in range(B):
        others = [k for k in range(B) if k != i]
        odds = {k: math.exp(unit[i] @ unit[k] / 0.1) for k in others}
        positives = [k for k in others if b["labels"][k] == b["labels"][i]]
        if positives:
            rows.append(-np.mean([math.log(odds[p] / sum(odds.values())) for p in positives]))
    return np.mean(rows)


def loop_cycle(fake, b):
    return np.mean(
        [(float(fake[i] @ b["regressor"][:, j]) - b["condition"][i, j]) ** 2 for i in range(B) for j in range(A)]
    )


def loop_semantic(fake, b):
    total = []
    for c, mean in loop_means(fake, b["labels"]).items():
        for neighbour, similarity in zip(b["neighbours"][c], b["similarities"][c], strict=True):
            cosine = F.cosine_similarity(mean, b["class_means"][neighbour], dim=0)
            if cosine > similarity + 0.01:
                total.append((cosine - similarity - 0.01) ** 2)
            elif cosine < similarity - 0.04:
                total.append((similarity - 0.04 - cosine) ** 2)
            else:
                total.append(torch.tensor(0.0))
    return np.mean(total)


LOOPS = {
    "class_mean": loop_class_mean,
    "pivot": loop_pivot,
    "moment": loop_moment,
    "mmd": loop_mmd,
    "coral": loop_coral,
    "soul_samples": loop_soul_samples,
    "soul_means": loop_soul_means,
    "contrastive": loop_contrastive,
    "cycle": loop_cycle,
    "semantic": loop_semantic,
}


@pytest.mark.parametrize("term", TERMS)
def test_every_term_equals_a_loop_over_classes_and_rows(term, batch):
    fake = batch["fake"].detach()
    # moment's twin lacks the constant under the root
    tolerance = 1e-6 if term == "moment" else 1e-10
    assert TERMS[term](fake, batch).item() == pytest.approx(float(LOOPS[term](fake, batch)), rel=tolerance)


# mmd's scale carries no gradient on purpose; its gradient has a test of its own.
@pytest.mark.parametrize("term", [term for term in TERMS if term != "mmd"])
def test_every_gradient_is_the_slope_of_the_value(term, batch):
    assert torch.autograd.gradcheck(lambda fake: TERMS[term](fake, batch), (batch["fake"],))


def test_mmd_gradient_takes_the_scale_as_a_constant(batch):
    (gradient,) = torch.autograd.grad(matching.mmd(batch["fake"], batch["real"], (0.5,)), batch["fake"])
    rows = torch.cat([batch["fake"], batch["real"]]).detach()
    scale = 0.5 * torch.pdist(rows).square().mean()
    x, y = batch["fake"].detach(), batch["real"]
    for i in range(B):
        pull = sum((x[i] - row) * torch.exp(-(x[i] - row).square().sum() / scale) for row in y)
        push = sum((x[i] - row) * torch.exp(-(x[i] - row).square().sum() / scale) for row in x)
        torch.testing.assert_close(gradient[i], 4 / scale * (pull - push) / B**2)


DEGENERATE = {
    "all rows alike": lambda b: torch.full((B, D), 0.25),
    "dead generator": lambda b: torch.zeros(B, D),
    "every row its class's mean": lambda b: b["class_means"][b["labels"]],
    "every row a soul": lambda b: b["souls"][b["labels"], 0],
    "the real rows": lambda b: b["real"].clone(),
    "a constant column": lambda b: torch.cat([b["fake"].detach()[:, 1:], torch.zeros(B, 1, dtype=torch.float64)], 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("point", DEGENERATE)
def test_gradients_are_finite_and_moderate_at_degenerate_points(point, dtype, batch):
    batch = {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}
    for name, term in TERMS.items():
        fake = DEGENERATE[point](batch).to(dtype).requires_grad_(True)
        value = term(fake, batch)
        (gradient,) = torch.autograd.grad(value, fake)
        assert value.dtype == gradient.dtype == dtype, name
        assert torch.isfinite(value), name
        # also not the 1e6 that a root or a cosine near 0 would give
        assert gradient.abs().max() < 100, name


def test_both_batches_constant_and_equal_match_with_finite_gradients():
    for term in (matching.mmd, matching.coral, matching.moment_matching):
        fake = torch.full((B, D), 0.3, requires_grad=True)
        value = term(fake, torch.full((B, D), 0.3))
        (gradient,) = torch.autograd.grad(value, fake)
        assert abs(value.item()) < 1e-6
        assert torch.isfinite(gradient).all()


def test_terms_are_zero_where_what_they_match_agrees(batch):
    at_means, at_souls = batch["class_means"][batch["labels"]], batch["souls"][batch["labels"], 2]
    shuffled = batch["real"][torch.randperm(B)]
    for term, fake in [("class_mean", at_means), ("pivot", at_means), ("soul_samples", at_souls)]:
        assert TERMS[term](fake, batch).item() == pytest.approx(0, abs=1e-15)
    for term in ("mmd", "coral", "moment"):
        assert TERMS[term](shuffled, batch).item() == pytest.approx(0, abs=1e-12)
        assert TERMS[term](batch["real"] * 1.5, batch) > 1e-4


def test_moments_of_features_twice_as_wide_differ_by_their_own_deviation(batch):
    fake = batch["fake"].detach()
    wider = (fake - fake.mean(0)) * 2 + fake.mean(0)
    expected = (fake.std(0) ** 2).mean()
    assert matching.moment_matching(wider, fake).item() == pytest.approx(expected.item(), rel=1e-5)


def test_mmd_does_not_depend_on_the_unit_or_the_origin_of_the_features(batch):
    fake, real = batch["fake"].detach(), batch["real"]
    value = matching.mmd(fake, real)
    assert matching.mmd(fake * 1000 + 7, real * 1000 + 7).item() == pytest.approx(value.item(), rel=1e-8)
    assert matching.mmd((fake + 1000).float(), (real + 1000).float()).item() == pytest.approx(value.item(), rel=1e-2)


def test_mmd_and_coral_take_batches_of_different_sizes(batch):
    fake, real = batch["fake"].detach(), batch["real"]
    twice = torch.cat([real, real])
    assert matching.mmd(real, twice).item() == pytest.approx(0, abs=1e-12)
    gap = torch.cov(fake.T) - torch.cov(twice.T)
    assert matching.coral(fake, twice).item() == pytest.approx((gap.square().sum() / (4 * D**2)).item())


def test_mmd_sees_what_moments_do_not():
    # mean 0 and the same deviation in both, but two peaks in one
    grid = torch.linspace(-1.7, 1.7, 40, dtype=torch.float64)[:, None]
    flat = grid * (1 / grid.std())
    peaks = torch.sign(grid) * (1 / torch.sign(grid).std())
    assert matching.moment_matching(flat, peaks) < 1e-12
    assert matching.mmd(flat, peaks) > 0.02


def test_the_pivot_squared_over_the_columns_is_class_mean_matching_of_one_class(batch):
    labels = torch.zeros(B, dtype=torch.long)
    pivot = matching.pivot(batch["fake"], labels, batch["class_means"])
    matched = matching.class_mean_matching(batch["fake"], labels, batch["class_means"])
    assert (pivot**2 / D).item() == pytest.approx(matched.item())


def test_soul_means_of_turns_are_those_of_labelled_rows_with_the_same_gradient(batch):
    turns = torch.rand(4, len(batch["souls"]), D, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(len(batch["souls"])).repeat(4)
    values = [
        matching.soul_means_of_turns(turns, batch["souls"]),
        matching.soul_means(turns.flatten(0, 1), labels, batch["souls"]),
    ]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, turns) for value in values))


def test_soul_means_of_equal_counts_are_soul_samples_of_the_means(batch):
    n_classes = len(batch["souls"])
    fake = torch.rand(n_classes * 4, D, dtype=torch.float64)
    labels = torch.arange(n_classes)
    means = fake.view(n_classes, 4, D).mean(1)
    value = matching.soul_means(fake, labels.repeat_interleave(4), batch["souls"])
    assert value.item() == pytest.approx(matching.soul_samples(means, labels, batch["souls"]).item())


def test_contrast_of_a_batch_of_singletons_is_zero_with_a_zero_gradient(batch):
    for rows in (1, B):
        fake = batch["fake"][:rows].detach().requires_grad_(True)
        value = matching.supervised_contrastive(fake, torch.arange(rows))
        (gradient,) = torch.autograd.grad(value, fake)
        assert value.item() == 0
        assert gradient.abs().max() == 0


def test_contrast_survives_a_cold_temperature_in_single_precision(batch):
    fake = batch["fake"].detach().float().requires_grad_(True)
    value = matching.supervised_contrastive(fake, batch["labels"], 1e-3)
    (gradient,) = torch.autograd.grad(value, fake)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_neighbours_are_sorted_by_cosine_and_start_with_the_class_itself():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    neighbours, similarities = matching.semantic_neighbours(embeddings, embeddings, 2)
    assert neighbours.tolist() == [[0, 2], [1, 2], [2, 0]]
    torch.testing.assert_close(similarities[:, 1], torch.tensor([3.0, 1.0, 3.0]) / 10**0.5)
    assert matching.semantic_neighbours(embeddings, embeddings, 20)[0].shape == (3, 3)


def test_semantic_regularisation_is_zero_inside_the_band_and_works_for_unseen_classes(batch):
    unseen = torch.rand(2, A, dtype=torch.float64)
    neighbours, _ = matching.semantic_neighbours(unseen, torch.rand(5, A, dtype=torch.float64), 4)
    labels = torch.arange(B) % 2
    means = torch.stack([batch["fake"][labels == c].mean(0) for c in (0, 1)])
    cosines = F.cosine_similarity(means[:, None], batch["class_means"][neighbours], dim=2).detach()
    arguments = (batch["fake"], labels, batch["class_means"], neighbours)
    inside = matching.semantic_regularisation(*arguments, cosines + 0.09, below=0.1, above=0.0)
    outside = matching.semantic_regularisation(*arguments, cosines - 0.09, below=0.1, above=0.0)
    assert inside.item() == 0
    assert outside.item() == pytest.approx(0.09**2)


@pytest.mark.parametrize("term", TERMS)
def test_every_term_has_a_gradient_that_reaches_the_whole_generator(term, batch):
    generator = Generator(2, A, H, D, "sigmoid").double()
    initialise(generator, 0, "generator")
    fake = generator(torch.randn(B, 2, dtype=torch.float64), batch["condition"])
    gradients = torch.autograd.grad(TERMS[term](fake, batch), list(generator.parameters()))
    assert len(gradients) == 4
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("term", TERMS)
def test_no_shape_depends_on_the_numbers_so_that_a_graph_can_be_captured(term, batch):
    # The meta device has shapes and no numbers: unique, item and boolean indexing raise on it.
    on_meta = {key: value.detach().to("meta") for key, value in batch.items()}
    fake = torch.empty(B, D, dtype=torch.float64, device="meta", requires_grad=True)
    value = TERMS[term](fake, on_meta)
    value.backward()
    assert value.shape == ()
    assert fake.grad.shape == (B, D)


def sum_to_nearest(rows, souls):
    return np.square(rows[:, None] - souls).sum(2).min(1).sum()


def test_souls_are_the_best_of_all_partitions():
    random = np.random.default_rng(0)
    features = random.random((14, 2))
    labels = np.array([0, 1] * 7)
    souls = soul_prototypes(features, labels, 2, seed=0)
    assert souls.shape == (2, 2, 2)
    for label in (0, 1):
        rows = features[labels == label]
        masks = [np.array(bits, dtype=bool) for bits in itertools.product([False, True], repeat=7)]
        centres = [np.stack([rows[m].mean(0), rows[~m].mean(0)]) for m in masks if 0 < m.sum() < 7]
        best = min(sum_to_nearest(rows, pair) for pair in centres)
        assert sum_to_nearest(rows, souls[label]) == pytest.approx(best, rel=1e-5)


def test_souls_are_the_same_for_the_same_seed_and_for_a_class_whatever_its_company():
    random = np.random.default_rng(1)
    features, labels = random.random((60, 4)).astype(np.float32), np.arange(60) % 3
    souls = soul_prototypes(features, labels, 3, seed=5)
    np.testing.assert_array_equal(souls, soul_prototypes(features, labels, 3, seed=5))
    kept = labels < 2
    np.testing.assert_array_equal(souls[:2], soul_prototypes(features[kept], labels[kept], 3, seed=5))


def test_classes_with_fewer_distinct_rows_than_souls_have_every_row_as_a_soul():
    features = np.array([[0.0, 1.0], [2.0, 3.0], [2.0, 3.0], [2.0, 3.0], [9.0, 9.0]])
    souls = soul_prototypes(features, np.array([0, 0, 0, 0, 1]), 3, seed=0)
    assert {tuple(soul) for soul in souls[0]} == {(0.0, 1.0), (2.0, 3.0)}
    assert {tuple(soul) for soul in souls[1]} == {(9.0, 9.0)}


@pytest.mark.parametrize(
    ("labels", "n_souls", "text"), [([0, 2], 1, "class 1"), ([0, 1], 0, "n_souls is 0"), ([], 1, "every class")]
)
def test_souls_say_which_class_has_no_rows(labels, n_souls, text):
    with pytest.raises(InputError, match=text):
        soul_prototypes(np.zeros((len(labels), 2)), np.array(labels, dtype=int), n_souls, seed=0)
