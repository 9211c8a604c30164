"""Preparing class embeddings: each kind by itself, and columns that taught nothing."""

import numpy as np
import pytest
import torch

from fgen.errors import InputError
from fgen.features.class_embeddings import EmbeddingConfig, EmbeddingPreprocessor
from fgen.inference.torch_module import EmbeddingPreparation
from fgen.nn.kernel_ridge import SemanticPrior


def test_each_kind_of_a_class_has_length_one_whatever_the_others_sizes():
    raw = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32) * np.float32([1, 1, 100, 100, 100])
    prepared = EmbeddingPreprocessor.fit(EmbeddingConfig(norm="l2", scale=3.0, widths=(2, 3)), raw)(raw)
    for kind in (slice(0, 2), slice(2, 5)):
        expected = raw[:, kind] / np.linalg.norm(raw[:, kind], axis=1, keepdims=True)
        np.testing.assert_allclose(prepared[:, kind], 3 * expected, rtol=1e-5)


def test_a_column_that_never_varies_over_seen_classes_stays_silent():
    seen = np.float32([[1, 0], [3, 0], [5, 0]])
    prepare = EmbeddingPreprocessor.fit(EmbeddingConfig(norm="standardise"), seen)
    assert prepare(np.float32([[3, 9]])).tolist() == [[0, 0]]
    assert prepare(seen).std(axis=0) == pytest.approx([1, 0], abs=1e-6)


def fitted(raw, **settings):
    return EmbeddingPreprocessor.fit(EmbeddingConfig(widths=(2, 3), kinds=("a", "b"), **settings), raw)


@pytest.fixture
def raw():
    return np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def test_weights_of_kinds_outlast_their_norm_and_equal_ones_change_nothing(raw):
    plain = fitted(raw, norm="l2", scale=3.0)(raw)
    assert np.array_equal(fitted(raw, norm="l2", scale=3.0, weights={"b": 0.5, "a": 0.5})(raw), plain)
    weighted = fitted(raw, norm="l2", scale=3.0, weights={"b": 3.0, "a": 1.0})(raw)
    lengths = [np.linalg.norm(weighted[:, kind], axis=1) for kind in (slice(0, 2), slice(2, 5))]
    np.testing.assert_allclose(lengths[1] / lengths[0], 3.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(weighted, axis=1), np.linalg.norm(plain, axis=1), rtol=1e-5)


def test_an_average_is_the_weighted_mean_of_normed_kinds_and_needs_equal_widths(raw):
    settings = {"norm": "l2", "kinds": ("a", "b"), "fusion": "average", "weights": {"a": 1.0, "b": 3.0}}
    prepare = EmbeddingPreprocessor.fit(EmbeddingConfig(widths=(2, 2), **settings), raw[:, :4])
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (raw[:, :2], raw[:, 2:4]))
    np.testing.assert_allclose(prepare(raw[:, :4]), 0.25 * first + 0.75 * second, rtol=1e-5)
    assert prepare.dim == 2
    with pytest.raises(InputError, match=r"2 \(a\), 3 \(b\) columns.*concat"):
        EmbeddingPreprocessor.fit(EmbeddingConfig(widths=(2, 3), **settings), raw)


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "c": 2.0}, {"a": -1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}])
def test_weights_that_do_not_fit_the_kinds_are_refused(raw, weights):
    with pytest.raises(InputError, match="embedding_weights"):
        fitted(raw, weights=weights)


def test_weights_that_nothing_chose_are_refused(raw):
    with pytest.raises(InputError, match="'auto', and nothing chose them"):
        fitted(raw, weights="auto")(raw)


@pytest.mark.parametrize(
    "settings", [{"weights": {"a": 1.0, "b": 3.0}}, {"weights": {"a": 1.0, "b": 3.0}, "fusion": "average"}]
)
@pytest.mark.parametrize("norm", ["none", "l2", "standardise"])
def test_an_exported_preparation_weighs_and_averages_as_well(raw, norm, settings):
    config = EmbeddingConfig(norm=norm, scale=2.0, widths=(2, 2), kinds=("a", "b"), **settings)
    prepare = EmbeddingPreprocessor.fit(config, raw[:, :4])
    exported = EmbeddingPreparation(prepare)(torch.from_numpy(raw[:, :4])).numpy()
    np.testing.assert_allclose(exported, prepare(raw[:, :4]), rtol=1e-5, atol=1e-6)


def test_the_prior_weighs_kernels_as_the_embedding_weighs_kinds():
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(12, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    means = torch.randn(12, 4, generator=draw, dtype=torch.float64)

    def predicted(kinds, weights=None):
        prior = SemanticPrior(12, 3 * len(kinds), 4, (3,) * len(kinds), alpha=0.5, width=1.0).double()
        prior.fit(torch.cat(kinds, dim=1), means, weights)
        return prior(torch.cat(kinds, dim=1))

    torch.testing.assert_close(predicted([first, second], (2.0, 0.0)), predicted([first]), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(predicted([first, second], (3.0, 1.0)), predicted([first, second]))
