"""Pseudo-labels: the most confident rows by the entropy of their probabilities, and the heads' second stage on them."""

import copy

import numpy as np
import pytest
import torch

from fgen.classifiers.base import Head
from fgen.classifiers.pseudo_labels import most_confident_rows
from fgen.classifiers.registry import CLASSIFIERS
from fgen.errors import InputError
from fgen.experiment import heads as heads_module
from fgen.experiment.heads import HeadRecipe

pytestmark = pytest.mark.numeric


def train_heads(*given, **options):
    """The heads of the one candidate."""
    (heads,) = heads_module.train_heads(*given, **options)
    return heads


class Given(Head):
    """Scores that stand in the features."""

    def __init__(self, classes):
        self.classes_ = np.array(classes)

    learn = block_scores = None

    def decision_function(self, features):
        return features


def slow_entropies(scores):
    probabilities = [[np.exp(s) / sum(np.exp(row)) for s in row] for row in scores]
    return [-sum(p * np.log(p) for p in row) for row in probabilities]


def test_the_most_confident_rows_have_the_least_entropy():
    scores = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * 3
    rows, classes = most_confident_rows(Given([4, 5, 9]), scores, 0.25)
    assert set(rows) == set(np.argsort(slow_entropies(scores.astype(float)))[:10])
    assert (np.diff(rows) > 0).all()
    assert classes.tolist() == np.array([4, 5, 9])[scores[rows].argmax(1)].tolist()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_the_share_counts_rows(share, expected):
    rows, classes = most_confident_rows(Given([0, 1]), np.eye(4, 2, dtype=np.float32), share)
    assert len(rows) == len(classes) == expected


def test_an_impossible_share_is_refused():
    with pytest.raises(InputError, match=r"share.*1\.5"):
        most_confident_rows(Given([0, 1]), np.zeros((3, 2), np.float32), 1.5)


def off_bank(task):
    """A bank whose classes have mistaken means, and spread too little."""
    draw, labels = np.random.default_rng(0), np.repeat(task.unseen, 20)
    means = np.stack([task.features[:][task.labels == c].mean(0) for c in range(task.n_classes)])
    spread = task.features[:].std(axis=0)
    error = 0.8 * spread * draw.normal(size=(len(task.unseen), task.feature_dim))
    rows = means[labels] + np.repeat(error, 20, axis=0) + 0.3 * spread * draw.normal(size=(len(labels), len(spread)))
    return rows.astype(np.float32), labels


SOFTMAX = CLASSIFIERS["softmax"](solver="lbfgs", l2=1e-3)


def slow_second_stage(task, rows, labels, asked, real):
    """Train, ask, train again."""
    known = {"seed": 0, "scaling_rows": real, "seen": task.seen}
    chosen, answers = most_confident_rows(SOFTMAX.build().fit(rows, labels, **known), task.rows(asked), 0.5)
    more = np.concatenate([rows, task.rows(asked[chosen])])
    return SOFTMAX.build().fit(more, np.concatenate([labels, answers]), **known)


def test_each_head_trains_on_its_own_answers_to_what_it_will_be_asked(world):
    task, (rows, labels) = world.dataset, off_bank(world.dataset)
    heads = train_heads(HeadRecipe(SOFTMAX, pseudo_share=0.5, precision="highest"), task, rows, labels)
    real, real_labels = task.split("trainval")
    of_unseen = task.splits["test_unseen"]
    everyone = np.concatenate([real, rows]), np.concatenate([real_labels, labels])
    asked = np.concatenate([task.splits["test_seen"], of_unseen])
    slow = (
        slow_second_stage(task, *everyone, asked, real),
        slow_second_stage(task, rows, labels, of_unseen, real),
    )
    for head, twin in zip((heads.gzsl, heads.zsl), slow, strict=True):
        torch.testing.assert_close(head.weight, twin.weight, rtol=1e-3, atol=1e-4)
    first = train_heads(HeadRecipe(SOFTMAX), task, rows, labels)
    assert not torch.allclose(first.gzsl.weight, heads.gzsl.weight, atol=1e-2)
    assert not torch.allclose(first.zsl.weight, heads.zsl.weight, atol=1e-2)


def test_the_labels_of_the_unlabelled_rows_are_never_read(world):
    task, bank = world.dataset, off_bank(world.dataset)
    blind = copy.copy(task)
    blind.labels = task.labels.copy()
    blind.labels[task.splits["test_unseen"]] = task.unseen[0]
    blind.labels[task.splits["test_seen"]] = task.seen[0]
    heads, again = (train_heads(HeadRecipe(SOFTMAX, pseudo_share=0.5), data, *bank) for data in (task, blind))
    assert torch.equal(heads.gzsl.weight, again.gzsl.weight)
    assert torch.equal(heads.zsl.weight, again.zsl.weight)


def test_unlabelled_rows_are_represented_as_all_others_are(world):
    task, bank = world.dataset, off_bank(world.dataset)
    plain = train_heads(HeadRecipe(SOFTMAX, pseudo_share=0.5), task, *bank)
    doubled = train_heads(HeadRecipe(SOFTMAX, pseudo_share=0.5), task, *bank, represent=lambda rows: 2 * rows)
    rows = task.rows(task.splits["test_unseen"])  # min-max scaling undoes the doubling
    np.testing.assert_allclose(doubled.gzsl.decision_function(2 * rows), plain.gzsl.decision_function(rows), atol=1e-2)
