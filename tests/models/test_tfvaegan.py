"""TF-VAEGAN: the feedback, the two passes, the decoder that both share in, and the trap of the released code."""

import pytest
import torch

from fgen.features.class_embeddings import EmbeddingConfig
from fgen.models.registry import make_model
from fgen.nn import losses
from fgen.nn.networks import leaky_relu
from fgen.training.draws import Draws
from fgen.training.loop import TrainConfig, make_optimisers, train_step
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


def started(world, *, scale=1.0, **overrides):
    """A model before its first step whose networks are far from zero, and its training set."""
    features, labels = world.dataset.split("trainval")
    embedding = EmbeddingConfig(norm="l2", scale=scale)
    model = make_model("tfvaegan", embedding=embedding, **(TINY | {"critic_steps": 2} | overrides))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(0)
    with torch.no_grad():
        for parameter in model.networks.parameters():
            parameter.mul_(10)
    return model, data


def listed(model, data, step=0):
    """The updates of a step, each with the terms that it gave."""
    found = []
    for update in model.updates(data, Draws(0, step, data.device)):
        for role, network in model.networks.items():
            network.requires_grad_(role in update.roles)
        found.append((update, update.terms()))
    return found


def test_weighted_l1_is_the_formula_row_by_row_and_smooth_where_a_row_is_met():
    torch.manual_seed(0)
    decoded, target = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    twin = 0.0
    for row, wanted in zip(decoded, target, strict=True):
        length = sum((a - b) ** 2 for a, b in zip(row, wanted, strict=True)) ** 0.5
        twin += sum((a - b) ** 2 / length * abs(a - b) for a, b in zip(row, wanted, strict=True)) / len(decoded)
    assert losses.weighted_l1(decoded, target).item() == pytest.approx(float(twin))
    decoded[0] = target[0]
    losses.weighted_l1(decoded.requires_grad_(True), target).backward()
    assert decoded.grad.isfinite().all()
    assert not decoded.grad[0].any()
    assert decoded.grad[1:].abs().min() > 0


def test_feedback_is_the_formula_and_its_weight_in_synthesis_is_a2(world):
    model, data = started(world, feedback_weight=0.7, synthesis_feedback_weight=0.3)
    noise, condition = torch.randn(9, 4), data.embeddings[:9]
    generator, decoder, feedback = (model.networks[role] for role in ("generator", "decoder", "feedback"))
    for k in range(9):
        z, a = noise[k : k + 1], condition[k : k + 1]
        hidden = leaky_relu(generator.hidden(torch.cat([z, a], 1)))
        told = leaky_relu(decoder.hidden(torch.sigmoid(generator.out(hidden))))
        told = leaky_relu(feedback.out(leaky_relu(feedback.hidden(told))))
        twin = torch.sigmoid(generator.out(hidden + 0.3 * told))
        torch.testing.assert_close(model.synthesise(z, a), twin)
        torch.testing.assert_close(model.synthesise(noise, condition)[k : k + 1], twin)
        assert (twin - generator(z, a)).abs().max() > 1e-3
    model.strength = 0.0
    assert torch.equal(model.synthesise(noise, condition), generator(noise, condition))


