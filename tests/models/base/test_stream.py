"""Endless fresh features: the same whoever makes them, and never twice."""

import pickle
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from fgen import rng
from fgen.compute.device import cpu_threads
from fgen.errors import InputError
from fgen.models.registry import make_model
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def _one_thread():
    """As torch gives to each worker; on several threads the last digits may differ."""
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def model(world):
    features, labels = world.dataset.split("trainval")
    names = [f"class {k}" for k in range(16)]
    settings = TINY | {"steps": 2}
    return make_model("flow", **settings).fit(
        features, labels, world.dataset.class_embeddings, seed=0, class_names=names
    )


def first(stream, n_rounds, **options):
    """Features and labels of the first rounds, in the order of a DataLoader."""
    loader = DataLoader(stream, batch_size=stream.rows_per_round, **options)
    features, labels = zip(*islice(loader, n_rounds), strict=True)
    return torch.cat(features), torch.cat(labels)


def rows_of(features, labels, label):
    return {row.numpy().tobytes() for row in features[labels == label]}


def test_two_workers_share_the_rounds_of_one_process(model):
    stream = model.stream(["class 12", "class 3"], n_per_class=5, seed=1)
    assert stream.rows_per_round == 10
    alone, labels = first(stream, 4)
    shared, own = first(stream, 4, num_workers=2, multiprocessing_context="fork")
    assert alone.numpy().tobytes() == shared.numpy().tobytes()
    assert labels.tolist() == own.tolist()
    assert labels.dtype == torch.int64
    assert len({row.numpy().tobytes() for row in alone}) == 40, "no row comes twice"
    odd = DataLoader(stream, batch_size=5, num_workers=2, multiprocessing_context="fork")
    rows = torch.cat([features for features, _ in islice(odd, 8)])
    assert {row.numpy().tobytes() for row in rows} == {row.numpy().tobytes() for row in alone}, "in whatever order"


def test_a_round_holds_what_generate_makes_of_its_seed_in_random_order(model):
    features, labels = first(model.stream([12, 3], n_per_class=20, seed=1), 2)
    for number in (0, 1):
        own = slice(40 * number, 40 * number + 40)
        expected, ids = model.generate([12, 3], 20, seed=rng.subseed(1, "stream", 0, number))
        for label in (12, 3):
            assert rows_of(features[own], labels[own], label) == {row.tobytes() for row in expected[ids == label]}
    assert labels[:20].unique().tolist() == [3, 12], "classes are mixed"
    assert labels[:40].tolist() != labels[40:].tolist(), "in another order in each round"


def test_rows_follow_from_seed_epoch_and_class_alone(model):
    stream = model.stream([12, 3], seed=1)
    once, labels = first(stream, 2)
    again, _ = first(pickle.loads(pickle.dumps(stream)), 2)
    assert torch.equal(once, again)
    others, ids = first(model.stream([5, 3, 14], seed=1), 2)
    assert rows_of(once, labels, 3) == rows_of(others, ids, 3)
    stream.set_epoch(1)
    fresh, labels_too = first(stream, 2)
    assert not rows_of(once, labels, 3) & rows_of(fresh, labels_too, 3)
    seeded, labels_too = first(model.stream([12, 3], seed=2), 2)
    assert not rows_of(once, labels, 3) & rows_of(seeded, labels_too, 3)


def test_workers_that_outlive_an_epoch_know_the_next(model):
    stream = model.stream([12, 3], seed=1)
    stream.set_epoch(1)
    expected, _ = first(stream, 2)
    stream.set_epoch(0)
    loader = DataLoader(
        stream, batch_size=32, num_workers=2, multiprocessing_context="fork", persistent_workers=True, prefetch_factor=1
    )
    found = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        found.append(torch.cat([features for features, _ in islice(loader, 2)]))
    assert torch.equal(found[1], expected)
    assert not torch.equal(found[0], expected)


def test_classes_are_given_as_for_generate_and_refused_at_once(model, world):
    embeddings = world.dataset.class_embeddings[[12, 3]]
    named = model.stream(embeddings, seed=1, class_names=["class 12", "class 3"])
    features, labels = first(named, 1)
    by_id, ids = first(model.stream([12, 3], seed=1), 1)
    assert torch.equal(features, by_id)
    assert labels.tolist() == [int(label == 3) for label in ids]
    for wrong in ({"classes": ["class 99"]}, {"n_per_class": 0}, {"seed": None}):
        with pytest.raises(InputError):
            model.stream(**({"classes": [12], "n_per_class": 4, "seed": 0} | wrong))


def test_a_trained_generator_learns_on_in_a_module_of_ones_own(model, world):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.networks = model.networks

        def forward(self, noise, condition):
            return model.scaler.invert(model.synthesise(noise, condition))

    own = Own()
    condition = torch.from_numpy(model.preprocessor(world.dataset.class_embeddings[:3])).requires_grad_()
    features = own(torch.ones(3, model.noise_dim), condition)
    assert features.shape == (3, world.dataset.feature_dim)
    features.sum().backward()
    assert condition.grad.abs().sum() > 0
    assert any(parameter.grad is not None for parameter in own.parameters())
    own.zero_grad()
