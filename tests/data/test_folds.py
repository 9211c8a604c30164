"""Folds of held-out classes: every class once, no test row, as many candidates as the task has."""

import numpy as np
import pytest

from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset
from fgen.data.folds import n_folds, validation_folds
from fgen.errors import InputError


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("toy")


def with_validation_classes(dataset, n):
    """The same data with another number of validation classes."""
    rows = dataset.splits["trainval"]
    of_val = np.isin(dataset.labels[rows], dataset.seen[:n])
    splits = dict(dataset.splits) | {"train": rows[~of_val], "val": rows[of_val]}
    splits["val_seen"] = splits["train"][::5]
    return ZSLDataset(dataset.features, dataset.labels, dataset.class_embeddings, splits=splits)


def test_together_the_folds_hold_out_each_seen_class_once(dataset):
    folds = validation_folds(dataset, 5, seed=3)
    held = [np.unique(fold.labels[fold.splits["test_unseen"]]) for fold in folds]
    assert sorted(np.concatenate(held)) == dataset.seen.tolist()
    for fold, classes in zip(folds, held, strict=True):
        assert not np.intersect1d(fold.seen, classes).size
        assert np.union1d(fold.seen, classes).tolist() == dataset.seen.tolist()


def test_no_test_row_is_reached_and_no_row_is_both_trained_on_and_held_out(dataset):
    for fold in validation_folds(dataset, 4):
        rows = [fold.splits[name] for name in ("trainval", "test_seen", "test_unseen")]
        together = np.concatenate(rows)
        assert len(np.unique(together)) == len(together)
        assert np.isin(together, dataset.splits["trainval"]).all()
        assert np.isin(fold.labels[rows[0]], fold.seen).all()
        assert np.isin(fold.labels[rows[1]], fold.seen).all()


def test_the_unseen_candidates_are_as_many_as_the_tasks(dataset):
    for n in (5, 20):
        for fold in validation_folds(dataset, n):
            assert len(fold.unseen) == len(dataset.unseen)
            assert np.isin(fold.labels[fold.splits["test_unseen"]], fold.unseen).all()


def test_the_same_seed_gives_the_same_folds_and_another_gives_others(dataset):
    def held(seed):
        return [
            np.unique(fold.labels[fold.splits["test_unseen"]]).tolist()
            for fold in validation_folds(dataset, 5, seed=seed)
        ]

    assert held(0) == held(0) != held(1)


def test_one_fold_is_the_validation_task(dataset):
    (fold,), task = validation_folds(dataset, 1), dataset.validation()
    assert fold.splits.keys() == task.splits.keys()
    assert all(np.array_equal(fold.splits[name], rows) for name, rows in task.splits.items())


def test_few_classes_are_held_out_alone_and_many_in_the_validation_split(dataset):
    assert n_folds(dataset) == 1
    few = ZSLDataset(np.eye(8), [0, 0, 1, 1, 2, 2, 3, 3], np.eye(5))
    assert n_folds(few) == 4
    assert n_folds(with_validation_classes(dataset, 3)) == 12
    assert n_folds(dataset.with_shots(1)) == 1


def test_folds_that_cannot_be_are_refused(dataset):
    with pytest.raises(InputError, match="21 folds of 20 seen classes"):
        validation_folds(dataset, 21)
    with pytest.raises(InputError, match="folds and shots"):
        validation_folds(dataset.with_shots(1), 2)
