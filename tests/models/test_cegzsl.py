"""CE-GZSL: the factorised comparator, who learns from what, decay, and the space of its heads."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.models.registry import make_model
from fgen.nn import comparator as comparator_room
from fgen.nn.comparator import Comparator
from fgen.training.draws import Draws
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

B, S, E, A, H = 7, 5, 6, 3, 11


def started(world, **overrides):
    """A model before its first step, and its training set."""
    features, labels = world.dataset.split("trainval")
    model = make_model("cegzsl", **(TINY | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    return model, data


def randomised(network):
    """Weights large enough that LeakyReLU bends on both sides."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return network


def pair_by_pair(comparator, embedded, classes):
    """The released code's way: an MLP on ``[h; a]``, one pair after the other."""
    weight = torch.cat([comparator.of_embedded.weight, comparator.of_class.weight], dim=1)
    rows = []
    for h in embedded:
        pairs = [weight @ torch.cat([h, a]) + comparator.of_embedded.bias for a in classes]
        rows.append(torch.stack([comparator.out.weight[0] @ torch.where(p > 0, p, 0.2 * p) for p in pairs]))
    return torch.stack(rows)


@pytest.mark.parametrize("held", [1 << 25, 2 * S * H, 3 * H, 1])
def test_the_factorised_comparator_is_the_mlp_on_every_pair_in_value_and_gradient(held, monkeypatch):
    """Also where pairs are made in blocks: of two rows, of a row and some classes, and of a single pair."""
    monkeypatch.setattr(comparator_room, "COMPARED_CPU", held)
    comparator = randomised(Comparator(E, A, H).double())
    embedded = torch.randn(B, E, dtype=torch.float64, requires_grad=True)
    classes = torch.randn(S, A, dtype=torch.float64)
    fast, slow = comparator(embedded, classes), pair_by_pair(comparator, embedded, classes)
    assert (fast - slow).abs().max() < 1e-6
    upstream = torch.randn(B, S, dtype=torch.float64)
    leaves = [embedded, *comparator.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((fast * upstream).sum(), leaves),
        torch.autograd.grad((slow * upstream).sum(), leaves, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0
    (alone,) = torch.autograd.grad((comparator.requires_grad_(False)(embedded, classes) * upstream).sum(), embedded)
    torch.testing.assert_close(alone, torch.autograd.grad((slow * upstream).sum(), embedded)[0])


def test_the_class_loss_is_the_negative_log_likelihood_at_that_temperature(world):
    model, data = started(world, cls_temperature=0.3)
    randomised(model.networks["comparator"])
    batch = data.batches(Draws(0, 0, data.device), 1, 9)
    embedded = model.represent_scaled(batch.features)
    scores = pair_by_pair(model.networks["comparator"], embedded, data.embeddings) / 0.3
    twin = -torch.stack([row.log_softmax(0)[label] for row, label in zip(scores, batch.labels, strict=True)]).mean()
    assert model.class_loss(embedded, batch.labels).item() == pytest.approx(twin.item(), rel=1e-4)


def test_encoder_and_contrasts_learn_from_real_rows_alone(world):
    """Beside the critic, ``critic_steps`` times, and by no say of the generator's."""
    model, data = started(world, critic_steps=3)
    updates = list(model.updates(data, Draws(0, 0, data.device)))
    ours = ("encoder", "projection", "comparator")
    assert [update.roles for update in updates] == [("critic",), ours] * 3 + [("generator",)]
    before = {name: term.item() for name, term in updates[1].terms().items()}
    with torch.no_grad():
        for parameter in [*model.networks["generator"].parameters(), *model.networks["critic"].parameters()]:
            parameter.mul_(3)
    assert {name: term.item() for name, term in updates[1].terms().items()} == before


def test_the_generator_contrasts_its_rows_with_the_real_ones(world):
    """With a fake per real row every row has a positive, so that singletons in a batch count too."""
    model, data = started(world)
    rows = np.array([np.flatnonzero(data.labels == c)[0] for c in range(4)])
    batch = data.batch(rows)
    embedded = model.represent_scaled(batch.features)
    assert model.instance_loss(embedded, batch.labels) == 0, "on real rows alone singletons are dropped"
    assert model.generator_terms(batch, Draws(0, 0, data.device))["instance_fake"] > 0


def test_both_contrasts_count_in_the_generators_step_by_their_weights(world):
    model, data = started(world, ins_weight=0.3, cls_weight=0.7)
    batch, draws = data.batch(np.arange(0, len(data), 9)), Draws(0, 0, data.device)
    terms, fake = model.generator_terms(batch, draws), model.generator_fakes(batch, draws)
    embedded, real = model.represent_scaled(fake), model.represent_scaled(batch.features)
    instance = model.instance_loss(torch.cat([embedded, real]), batch.labels.repeat(2))
    assert terms["instance_fake"].item() == pytest.approx(0.3 * instance.item(), rel=1e-5)
    assert terms["class_fake"].item() == pytest.approx(0.7 * model.class_loss(embedded, batch.labels).item(), rel=1e-5)


def test_every_learning_rate_decays_in_steps(world):
    model, _ = started(world, lr=1e-3, critic_lr=1e-2, lr_decay=0.5, lr_decay_epochs=10)
    assert [model.learning_rate("encoder", epoch) for epoch in (0, 9, 10, 29)] == pytest.approx(
        [1e-3, 1e-3, 5e-4, 2.5e-4]
    )
    assert model.learning_rate("critic", 20) == pytest.approx(2.5e-3)


def test_heads_live_in_h_whatever_its_width(world):
    model, _ = started(world, embedded_dim=5)
    features = world.dataset.split("test_seen")[0]
    encoder = model.networks["encoder"][0]
    scaled = model.scaler.apply(torch.from_numpy(features))
    by_hand = (scaled @ encoder.weight.T + encoder.bias).clamp_min(0).detach().numpy()
    np.testing.assert_allclose(model.represent(features), by_hand, rtol=1e-5, atol=1e-6)
    own, _ = model.generate([13], 3, seed=0, represented=True)
    assert own.shape == (3, 5)


@pytest.mark.parametrize("wrong", [{"ins_temperature": 0.0}, {"cls_temperature": -1.0}, {"lr_decay": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_model("cegzsl", **wrong)
