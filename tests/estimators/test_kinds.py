"""Several kinds of class embedding in ZeroShotClassifier."""

import numpy as np
import pytest

import fgen
from fgen.errors import InputError

SETTINGS = {
    "method": "flow",
    "model": {"epochs": 2, "hidden_dim": 16},
    "classifier": {"solver": "lbfgs"},
    "n_per_class": 20,
    "calibrate": False,
}


@pytest.fixture(scope="module")
def world():
    data = fgen.load_dataset("toy")
    return *data.split("trainval"), data.class_embeddings, data.split("test_unseen")[0]


def classifier(embeddings, **settings):
    return fgen.ZeroShotClassifier(embeddings, **(SETTINGS | settings))


def probabilities(world, embeddings, **settings):
    X, y, _, asked = world
    return classifier(embeddings, **settings).fit(X, y).predict_proba(asked)


def test_a_dict_of_matrices_holds_kinds_sorted_by_name_and_one_of_vectors_labels(world):
    X, y, embeddings, asked = world
    kinds = {"word": embeddings[:, :3], "att": embeddings[:, 3:]}
    fitted = classifier(kinds).fit(X, y)
    assert fitted.generator_.embedding.kinds == ("att", "word")
    assert np.array_equal(fitted.generator_.class_embeddings, np.hstack([kinds["att"], kinds["word"]]))
    order = list(reversed(range(len(embeddings))))
    by_label = {"word": dict(enumerate(kinds["word"])), "att": {k: kinds["att"][k] for k in order}}
    of_dicts = classifier(by_label).fit(X, y)  # labels in the order of the first kind's
    assert of_dicts.classes_.tolist() == order
    one = classifier(dict(enumerate(embeddings))).fit(X, y)
    assert one.generator_.embedding.kinds is None
    assert one.predict_proba(asked).shape == (len(asked), len(embeddings))


def test_weights_change_the_answers_and_only_their_ratios_do(world):
    embeddings = world[2]
    kinds = {"a": embeddings[:, :4], "b": embeddings[:, 4:]}
    plain = probabilities(world, kinds)
    assert np.array_equal(probabilities(world, kinds, embedding_weights={"a": 2, "b": 2}), plain)
    assert not np.allclose(probabilities(world, kinds, embedding_weights={"a": 1, "b": 5}), plain, atol=1e-4)
    assert not np.allclose(probabilities(world, kinds, fusion="average"), plain, atol=1e-4)


def test_a_saved_classifier_keeps_its_kinds_and_weights(world, tmp_path):
    X, y, embeddings, asked = world
    kinds, weights = {"a": embeddings[:, :4], "b": embeddings[:, 4:]}, {"a": 1.0, "b": 3.0}
    fitted = classifier(kinds, embedding_weights=weights, fusion="average").fit(X, y)
    fitted.save(tmp_path / "saved")
    loaded = fgen.ZeroShotClassifier.load(tmp_path / "saved")
    assert np.array_equal(loaded.predict_proba(asked), fitted.predict_proba(asked))
    assert np.array_equal(loaded.class_embeddings["b"], kinds["b"])
    assert (loaded.embedding_weights, loaded.fusion) == (weights, "average")
    new = {"b": kinds["b"][:1] + 1, "a": kinds["a"][:1] - 1}
    loaded.add_classes([99], new)
    assert loaded.predict_proba(asked).shape == (len(asked), len(embeddings) + 1)
    with pytest.raises(InputError, match="kinds a, b"):
        loaded.add_classes([100], {"a": kinds["a"][:1]})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"embedding_weights": {"a": 1.0}}, "of each kind in use: a, b"),
        ({"embedding_weights": "auto"}, "'auto', and nothing chose them"),
        ({"fusion": "averge"}, "'average'"),
        ({"method": "recommended", "model": None, "classifier": None, "fusion": "average"}, "fusion is set"),
    ],
)
def test_what_can_not_be_fused_is_refused(world, settings, told):
    X, y, embeddings, _ = world
    with pytest.raises(InputError, match=told):
        classifier({"a": embeddings[:, :4], "b": embeddings[:, 4:]}, **settings).fit(X, y)


def test_kinds_of_different_classes_are_refused(world):
    X, y, embeddings, _ = world
    with pytest.raises(InputError, match=r"class_embeddings\['b'\] describes 24 classes"):
        classifier({"a": embeddings, "b": embeddings[:-1]}).fit(X, y)


def test_the_synthesizer_takes_kinds_and_weights(world):
    X, y, embeddings, _ = world
    kinds = {"a": embeddings[:, :4], "b": embeddings[:, 4:]}
    settings = {name: SETTINGS[name] for name in ("method", "model", "n_per_class")}
    synthesizer = fgen.FeatureSynthesizer(kinds, embedding_weights={"a": 1, "b": 2}, **settings)
    more, _ = synthesizer.fit_resample(X, y)
    assert len(more) == len(X) + 100
