"""GAZSL: a critic that is not told the class but must tell it, and a generator that reduces the text first."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fgen.models.registry import make_model
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("gazsl", **(TINY | {"text_dim": 6} | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def drawn(model, data):
    batch, draws = data.batch(np.arange(0, len(data), 9)), Draws(0, 0, data.device)
    with torch.no_grad():
        fake = model.critic_fakes(batch, draws)
    return batch, fake, draws


def test_the_critics_loss_agrees_with_the_papers_written_out(world):
    model, data = started(world, critic_cls_weight=0.7, gp_weight=3.0)
    batch, fake, draws = drawn(model, data)
    alpha = draws.uniform("mixing", (len(batch), 1))
    terms = model.critic_terms(batch, fake, alpha)

    critic = model.networks["critic"]
    layers = nn.Sequential(critic.hidden, nn.ReLU(), critic.out)
    labels = nn.Sequential(critic.hidden, nn.ReLU(), critic.classes)
    distance = layers(fake).mean() - layers(batch.features).mean()
    assert terms["critic"].item() == pytest.approx(distance.item(), abs=1e-6)
    both = F.cross_entropy(labels(batch.features), batch.labels) + F.cross_entropy(labels(fake), batch.labels)
    assert terms["critic_classification"].item() == pytest.approx(0.7 * both.item() / 2, rel=1e-5)
    lengths = []
    for share, real, generated in zip(alpha, batch.features, fake, strict=True):
        mixed = (share * real + (1 - share) * generated).requires_grad_(True)
        lengths.append(float(torch.autograd.grad(layers(mixed).sum(), mixed)[0].norm()))
    assert terms["gradient_penalty"].item() == pytest.approx(3 * np.mean((np.array(lengths) - 1) ** 2), rel=1e-4)


def test_the_critic_is_not_told_the_class_and_learns_from_all_three_terms(world):
    model, data = started(world)
    batch, fake, draws = drawn(model, data)
    critic = model.networks["critic"]
    assert torch.equal(critic(fake, batch.condition), critic(fake, 5 - batch.condition))
    terms = model.critic_terms(batch, fake, draws.uniform("mixing", (len(batch), 1)))
    for name in terms:
        (gradient,) = torch.autograd.grad(terms[name], critic.hidden.weight, retain_graph=True)
        assert gradient.abs().max() > 0, name


def test_the_generators_loss_has_class_pivot_and_decay(world):
    model, data = started(world, cls_weight=0.5, pivot_weight=2.0, decay_weight=0.01)
    batch, _, draws = drawn(model, data)
    terms = model.generator_terms(batch, draws)
    fake, critic = model.generator_fakes(batch, draws), model.networks["critic"]
    logits = critic.classes(F.relu(critic.hidden(fake)))
    assert terms["adversarial"].item() == pytest.approx(-critic(fake, batch.condition).mean().item(), abs=1e-6)
    assert terms["classification"].item() == pytest.approx(0.5 * F.cross_entropy(logits, batch.labels).item(), rel=1e-5)
    labels, means = batch.labels.numpy(), data.class_means().numpy()
    gaps = [np.linalg.norm(fake.detach().numpy()[labels == c].mean(0) - means[c]) for c in np.unique(labels)]
    assert terms["pivot"].item() == pytest.approx(2 * np.mean(gaps), rel=1e-5)
    weights = [p.detach().numpy() for key, p in model.networks["generator"].named_parameters() if "weight" in key]
    assert len(weights) == 3
    assert terms["decay"].item() == pytest.approx(0.01 * sum(np.square(w).sum() for w in weights), rel=1e-5)


def test_embeddings_are_reduced_before_they_meet_the_noise_or_not_at_all(world):
    model, data = started(world, text_dim=6)
    main = model.networks["generator"].main
    assert main.hidden.in_features == TINY["noise_dim"] + 6
    model, data = started(world, text_dim=None)
    assert model.networks["generator"].main.hidden.in_features == TINY["noise_dim"] + data.embeddings.shape[1]


def test_the_description_is_as_loud_as_the_noise_at_the_start(world):
    """Two layers of N(0, 0.02) in a row would let nothing of a text through."""
    model, data = started(world, text_dim=100, noise_dim=100, hidden_dim=256)
    generator, draws = model.networks["generator"], Draws(0, 0, data.device)
    reduced = generator.reduce(data.embeddings)
    scale = data.embeddings.std()
    assert (reduced.std() / scale).item() > 0.1
    fake = generator(draws.normal("a", (data.n_classes, 100)), 0 * data.embeddings)
    assert 0 <= fake.min().item() <= fake.max().item() <= 1
