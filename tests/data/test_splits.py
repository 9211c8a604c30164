"""Splits: what is given is checked, what is missing is made, and no test row is ever trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgen.data.dataset import ZSLDataset
from fgen.data.splits import SPLIT_NAMES, complete_splits
from fgen.errors import InputError


@st.composite
def worlds(draw):
    """Labels and raw splits as careless as the released ones: shuffled, with train/val that overlap test rows."""
    n_seen, n_unseen = draw(st.integers(2, 7)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.permutation(np.repeat(np.arange(n_seen + n_unseen), rng.integers(2, 9, n_seen + n_unseen)))
    of_seen = np.flatnonzero(labels < n_seen)
    first = [np.flatnonzero(labels == label)[0] for label in range(n_seen)]
    trainval = np.union1d(first, rng.choice(of_seen, len(of_seen) // 2, replace=False))
    splits = {
        "trainval": rng.permutation(trainval),
        "test_seen": np.setdiff1d(of_seen, trainval),
        "test_unseen": np.flatnonzero(labels >= n_seen),
    }
    how = draw(st.sampled_from(["none", "clean", "leaking", "mixed"]))
    in_val = np.isin(labels, rng.choice(n_seen, n_seen // 2, replace=False))
    if how in ("clean", "leaking"):
        rows = trainval if how == "clean" else of_seen
        splits |= {"train": rows[~in_val[rows]], "val": rows[in_val[rows]]}
    if how == "mixed":
        splits |= {"train": trainval[: len(trainval) // 2], "val": trainval[len(trainval) // 2 :]}
    return labels, splits, how


@settings(max_examples=200, deadline=None)
@given(world=worlds(), seed=st.integers(0, 5))
def test_train_and_val_always_part_trainval_by_class(world, seed):
    labels, given_splits, how = world
    splits, notes = complete_splits(labels, given_splits, seed=seed)
    assert tuple(splits) == SPLIT_NAMES
    assert np.array_equal(np.union1d(splits["train"], splits["val"]), splits["trainval"])
    assert not np.intersect1d(labels[splits["train"]], labels[splits["val"]]).size
    assert splits["train"].size
    assert splits["val"].size
    assert np.isin(splits["val_seen"], splits["train"]).all()
    left = np.setdiff1d(splits["train"], splits["val_seen"])
    assert np.array_equal(np.unique(labels[left]), np.unique(labels[splits["train"]]))
    assert (how == "clean") <= (not notes)


@settings(max_examples=200, deadline=None)
@given(world=worlds(), seed=st.integers(0, 5))
def test_the_validation_view_reaches_no_test_row_and_no_unseen_class(world, seed):
    labels, given_splits, _ = world
    rows = np.arange(len(labels), dtype=np.float32)[:, None]
    data = ZSLDataset(rows, labels, np.eye(labels.max() + 1), splits=given_splits, seed=seed)
    view = data.validation()
    reachable = np.concatenate([view.split(name)[0].ravel() for name in view.splits]).astype(int)
    test_rows = np.concatenate([data.splits["test_seen"], data.splits["test_unseen"]])
    assert not np.intersect1d(reachable, test_rows).size
    assert not np.intersect1d(np.union1d(view.seen, view.unseen), data.unseen).size
    assert not np.intersect1d(view.splits["trainval"], data.splits["val"]).size
    assert not np.intersect1d(view.splits["trainval"], view.splits["test_seen"]).size
    assert not np.intersect1d(view.seen, view.unseen).size
    assert view.seen.size
    assert view.unseen.size


@settings(max_examples=50, deadline=None)
@given(world=worlds(), seed=st.integers(0, 5))
def test_completed_splits_are_complete(world, seed):
    """So a data set that was written and read back has the same splits whatever the seed."""
    labels, given_splits, _ = world
    splits, _ = complete_splits(labels, given_splits, seed=seed)
    again, notes = complete_splits(labels, splits, seed=seed + 1)
    assert notes == ()
    assert all(np.array_equal(splits[name], again[name]) for name in SPLIT_NAMES)


LABELS = np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"trainval": [0, 2], "test_seen": [0]}, r"both in 'trainval' and in 'test_seen' \(the first is row 0\)"),
        ({"trainval": [0, 2], "test_unseen": [3]}, "class 1 has rows both in 'trainval' and in 'test_unseen'"),
        ({"trainval": [0, 2], "test_seen": [4]}, "class 2 is in 'test_seen' and has no row in 'trainval'"),
        (
            {"trainval": [0, 2], "test_seen": [1], "test_unseen": [1]},
            r"both in 'test_seen' and in 'test_unseen' \(the first is row 1\)",
        ),
        ({"trainval": [0, 6]}, "'trainval' names row 6; expected rows from 0 to 5"),
        ({"trainval": [-1, 0]}, "names row -1"),
        ({"trainval": [0, 0]}, "names row 0 twice"),
        ({"trainval": [0.0, 1.0]}, "type float64"),
        ({"trainvaI": [0]}, "unknown name 'trainvaI'"),
        ({"test_seen": [0]}, "'trainval', or 'train' and 'val'"),
        ({"trainval": [0, 1, 2], "train": [0, 1], "val": [2], "val_seen": [0, 1]}, "every training row of class 0"),
    ],
)
def test_splits_that_leak_or_point_nowhere_are_refused(splits, words):
    with pytest.raises(InputError, match=words):
        complete_splits(LABELS, {name: np.array(rows) for name, rows in splits.items()})


def test_val_depends_on_the_seed_and_on_nothing_else():
    labels = np.repeat(np.arange(50), 4)
    first = complete_splits(labels, None, seed=1)[0]
    assert np.array_equal(first["val"], complete_splits(labels, None, seed=1)[0]["val"])
    assert not np.array_equal(first["val"], complete_splits(labels, None, seed=2)[0]["val"])
    assert len(np.unique(labels[first["val"]])) == 10


def test_the_rows_held_out_of_train_are_drawn_by_the_seed_a_fifth_of_each_class():
    labels = np.repeat(np.arange(10), 20)
    held = [complete_splits(labels, None, seed=seed)[0]["val_seen"] for seed in range(20)]
    assert all(set(np.bincount(labels[rows])) <= {0, 4} for rows in held)
    assert set(np.concatenate(held) % 20) == set(range(20)), "not the same rows of a class every time"


def test_of_two_rows_or_more_of_a_class_one_is_held_out_and_a_share_of_many_is_rounded_down():
    held = {
        n: complete_splits(np.repeat(np.arange(10), n), None)[0]["val_seen"] for n in (1, 2, 3, 4, 5, 9, 10, 14, 25)
    }
    found = {n: set(np.bincount(rows // n)) - {0} for n, rows in held.items()}
    assert found == {1: set(), 2: {1}, 3: {1}, 4: {1}, 5: {1}, 9: {1}, 10: {2}, 14: {2}, 25: {5}}


def test_the_rows_held_out_of_large_classes_are_those_that_they_always_were():
    """A run that was begun before then goes on; a small class beside them changes nothing of theirs."""
    labels = np.concatenate([np.repeat(np.arange(6), 10), [6, 6, 6, 7]])
    rows = np.arange(len(labels))
    splits, _ = complete_splits(labels, {"train": rows[labels != 7], "val": rows[labels == 7]})
    of_large = splits["val_seen"][labels[splits["val_seen"]] < 6]
    assert of_large.tolist() == [8, 9, 14, 17, 27, 29, 35, 37, 47, 48, 51, 56]


def test_train_and_val_alone_make_trainval():
    splits, _ = complete_splits(LABELS, {"train": np.array([0, 1]), "val": np.array([2]), "test_unseen": np.array([4])})
    assert list(splits["trainval"]) == [0, 1, 2]
