"""SAE against SciPy's solver of Sylvester equations, where it is singular, and as a minimum."""

import numpy as np
import pytest
import scipy.linalg

from fgen.baselines.sae import SaeConfig, solve_sae


def task(n_rows=90, dim=6, embedding_dim=4, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(dim, n_rows)), draw.normal(size=(embedding_dim, n_rows))


def solve(x, s, weight):
    return solve_sae(s @ s.T, np.linalg.eigh(x @ x.T), s @ x.T, weight)


@pytest.mark.parametrize("weight", [0.01, 1.0, 500.0])
def test_the_solution_is_scipys(weight):
    x, s = task()
    expected = scipy.linalg.solve_sylvester(s @ s.T, weight * x @ x.T, (1 + weight) * s @ x.T)
    np.testing.assert_allclose(solve(x, s, weight), expected, atol=1e-12)


def test_it_minimises_the_papers_objective():
    x, s = task()
    best = solve(x, s, 0.3)
    draw = np.random.default_rng(1)

    def objective(w):
        return np.square(x - w.T @ s).sum() + 0.3 * np.square(w @ x - s).sum()

    for _ in range(20):
        assert objective(best + 1e-3 * draw.normal(size=best.shape)) > objective(best)


def test_where_rows_and_embeddings_leave_directions_open_the_shortest_solution_is_taken():
    x, s = task(n_rows=3, dim=6, embedding_dim=5)
    equations = np.kron(s @ s.T, np.eye(6)) + 2.0 * np.kron(np.eye(5), x @ x.T)
    expected = np.linalg.lstsq(equations, 3.0 * (s @ x.T).ravel(), rcond=1e-10)[0].reshape(5, 6)
    np.testing.assert_allclose(solve(x, s, 2.0), expected, atol=1e-10)


def test_the_scores_are_cosines_in_feature_space_of_data_at_mean_squared_length_1():
    draw = np.random.default_rng(2)
    features = (5 + draw.normal(size=(60, 6))).astype(np.float32)
    labels, embeddings = draw.permutation(np.arange(60) % 8), 3 * draw.normal(size=(10, 4))
    model = SaeConfig(encoder_weight=2.0).build().fit(features, labels, embeddings)
    x = (features - features.mean(axis=0, dtype=np.float64)).T
    s = embeddings[labels].T
    x, s = (m / np.sqrt(np.square(m).sum(axis=0).mean()) for m in (x, s))
    prototypes = embeddings @ scipy.linalg.solve_sylvester(s @ s.T, 2 * x @ x.T, 3 * s @ x.T)
    expected = [[p @ row / np.linalg.norm(p) / np.linalg.norm(row) for p in prototypes] for row in x.T]
    np.testing.assert_allclose(model.scores(features), expected, atol=1e-6)
