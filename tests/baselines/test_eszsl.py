"""ESZSL against the paper's formula written out, and its preparation."""

import numpy as np
import pytest

from fgen.baselines.eszsl import EszslConfig, eszsl
from fgen.errors import InputError
from fgen.features.statistics import moments


def task(n_rows=80, dim=6, embedding_dim=4, n_classes=9, seed=0):
    draw = np.random.default_rng(seed)
    features = (3 + draw.normal(size=(n_rows, dim))).astype(np.float32)
    return features, draw.permutation(np.arange(n_rows) % n_classes), draw.normal(size=(n_classes + 3, embedding_dim))


def textbook(features, labels, embeddings, gamma, penalty):
    """``(XX' + gamma I)^-1 X Y S' (SS' + lambda I)^-1`` with every matrix in full."""
    x, s = (features - features.mean(axis=0)).T, embeddings.T
    y = np.full((x.shape[1], s.shape[1]), -1.0)
    y[np.arange(len(labels)), labels] = 1
    left = np.linalg.inv(x @ x.T + gamma * np.eye(len(x)))
    return left @ x @ y @ s.T @ np.linalg.inv(s @ s.T + penalty * np.eye(len(s)))


@pytest.mark.parametrize("alphas", [(1.0, 1.0), (0.01, 10.0), (1e3, 1e-3)])
@pytest.mark.parametrize("sizes", [{}, {"dim": 100}, {"embedding_dim": 20}])
def test_the_closed_form_is_the_papers(alphas, sizes):
    features, labels, embeddings = task(**sizes)
    seen, exact = embeddings[:9], features.astype(np.float64)
    gamma = alphas[0] * np.square(exact - exact.mean(axis=0)).sum() / features.shape[1]
    penalty = alphas[1] * np.square(seen).sum() / seen.shape[1]
    expected = textbook(exact, labels, seen, gamma, penalty)
    found = eszsl(moments(features, labels), seen, *alphas)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_scores_are_those_of_centred_features_and_embeddings_of_length_1():
    features, labels, embeddings = task()
    model = EszslConfig(feature_alpha=0.5, embedding_alpha=2.0).build().fit(features, labels, embeddings)
    short = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    v = eszsl(moments(features, labels), short[:9], 0.5, 2.0)
    expected = (features - features.mean(axis=0, dtype=np.float64)) @ v @ short.T
    np.testing.assert_allclose(model.scores(features), expected, atol=1e-6)


def test_candidates_are_the_grid_of_what_is_left_open():
    assert len(EszslConfig().candidates()) == 9
    fixed = EszslConfig(feature_alpha=5.0).candidates()
    assert {c.feature_alpha for c in fixed} == {5.0}
    assert [c.embedding_alpha for c in fixed] == [0.1, 1.0, 10.0]


@pytest.mark.parametrize("bad", [{"feature_alpha": 0.0}, {"embedding_alpha": -1.0}, {"embedding_alphas": ()}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        EszslConfig(**bad)
