"""f-VAEGAN-D2: its equations with their weights, and the second critic's rows and classes."""

import numpy as np
import pytest
import torch

from fgen.models.registry import make_model
from fgen.nn import losses
from fgen.nn.networks import reparametrise
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, name="fvaegan", **overrides):
    """A model before its first step, its training set, a batch and draws."""
    features, labels = world.dataset.split("trainval")
    model = make_model(name, **(TINY | {"gan_weight": 7.0} | overrides))
    unlabelled = world.dataset.split("test_unseen")[0] if model.config.is_transductive else None
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu", unlabelled=unlabelled)
    model.initialise(0)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter.mul_(5)
    return model, data, data.batch(np.arange(0, len(data), 9)), Draws(0, 0, data.device)


def test_the_generators_terms_are_eq_4(world):
    model, _, batch, draws = started(world)
    terms, shape = model.generator_terms(batch, draws), (len(batch), model.noise_dim)
    generator, critic = model.networks["generator"], model.networks["critic"]
    mean, log_variance = model.networks["encoder"](batch.features, batch.condition)
    code = reparametrise(mean, log_variance, draws.normal("encoder noise", shape))
    rebuilt = generator(code, batch.condition)
    fake = generator(draws.normal("generator noise", shape), batch.condition)
    twins = {
        "adversarial": -7 * critic(fake, batch.condition).mean(),
        "reconstruction": losses.reconstruction(rebuilt, batch.features),
        "divergence": losses.gaussian_divergence(mean, log_variance),
    }
    assert set(terms) == set(twins)
    for name, twin in twins.items():
        assert terms[name].item() == pytest.approx(twin.item(), rel=1e-5), name


def test_the_critics_gradient_is_gamma_times_the_wasserstein_loss_with_its_penalty(world):
    model, _, batch, draws = started(world)
    fake, critic = model.critic_fakes(batch, draws).detach(), model.networks["critic"]
    (update,) = model.critic_updates(batch, fake, draws, 0)
    terms = update.terms()
    ours = [parameter.grad.clone() for parameter in critic.parameters()]
    alpha = draws.uniform("mixing 0", (len(batch), 1))
    distance, penalty = losses.critic_terms(critic, batch.features, fake, batch.condition, alpha)
    assert sum(terms.values()).item() == pytest.approx(7 * (distance + 10 * penalty).item(), rel=1e-4)
    critic.zero_grad()
    (7 * (distance + 10 * penalty)).backward()
    for gradient, parameter in zip(ours, critic.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["fvaegan", "tfvaegan", "free"])
def test_the_second_critic_tells_unlabelled_rows_from_features_of_unseen_classes(name, world):
    model, data, batch, draws = started(world, name, transductive=True)
    if name == "tfvaegan":
        model.strength = 0.0
    critic, nothing = model.networks["critic2"], torch.zeros(len(batch), 0)

    def fakes(of):
        chosen = of.stream("unseen classes").integers(len(data.unseen_embeddings), size=len(batch))
        noise = of.normal("unseen noise", (len(batch), model.noise_dim))
        return model.networks["generator"](noise, data.unseen_embeddings[torch.from_numpy(chosen)])

    term = model.generator_terms(batch, draws)["adversarial2"]
    assert term.item() == pytest.approx(-7 * critic(fakes(draws), nothing).mean().item(), rel=1e-5)
    (update,) = (
        update
        for update in model.critic_updates(batch, model.critic_fakes(batch, draws).detach(), draws, 0)
        if update.roles == ("critic2",)
    )
    own = draws.part(0)
    drawn = own.stream("unlabelled").integers(len(world.dataset.splits["test_unseen"]), size=len(batch))
    real = torch.from_numpy(model.scaler.apply(world.dataset.split("test_unseen")[0][drawn]))
    distance = critic(fakes(own), nothing).mean() - critic(real, nothing).mean()
    assert update.terms()["critic2"].item() == pytest.approx(7 * distance.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["tfvaegan", "free"])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_semantic_decoder_adds_its_weighted_error_to_eq_4(name, encoded, world):
    model, _, batch, draws = started(world, name, encoded_noise=encoded, recons_weight=0.3)
    if name == "tfvaegan":
        model.strength = 0.0
    terms, shape = model.generator_terms(batch, draws), (len(batch), model.noise_dim)
    mean, log_variance = model.networks["encoder"](batch.features, batch.condition)
    rebuilt = model.synthesise(reparametrise(mean, log_variance, draws.normal("encoder noise", shape)), batch.condition)
    fake = rebuilt if encoded else model.synthesise(draws.normal("generator noise", shape), batch.condition)
    target = torch.nn.functional.normalize(batch.condition, dim=1)
    twins = {
        "adversarial": -7 * model.networks["critic"](fake, batch.condition).mean(),
        "reconstruction": losses.reconstruction(rebuilt, batch.features),
        "divergence": losses.gaussian_divergence(mean, log_variance),
        "semantic": 0.3 * losses.weighted_l1(model.decoded(fake, draws), target),
    }
    assert set(terms) == set(twins)
    for key, twin in twins.items():
        assert terms[key].item() == pytest.approx(twin.item(), rel=1e-4), key
