"""Scaling: fitted in one streaming pass, inverted without loss, never out of float32."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fgen
from fgen.errors import InputError
from fgen.features.scaling import CACHED_ROWS, FeatureScaler

KINDS = ("minmax", "standard", "sqrt", "none")
matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 5)),
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows."""
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 4 * 5 * 3)


@pytest.mark.parametrize("kind", KINDS)
@given(features=matrices)
@settings(max_examples=60, deadline=None)
def test_invert_undoes_apply_to_float32_precision(kind, features):
    scaler = FeatureScaler.fit(kind, features)
    back = scaler.invert(scaler.apply(features))
    size = np.abs(features).max(axis=0) + np.abs(scaler.offset)
    rounding = 16 if kind == "sqrt" else 4  # squaring doubles the error of a root, whose range may straddle zero
    assert (np.abs(back - features) <= rounding * np.finfo(np.float32).eps * size).all()


@given(features=matrices)
@settings(max_examples=60, deadline=None)
def test_minmax_reaches_exactly_from_0_to_1_and_never_leaves(features):
    scaled = FeatureScaler.fit("minmax", features).apply(features)
    varied = np.ptp(features, axis=0) > 0
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0)[varied] == 1).all()


def test_minmax_and_standard_agree_with_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    features = np.random.default_rng(0).gamma(1.0, 3.0, (200, 7)).astype(np.float32)
    twins = {"minmax": preprocessing.MinMaxScaler(), "standard": preprocessing.StandardScaler()}
    for kind, twin in twins.items():
        np.testing.assert_allclose(
            FeatureScaler.fit(kind, features).apply(features), twin.fit_transform(features), atol=1e-5
        )


@pytest.mark.parametrize("kind", ["minmax", "standard"])
@pytest.mark.parametrize("value", [0.1, -3e7, 1e-30])
def test_a_constant_column_becomes_0_and_comes_back_exactly(kind, value):
    features = np.full((999, 2), value, dtype=np.float32)
    features[:, 1] = np.arange(999)
    scaler = FeatureScaler.fit(kind, features)
    scaled = scaler.apply(features)
    assert (scaled[:, 0] == 0).all()
    assert (scaler.invert(scaled)[:, 0] == features[:, 0]).all()


@pytest.mark.parametrize("kind", ["minmax", "standard"])
@pytest.mark.usefixtures("small_blocks")
def test_fitting_block_by_block_is_fitting_on_the_whole(kind):
    features = (1e4 + np.random.default_rng(1).normal(size=(50, 5))).astype(np.float32)
    scaler = FeatureScaler.fit(kind, features)
    whole = features.astype(np.float64)
    offset, scale = (whole.min(0), np.ptp(whole, axis=0)) if kind == "minmax" else (whole.mean(0), whole.std(0))
    np.testing.assert_allclose(scaler.offset, offset, rtol=1e-6)
    np.testing.assert_allclose(scaler.scale, scale, rtol=1e-6)


def test_the_deviation_keeps_its_digits_far_from_zero():
    # The textbook E[x^2] - E[x]^2 in float32 gives 0 or worse here.
    features = (1e6 + np.random.default_rng(2).integers(-2, 3, (20_000, 1))).astype(np.float32)
    assert FeatureScaler.fit("standard", features).scale[0] == pytest.approx(
        features.astype(np.float64).std(), rel=1e-6
    )


@pytest.mark.usefixtures("small_blocks")
def test_features_on_disk_are_read_in_blocks_and_rows_may_be_chosen(tmp_path):
    features = np.random.default_rng(3).normal(size=(40, 5)).astype(np.float32)
    rows = np.array([31, 2, 17])
    expected = FeatureScaler.fit("minmax", features[rows])
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=features.shape)
    mapped[:] = features
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for source in (mapped, file.create_dataset("x", data=features), torch.from_numpy(features), features.tolist()):
            scaler = FeatureScaler.fit("minmax", source, rows)
            assert scaler.to_arrays()["offset"].tobytes() == expected.offset.tobytes()
            assert scaler.to_arrays()["scale"].tobytes() == expected.scale.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_scaled_rows_and_name_what_is_not_finite(kind):
    features = np.random.default_rng(0).random((2 * CACHED_ROWS + 7, 3), dtype=np.float32)
    scaler = FeatureScaler.fit(kind, features)
    blocks = np.concatenate([block for _, block in scaler.blocks(features)])
    np.testing.assert_array_equal(blocks, scaler.apply(features))
    features[CACHED_ROWS + 2, 1] = np.nan
    with pytest.raises(InputError, match=rf"nan in row {CACHED_ROWS + 2}, column 1"):
        list(scaler.blocks(features))


def test_tensors_stay_tensors_let_gradients_through_and_keep_the_offset_in_half_precision():
    scaler = FeatureScaler("standard", np.array([1000.5], np.float32), np.array([2.0], np.float32))
    tensor = torch.tensor([[1001.0]], requires_grad=True)
    scaler.apply(tensor).sum().backward()
    assert tensor.grad.item() == 0.5
    assert scaler.invert(torch.tensor([[0.25]], dtype=torch.bfloat16)).item() == 1001.0
    assert scaler.apply(np.array([[1001]])).item() == 0.25


