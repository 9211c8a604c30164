"""LsrGAN: the SR-loss, which has no gradient in the published code, and the update on unseen classes."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.models.registry import make_model
from fgen.training.draws import Draws
from fgen.training.loop import make_optimisers, train_step
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, **overrides):
    features, labels = world.dataset.split("trainval")
    model = make_model("lsrgan", **(TINY | {"cls_epochs": 2} | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    model.pretrain(data, 0)
    return model, data


def slow_sr_loss(fake, labels, own, seen, means, config):
    """The published loops over classes and neighbours, for features ``(B, D)`` of classes with embeddings ``own``."""
    if config.sr_centred:
        own, seen, fake, means = own - seen.mean(0), seen - seen.mean(0), fake - means.mean(0), means - means.mean(0)
    total = []
    for label in np.unique(labels):
        generated = fake[labels == label].mean(0)
        similarity = seen @ own[label] / np.linalg.norm(seen, axis=1) / np.linalg.norm(own[label])
        for neighbour in np.argsort(-similarity, kind="stable")[: config.n_neighbours]:
            mean = means[neighbour]
            cosine = generated @ mean / np.linalg.norm(generated) / np.linalg.norm(mean)
            over = max(0.0, cosine - similarity[neighbour] - config.tolerance_above)
            under = max(0.0, similarity[neighbour] - config.tolerance_below - cosine)
            total.append(over**2 + under**2)
    return config.sr_weight * np.mean(total)


@pytest.mark.parametrize("centred", [False, True])
def test_both_sr_losses_agree_with_their_slow_twin(world, centred):
    model, data = started(
        world, sr_centred=centred, n_neighbours=5, tolerance_below=0.05, tolerance_above=0.02, sr_weight=3.0
    )
    batch, draws = data.batch(np.arange(0, len(data), 7)), Draws(0, 0, data.device)
    seen, unseen = data.embeddings.double().numpy(), data.unseen_embeddings.double().numpy()
    means = data.class_means().double().numpy()
    fake = model.generator_fakes(batch, draws)
    terms = model.generator_terms(batch, draws) | model.unseen_terms(batch, draws)

    expected = slow_sr_loss(fake.detach().double().numpy(), batch.labels.numpy(), seen, seen, means, model.config)
    assert terms["sr_seen"].item() == pytest.approx(expected, rel=1e-4)
    labels = draws.stream("unseen classes").integers(len(unseen), size=len(batch))
    noise = draws.normal("unseen noise", (len(batch), model.noise_dim))
    fake = model.synthesise(noise, data.unseen_embeddings[torch.from_numpy(labels)]).detach().double().numpy()
    expected = slow_sr_loss(fake, labels, unseen, seen, means, model.config)
    assert terms["sr_unseen"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("centred", [False, True])
def test_both_sr_losses_reach_the_generator(world, centred):
    model, data = started(world, sr_centred=centred)
    batch, draws = data.batch(np.arange(32)), Draws(0, 0, data.device)
    terms = model.generator_terms(batch, draws) | model.unseen_terms(batch, draws)
    for name in ("sr_seen", "sr_unseen"):
        gradients = torch.autograd.grad(terms[name], list(model.networks["generator"].parameters()), retain_graph=True)
        assert all(g.abs().max() > 0 for g in gradients), name


def test_training_on_the_sr_loss_brings_unseen_classes_nearer_to_how_they_are_described(world):
    """Nothing else tells the generator of unseen classes here."""

    def outside(sr_weight):
        model, data = started(world, sr_weight=sr_weight, unseen_weight=0.0, pivot_weight=0.0, lr=1e-3, critic_steps=1)
        optimisers = make_optimisers(model)
        for step in range(40):
            train_step(model, data, optimisers, 0, step)
        labels = torch.arange(len(data.unseen_embeddings)).repeat_interleave(50)
        noise = Draws(0, 0, data.device).normal("test", (len(labels), model.noise_dim))
        fake = model.synthesise(noise, data.unseen_embeddings[labels])
        return model.sr_loss(fake, labels, model.unseen_neighbours).item() / sr_weight

    assert outside(10.0) < 0.8 * outside(1e-6)


def test_the_classifier_knows_seen_classes_first_and_then_unseen_ones(world):
    model, data = started(world, unseen_weight=0.5, real_weight=0.25)
    batch, draws = data.batch(np.arange(0, len(data), 7)), Draws(0, 0, data.device)
    weight, bias = (p.detach().double().numpy() for p in model.networks["classifier"].parameters())
    assert len(weight) == world.dataset.n_classes

    def error(features, labels):
        logits = features @ weight.T + bias
        return -np.mean([row[label] - np.log(np.exp(row).sum()) for row, label in zip(logits, labels, strict=True)])

    terms = model.unseen_terms(batch, draws)
    drawn = draws.stream("unseen classes").integers(len(data.unseen_embeddings), size=len(batch))
    noise = draws.normal("unseen noise", (len(batch), model.noise_dim))
    fake = model.synthesise(noise, data.unseen_embeddings[torch.from_numpy(drawn)]).detach().double().numpy()
    expected = 0.5 * error(fake, data.n_classes + drawn)
    assert terms["unseen_classification"].item() == pytest.approx(expected, rel=1e-5)
    expected = 0.25 * error(batch.features.double().numpy(), batch.labels.numpy())
    assert terms["real_classification"].item() == pytest.approx(expected, rel=1e-5)


def test_the_classifier_is_pre_trained_to_answer_seen_classes_and_then_trained_on(world):
    model, data = started(world, cls_epochs=30, cls_lr=1e-2)
    classifier, rows = model.networks["classifier"], data.batch(np.arange(len(data)))
    assert float((classifier(rows.features).argmax(1) == rows.labels).float().mean()) > 0.5
    before = classifier.weight.detach().clone()
    train_step(model, data, make_optimisers(model), 0, 0)
    assert (classifier.weight != before).any(dim=1).all(), "the rows of unseen classes move too"


def test_the_classifier_goes_on_with_the_rate_it_was_pre_trained_with(world):
    model, _ = started(world, lr=2e-4, critic_lr=3e-4, cls_lr=4e-3)
    rates = {role: model.learning_rate(role, 0) for role in model.trained}
    assert rates == {"critic": 3e-4, "generator": 2e-4, "classifier": 4e-3}


def test_it_says_that_it_looks_at_unseen_embeddings_and_needs_some(world):
    assert make_model("lsrgan").config.uses_unseen_embeddings
    assert not make_model("lsrgan").config.is_transductive
    features, labels = world.dataset.split("trainval")
    with pytest.raises(InputError, match="all 12 classes have rows"):
        make_model("lsrgan", **TINY).fit(features, labels, world.dataset.class_embeddings[world.dataset.seen], seed=0)


def test_without_its_unseen_terms_there_is_no_unseen_update(world):
    model, data = started(world, sr_weight=0.0, unseen_weight=0.0)
    roles = [update.roles for update in model.updates(data, Draws(0, 0, data.device))]
    assert roles == [("critic",)] * 5 + [("generator",)]


def test_without_that_update_no_weight_of_real_rows_pre_trains_the_classifier(world):
    unused = {"cls_weight": 0.0, "unseen_weight": 0.0, "real_weight": 1.0}
    assert make_model("lsrgan", sr_weight=0.0, **unused).pretraining == {}
    assert make_model("lsrgan", sr_weight=1.0, **unused).pretraining == {"classifier": 50}
    model, _ = started(world, sr_weight=0.0)
    assert not hasattr(model, "seen_neighbours"), "nobody asks for the neighbours then"


@pytest.mark.parametrize("wrong", [{"n_neighbours": 0}, {"tolerance_below": -0.1}, {"tolerance_above": float("nan")}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_model("lsrgan", **wrong)
