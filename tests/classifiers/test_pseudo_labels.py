"""Pseudo-labels: the surest rows, by the entropy of their probabilities, and what heads gain from them."""

import numpy as np
import pytest

from fgen.classifiers import CLASSIFIERS
from fgen.classifiers.base import Head
from fgen.classifiers.heads import score_heads, train_heads
from fgen.classifiers.pseudo_labels import surest_rows
from fgen.errors import InputError


class Given(Head):
    """Scores that stand in the features."""

    def __init__(self, classes):
        self.classes_ = np.array(classes)

    def decision_function(self, features):
        return features


def slow_entropies(scores):
    probabilities = [[np.exp(s) / sum(np.exp(row)) for s in row] for row in scores]
    return [-sum(p * np.log(p) for p in row) for row in probabilities]


def test_the_surest_rows_have_the_least_entropy_among_the_candidates():
    scores = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) * 3
    scores[:, [0, 3]] += 50  # seen classes, which a row is known not to be of
    rows, classes = surest_rows(Given([2, 4, 5, 8, 9]), scores, np.array([4, 5, 9]), 0.25)
    own = scores[:, [1, 2, 4]]
    assert set(rows) == set(np.argsort(slow_entropies(own.astype(float)))[:10])
    assert (np.diff(rows) > 0).all()
    assert classes.tolist() == np.array([4, 5, 9])[own[rows].argmax(1)].tolist()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_the_share_counts_rows(share, expected):
    rows, classes = surest_rows(Given([0, 1]), np.eye(4, 2, dtype=np.float32), np.array([0, 1]), share)
    assert len(rows) == len(classes) == expected


def test_impossible_wishes_are_refused():
    scores = np.zeros((3, 2), np.float32)
    with pytest.raises(InputError, match=r"share.*1\.5"):
        surest_rows(Given([0, 1]), scores, np.array([0, 1]), 1.5)
    with pytest.raises(InputError, match="class 7"):
        surest_rows(Given([0, 1]), scores, np.array([0, 7]), 0.5)


@pytest.mark.parametrize("config", [CLASSIFIERS["softmax"](solver="lbfgs", l2=1e-3), CLASSIFIERS["cosine"]()])
def test_rows_that_a_head_is_sure_of_mend_a_bank_that_is_off(world, config):
    task, draw = world.dataset, np.random.default_rng(0)
    labels = np.repeat(task.unseen, 20)
    means = np.stack([task.features[:][task.labels == c].mean(0) for c in range(task.n_classes)])
    spread = task.features[:].std(axis=0)
    error = 0.8 * spread * draw.normal(size=(len(task.unseen), task.feature_dim))
    rows = means[labels] + np.repeat(error, 20, axis=0) + 0.3 * spread * draw.normal(size=(len(labels), len(spread)))
    scores = [
        score_heads(train_heads(config, task, rows.astype(np.float32), labels, seed=0, pseudo_share=share), task)[0]
        for share in (0.0, 0.5)
    ]
    assert scores[1].H > scores[0].H + 0.1
    assert scores[1].AUSUC > scores[0].AUSUC
