"""What a stored model may claim, and what becomes of one that is replaced while it is read."""

import json
import os

import pytest

from fgen.errors import InputError
from fgen.io import stored_folder
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model, make_model
from tests.models.test_contracts import fitted


@pytest.fixture(scope="module")
def kept(world, tmp_path_factory):
    """Folders of trained models, by method."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("clswgan", "flow", "diffusion", "priorgan"):
        fitted(name, world).save(folder / name)
    return folder


def edited(kept, name, tmp_path, changes):
    """A copy of a model with another description."""
    folder = tmp_path / name
    folder.mkdir()
    description = json.loads((kept / name / "model.json").read_text())
    for key, value in changes.items():
        table, _, inner = key.partition(".")
        if inner:
            description[table] = description[table] | {inner: value}
        else:
            description[table] = value
    (folder / "model.json").write_text(json.dumps(description))
    os.link(kept / name / "model.safetensors", folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"config": []},
        {"config": ""},
        {"embedding": []},
        {"embedding": None},
        {"class_names": "abc"},
        {"class_names": [1]},
        {"class_names": [None] * 16},
        {"class_names": {}},
        {"n_seen": 0},
        {"n_seen": True},
        {"n_seen": "12"},
        {"method": []},
        {"feature_scaling": []},
        {"config.hidden_dim": float("inf")},
    ],
    ids=str,
)
def test_a_description_that_no_model_has_is_refused(kept, tmp_path, changes):
    with pytest.raises(InputError, match="is no readable model"):
        load_model(edited(kept, "clswgan", tmp_path, changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("clswgan", {"config.noise_dim": 10_000}),
        ("clswgan", {"config.hidden_dim": 10_000}),
        ("clswgan", {"n_seen": 10_000}),
        ("priorgan", {"n_seen": 10_000}),
        ("flow", {"config.n_layers": 10_000}),
        ("diffusion", {"config.n_timesteps": 10_000}),
    ],
    ids=str,
)
def test_networks_are_made_for_what_the_tensors_hold_and_not_for_what_is_claimed(
    kept, tmp_path, monkeypatch, name, changes
):
    folder = edited(kept, name, tmp_path, changes)
    monkeypatch.setattr(FeatureGenerator, "make_networks", lambda *_: pytest.fail("room was taken"))
    with pytest.raises(InputError, match=f"{name} is no readable model .*(has shape|more than|of 16 classes)"):
        load_model(folder)


def test_names_that_are_numbers_as_an_earlier_fgen_took_them_stay_readable(kept, tmp_path):
    named = load_model(edited(kept, "clswgan", tmp_path, {"class_names": list(range(16))}))
    assert named.class_names == tuple(map(str, range(16)))


def test_a_model_that_is_replaced_while_it_is_read_is_the_old_or_the_new_one(kept, world, tmp_path, monkeypatch):
    path, load_file = tmp_path / "model", stored_folder.load_file
    old, new = load_model(kept / "clswgan"), fitted("clswgan", world, epochs=1, names=False)
    old.save(path)

    def late(file):
        monkeypatch.undo()
        new.save(path)
        return load_file(file)

    monkeypatch.setattr(stored_folder, "load_file", late)
    read = load_model(path)
    assert read.class_names is None
    assert read.generate([13], 4, seed=0)[0].tobytes() == new.generate([13], 4, seed=0)[0].tobytes()


def test_a_model_that_a_killed_writer_set_aside_is_found(kept, tmp_path):
    old = load_model(kept / "clswgan")
    old.save(tmp_path / "model")
    os.replace(tmp_path / "model", tmp_path / ".model.fgen.old")
    assert load_model(tmp_path / "model").class_names == old.class_names


def test_a_model_prints_its_method_and_sizes(kept, world):
    model = load_model(kept / "flow")
    n_classes, width = world.dataset.class_embeddings.shape
    size = sum(parameter.numel() for parameter in model.networks.parameters())
    sizes = f"{world.dataset.feature_dim} features from {width} embedding columns"
    assert repr(model) == f"<Flow of {sizes}; 12 of {n_classes} classes seen; {size:,} parameters on cpu>"
    assert repr(make_model("clswgan")) == "<CLSWGAN, not trained>"