def test_the_first_iteration_knows_no_feedback_and_only_the_second_trains_it(world):
    model, data = started(world)
    found = listed(model, data)
    first, second = found[: len(found) // 2], found[len(found) // 2 :]
    assert [update.roles for update, _ in first] == [("decoder",), ("critic",)] * 2 + [
        ("encoder", "generator", "decoder")
    ]
    assert second[-1][0].roles == ("encoder", "generator", "decoder", "feedback")
    assert model.strength == model.config.synthesis_feedback_weight
    with torch.no_grad():
        for parameter in model.networks["feedback"].parameters():
            parameter.mul_(3)
    for index, ((_, before), (_, after)) in enumerate(zip(found, listed(model, data), strict=True)):
        changed = any(not torch.equal(before[name], after[name]) for name in before)
        # The penalty's weight has moved on since; the decoder's own update sees no generated rows.
        if "decoding" in before:
            assert not changed
        elif "reconstruction" in before:
            assert changed == (index >= len(first))


def test_both_iterations_have_batches_of_their_own_and_none_of_another_step(world):
    model, data = started(world, freeze_decoder=True)
    errors = [
        terms["decoding"].item() for step in range(3) for _, terms in listed(model, data, step) if len(terms) == 1
    ]
    assert len(errors) == 3 * 2 * 2
    assert len(set(errors)) == len(errors)


def test_without_encoded_noise_feedback_comes_from_the_features_that_it_mends(world, monkeypatch):
    """The released code decodes the reconstruction there."""
    model, data = started(world, encoded_noise=False)
    model.strength = 1.0
    batch, draws = data.batch(torch.arange(8).numpy()), Draws(0, 0, data.device)
    told, decoder = [], model.networks["decoder"]
    original = decoder.activation
    monkeypatch.setattr(decoder, "activation", lambda features: told.append(features) or original(features))
    model.generator_terms(batch, draws)
    fake = model.networks["generator"](draws.normal("generator noise", (8, 4)), batch.condition)
    of_reconstruction, of_fake = told[0], told[1]
    torch.testing.assert_close(of_fake, fake.detach())
    assert not torch.allclose(of_reconstruction, fake)


@pytest.mark.parametrize("encoded", [True, False])
def test_fakes_for_the_critic_depend_on_the_real_rows_where_noise_is_encoded(world, encoded):
    model, data = started(world, encoded_noise=encoded)
    batch, draws = data.batch(torch.arange(8).numpy()), Draws(0, 0, data.device)
    moved = type(batch)(batch.features + 0.5, batch.condition, batch.labels)
    same = torch.equal(model.critic_fakes(batch, draws), model.critic_fakes(moved, draws))
    assert same != encoded


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_decoder_learns_from_real_rows_only(world, frozen):
    model, data = started(world, freeze_decoder=frozen)
    roles = [update.roles for update, _ in listed(model, data)]
    assert roles.count(("decoder",)) == 4
    assert any("decoder" in of and "generator" in of for of in roles) != frozen


def test_the_penaltys_weight_follows_the_penalty_and_counts_in_the_next_update(world):
    model, data = started(world)
    found = [terms for update, terms in listed(model, data) if update.roles == ("critic",)]
    penalties = [float(terms["gradient_penalty"]) / 10 for terms in found]  # gan_weight is 10
    mean = (penalties[0] + penalties[1]) / 2 / 10  # both under the starting weight, 10
    assert mean > 1.05 or mean < 1.001
    weight = 11 if mean > 1.05 else 10 / 1.1
    mean = (penalties[2] + penalties[3]) / 2 / weight
    weight *= 1.1 if mean > 1.05 else 1 / 1.1 if mean < 1.001 else 1
    assert float(model.networks.state_dict()["penalty_weight.value"]) == pytest.approx(weight)


def test_learning_rates_and_betas_are_the_recipes(world):
    model, _ = started(world, decoder_lr=3e-4, feedback_lr=2e-5, lr=5e-4)
    rates = {role: model.learning_rate(role, 0) for role in model.trained}
    assert rates == {"critic": 5e-4, "encoder": 5e-4, "generator": 5e-4, "decoder": 3e-4, "feedback": 2e-5}
    betas = {role: made.param_groups[0]["betas"][0] for role, made in make_optimisers(model).items()}
    assert betas == {"critic": 0.5, "encoder": 0.9, "generator": 0.5, "decoder": 0.5, "feedback": 0.5}


def test_a_louder_embedding_leaves_the_decoders_task_as_it_is(world):
    errors = []
    for scale in (1.0, 7.0):
        model, data = started(world, scale=scale)
        errors.append(model.decoder_terms(data.batch(torch.arange(8).numpy()), Draws(0, 0, data.device))["decoding"])
    torch.testing.assert_close(errors[0], errors[1])


def test_heads_see_features_the_decoded_embedding_of_length_one_and_the_hidden_layer(world):
    model, data = started(world)
    raw = data.features[:6]
    seen = model.represent(raw)
    dim, width = data.feature_dim, data.embeddings.shape[1]
    assert seen.shape == (6, dim + width + 32)
    assert seen[:, :dim] == pytest.approx(model.scaler.apply(raw))
    assert (seen[:, dim : dim + width] ** 2).sum(1) == pytest.approx(1, abs=1e-5)
    assert model.represent(raw[2:3]) == pytest.approx(seen[2:3], abs=1e-6)


def test_a_transductive_model_trains_a_second_critic(world):
    features, labels = world.dataset.split("trainval")
    unlabelled, _ = world.dataset.split("test_unseen")
    model = make_model("tfvaegan", **TINY, transductive=True)
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu", unlabelled=unlabelled)
    model.initialise(0)
    before = model.networks["critic2"].hidden.weight.detach().clone()
    terms = train_step(model, data, make_optimisers(model), 0, 0)
    assert {"critic2", "adversarial2"} <= set(terms)
    assert not torch.equal(before, model.networks["critic2"].hidden.weight)


def test_going_on_from_a_checkpoint_gives_the_bytes_of_an_unbroken_run(world, tmp_path):
    """The penalty's weight and what it has counted are part of the state."""
    features, labels = world.dataset.split("trainval")

    def fitted(steps, path):
        model = make_model("tfvaegan", **(TINY | {"steps": steps, "critic_steps": 2}))
        train = TrainConfig(device="cpu")
        return model.fit(
            features, labels, world.dataset.class_embeddings, seed=0, train_config=train, checkpoint=tmp_path / path
        )

    fitted(3, "broken")
    unbroken, resumed = fitted(5, "unbroken"), fitted(5, "broken")
    for key, value in unbroken.networks.state_dict().items():
        assert torch.equal(value, resumed.networks.state_dict()[key]), key
