"""FREE: the margin to centres, the other class, the refiner without noise at test time."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.features.class_embeddings import EmbeddingConfig
from fgen.models.registry import make_model
from fgen.nn import losses
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    """A model before its first step, and its training set."""
    features, labels = world.dataset.split("trainval")
    model = make_model("free", embedding=EmbeddingConfig(norm="l2"), **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


@pytest.mark.parametrize("nearest", [True, False])
def test_the_margin_to_centres_is_the_formula_row_by_row_and_moves_the_centres(nearest):
    torch.manual_seed(0)
    latent = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    centres = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels, others = torch.tensor([0, 2, 2, 1, 0, 2, 4]), torch.tensor([1, 0, 3, 2, 4, 1, 0])
    margin, balance = 0.5, 0.3
    rows = []
    for h, own, other in zip(latent, labels.tolist(), others.tolist(), strict=True):
        gaps = [((h - c) ** 2).sum() for c in centres]
        far = min(gap for k, gap in enumerate(gaps) if k != own) if nearest else gaps[other]
        rows.append((margin + balance * gaps[own] - (1 - balance) * far).clamp_min(0))
    twin = torch.stack(rows).mean()
    assert 0 < sum(row == 0 for row in rows) < 7, "both sides of the margin"
    value = losses.margin_to_centres(
        latent, labels, centres, margin=margin, balance=balance, others=None if nearest else others
    )
    assert value.item() == pytest.approx(twin.item())
    for ours, theirs in zip(
        torch.autograd.grad(value, (latent, centres)), torch.autograd.grad(twin, (latent, centres)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0


def test_the_other_class_is_never_the_rows_own_and_every_other_gets_its_turn(world):
    """The released code draws the row's own class once in S times."""
    model, data = started(world)
    labels = torch.full((600,), 11)
    others = model.other_classes(labels, Draws(0, 0, data.device))
    counts = torch.bincount(others, minlength=12)
    assert counts[11] == 0
    assert counts[:11].min() > 20
    assert not torch.equal(others, model.other_classes(labels, Draws(0, 1, data.device)))


@pytest.mark.parametrize("other", ["random", "nearest"])
def test_training_draws_each_row_to_the_centre_of_its_class(world, other):
    features, labels = world.dataset.split("trainval")
    settings = TINY | {"epochs": 12, "decoder_lr": 0.01, "lr": 0.01, "centre_margin": 20.0, "recons_weight": 0.0}
    model = make_model("free", **settings, other_centre=other)
    model.fit(features, labels, world.dataset.class_embeddings, seed=0)
    with torch.no_grad():
        _, mean, _ = model.networks["decoder"](torch.from_numpy(model.scaler.apply(features)))
        nearest = torch.cdist(mean, model.networks["centres"].points).argmin(1).numpy()
    assert (nearest == np.unique(labels, return_inverse=True)[1]).mean() > 0.5, "chance is 1 in 12"


def test_heads_see_the_refiners_mean_and_nothing_drawn(world):
    """The released code draws noise at test time too, so that its scores change from call to call."""
    model, data = started(world)
    raw, dim = data.features[:6], data.feature_dim
    seen = model.represent(raw)
    assert model.represent(raw).tobytes() == seen.tobytes()
    assert model.represent(raw[2:3]) == pytest.approx(seen[2:3], abs=1e-6)
    with torch.no_grad():
        refiner = model.networks["decoder"]
        hidden = torch.nn.functional.leaky_relu(refiner.hidden(torch.from_numpy(model.scaler.apply(raw))), 0.2)
        embedding = torch.sigmoid(refiner.out(hidden)[:, : data.embeddings.shape[1]])
    assert seen[:, :dim] == pytest.approx(model.scaler.apply(raw))
    assert seen[:, dim : dim + 32] == pytest.approx(hidden.numpy(), abs=1e-6)
    assert seen[:, dim + 32 :] == pytest.approx(embedding.numpy(), abs=1e-6)


def test_training_decodes_a_draw_whose_deviation_learns(world):
    model, data = started(world)
    rows = torch.from_numpy(model.scaler.apply(data.features[:6]))
    first, again, later = (model.decoded(rows, Draws(0, step, data.device)) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    _, mean, deviation = model.networks["decoder"](rows)
    twin = torch.sigmoid(mean + deviation * Draws(0, 0, data.device).normal("refiner noise", tuple(mean.shape)))
    torch.testing.assert_close(first, twin)
    (slope,) = torch.autograd.grad(losses.weighted_l1(first, data.embeddings[:6]), model.networks["decoder"].out.bias)
    assert slope[data.embeddings.shape[1] :].abs().min() > 0


def test_the_refiners_terms_are_the_margin_and_a_draws_error_by_their_weights(world):
    model, data = started(world, centre_weight=0.3, recons_weight=0.7)
    batch, draws = data.batch(np.arange(0, len(data), 9)), Draws(0, 0, data.device)
    terms, centres = model.decoder_terms(batch, draws), model.networks["centres"].points
    _, mean, _ = model.networks["decoder"](batch.features)
    others = model.other_classes(batch.labels, draws)
    samc = losses.margin_to_centres(mean, batch.labels, centres, margin=200.0, balance=0.8, others=others)
    drawn = model.decoded(batch.features, draws)
    error = losses.weighted_l1(drawn, torch.nn.functional.normalize(batch.condition, dim=1))
    assert terms["samc"].item() == pytest.approx(0.3 * samc.item(), rel=1e-5)
    assert terms["decoding"].item() == pytest.approx(0.7 * error.item(), rel=1e-5)


def test_centres_start_from_the_unit_normal_and_a_unit_decoding_reaches_negative_entries(world):
    model, data = started(world, decoding="unit")
    points = model.networks["centres"].points
    assert 0.7 < points.std() < 1.3
    seen = model.represent(data.features[:6])[:, data.feature_dim + 32 :]
    assert seen.min() < 0
    assert (seen**2).sum(1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("field", "value"), [("centre_balance", 1.5), ("centre_margin", -1.0), ("centre_margin", float("nan"))]
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        make_model("free", **{field: value})
