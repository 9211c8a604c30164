"""Preparing class embeddings: each kind by itself, and columns that taught nothing."""

import numpy as np
import pytest

from fgen.features.class_embeddings import EmbeddingConfig, EmbeddingPreprocessor


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
