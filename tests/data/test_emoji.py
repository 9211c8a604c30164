"""The embedded data set keeps what its data card promises."""

import numpy as np
import pytest

from fgen.baselines.ridge import RidgeConfig
from fgen.data.emoji import emoji_card
from fgen.data.files import load_dataset
from fgen.metrics.accuracy import mean_accuracy, per_class_accuracy

KINDS = ("attributes", "sentence", "word")


@pytest.fixture(scope="module")
def data():
    return load_dataset("emoji", embedding=KINDS)


@pytest.fixture(scope="module")
def design(data):
    card = emoji_card()
    return card["designs"][card["design"]]


def test_it_is_as_large_as_the_card_says(data):
    assert (len(data.labels), data.n_classes, len(data.seen), len(data.unseen)) == (4156, 589, 471, 118)
    assert data.embedding_widths == (495, 384, 50)
    assert {name: len(rows) for name, rows in data.splits.items()} == {
        "train": 1911, "val": 477, "val_seen": 377, "trainval": 2388, "test_seen": 942, "test_unseen": 826,
    }  # fmt: skip


def test_a_seen_test_drawing_is_by_a_hand_that_no_training_row_is_from(data, design):
    assert set(design[data.splits["test_seen"]]) == {"fluent-emoji", "fluent-emoji-flat"}
    assert not {"fluent-emoji", "fluent-emoji-flat"} & set(design[data.splits["trainval"]])
    assert set(design[data.splits["val_seen"]]) == {"emojione"}


def test_no_drawing_of_an_unseen_class_is_trained_on_and_no_two_rows_are_alike(data):
    assert not np.isin(data.labels[data.splits["trainval"]], data.unseen).any()
    assert not np.intersect1d(data.splits["trainval"], data.splits["test_seen"]).size
    assert len(np.unique(np.asarray(data.features), axis=0)) == len(data.labels)


def test_every_class_is_described_in_every_way(data):
    for kind in KINDS:
        assert (np.linalg.norm(data.with_embedding(kind).class_embeddings, axis=1) > 0).all(), kind
    assert (np.asarray(data.features) >= 0).all()
    assert np.bincount(data.labels).min() >= 6


def test_every_design_is_credited_with_a_licence_that_allows_it():
    card = emoji_card()
    for name, credit in zip(card["designs"], card["credits"], strict=True):
        assert credit.startswith(f"{name}: ")
        assert any(f", {licence}, https://" in credit for licence in ("Apache-2.0", "MIT", "CC-BY-4.0")), credit
    assert card["imagenet_overlap"].sum() == 238


def test_descriptions_tell_what_the_drawings_show_and_shuffled_ones_do_not(data):
    def t1(embeddings):
        seen, test = data.splits["trainval"], data.splits["test_unseen"]
        baseline = RidgeConfig(alpha=1.0).build().fit(data.features[seen], data.labels[seen], embeddings)
        predicted = data.unseen[baseline.scores(data.features[test])[:, data.unseen].argmax(axis=1)]
        return mean_accuracy(per_class_accuracy(data.labels[test], predicted, data.unseen))

    sentence = data.with_embedding("sentence").class_embeddings
    assert t1(sentence) == pytest.approx(0.216, abs=0.01)
    assert t1(sentence[np.random.default_rng(0).permutation(len(sentence))]) < 0.04
