"""Few-step denoising's own formulas: the schedule, the posterior, the critics' joint step, both samplers."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.models.registry import make_model
from fgen.nn import losses
from fgen.nn.networks import reparametrise
from fgen.nn.noise_schedule import Schedule
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("diffusion", **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def test_levels_go_from_clean_to_noise_and_keep_the_variance():
    schedule = Schedule(4, 0.1, 20.0)
    assert (schedule.signal.square() + schedule.noise.square()).numpy() == pytest.approx(1)
    assert schedule.signal[0] == 1
    assert schedule.signal[-1] < 0.01
    assert (schedule.keep * schedule.signal[:-1]).numpy() == pytest.approx(schedule.signal[1:].numpy(), rel=1e-5)
    assert (schedule.keep.square() + schedule.add.square()).numpy() == pytest.approx(1)


def test_the_posterior_is_bayes_rule():
    """A product of two Gaussians in x_t: q(x_t | x_0), and q(x_t+1 | x_t) as a function of x_t."""
    schedule, clean, noisy = Schedule(4, 0.1, 20.0), torch.tensor([[0.7]]), torch.tensor([[-0.4]])
    for level in (1, 2, 3):
        signal, spread = schedule.signal[level], schedule.noise[level]
        keep, add = schedule.keep[level], schedule.add[level]
        precision = 1 / spread**2 + keep**2 / add**2
        mean = (signal * clean / spread**2 + keep * noisy / add**2) / precision
        for z in (0.0, 1.0):
            ours = schedule.posterior(clean, noisy, level, torch.full((1, 1), z))
            assert ours.item() == pytest.approx((mean + z / precision.sqrt()).item(), abs=1e-4)
    assert schedule.posterior(clean, noisy, 0, torch.ones(1, 1)).item() == pytest.approx(0.7)


def test_the_critics_gradients_are_those_of_the_published_terms(world):
    """Double backward for the penalties, and mutual learning as two terms with the other critic's part held fixed."""
    model, data = started(world, adapt_gp_weight=False)
    batch, draws = data.batches(Draws(0, 0, data.device), 1, 11), Draws(0, 0, data.device)
    critics = [model.networks[role] for role in ("critic", "critic_clean")]
    for critic in critics:
        for parameter in critic.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    terms = model.critics_terms(batch, draws)
    terms["mutual"].backward()
    ours = [p.grad.clone() for critic in critics for p in critic.parameters()]

    step, shape = model.transition(batch, draws), tuple(batch.features.shape)
    with torch.no_grad():
        latent = reparametrise(*model.encode(batch), draws.normal("latent", (11, model.latent_dim)))
        clean = model.denoise(latent, step.after, step.level, batch.condition)
        before = model.schedule.posterior(clean, step.after, step.level, draws.normal("posterior", shape))
    given = [model.step_condition(step, batch), batch.condition]
    real, fake = [step.before, batch.features], [before, clean]
    total, gaps = 0.0, []
    for k, role in enumerate(("critic", "critic_clean")):
        distance, penalty = losses.critic_terms(
            critics[k], real[k], fake[k], given[k], draws.uniform(f"mixing {role}", (11, 1))
        )
        total = total + 10 * (distance + 10 * penalty)
        gaps.append(critics[k](real[k], given[k]) - critics[k](fake[k], given[k]))
    share = torch.stack([model.schedule.signal[t, 0] ** 2.5 for t in step.level.tolist()])
    first = (share * (gaps[0] - gaps[1].detach()) ** 2).mean()
    second = (share * (gaps[1] - gaps[0].detach()) ** 2).mean()
    twin = torch.autograd.grad(total + 5 * (first + second), [p for critic in critics for p in critic.parameters()])
    for a, b in zip(ours, twin, strict=True):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-3)
    assert sum(terms.values()).item() == pytest.approx((total + 5 * first).item(), rel=1e-3)


def test_the_generators_terms_are_the_vaes_and_both_critics(world):
    model, data = started(world, gan_weight=3.0, vae_weight=0.5)
    batch, draws = data.batches(Draws(0, 0, data.device), 1, 11), Draws(0, 0, data.device)
    for parameter in model.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    terms, step = model.generator_terms(batch, draws), model.transition(batch, draws)
    mean, log_variance = model.encode(batch)
    latent = reparametrise(mean, log_variance, draws.normal("latent", tuple(mean.shape)))
    clean = model.denoise(latent, step.after, step.level, batch.condition)
    before = model.schedule.posterior(clean, step.after, step.level, draws.normal("posterior", tuple(clean.shape)))
    twins = {
        "adversarial": -3 * model.networks["critic"](before, model.step_condition(step, batch)).mean(),
        "adversarial_clean": -3 * model.networks["critic_clean"](clean, batch.condition).mean(),
        "reconstruction": 0.5 * losses.reconstruction(clean, batch.features),
        "divergence": 0.5 * losses.gaussian_divergence(mean, log_variance),
    }
    assert set(terms) == set(twins)
    for name, twin in twins.items():
        assert terms[name].item() == pytest.approx(twin.item(), rel=1e-4), name


def test_the_penaltys_weight_follows_the_penalty(world):
    model, data = started(world, critic_steps=2)
    for step in range(2):
        model.critics_terms(data.batches(Draws(0, step, data.device), 1, 8), Draws(0, step, data.device))
    # Small weights have slopes near 0, so both penalties are near 1.
    assert model.networks["gp_weight"].value.item() == pytest.approx(11)


@pytest.mark.parametrize("progressive", [True, False])
def test_generation_is_the_chain_written_out(world, progressive):
    model, data = started(world, n_timesteps=3, progressive=progressive)
    width = data.feature_dim
    assert model.noise_dim == TINY["noise_dim"] + (3 if progressive else 1) * width
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((5, model.noise_dim), dtype=np.float32))
    condition = data.embeddings[:5]
    level = lambda k: torch.full((5,), k)  # noqa: E731
    with torch.no_grad():
        latent, points = noise[:, :4], noise[:, 4 : 4 + width]
        clean = model.denoise(latent, points, level(2), condition)
        if progressive:
            points = model.schedule.posterior(clean, points, 2, noise[:, 4 + width : 4 + 2 * width])
            clean = model.denoise(latent, points, level(1), condition)
            points = model.schedule.posterior(clean, points, 1, noise[:, 4 + 2 * width :])
            clean = model.denoise(latent, points, level(0), condition)
        assert torch.equal(model.synthesise(noise, condition), clean)


def test_signed_features_are_rebuilt_by_squares(world):
    model, _ = started(world, output="linear", feature_scaling="standard")
    rebuilt, real = torch.tensor([[1.0, -2.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert losses.reconstruction(rebuilt, real, model.config.output).item() == pytest.approx(0.5 * (1 + 9 + 4) / 2)


def test_impossible_settings_are_refused():
    for wrong in ({"n_timesteps": 0}, {"beta_min": 0.0}, {"beta_max": 0.01}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            make_model("diffusion", **wrong)
