"""A bank's rows in torch's DataLoader: in worker processes, beside own rows, and mixed with them at a ratio."""

import multiprocessing
import os
import pickle
import runpy
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from fgen.data.bank import FeatureBank
from fgen.data.torch_dataset import BankDataset, MixedSampler, synthetic_rows
from fgen.errors import InputError

multiprocessing.set_forkserver_preload([BankDataset.__module__])  # torch is imported once for both workers
EXAMPLES = Path(__file__).parents[2] / "experiments" / "examples"
NAMES, DIM = ["bee", "ant", "cat", "dog"], 3


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A bank: 4 real and 4 synthetic rows of the bee, 6 synthetic ones of the ant and the dog, none of the cat."""
    path = tmp_path_factory.mktemp("bank") / "bank.h5"
    plan = {"class_names": NAMES, "class_embeddings": np.eye(4), "counts": np.array([8, 6, 0, 6]), "seed": 0}
    plan |= {"real_counts": np.array([4, 0, 0, 0]), "feature_dim": DIM, "config": {}}
    with FeatureBank.create(path, **plan, seen=np.array([True, False, True, False])) as writer:
        for k, count in ((0, 8), (1, 6), (3, 6)):
            writer.write(k, 100 * k + np.arange(count * DIM, dtype=np.float32).reshape(count, DIM))
    return path


@pytest.fixture(scope="module")
def chunked(path):
    """The same as another program may write it: without a memory map, rows are read by HDF5."""
    copy = path.with_name("chunked.h5")
    with h5py.File(path) as source, h5py.File(copy, "w") as target:
        target.attrs.update(source.attrs)
        for name, found in source.items():
            chunks = (4, DIM) if name == "features" else None
            target.create_dataset(name, data=found[()], dtype=found.dtype, chunks=chunks)
    return copy


def own_rows(n):
    return TensorDataset(torch.full((n, DIM), -1.0), torch.full((n,), 7))


def batches(data, **options):
    features, labels = zip(*DataLoader(data, batch_size=6, **options), strict=True)
    return torch.cat(features), torch.cat(labels)


@pytest.mark.parametrize(("file", "start"), [("path", "fork"), ("chunked", "fork"), ("chunked", "forkserver")])
def test_two_workers_give_the_rows_of_one_process_beside_own_rows(file, start, request):
    with FeatureBank.open(request.getfixturevalue(file)) as bank:
        data = ConcatDataset([own_rows(4), bank.torch_dataset(label_map=NAMES[::-1])])
        features, labels = batches(data, num_workers=2, multiprocessing_context=start)
        expected, ids = bank.to_numpy()
    assert features.numpy().tobytes() == np.concatenate([np.full((4, DIM), -1, np.float32), expected]).tobytes()
    assert labels.dtype == torch.int64
    assert labels.tolist() == [7] * 4 + (3 - ids).tolist()


def test_two_workers_that_know_nothing_of_this_process_give_the_rows(path):
    """As macOS and Windows start them."""
    with FeatureBank.open(path) as bank:
        features, labels = batches(bank.torch_dataset(), num_workers=2, multiprocessing_context="spawn")
        expected, ids = bank.to_numpy()
    assert features.numpy().tobytes() == expected.tobytes()
    assert labels.tolist() == ids.tolist()


def test_a_forked_worker_reads_no_handle_of_its_parent(chunked, tmp_path, monkeypatch):
    opened = tmp_path / "opened"
    reopened = FeatureBank.reopened

    def noted(bank):
        again = reopened(bank)
        with opened.open("a") as file:
            file.write(f"{bool(bank._file)} {bool(again._file)}\n")
        return again

    monkeypatch.setattr(FeatureBank, "reopened", noted)
    with FeatureBank.open(chunked) as bank:
        data = bank.torch_dataset()
        batches(ConcatDataset([data, bank.torch_dataset(["ant"])]), num_workers=2, multiprocessing_context="fork")
        assert opened.read_text() == "False True\n" * 4, "each worker has rows of both data sets"
        assert data[0][0].tolist() == [0, 1, 2], "the parent's handle is as it was"
    assert opened.read_text().count("\n") == 4


def test_classes_and_kinds_of_rows_are_chosen_and_labelled_as_the_caller_wants(path):
    with FeatureBank.open(path) as bank:

        def labels(*classes, **options):
            return bank.torch_dataset(*classes, **options).labels.tolist()

        assert labels(["dog", 0]) == [3] * 6 + [0] * 8
        assert labels(np.flatnonzero(~bank.is_seen)) == [1] * 6 + [3] * 6
        assert labels(real=True) == [0] * 4
        assert labels(real=False) == [0] * 4 + [1] * 6 + [3] * 6
        assert labels(["ant"], label_map={"ant": -100}) == [-100] * 6
        assert labels(label_map=["owl", "dog", "ant", "bee"]) == [3] * 8 + [2] * 6 + [1] * 6
        data = bank.torch_dataset(["ant", "bee"], real=False)
        assert data[6][0].tolist() == data[-4][0].tolist() == bank["bee"][4].tolist(), "its first synthetic row"
        assert [x.tolist() for x, _ in data] == [*bank["ant"].tolist(), *bank["bee"][4:].tolist()]
        again = pickle.loads(pickle.dumps(bank.torch_dataset(["ant"], real=False, label_map={"ant": 9})))
    assert [(x.tolist(), y.item()) for x, y in again][:1] == [([100, 101, 102], 9)]


def test_a_file_that_has_become_shorter_is_told_of(path, tmp_path):
    """The system would end the process."""
    copy = shutil.copy(path, tmp_path / "cut.h5")
    with FeatureBank.open(copy) as bank:
        data = bank.torch_dataset()
        os.truncate(copy, 100)
        for read in (lambda: data[0], lambda: data.__getitems__([0, 1])):
            with pytest.raises(InputError, match="has become shorter"):
                read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["anr"]}, "no class 'anr'"),
        ({"classes": ["dog"], "real": True}, "no real rows of these classes"),
        ({"label_map": ["bee", "ant"]}, "label_map lacks the class 'dog'"),
        ({"label_map": {"bee": 0, "ants": 1, "dog": 2}}, "lacks the class 'ant'.* Did you mean 'ants'"),
        ({"label_map": ["bee", "ant", "dog", "bee"]}, "label_map has 'bee' twice"),
        (
            {"label_map": {"bee": 0, "ant": 1.5, "dog": 2}},
            r"label_map\['ant'\] is 1.5; expected a whole",
        ),
        ({"label_map": {"bee": 0, "ant": 2**63, "dog": 2}}, "a whole number of 64 bits"),
    ],
)
def test_rows_that_cannot_be_told_apart_or_are_not_there_are_refused(path, options, message):
    with FeatureBank.open(path) as bank, pytest.raises(InputError, match=message):
        bank.torch_dataset(**options)


def test_every_batch_has_the_share_of_synthetic_rows(path):
    with FeatureBank.open(path) as bank:
        data = ConcatDataset([own_rows(5), Subset(bank.torch_dataset(), range(2, 18))])
        synthetic = synthetic_rows(data)
        assert synthetic.tolist() == [False] * 7 + [True] * 14
        sampler = MixedSampler(data, 0.3, seed=1, length=50)
        assert len(sampler) == len(list(sampler)) == 50
        chosen = synthetic[list(sampler)]
        for size in (1, 5, 7, 10, 20):
            counts = [chosen[start : start + size].sum() for start in range(51 - size)]
            assert max(abs(count - 0.3 * size) for count in counts) <= 1, size
        assert len(MixedSampler(data, seed=0)) == len(data)
        loaded = [labels for _, labels in DataLoader(data, batch_size=10, sampler=sampler)]
        assert [int((labels == 7).sum() + (labels == 0).sum()) >= 7 for labels in loaded] == [True] * 5


def test_every_row_of_a_kind_comes_once_before_any_comes_again_in_an_order_of_the_epoch(path):
    with FeatureBank.open(path) as bank:
        data = bank.torch_dataset()
        sampler, again = MixedSampler(data, 0.5, seed=1, length=64), MixedSampler(data, 0.5, seed=1, length=64)
        first = np.array(list(sampler))
        real = first[~data.synthetic[first]].reshape(8, 4)
        made = first[data.synthetic[first]]
        assert all(sorted(lap) == [0, 1, 2, 3] for lap in real.tolist())
        assert len({tuple(lap) for lap in real.tolist()}) > 1, "each time in another order"
        assert sorted(made[:16]) == sorted(made[16:]) == np.flatnonzero(data.synthetic).tolist()
        assert list(again) == first.tolist()
        again.set_epoch(1)
        assert list(again) != first.tolist()
        again.set_epoch(0)
        assert list(again) == first.tolist()
        assert list(MixedSampler(data, 0.5, seed=2, length=64)) != first.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthetic_share": 1.5}, "synthetic_share is 1.5; expected a number from 0 to 1"),
        ({"synthetic_share": 0.5}, "the data set has no synthetic rows"),
        ({"length": 0, "synthetic_share": 0}, "length is 0"),
        ({"seed": None, "synthetic_share": 0}, "the seed is None"),
    ],
)
def test_a_mixture_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        MixedSampler(own_rows(5), **({"seed": 0} | options))


def test_rows_of_one_kind_are_sampled_alone(path):
    with FeatureBank.open(path) as bank:
        assert sorted(MixedSampler(bank.torch_dataset(real=False), 1, seed=0)) == list(range(16))
        assert sorted(MixedSampler(own_rows(5), 0, seed=0)) == list(range(5))


def test_the_example_trains_a_torch_classifier_that_knows_unseen_classes():
    example = runpy.run_path(str(EXAMPLES / "train_with_torch.py"))
    scores = example["main"](epochs=3, workers=0)
    assert scores.H > 0.4