def test_what_is_saved_comes_back():
    scaler = FeatureScaler.fit("standard", np.random.default_rng(4).normal(size=(9, 3)))
    again = FeatureScaler.from_arrays(scaler.kind, scaler.to_arrays())
    rows = np.ones((1, 3), np.float32)
    assert (again.apply(rows) == scaler.apply(rows)).all()
    assert again.length == scaler.length


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([[0.0, 1.0], [0.0, np.nan]], "column 1"),
        ([[0.0, 1.0], [np.inf, 1.0]], "column 0"),
        (np.array([[0.0, 1e300], [0.0, 1.0]]), "column 1"),
        (np.zeros((0, 2)), "no rows"),
        (np.zeros(3), "shape"),
        (np.array([["a"]]), "matrix"),
    ],
)
@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_features_that_cannot_be_scaled_are_refused_by_name(kind, features, words):
    with pytest.raises(InputError, match=words):
        FeatureScaler.fit(kind, features)


def test_a_range_beyond_float32_is_refused_rather_than_infinite():
    with pytest.raises(InputError, match="column 0"):
        FeatureScaler.fit("minmax", np.array([[-3e38], [3e38]], np.float32))


def test_a_kind_that_cannot_be_inverted_is_not_offered():
    with pytest.raises(InputError, match=r"'l2'.*minmax, standard, sqrt, none"):
        FeatureScaler.fit("l2", np.ones((2, 2)))


@pytest.mark.parametrize(
    "damage",
    [
        {"scale": np.zeros(2, np.float32)},
        {"scale": np.ones(3, np.float32)},
        {"offset": np.array([0, np.nan], np.float32)},
        {"offset": np.zeros(2, np.float64)},
    ],
)
def test_arrays_that_no_fit_can_have_made_are_refused(damage):
    good = {"offset": np.zeros(2, np.float32), "scale": np.ones(2, np.float32)}
    FeatureScaler.from_arrays("minmax", good)
    with pytest.raises(InputError, match="scaling"):
        FeatureScaler.from_arrays("minmax", good | damage)
    with pytest.raises(InputError, match="lacks scale"):
        FeatureScaler.from_arrays("minmax", {"offset": good["offset"]})


# Rows that were normalised otherwise.


def unit_rows(n=400, dim=32, *, dead=False):
    rows = np.random.default_rng(5).gamma(1.0, 1.0, (n, dim))
    if dead:
        rows[:, 0] = 0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dead", [False, True])
def test_rows_that_are_longer_or_shorter_by_what_a_normalisation_divides_by_are_told_of(kind, dead):
    rows = unit_rows(dead=dead)
    for times in (1, 10, 20.8):
        scaler = FeatureScaler.fit(kind, times * rows)
        for other in (1, 10, 20.8, 2.5 * times, times / 2.5):
            told = scaler.scale_warning(other * rows)
            assert bool(told) == (not times / 3 < other < 3 * times), (times, other)
            if told:
                assert f"{other:.3g}, and was {times:.3g} in training" in told
    for few, allowed in ((rows[:9], 4.5), (rows[:10], 2.5)):
        assert not scaler.scale_warning(20.8 * allowed * few)
        assert scaler.scale_warning(20.8 * 5.5 * few)
        assert scaler.scale_warning(20.8 / 5.5 * few)
    assert scaler.scale_warning(20.8 * 4 * rows[:10])
    assert not scaler.scale_warning(rows[:0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_rows_of_another_length_do_not_decide(kind):
    rows = unit_rows()
    rows[::50] *= 1000
    scaler = FeatureScaler.fit(kind, rows)
    assert scaler.length == pytest.approx(1)
    assert not scaler.scale_warning(unit_rows())
    assert scaler.scale_warning(10 * unit_rows())


@pytest.mark.parametrize("name", ["toy", "emoji"])
@pytest.mark.parametrize("kind", KINDS)
def test_test_rows_of_real_data_are_never_told_of(name, kind):
    data = fgen.load_dataset(name)
    scaler = FeatureScaler.fit(kind, data.features, data.splits["trainval"])
    older = FeatureScaler(kind, scaler.offset, scaler.scale)
    for split in ("test_seen", "test_unseen"):
        features, labels = data.split(split)
        for rows in (features, *(features[labels == k] for k in np.unique(labels)), *(row[None] for row in features)):
            assert not scaler.scale_warning(rows)
            assert not older.scale_warning(rows)


def test_lengths_cost_no_pass_and_are_of_rows_from_everywhere():
    class Counted:
        """A matrix that says which rows were read."""

        shape, dtype = (10_000_000, 4), np.dtype(np.float32)

        def __init__(self):
            self.read = []

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, key):
            self.read.append(np.asarray(key))
            return np.repeat(np.asarray(key, np.float32)[:, None], 4, axis=1)

    features = Counted()
    assert FeatureScaler.fit("none", features).length == pytest.approx(1e7, rel=0.01)
    assert sum(map(len, features.read)) <= 256
    assert features.read[0][-1] == 9_999_999


@pytest.mark.parametrize("kind", KINDS)
def test_scalings_without_a_length_guess_it_and_tell_of_large_factors_alone(kind):
    rows = unit_rows(dead=True)
    arrays = FeatureScaler.fit(kind, 5 * rows).to_arrays()
    older = FeatureScaler.from_arrays(kind, {name: arrays[name] for name in ("offset", "scale")})
    assert older.length is None
    assert set(older.to_arrays()) == {"offset", "scale"}
    for times in (1 / 500, 500):
        assert ("and was about" in older.scale_warning(5 * times * rows)) == (kind != "none")
    for times in (1 / 5, 1, 5):
        assert not older.scale_warning(5 * times * rows)


@pytest.mark.parametrize("length", [np.float32([-1]), np.float32([np.nan]), np.zeros(2, np.float32), np.zeros(1)])
def test_a_length_that_no_fit_can_have_found_is_refused(length):
    good = FeatureScaler.fit("minmax", unit_rows()).to_arrays()
    with pytest.raises(InputError, match="scaling's length"):
        FeatureScaler.from_arrays("minmax", good | {"length": length})
