"""CLIP's own zero-shot classifier on features and texts of one space; open_clip's logits are in tests/encoders."""

import json

import numpy as np
import pytest

import fgen
from fgen.baselines.paired import PairedConfig
from fgen.data.dataset import ZSLDataset
from fgen.data.files import save_dataset
from fgen.errors import InputError

N_SEEN, N_UNSEEN, DIM = 12, 4, 8


@pytest.fixture(scope="module")
def data():
    """Features about their class's text, in one space."""
    numbers = np.random.default_rng(0)
    texts = numbers.normal(size=(N_SEEN + N_UNSEEN, DIM)).astype(np.float32)
    labels = np.repeat(np.arange(len(texts)), 12)
    features = (texts[labels] + numbers.normal(size=(len(labels), DIM))).astype(np.float32)
    rows, first = np.arange(len(labels)), np.arange(len(labels)) % 12 < 8
    seen = labels < N_SEEN
    splits = {"trainval": rows[seen & first], "test_seen": rows[seen & ~first], "test_unseen": rows[~seen]}
    return ZSLDataset(features, labels, texts, splits=splits)


def test_it_is_the_cosine_of_each_picture_and_each_text(data):
    features, labels = data.split("trainval")
    found = PairedConfig(factor=7).build().fit(features, labels, data.class_embeddings).scores(features[:3])
    for row, scores in zip(features, found, strict=False):
        for text, score in zip(data.class_embeddings, scores, strict=True):
            cosine = row @ text / np.sqrt((row @ row) * (text @ text))
            assert score == pytest.approx(7 * cosine, abs=1e-5)


def test_it_runs_under_the_honest_protocol_and_as_a_method_of_the_classifier(data, tmp_path):
    save_dataset(data, tmp_path / "pairs.h5")
    config = {
        "dataset": {"path": str(tmp_path / "pairs.h5")},
        "model": {"name": "paired"},
        "protocol": {"calibrate": True},
    }
    result = fgen.run(config, out=tmp_path / "run")
    assert result.scores["T1"]["mean"] > 2 / N_UNSEEN
    choice = json.loads((tmp_path / "run/seeds/0/choice.json").read_text())
    features, _ = data.split("test_unseen")
    classifier = fgen.ZeroShotClassifier(data.class_embeddings, method="paired").fit(*data.split("trainval"))
    assert classifier.gamma_ == pytest.approx(choice["gamma"])
    assert np.mean(classifier.predict(features) >= N_SEEN) > 0.4
    with np.load(tmp_path / "run/seeds/0/predictions.npz") as saved:
        assert saved["gzsl"][-len(features) :].tolist() == classifier.predict(features).tolist()


def test_its_probabilities_and_those_of_a_generated_head_are_averaged_to_an_ensemble(data):
    """What docs/multimodal.md says of the decision level."""
    own = fgen.ZeroShotClassifier(data.class_embeddings, method="paired", model={"factor": 5}, calibrate=False)
    settings = {"model": {"epochs": 2, "hidden_dim": 16}, "classifier": {"solver": "lbfgs"}, "n_per_class": 20}
    generated = fgen.ZeroShotClassifier(data.class_embeddings, method="flow", calibrate=False, **settings)
    X, y = data.split("trainval")
    tests, labels = data.split("test_unseen")
    members = [member.fit(X, y).predict_proba(tests) for member in (own, generated)]
    ensemble = np.mean(members, axis=0)
    np.testing.assert_allclose(ensemble.sum(axis=1), 1, rtol=1e-6)
    right = [np.mean(p[:, N_SEEN:].argmax(axis=1) + N_SEEN == labels) for p in (*members, ensemble)]
    assert right[2] >= min(right[:2])


def test_features_and_texts_of_two_spaces_are_refused_with_what_to_use(data):
    features, labels = data.split("trainval")
    with pytest.raises(InputError, match=r"features have 8 columns, and class embeddings 5; .*'multimodal' learns"):
        PairedConfig().build().fit(features, labels, data.class_embeddings[:, :5])
    with pytest.raises(InputError, match=r"factor is 0; expected a number above 0"):
        PairedConfig(factor=0)
