"""Feature pyramids: which stages a network has, what is pooled, and a top-down pyramid that learns."""

import importlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fgen.encoders.feature_pyramid import pyramid_encoder, stage_names
from fgen.encoders.image import image_encoder
from fgen.encoders.image_features import encode_images
from fgen.encoders.network import NetworkEncoder, unit_square
from fgen.encoders.top_down_pyramid import FeaturePyramidConfig, train_feature_pyramid
from fgen.errors import InputError
from tests.encoders.seeded import seeded, with_efficientnet, with_vision

Image = pytest.importorskip("PIL.Image")


class Small(torch.nn.Module):
    """Four convolutions, each halving the picture, with ReLU; then the mean of the last map."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(
            *(
                torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, stride=2, padding=1), torch.nn.ReLU())
                for a, b in pairwise([3, 4, 6, 8, 10])
            )
        )
        for block in self.features:
            torch.nn.init.kaiming_normal_(block[0].weight)

    def forward(self, batch):
        return self.features(batch).mean(dim=(2, 3))


@pytest.fixture
def small():
    """An encoder by Small on pictures of 224 x 224."""
    return NetworkEncoder("small", seeded(Small), unit_square, {"size": 224})


@pytest.fixture
def files(tmp_path):
    """Twelve pictures of two classes: red and blue ones."""
    stream, found = np.random.default_rng(0), []
    for k in range(12):
        pixels = stream.integers(0, 120, (64, 64, 3)).astype(np.uint8)
        pixels[:, :, 2 * (k % 2)] += 100
        Image.fromarray(pixels).save(tmp_path / f"{k:02}.png")
        found.append(tmp_path / f"{k:02}.png")
    return found


def test_a_pyramid_is_the_mean_of_each_stage_side_by_side(small, files):
    assert stage_names(small) == ["features.1", "features.2", "features.3"], "not the finest, of half the height"
    rows = encode_images(files[:3], encoder=pyramid_encoder(small))
    layers = small.network.features
    for row, file in zip(rows, files, strict=False):
        with torch.inference_mode():
            maps = [small.preprocess(Image.open(file))[None]]
            for layer in layers:
                maps.append(layer(maps[-1]))
        own = torch.cat([found.mean(dim=(2, 3))[0] for found in maps[2:]]).numpy()
        assert row == pytest.approx(own, rel=1e-5, abs=1e-6)
    chosen = pyramid_encoder(small, ["features.0"])
    assert (chosen.record.dim, chosen.record.preprocessing["stages"]) == (4, ["features.0"])
    assert chosen.record.weights == small.record.weights


@with_efficientnet
def test_the_packaged_networks_have_stages_of_four_sizes():
    encoder = image_encoder("pyramid:efficientnet-lite0")
    assert encoder.record.preprocessing["stages"] == [
        "network._blocks.2",
        *(f"network._blocks.{k}" for k in (4, 10, 15)),
    ]
    assert encoder.record.dim == 24 + 40 + 112 + 320


@with_vision
@pytest.mark.parametrize(
    ("spec", "stages"),
    [
        ("torchvision:resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("timm:convnext_atto", [f"stages.{k}" for k in range(4)]),
    ],
)
def test_networks_of_libraries_have_stages(tmp_path, spec, stages):
    library, _, name = spec.partition(":")
    build = importlib.import_module("torchvision.models").get_model if library == "torchvision" else None
    build = build or importlib.import_module("timm").create_model
    save_file(seeded(lambda: build(name)).state_dict(), tmp_path / "w.safetensors")
    assert image_encoder(f"pyramid:{spec}", tmp_path / "w.safetensors").record.preprocessing["stages"] == stages


def test_a_network_without_maps_is_refused():
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 224 * 224, 2))
    with pytest.raises(InputError, match="flat has maps of 0 sizes; expected a convolutional network"):
        pyramid_encoder(NetworkEncoder("flat", flat, unit_square, {}))


@with_vision
def test_a_trained_pyramid_tells_its_classes_apart_and_is_read_again(small, files, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "fgen")
    labels, out = np.arange(12) % 2 + 5, tmp_path / "p.safetensors"
    config = FeaturePyramidConfig(channels=8, epochs=8, lr=0.02, batch_size=4)
    before, backbone = torch.get_rng_state(), [value.clone() for value in small.network.state_dict().values()]
    trained = train_feature_pyramid(out, small, files, labels, seed=0, config=config)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, small.network.state_dict().values(), backbone))
    rows = encode_images(files, encoder=trained)
    assert rows.shape == (12, 3 * 8)
    content = out.read_bytes()
    losses = [float(record.msg.rpartition(" ")[2]) for record in caplog.records if "loss" in record.msg]
    assert losses[-1] < losses[0] / 2
    train_feature_pyramid(out, small, files, labels, seed=0, config=config)
    assert out.read_bytes() == content
    monkeypatch.setattr("fgen.encoders.image._network", lambda spec, weights: {"small": small}[spec])
    again = image_encoder(f"fpn:{out}")
    assert again.record == trained.record
    assert np.array_equal(encode_images(files, encoder=again), rows)
    other = NetworkEncoder("small", seeded(Small, seed=1), unit_square, {"size": 224})
    monkeypatch.setattr("fgen.encoders.image._network", lambda spec, weights: other)
    with pytest.raises(InputError, match=r"was trained on other weights of small; .* Give the weights"):
        image_encoder(f"fpn:{out}")
    out.write_bytes(content[:100])
    with pytest.raises(InputError, match=r"p\.safetensors is no readable feature pyramid file"):
        image_encoder(f"fpn:{out}")
