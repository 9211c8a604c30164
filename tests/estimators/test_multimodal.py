"""``MultimodalZeroShotClassifier``: features and embeddings, modules of pictures and texts, and what is stored."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import fgen
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.nn.multimodal import FUSIONS, ImageTextScorer, SideBySide

QUICK = {"joint_dim": 32, "epochs": 5, "lr": 3e-3, "calibrate": False}
COLOURS, SHAPES = ("red", "green", "blue"), ("bar", "beam", "cross")
WORDS = ["a", "photo", "drawing", "of", *COLOURS, *SHAPES]


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=12, n_unseen=3, rows_per_class=20, sigma=0.4)


def tokenizer(texts):
    """Ids and a mask of words, filled up to 5."""
    ids = [[1 + WORDS.index(word) for word in text.split()] for text in texts]
    filled = torch.tensor([own + [0] * (5 - len(own)) for own in ids])
    return filled, (filled > 0).long()


class Texts(nn.Module):
    """The mean of words' vectors."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS) + 1, 8)
        self.dropout = nn.Dropout(0.1)

    def forward(self, ids, mask):
        return (self.dropout(self.words(ids)) * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def pictures_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(75, 16), nn.ReLU(), nn.Linear(16, 8))


@pytest.fixture(scope="module")
def drawings():
    """Pictures (N, 3, 5, 5) of a shape in a colour: pictures, labels, texts by label. The last class is unseen."""
    numbers = np.random.default_rng(0)
    masks = np.zeros((3, 5, 5), dtype=np.float32)
    masks[0, :, 2] = masks[1, 2] = 1
    masks[2] = np.maximum(np.eye(5), np.eye(5)[::-1])
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    ids = np.repeat(np.arange(9), 16)
    clean = np.zeros((len(ids), 3, 5, 5), dtype=np.float32)
    clean[np.arange(len(ids)), ids // 3] = masks[ids % 3]
    noisy = clean + 0.3 * numbers.normal(size=clean.shape).astype(np.float32)
    texts = {name: [f"a photo of {name}", f"drawing of {name}"] for name in names}
    return noisy, np.array(names)[ids], texts


@pytest.fixture(scope="module")
def end_to_end(drawings):
    pictures, labels, texts = drawings
    torch.manual_seed(0)
    classifier = fgen.MultimodalZeroShotClassifier(
        Texts(), pictures_net(), class_texts=texts, tokenizer=tokenizer, encoder_lr=1e-2, **(QUICK | {"epochs": 25})
    )
    seen = labels != "blue cross"
    return classifier.fit(pictures[seen], labels[seen])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_recognises_unseen_classes_from_features_and_embeddings(data, fusion):
    settings = QUICK | {"epochs": 40}
    model = fgen.MultimodalZeroShotClassifier(fusion=fusion, class_embeddings=data.class_embeddings, **settings)
    model.fit(*data.split("trainval"))
    tests, labels = data.split("test_unseen")
    scores = model.decision_function(tests)[:, data.unseen]
    assert np.mean(data.unseen[scores.argmax(axis=1)] == labels) > 0.6, "chance is 1/3"
    assert isinstance(model.module_, ImageTextScorer)
    with torch.inference_mode():
        own = model.module_(torch.from_numpy(tests), model.predictor_.head.baseline.rows).numpy()
    np.testing.assert_allclose(own, model.decision_function(tests), rtol=1e-4, atol=1e-4)


def test_it_is_the_baseline_of_that_name(data):
    """So a row of the tables tells of the estimator."""
    X, y = data.split("trainval")
    tests, _ = data.split("test_unseen")
    model = fgen.MultimodalZeroShotClassifier(class_embeddings=data.class_embeddings, **QUICK).fit(X, y)
    settings = {key: QUICK[key] for key in ("joint_dim", "epochs", "lr")}
    row = fgen.ZeroShotClassifier(
        data.class_embeddings, method="multimodal", model=settings, calibrate=False, embedding_scale=1.0
    )
    assert np.array_equal(model.decision_function(tests), row.fit(X, y).decision_function(tests))


def test_epochs_and_gamma_are_chosen_on_held_out_classes():
    data = make_toy(n_seen=5, n_unseen=2, rows_per_class=20)
    X, y = data.split("trainval")
    names = np.array([f"sort {k}" for k in range(7)])
    described = dict(zip(names, data.class_embeddings, strict=True))
    model = fgen.MultimodalZeroShotClassifier(class_embeddings=described, joint_dim=16, lr=1e-2).fit(X, names[y])
    assert model.predictor_.head.baseline.config.epochs in (3, 10, 30)
    assert model.calibration_["n_classes"] == 5
    assert model.unseen_.tolist() == names[data.unseen].tolist()
    assert model.gamma_ != 0
    plain = model.predictor_.scores(X)
    plain[:, data.seen] -= model.gamma_
    assert np.array_equal(model.decision_function(X), plain)


def test_a_seed_repeats_every_number_and_another_changes_it(drawings):
    """Also what modules draw from torch, as the dropout of texts does."""
    pictures, labels, texts = drawings
    modules = Texts(), pictures_net()

    def scores(seed):
        settings = QUICK | {"epochs": 2, "random_state": seed}
        model = fgen.MultimodalZeroShotClassifier(*modules, class_texts=texts, tokenizer=tokenizer, **settings)
        return model.fit(pictures, labels).decision_function(pictures)

    first = scores(0)
    assert np.array_equal(first, scores(0))
    assert not np.array_equal(first, scores(1))


def test_modules_of_pictures_and_texts_are_trained_end_to_end(end_to_end, drawings):
    pictures, labels, _ = drawings
    unseen = labels == "blue cross"
    assert np.mean(end_to_end.predict(pictures[~unseen]) == labels[~unseen]) > 0.8, "chance is 1/8"
    assert end_to_end.unseen_.tolist() == ["blue cross"]
    trained, given = end_to_end.module_, end_to_end
    for tower, module in ((trained.image_encoder, given.image_encoder), (trained.text_encoder, given.text_encoder)):
        pairs = zip(tower.module.parameters(), module.parameters(), strict=True)
        assert all(not torch.equal(new, old) for new, old in pairs), "each parameter moved, in a copy"


def test_a_rate_of_0_leaves_the_modules_as_they_are(end_to_end, drawings):
    pictures, labels, _ = drawings
    settings = end_to_end.get_params() | {"encoder_lr": 0, "epochs": 1}
    model = fgen.MultimodalZeroShotClassifier(**settings).fit(pictures, labels)
    trained, given = model.module_.text_encoder.module, model.text_encoder
    assert all(torch.equal(new, old) for new, old in zip(trained.parameters(), given.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in model.text_encoder.parameters()), "what was given stays"


def test_a_saved_classifier_predicts_the_same_and_the_same_is_the_same_bytes(end_to_end, data, drawings, tmp_path):
    pictures, _, texts = drawings
    end_to_end.save(tmp_path / "modules")
    end_to_end.save(tmp_path / "again")
    modules = {"text_encoder": Texts(), "image_encoder": pictures_net()}
    loaded = fgen.MultimodalZeroShotClassifier.load(tmp_path / "modules", tokenizer=tokenizer, **modules)
    assert np.array_equal(loaded.decision_function(pictures), end_to_end.decision_function(pictures))
    assert loaded.class_texts == texts
    loaded.save(tmp_path / "third")
    for name in ("multimodal.json", "multimodal.safetensors"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("modules", "again", "third")}) == 1
    X, y = data.split("trainval")
    plain = fgen.MultimodalZeroShotClassifier(class_embeddings=data.class_embeddings, **QUICK).fit(X, y)
    calibrated = copy.copy(plain)
    calibrated.predictor_ = replace(plain.predictor_, gamma=0.5)
    calibrated.save(tmp_path / "plain")
    loaded = fgen.MultimodalZeroShotClassifier.load(tmp_path / "plain")
    assert loaded.gamma_ == 0.5
    assert np.array_equal(loaded.predict_proba(X), calibrated.predict_proba(X))
    assert np.array_equal(loaded.fit(X, y).predict_proba(X), plain.predict_proba(X)), "its settings are the same"


def test_what_can_not_be_loaded_is_named(end_to_end, tmp_path):
    end_to_end.save(tmp_path / "it")
    load = fgen.MultimodalZeroShotClassifier.load
    with pytest.raises(InputError, match="a module, whose code isn't stored as image_encoder"):
        load(tmp_path / "it", Texts())
    with pytest.raises(InputError, match="the stored weights don't fit the encoders"):
        load(tmp_path / "it", Texts(), nn.Sequential(nn.Flatten(), nn.Linear(75, 8)))
    description = json.loads((tmp_path / "it/multimodal.json").read_text())
    (tmp_path / "it/multimodal.json").write_text(json.dumps(description | {"seen": [99]}))
    with pytest.raises(InputError, match="is no readable classifier file"):
        load(tmp_path / "it", Texts(), pictures_net())
    with pytest.raises(InputError, match="is no readable multimodal"):
        load(tmp_path / "nothing")
    with pytest.raises(InputError, match="isn't fitted"):
        fgen.MultimodalZeroShotClassifier().predict([[0.0]])


def test_encoders_without_training_and_two_networks_side_by_side(drawings):
    pictures, labels, texts = drawings

    class Frozen:
        def encode(self, given):
            return np.stack([np.resize([len(text), text.count("e"), text.count("r")], 3) for text in given])

    net = SideBySide(pictures_net(), nn.Flatten())
    model = fgen.MultimodalZeroShotClassifier(
        Frozen(),
        net,
        class_texts=texts,
        preprocess=torch.from_numpy,
        **(QUICK | {"epochs": 1}),
    ).fit(list(pictures), labels)
    assert model.module_.fusion.image.weight.shape == (32, 8 + 75)
    assert model.predict_proba(list(pictures[:2])).shape == (2, 9)
    with pytest.raises(InputError, match=r"pictures have shape \(3, 5, 4\); expected \(3, 5, 5\)"):
        model.predict(list(pictures[..., :4]))


class ReturnsTwo(nn.Module):
    def forward(self, *inputs):
        return inputs, inputs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_texts": None}, "class_texts is None"),
        ({"class_embeddings": np.eye(9)}, "class_embeddings is given, and text_encoder is set"),
        ({"text_encoder": None}, "class_texts is given, and text_encoder is None"),
        ({"tokenizer": None}, "tokenizer is None; expected a callable"),
        ({"tokenizer": lambda texts: [[0.5] for _ in texts]}, "the tokenizer returned .* float64"),
        ({"class_texts": {"red bar": ["a", "of"], "red beam": "a"}}, r"classes have \[1, 2\] texts"),
        (
            {"text_encoder": "sentence"},
            r"text_encoder is 'sentence'; .* with encode\. fgen\.encoders\.text\.text_encoder\('sentence'\) makes one",
        ),
        ({"image_encoder": 3}, "image_encoder is 3; expected a torch module, or an object with encode"),
        ({"text_encoder": ReturnsTwo()}, "text_encoder returned tuple"),
        ({"image_encoder": ReturnsTwo()}, "image_encoder returned tuple"),
        ({"image_encoder": nn.Identity()}, "image_encoder returned a tensor of shape"),
        ({"fusion": "sum"}, "fusion is 'sum'"),
        ({"lr": 0}, "lr is 0"),
        ({"contrastive_weight": 0, "classification_weight": 0}, "a loss to train by"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(end_to_end, drawings, change, words):
    pictures, labels, _ = drawings
    with pytest.raises(InputError, match=words):
        fgen.MultimodalZeroShotClassifier(**(end_to_end.get_params() | change)).fit(pictures, labels)


def test_it_follows_scikit_learns_conventions(end_to_end):
    shown = " ".join(repr(end_to_end).split())
    assert "<Texts of 88 parameters>" in shown
    assert "<dict of 9>" in shown
    base = pytest.importorskip("sklearn.base")
    copied = base.clone(end_to_end)
    assert not hasattr(copied, "predictor_")
    assert copied.set_params(joint_dim=4).joint_dim == 4
