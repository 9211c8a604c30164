"""CADA-VAE's own formulas: the warm-ups, the distance of Gaussians, the latents that its heads see."""

import math

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.models.cadavae import gaussian_distance
from fgen.models.registry import make_model
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

WIDTHS = {"feature_decoder_dim": 16, "description_encoder_dim": 16, "description_decoder_dim": 16}


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("cadavae", **(TINY | WIDTHS | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def test_weights_rise_in_a_straight_line_between_the_papers_epochs():
    config = make_model("cadavae").config
    assert [config.warmed_up("cross", epoch) for epoch in (0, 21, 48, 75, 99)] == pytest.approx(
        [0, 0, 2.37 / 2, 2.37, 2.37]
    )
    assert config.warmed_up("divergence", 93) == config.warmed_up("divergence", 99) == 0.25
    assert config.warmed_up("alignment", 14) == pytest.approx(8.13 / 2)
    with pytest.raises(InputError, match=r"cross_start, cross_end are 75, 75"):
        make_model("cadavae", cross_start=75)


def test_the_distance_is_the_wasserstein_distance_of_the_two_gaussians():
    torch.manual_seed(0)
    mean, mean2, log_variance, log_variance2 = torch.randn(4, 6, 3, dtype=torch.float64)
    twin = []
    for k in range(6):
        a, b = log_variance[k].exp().diag(), log_variance2[k].exp().diag()
        root = a.sqrt()
        bures = torch.trace(a + b - 2 * (root @ b @ root).sqrt())
        twin.append((((mean[k] - mean2[k]) ** 2).sum() + bures).sqrt())
    ours = gaussian_distance(mean, log_variance, mean2, log_variance2)
    assert ours.item() == pytest.approx(torch.stack(twin).mean().item())


@pytest.mark.parametrize("shared", [True, False])
def test_the_terms_are_eq_6_row_by_row(world, shared):
    model, data = started(world, alignment_start=0, alignment_end=1, cross_start=0, cross_end=4, shared_noise=shared)
    step = 2 * model.steps_per_epoch
    draws = Draws(0, step, data.device)
    batch = data.batches(Draws(0, step, data.device), 1, 7)
    shape = (len(batch), model.noise_dim)
    noises = draws.normal("image noise", shape), draws.normal("description noise", shape)
    nets = model.networks
    sums = dict.fromkeys(("reconstruction", "description_reconstruction", "cross", "divergence", "alignment"), 0.0)
    with torch.no_grad():
        for k in range(len(batch)):
            x, a = batch.features[k : k + 1], batch.condition[k : k + 1]
            (m1, v1), (m2, v2) = nets["feature_encoder"](x), nets["description_encoder"](a)
            s1, s2 = torch.sqrt(torch.exp(v1)), torch.sqrt(torch.exp(v2))
            z1, z2 = (m + s * (n[k, 0] if shared else n[k]) for m, s, n in ((m1, s1, noises[0]), (m2, s2, noises[1])))
            decode, describe = nets["feature_decoder"], nets["description_decoder"]
            sums["reconstruction"] += (decode(z1) - x).abs().sum()
            sums["description_reconstruction"] += (describe(z2) - a).abs().sum()
            sums["cross"] += 2.37 * 2 / 4 * ((decode(z2) - x).abs().sum() + (describe(z1) - a).abs().sum())
            for m, v, s in ((m1, v1, s1), (m2, v2, s2)):
                sums["divergence"] += 0.25 * 2 / 93 * 0.5 * (m**2 + s**2 - 1 - v).sum()
            sums["alignment"] += 8.13 * ((m1 - m2).square().sum() + (s1 - s2).square().sum()).sqrt()
        terms = model.terms(batch, draws)
    assert set(terms) == set(sums)
    for name, total in sums.items():
        assert terms[name].item() == pytest.approx(float(total) / len(batch), rel=1e-4), name


def test_a_term_comes_in_with_the_epoch_and_not_before(world):
    model, data = started(world, alignment_start=2, alignment_end=3)
    first = 3 * model.steps_per_epoch
    before, after = (Draws(0, step, data.device) for step in (first - 1, first))
    assert "alignment" in model.terms(data.batches(after, 1, 4), after)
    assert "alignment" not in model.terms(data.batches(before, 1, 4), before)


@pytest.mark.parametrize("shared", [True, False])
def test_latents_spread_by_half_the_log_variance_in_all_columns_together_or_each_by_itself(world, shared):
    """The published code has exp(log_variance), and one random number for a whole row."""
    model, _ = started(world, shared_noise=shared)
    head = model.networks["description_encoder"].log_variance
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(math.log(4))
        condition = torch.from_numpy(world.dataset.class_embeddings[:1].copy()).expand(4000, -1)
        noise = torch.from_numpy(np.random.default_rng(0).standard_normal((4000, model.noise_dim), dtype=np.float32))
        latents = model.synthesise_represented(noise, condition)
        assert torch.equal(model.synthesise(noise, condition), model.networks["feature_decoder"](latents))
    assert latents.std(dim=0).numpy() == pytest.approx(2, rel=0.05)
    assert abs(np.corrcoef(latents[:, 0], latents[:, 1])[0, 1]) == pytest.approx(float(shared), abs=0.05)


def test_images_are_represented_by_the_mean_without_noise(world):
    model, _ = started(world)
    features = world.dataset.split("trainval")[0][:5]
    ours = model.represent(features)
    scaled = model.scaler.apply(torch.from_numpy(np.array(features)))
    assert ours.shape == (5, model.noise_dim)
    assert ours == pytest.approx(model.networks["feature_encoder"](scaled)[0].detach().numpy())


def test_its_optimisers_are_the_papers_adam_with_amsgrad(world):
    model, _ = started(world, lr=3e-4)
    for role in model.trained:
        (group,) = model.optimiser(role).param_groups
        assert (group["amsgrad"], group["lr"], group["betas"]) == (True, 3e-4, (0.9, 0.999)), role


def test_weights_start_as_xavier_has_them_with_a_gain_of_a_half(world):
    model, _ = started(world, hidden_dim=400)
    weight = model.networks["feature_encoder"].hidden.weight.detach()
    bound = 0.5 * math.sqrt(6 / sum(weight.shape))
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not model.networks["feature_encoder"].hidden.bias.any()
