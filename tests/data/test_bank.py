"""Feature banks: what anyone finds in the file, and what is left of it when the writer dies or the disk is full."""

import errno
import hashlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fgen.cli import main
from fgen.compute.device import cpu_threads
from fgen.data import bank_writer
from fgen.data.bank import FeatureBank
from fgen.data.bank_spec import BankSpec
from fgen.errors import InputError
from fgen.experiment import banks
from fgen.experiment.banks import write_bank
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.generation import generate_from_run
from fgen.experiment.runner import train_only
from fgen.io import atomic
from fgen.io.atomic import preallocate
from fgen.models.registry import make_model
from tests.conftest import tiny

COUNTS = [3, 0, 4, 1]
DIM = 5
behind = banks._background_writer
NAMES = ["ant", "bée", "cat, wild", "dog"]
DATASETS = {"features", "labels", "class_ptr", "synthetic", "class_names", "class_embeddings", "seen", "config"}


def rows(k, count=None, dim=DIM):
    """The rows of class k; float16 holds them exactly."""
    draw = np.random.default_rng(k).integers(-99, 99, (COUNTS[k] if count is None else count, dim))
    return (draw / 8).astype(np.float32)


def create(path, **changes):
    parts = {
        "class_names": NAMES,
        "class_embeddings": np.arange(8).reshape(4, 2) / 3,
        "counts": COUNTS,
        "feature_dim": DIM,
        "seen": [True, False, True, False],
        "seed": 7,
        "config": {"é": [1, None], "n": 2.5},
        "real_counts": [0, 0, 2, 0],
        "data_sha256": "abc",
    }
    return FeatureBank.create(path, **(parts | changes))


def fill(path, **changes):
    """Write what is missing; returns the classes that were."""
    with create(path, **changes) as writer:
        missing = [k for k, count in enumerate(COUNTS) if count and k not in writer.done]
        for k in missing:
            writer.write(k, rows(k))
    return missing


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank.h5"


@pytest.fixture
def whole(path):
    fill(path)
    return path


# The format.


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_the_format_is_what_bare_h5py_reads(path, dtype):
    fill(path, dtype=dtype, space="latent")
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
        config = file["config"][()].decode()
        assert attributes.pop("config_sha256") == hashlib.sha256(config.encode()).hexdigest()
        assert attributes == {
            "format": "fgen-bank",
            "format_version": 1,
            "created_by": "fgen",
            "seed": 7,
            "data_sha256": "abc",
            "space": "latent",
        }
        assert json.loads(config) == {"é": [1, None], "n": 2.5}
        assert file["config"].shape == ()
        assert set(file) == DATASETS
        kinds = {"features": f"<{dtype}", "labels": "<i4", "class_ptr": "<i8", "synthetic": "|b1", "seen": "|b1"}
        for name, kind in (kinds | {"class_embeddings": "<f4"}).items():
            assert file[name].dtype == np.dtype(kind), name
        for name in DATASETS:
            assert file[name].chunks is None, f"{name} is contiguous"
            assert file[name].id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS, name
        assert file["features"].shape == (8, DIM)
        assert (
            file["features"][()].astype(np.float32).tobytes() == np.concatenate([rows(0), rows(2), rows(3)]).tobytes()
        )
        assert file["labels"][()].tolist() == [0, 0, 0, 2, 2, 2, 2, 3]
        assert file["class_ptr"][()].tolist() == [0, 3, 3, 7, 8]
        assert file["synthetic"][()].tolist() == [True, True, True, False, False, True, True, True]
        assert file["seen"][()].tolist() == [True, False, True, False]
        assert file["class_names"].asstr()[()].tolist() == NAMES
        assert file["class_embeddings"][()].tobytes() == (np.arange(8).reshape(4, 2) / 3).astype("<f4").tobytes()


def test_the_features_lie_in_one_piece_that_a_memory_map_reads(whole):
    with h5py.File(whole, "r") as file:
        offset = file["features"].id.get_offset()
    mapped = np.memmap(whole, "<f4", "r", offset=offset, shape=(8, DIM))
    assert mapped[3:7].tobytes() == rows(2).tobytes()


def test_the_same_bank_is_the_same_bytes_at_another_time_and_place(whole, tmp_path):
    time.sleep(1.1)  # HDF5 can keep times of day, in seconds
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other" / "name.h5")
    assert (tmp_path / "other" / "name.h5").read_bytes() == whole.read_bytes()


def test_a_config_of_any_size_fits(path):
    config = {"notes": "x" * 200_000}
    fill(path, config=config)
    with FeatureBank.open(path) as bank:
        assert bank.config == config


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=7).filter(any),
    dim=st.integers(1, 9),
    dtype=st.sampled_from(["f4", "f2"]),
    data=st.data(),
)
def test_a_bank_comes_back_the_same(path, counts, dim, dtype, data):
    finite = {"f4": st.floats(width=32, **FINITE), "f2": st.floats(width=16, **FINITE)}[dtype]
    blocks = [data.draw(arrays.arrays(np.float32, (count, dim), elements=finite)) for count in counts]
    real = [data.draw(st.integers(0, count)) for count in counts]
    labels = [f"c{k}" for k in range(len(counts))]
    embeddings = data.draw(arrays.arrays(np.float32, (len(counts), 2), elements=st.floats(width=32, **FINITE)))
    order = data.draw(st.permutations(range(len(counts))))
    cuts = [data.draw(st.integers(0, count)) for count in counts]
    parts = {"class_names": labels, "class_embeddings": embeddings, "counts": counts, "real_counts": real}
    with create(
        path, **parts, feature_dim=dim, seen=[k % 2 for k in range(len(counts))], dtype=dtype, overwrite=True
    ) as writer:
        for k in order:
            if counts[k]:
                writer.write(k, blocks[k][: cuts[k]])
                if cuts[k] < counts[k]:
                    writer.write(k, blocks[k][cuts[k] :], start=cuts[k])
    with FeatureBank.open(path) as bank:
        features, ids = bank.to_numpy()
        assert features.dtype == np.float32
        assert features.tobytes() == np.concatenate(blocks).tobytes()
        assert ids.tolist() == np.repeat(np.arange(len(counts)), counts).tolist()
        assert bank.class_names == tuple(labels)
        assert bank.class_embeddings.tobytes() == embeddings.tobytes()
        for k in range(len(counts)):
            assert bank[k].tobytes() == bank[f"c{k}"].tobytes() == blocks[k].tobytes()
            assert (~bank.synthetic[bank.labels == k]).sum() == real[k]


FINITE = {"allow_nan": False, "allow_infinity": False}


# Reading.


def test_classes_are_sliced_by_name_and_by_position(whole):
    with FeatureBank.open(whole) as bank:
        assert len(bank) == 8
        assert bank["cat, wild"].tobytes() == bank[2].tobytes() == rows(2).tobytes()
        assert bank["bée"].shape == (0, DIM)
        features, labels = bank.to_numpy(["dog", "ant", "bée"])
        assert features.tobytes() == np.concatenate([rows(3), rows(0)]).tobytes()
        assert labels.tolist() == [3, 0, 0, 0]
        assert bank.to_numpy(np.array([3, 0]))[0].tobytes() == features.tobytes()
        for wrong in ("ants", 4, -1):
            with pytest.raises(InputError, match="has no class"):
                bank[wrong]
        assert (bank.seed, bank.space, bank.data_sha256) == (7, "raw", "abc")
        assert bank.seen.tolist() == [True, False, True, False]
        kept = bank[2]
    assert kept.tobytes() == rows(2).tobytes(), "what was sliced outlives the file"


def test_no_classes_are_no_rows(whole):
    with FeatureBank.open(whole) as bank:
        features, labels = bank.to_numpy([])
    assert features.shape == (0, DIM)
    assert labels.shape == (0,)


@pytest.mark.parametrize("workers", [0, 1])
def test_torch_gets_every_row_once_whatever_the_batch(whole, workers):
    with FeatureBank.open(whole) as bank:
        expected, labels = bank.to_numpy()
        data = bank.torch_dataset()
        assert len(data) == 8
        feature, label = data[7]
        assert feature.numpy().tobytes() == expected[7].tobytes()
        assert label == 3
        loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=workers)
        batches = list(loader)
        assert torch.cat([x for x, _ in batches]).numpy().tobytes() == expected.tobytes()
        assert torch.cat([y for _, y in batches]).tolist() == labels.tolist()
        shuffled = torch.utils.data.DataLoader(data, batch_size=3, shuffle=True)
        seen = sorted((int(y), x.numpy().tobytes()) for xs, ys in shuffled for x, y in zip(xs, ys, strict=True))
        assert seen == sorted((int(y), x.tobytes()) for x, y in zip(expected, labels, strict=True))


def test_classes_are_found_at_once_among_many(tmp_path):
    """Names searched in a row take seconds for a few thousand."""
    many = [f"class {k}" for k in range(4000)]
    for name in ("a.h5", "b.h5"):
        parts = {"class_names": many, "class_embeddings": np.ones((4000, 1)), "counts": [0] * 3999 + [1]}
        with create(tmp_path / name, **parts, real_counts=None, seen=[False] * 4000) as writer:
            writer.write(3999, rows(3))
    with FeatureBank.open(tmp_path / "a.h5") as first, FeatureBank.open(tmp_path / "b.h5") as second:
        start = time.process_time()
        features, labels = first.to_numpy(many)
        FeatureBank.merge(tmp_path / "both.h5", [first, second])
        assert time.process_time() - start < 0.5
    assert labels.tolist() == [3999]
    assert features.tobytes() == rows(3).tobytes()


def test_classes_come_in_the_order_asked_for_as_often_as_asked_for(whole):
    with FeatureBank.open(whole) as bank:
        features, labels = bank.to_numpy(["dog", 0, 3])
    assert labels.tolist() == [3, 0, 0, 0, 3]
    assert features.tobytes() == np.concatenate([rows(3), rows(0), rows(3)]).tobytes()


def test_banks_whose_embeddings_are_of_two_widths_are_not_merged(whole, tmp_path):
    with create(tmp_path / "b.h5", class_names=list("abcd"), class_embeddings=np.ones((4, 3))) as writer:
        for k in (0, 2, 3):
            writer.write(k, rows(k))
    with FeatureBank.open(whole) as first, FeatureBank.open(tmp_path / "b.h5") as second:  # noqa: SIM117
        with pytest.raises(InputError, match=r"have \[2, 3\] columns"):
            FeatureBank.merge(tmp_path / "c.h5", [first, second])


def test_a_bank_and_its_rows_can_be_pickled_and_are_read_anew(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FeatureBank.open("bank.h5") as bank:
        copies = [pickle.dumps(bank), pickle.dumps(bank.torch_dataset())]
        expected = bank.to_numpy()[0].tobytes()
    assert max(map(len, copies)) < 1000, "no rows are in them"
    monkeypatch.chdir("/")
    again, data = map(pickle.loads, copies)
    assert again.to_numpy()[0].tobytes() == expected
    assert torch.stack([x for x, _ in data]).numpy().tobytes() == expected
    assert [y for _, y in data] == again.labels.tolist()
    again.close()
    fill(whole, seed=8, overwrite=True)
    with pytest.raises(InputError, match="was changed since"):
        pickle.loads(copies[0])
    whole.unlink()
    with pytest.raises(InputError, match="doesn't exist"):
        pickle.loads(copies[1])


def test_banks_are_merged_with_real_rows_first(whole, tmp_path):
    with create(tmp_path / "b.h5", counts=[0, 2, 2, 0], real_counts=[0, 0, 1, 0]) as writer:
        writer.write(1, rows(1, 2))
        writer.write(2, rows(3, 2))
    with FeatureBank.open(whole) as first, FeatureBank.open(tmp_path / "b.h5") as second:
        FeatureBank.merge(tmp_path / "both.h5", [first, second])
    with FeatureBank.open(tmp_path / "both.h5") as both:
        assert both.class_names == tuple(NAMES)
        assert np.diff(both.class_ptr).tolist() == [3, 2, 6, 1]
        expected = np.concatenate([rows(2)[:2], rows(3, 2)[:1], rows(2)[2:], rows(3, 2)[1:]])
        assert both[2].tobytes() == expected.tobytes()
        assert both.synthetic[both.labels == 2].tolist() == [False] * 3 + [True] * 3
    with create(tmp_path / "c.h5", class_embeddings=np.ones((4, 2))) as writer:
        for k in (0, 2, 3):
            writer.write(k, rows(k))
    with FeatureBank.open(whole) as first, FeatureBank.open(tmp_path / "c.h5") as third:  # noqa: SIM117
        with pytest.raises(InputError, match="'ant' has different embeddings"):
            FeatureBank.merge(tmp_path / "d.h5", [first, third])


# Writing.


def test_a_reader_sees_no_bank_until_it_is_whole(path):
    with create(path) as writer:
        for k in (0, 2, 3):
            assert not path.exists()
            with pytest.raises(InputError, match="doesn't exist"):
                FeatureBank.open(path)
            writer.write(k, rows(k))
        assert not path.exists()
    assert len(FeatureBank.open(path)) == 8
    assert names(path.parent) == ["bank.h5"]


def test_an_old_bank_serves_its_readers_until_the_new_one_is_whole(whole):
    before = whole.read_bytes()
    with pytest.raises(InputError, match=r"exists.*overwriting"), create(whole, seed=8):
        pass
    with FeatureBank.open(whole) as reader:
        with create(whole, seed=8, overwrite=True) as writer:
            for k in (0, 2, 3):
                writer.write(k, rows(k) + 1)
                assert whole.read_bytes() == before
        assert reader[2].tobytes() == rows(2).tobytes(), "an open bank is not pulled from under its reader"
    with FeatureBank.open(whole) as bank:
        assert bank.seed == 8
        assert bank[2].tobytes() == (rows(2) + 1).tobytes()


def test_a_bank_that_lacks_rows_is_not_finished(path):
    with pytest.raises(InputError, match=r"2 classes lack rows, 'cat, wild' among them"), create(path) as writer:
        writer.write(0, rows(0))
    assert not path.exists()
    with pytest.raises(InputError, match="classes lack rows"), create(path) as writer:
        writer.write(2, rows(2)[:3])
    assert not path.exists()
    assert fill(path) == [2, 3]


def test_rows_that_do_not_fit_are_refused(path):
    wrong = {
        "shape": (0, np.zeros((3, DIM + 1)), 0, "3 rows of 5 columns"),
        "many": (0, np.zeros((4, DIM)), 0, "3 rows of 5 columns"),
        "gap": (0, np.zeros((1, DIM)), 1, "each row once, in order"),
        "nan": (0, np.full((3, DIM), np.nan), 0, "features of class 'ant' holds nan in row 0, column 0"),
        "inf": (0, np.full((3, DIM), 1e39), 0, "within float32's range"),
    }
    for k, features, start, message in wrong.values():
        with pytest.raises(InputError, match=message), create(path) as writer:
            writer.write(k, features, start=start)
    with create(path) as writer:
        for k in (0, 2, 3):
            writer.write(k, rows(k))
        with pytest.raises(InputError, match="each row once, in order"):
            writer.write(0, rows(0))
    path.unlink()
    with pytest.raises(InputError, match="within float16's range"), create(path, dtype="f2") as writer:
        writer.write(0, np.full((3, DIM), 7e4))
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["ant", "ant", "bee", "cat"]}, "'ant' twice"),
        ({"class_names": ["ant"]}, "different numbers of classes"),
        ({"class_embeddings": np.ones((3, 2))}, "different numbers of classes"),
        ({"counts": [3, 0, 4, -1]}, "counts are negative"),
        ({"counts": [0, 0, 0, 0], "real_counts": None}, "all zero"),
        ({"real_counts": [4, 0, 0, 0]}, "below real_counts"),
        ({"dtype": "f8"}, "'f4' or 'f2'"),
        ({"class_names": np.arange(4)}, r"class_names\[0\] is 0, no text"),
        ({"class_names": [*NAMES[:3], float("nan")]}, r"class_names\[3\] is nan, no text"),
        ({"class_names": [*NAMES[:3], "a\0"]}, "without NUL"),
        ({"class_names": [*NAMES[:3], "\ud800"]}, "lone surrogates"),
        ({"class_embeddings": np.ones((4, 2)) * 1j}, "class_embeddings holds complex numbers"),
        ({"class_embeddings": [[1.0], [1.0, 2.0], [3.0], [4.0]]}, "class_embeddings is no array of numbers"),
        ({"class_embeddings": np.full((4, 2), np.nan)}, "class_embeddings holds nan in row 0"),
        ({"counts": [2.5, 0, 4, 1]}, r"counts has shape \(4,\) and type float64; expected \(C,\) whole numbers"),
        ({"seen": [0, 1, 2, 3]}, "whether each class is seen"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(path, changes, message):
    with pytest.raises(InputError, match=message):
        create(path, **changes)
    assert names(path.parent) == []


def test_names_as_bytes_and_tensors_make_the_same_bank(path, tmp_path):
    tensor = torch.tensor(np.arange(8).reshape(4, 2) / 3, requires_grad=True)
    changes = {"class_names": [name.encode() for name in NAMES], "class_embeddings": tensor}
    for file, changed in ((path, {}), (tmp_path / "same.h5", changes)):
        with create(file, **changed) as writer:
            for k in (0, 2, 3):
                writer.write(k, torch.tensor(rows(k), requires_grad=True) if changed else rows(k))
    assert (tmp_path / "same.h5").read_bytes() == path.read_bytes()
    with FeatureBank.open(path) as bank:
        assert bank.class_names == tuple(NAMES)


def test_paths_in_place_of_open_banks_are_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"banks holds 'a.h5'; .* FeatureBank.open\(PATH\)"):
        FeatureBank.merge(path, ["a.h5"])


def test_a_bank_that_is_not_whole_yet_is_called_so(path):
    with pytest.raises(InputError, match="classes lack rows"), create(path):
        pass
    for name in (path, path.with_name(f"{path.name}.partial")):
        with pytest.raises(InputError, match=r"isn't whole yet.* that began it goes on with it"):
            FeatureBank.open(name)
    with pytest.raises(InputError, match=r"is a folder; expected a bank, as seeds/0/bank\.h5"):
        FeatureBank.open(path.parent)


def test_a_folder_that_is_not_there_and_a_second_writer_are_refused(path, tmp_path):
    with pytest.raises(InputError, match="doesn't exist"), create(tmp_path / "no" / "bank.h5"):
        pass
    with create(path) as writer:
        with pytest.raises(InputError, match="another fgen is at work in"), create(path):
            pass
        for k in (0, 2, 3):
            writer.write(k, rows(k))
    assert len(FeatureBank.open(path)) == 8


def test_a_writer_that_opened_the_journal_of_one_that_has_finished_is_refused(path, monkeypatch):
    def late(handle, name):
        monkeypatch.undo()
        with create(path) as writer:  # the other one, from beginning to end
            for k in (0, 2, 3):
                writer.write(k, rows(k))
        take_lock(handle, name)

    take_lock = bank_writer.lock_file
    monkeypatch.setattr(bank_writer, "lock_file", late)
    with pytest.raises(InputError, match="another fgen has just written"), create(path):
        pass
    assert len(FeatureBank.open(path)) == 8
    assert names(path.parent) == [path.name]


# Writers that die.


def in_a_child(function):
    """The exit code of a fork that runs the function; negative where a signal ended it."""
    child = os.fork()
    if not child:
        try:
            function()
        finally:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying(calls, path, **changes):
    """Fill a bank and be killed before system call number ``calls``."""

    def target():
        left = [calls]

        def counted(call):
            def wrapped(*arguments):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments)

            return wrapped

        for name in ("pwrite", "write", "fsync", "replace", "posix_fallocate", "ftruncate"):
            setattr(os, name, counted(getattr(os, name)))
        fill(path, **changes)

    return in_a_child(target)


def test_a_writer_killed_anywhere_goes_on_to_the_same_bytes(whole, tmp_path):
    expected, codes, rewritten = whole.read_bytes(), [], []
    for calls in range(100):
        folder = tmp_path / str(calls)
        folder.mkdir()
        path = folder / "bank.h5"
        codes.append(dying(calls, path))
        if codes[-1] != -signal.SIGKILL:
            break
        if path.exists():
            assert path.read_bytes() == expected, calls
        else:
            rewritten.append(len(fill(path)))
            assert names(folder) == ["bank.h5"], calls
        assert path.read_bytes() == expected, calls
    assert codes[-1] == 7
    assert len(codes) > 15, "the writer makes many calls, each of which may be its last"
    assert rewritten == sorted(rewritten, reverse=True), "a later death never costs more"
    assert set(rewritten) == {3, 2, 1, 0}, "a finished class is never written again"


def test_a_writer_killed_over_and_over_still_gets_there(whole, tmp_path):
    (tmp_path / "again").mkdir()
    path = tmp_path / "again" / "bank.h5"
    assert [dying(calls, path) for calls in (7, 2, 1, 0)] == [-signal.SIGKILL] * 4
    fill(path)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_stopped_by_an_error_goes_on_too(whole, tmp_path, error):
    def stopped(path):
        with create(path) as writer:
            writer.write(0, rows(0))
            writer.write(2, rows(2)[:3])
            raise error

    (tmp_path / "again").mkdir()
    path = tmp_path / "again" / "bank.h5"
    with pytest.raises(error):
        stopped(path)
    assert not path.exists()
    assert fill(path) == [2, 3]
    assert path.read_bytes() == whole.read_bytes()


def half_done(path, missing=(0, 2), **changes):
    with suppress(KeyboardInterrupt), create(path, **changes) as writer:
        for k in missing:
            writer.write(k, rows(k))
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"config": {}},
        {"class_embeddings": np.ones((4, 2))},
        {"class_names": ["ant", "bée", "cat", "dog"]},
        {"data_sha256": "other"},
        {"dtype": "f2"},
        {"space": "latent"},
        {"real_counts": None},
        {"seen": [False] * 4},
    ],
)
def test_what_another_plan_left_is_of_no_use(path, tmp_path, changes):
    half_done(path)
    half_done(path, **changes)
    assert fill(path, **changes) == [3]
    (tmp_path / "fresh").mkdir()
    fill(tmp_path / "fresh" / "bank.h5", **changes)
    assert path.read_bytes() == (tmp_path / "fresh" / "bank.h5").read_bytes()


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 255
    path.write_bytes(content)


def test_damaged_leftovers_are_written_again(whole, tmp_path):
    expected = whole.read_bytes()
    start = expected.index(rows(2).tobytes())

    def leftovers(name):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "bank.h5"
        half_done(path)
        return path, tmp_path / name / "bank.h5.partial", tmp_path / name / "bank.h5.journal"

    path, partial, _ = leftovers("one class")
    flip(partial, start)
    assert fill(path) == [2, 3]
    assert path.read_bytes() == expected
    path, _, journal = leftovers("cut journal")
    journal.write_bytes(journal.read_bytes()[:-20])
    half_done(path, missing=[2])
    assert fill(path) == [3], "what comes after the cut line counts"
    assert path.read_bytes() == expected
    path, _, journal = leftovers("no journal")
    journal.unlink()
    assert fill(path) == [0, 2, 3]
    assert path.read_bytes() == expected
    path, partial, _ = leftovers("no bank")
    partial.unlink()
    assert fill(path) == [0, 2, 3]
    assert path.read_bytes() == expected
    for cut in (0, 100, start + 8):
        path, partial, _ = leftovers(f"cut at {cut}")
        partial.write_bytes(partial.read_bytes()[:cut])
        fill(path)
        assert path.read_bytes() == expected
    for journal_line in (
        b"garbage\n",
        b"[]\n",
        b'{"class": 99, "crc32": 0}\n',
        b'{"class": -1, "crc32": 0}\n',
        b"3\n",
    ):
        path, _, journal = leftovers(f"journal {journal_line[:12]}")
        journal.write_bytes(journal.read_bytes() + journal_line)
        assert fill(path) == [3]
        assert path.read_bytes() == expected


# Damaged files.


def refused(path):
    with pytest.raises(InputError) as caught, FeatureBank.open(path):
        pass
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_a_bank_cut_anywhere_is_refused(whole, tmp_path):
    content = whole.read_bytes()
    cut = tmp_path / "cut.h5"
    for size in sorted({0, 1, 8, 96, *range(500, len(content), 777), len(content) - 1}):
        cut.write_bytes(content[:size])
        refused(cut)


def test_what_is_no_bank_is_refused(tmp_path):
    (tmp_path / "garbage.h5").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.h5").write_text("features")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    for name in ("garbage.h5", "text.h5", "other.h5"):
        refused(tmp_path / name)
        assert not FeatureBank.is_bank(tmp_path / name)
    assert "doesn't exist" in refused(tmp_path / "none.h5")
    assert not FeatureBank.is_bank(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.modify("format_version", 2), "version 2; expected fgen-bank 1"),
        (lambda file: file.attrs.modify("format", "other"), "format is 'other'"),
        (lambda file: file.attrs.__delitem__("space"), "no attribute 'space'"),
        (lambda file: put(file, "labels", np.zeros(8, "<i4")), "'labels' or 'synthetic' don't match"),
        (lambda file: put(file, "synthetic", np.ones(7, bool)), "'labels' or 'synthetic' don't match"),
        (lambda file: put(file, "class_ptr", np.array([0, 3, 3, 7, 9])), "'class_ptr' doesn't lead"),
        (lambda file: put(file, "class_ptr", np.array([0, 4, 3, 7, 8])), "'class_ptr' doesn't lead"),
        (lambda file: put(file, "class_ptr", np.array([0, 3, 7, 8])), "'class_ptr' is for 3 classes"),
        (lambda file: put(file, "class_ptr", np.array([0.0, 3, 3, 7, 8])), "expected integers"),
        (lambda file: put(file, "seen", np.ones(5, bool)), "'seen' is for 5 classes"),
        (lambda file: put(file, "class_embeddings", np.full((4, 2), np.nan)), "'class_embeddings' hold NaN"),
        (lambda file: put(file, "features", np.zeros((8, DIM))), "expected float32 or float16"),
        (lambda file: put(file, "features", np.zeros(8, "<f4")), "2 dimensions"),
        (lambda file: put(file, "class_names", ["ant", "bee", "ant", "dog"]), "'class_names' has 'ant' twice"),
        (lambda file: put(file, "config", "{"), "config|JSON|damaged"),
        (lambda file: put(file, "config", "3"), "config|damaged"),
        *((lambda file, name=name: file.__delitem__(name), f"no '{name}'") for name in sorted(DATASETS)),
    ],
)
def test_a_bank_whose_parts_contradict_each_other_is_refused(whole, change, message):
    with h5py.File(whole, "r+") as file:
        change(file)
    assert re.search(message, refused(whole))


def put(file, name, value):
    del file[name]
    file[name] = value


# Threads.


@pytest.mark.numeric
def test_a_bank_notes_the_threads_that_it_was_made_with(run, tmp_path):
    """As attributes that earlier readers pass over; one that another number began is begun anew."""
    for threads in (1, 2):
        with cpu_threads(threads):
            generate_from_run(run, out=tmp_path / f"{threads}.h5", n_per_class=2)
        with h5py.File(tmp_path / f"{threads}.h5") as file:
            noted = dict(file.attrs)
        assert noted["threads"] == threads
        with FeatureBank.open(tmp_path / f"{threads}.h5") as bank:
            assert (bank.threads, bank.blas_threads) == (threads, noted.get("blas_threads"))


def test_a_bank_without_threads_is_as_it_was_and_a_merged_one_notes_what_all_have(tmp_path):
    fill(tmp_path / "none.h5")
    for name, threads in (("a", 2), ("b", 2), ("c", 3)):
        fill(tmp_path / f"{name}.h5", threads=threads, blas_threads=4)
    with h5py.File(tmp_path / "none.h5") as file:
        assert not {"threads", "blas_threads"} & {*file.attrs}
    with ExitStack() as stack:
        none, a, b, c = (stack.enter_context(FeatureBank.open(tmp_path / f"{x}.h5")) for x in ("none", "a", "b", "c"))
        assert (none.threads, none.blas_threads) == (None, None)
        for banks, expected in (([a, b], (2, 4)), ([a, c], (None, 4)), ([a, none], (None, None))):
            FeatureBank.merge(tmp_path / "merged.h5", banks, overwrite=True)
            with FeatureBank.open(tmp_path / "merged.h5") as merged:
                assert (merged.threads, merged.blas_threads) == expected


@pytest.mark.numeric
def test_what_other_threads_began_is_begun_anew(path):
    """Rows of two numbers of threads would be in one bank."""
    with suppress(KeyboardInterrupt), create(path, threads=1) as writer:
        writer.write(0, rows(0))
        raise KeyboardInterrupt
    assert fill(path, threads=2) == [0, 2, 3]


# Full disks.


CROWDED = """
import os, resource, sys
from tests.data.test_bank import fill
from fgen.data.bank import FeatureBank
from pathlib import Path
path = Path(sys.argv[1])
for limit in (0, 10, 500, 1000, 3000, 6000, 10000, 11000, 40000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fill(path)
        print("written")
    except OSError as error:
        print(error.strerror, sorted(set(os.listdir(path.parent)) - {"bank.h5.journal"}))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fill(path)
"""


def test_where_the_bank_has_no_room_nothing_of_it_is_left(whole, tmp_path):
    """A real limit: HDF5, asked to write beyond one, raises errors without a number, prints pages, and crashes."""
    (tmp_path / "again").mkdir()
    path = tmp_path / "again" / "bank.h5"
    done = subprocess.run(
        [sys.executable, "-c", CROWDED, str(path)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["File too large []"] * 9
    assert path.read_bytes() == whole.read_bytes(), "with room again, the same call writes it"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a model."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = ExperimentConfig.from_mapping({"dataset": {"name": "toy"}, "model": {"name": "clswgan"} | tiny("clswgan")})
    train_only(replace(config, model=replace(config.model, epochs=1)), out=folder)
    return folder


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("call", "at"), [("posix_fallocate", 1), ("pwrite", 1), ("pwrite", 4), ("fsync", 3), ("replace", 1)]
)
def test_a_full_disk_is_one_message_and_the_same_command_goes_on(run, path, monkeypatch, capsys, call, at, number):
    original, calls = getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(number, os.strerror(number))
        return original(*arguments)

    command = ["generate", str(run), "--n-per-class", "9", "--out", str(path)]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        assert main(command) == 2
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    assert {errno.ENOSPC: "the disk is full", errno.EDQUOT: "quota"}[number] in message[0]
    assert f"go on with: fgen generate {run}" in message[0]
    assert not path.exists()
    assert main(command) == 0
    assert names(path.parent) == ["bank.h5"]
    assert main([*command[:-1], str(path.parent / "other.h5")]) == 0
    assert path.read_bytes() == (path.parent / "other.h5").read_bytes()


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(whole, tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, position: pwrite(file, data[:7], position))
    (tmp_path / "again").mkdir()
    fill(tmp_path / "again" / "bank.h5")
    assert (tmp_path / "again" / "bank.h5").read_bytes() == whole.read_bytes()


# Generation into a bank.


@pytest.fixture(scope="module")
def model(world):
    features, labels = world.dataset.split("trainval")
    data = world.dataset
    return make_model("clswgan", **tiny("clswgan")).fit(
        features, labels, data.class_embeddings, seed=0, class_names=data.class_names
    )


def generated(path, model, data, classes, n_per_class, real=None, **rest):
    counts = np.zeros(data.n_classes, dtype=int)
    counts[list(classes)] = n_per_class
    own = np.bincount(data.split("trainval")[1], minlength=data.n_classes) if real is not None else 0 * counts
    is_seen = np.isin(np.arange(data.n_classes), data.seen)
    parts = {"class_embeddings": data.class_embeddings, "class_names": data.class_names, "is_seen": is_seen}
    spec = BankSpec(counts=counts + own, real_counts=own, feature_dim=data.feature_dim, seed=2, **(parts | rest))
    write_bank(path, model, spec, real=real)
    with FeatureBank.open(path) as bank:
        return {name: bank[name].tobytes() for name in bank.class_names if len(bank[name])}


@pytest.fixture(params=["cpu", "beside a GPU"])
def written(request, monkeypatch):
    """By whom a bank is written: with a GPU, by a thread that is one class behind."""
    if request.param != "cpu":
        monkeypatch.setattr(banks, "_background_writer", lambda device: behind(torch.device("cuda")))


def test_a_class_gets_the_same_features_in_every_bank(world, model, tmp_path):
    data = world.dataset
    some = generated(tmp_path / "some.h5", model, data, [13, 2], 9)
    more = generated(tmp_path / "more.h5", model, data, range(data.n_classes), 140)
    assert set(some) == {data.class_names[13], data.class_names[2]}
    assert all(more[name].startswith(some[name]) for name in some), "more rows extend fewer"
    order = np.random.default_rng(0).permutation(data.n_classes)
    parts = {"class_embeddings": data.class_embeddings[order], "class_names": [data.class_names[k] for k in order]}
    assert generated(tmp_path / "order.h5", model, data, range(data.n_classes), 140, **parts) == more


@pytest.mark.numeric
@pytest.mark.parametrize("classes", ["unseen", "all"])
def test_real_rows_come_first_also_where_nothing_is_generated(world, model, tmp_path, classes, written):
    data = world.dataset
    chosen = data.unseen if classes == "unseen" else np.arange(data.n_classes)
    generated(tmp_path / "bank.h5", model, data, chosen, 9, real=data)
    features, labels = data.split("trainval")
    with FeatureBank.open(tmp_path / "bank.h5") as bank:
        for k in range(data.n_classes):
            rows, made = bank[k], bank.synthetic[bank.labels == k]
            assert made.tolist() == sorted(made.tolist())
            assert rows[~made].tobytes() == features[labels == k].tobytes()
            assert made.sum() == (9 if k in chosen else 0)


def test_the_shell_writes_real_rows_too(run, path):
    assert main(["generate", str(run), "--real", "--n-per-class", "2", "--out", str(path)]) == 0
    with FeatureBank.open(path) as bank:
        assert bank.synthetic.sum() == 2 * (~bank.seen).sum()
        assert set(bank.labels[~bank.synthetic]) == set(np.flatnonzero(bank.seen))


@pytest.mark.numeric
def test_a_killed_generation_computes_only_what_is_missing(world, model, tmp_path, monkeypatch, written):
    data = world.dataset
    whole = generated(tmp_path / "whole.h5", model, data, data.unseen, 9)
    original, asked = type(model).iter_generate, []

    def counted(self, embeddings, names, counts, **rest):
        for k, block in enumerate(original(self, embeddings, names, counts, **rest)):
            if len(asked) == 2:
                asked.append("stop")
                raise KeyboardInterrupt
            asked.append(names[k])
            yield block

    monkeypatch.setattr(type(model), "iter_generate", counted)
    with suppress(KeyboardInterrupt):
        generated(tmp_path / "cut.h5", model, data, data.unseen, 9)
    assert not (tmp_path / "cut.h5").exists()
    assert generated(tmp_path / "cut.h5", model, data, data.unseen, 9) == whole
    assert asked == [*asked[:2], "stop", *(data.class_names[k] for k in data.unseen[2:])]
    assert (tmp_path / "cut.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_beside_a_gpu_a_thread_does_one_job_after_the_other():
    done, here = [], threading.current_thread()
    with behind(torch.device("cuda")) as take:
        for k in range(5):
            take(lambda k=k: done.append((k, threading.current_thread() is here)))
            assert len(done) >= k, "one behind at most"
    assert done == [(k, False) for k in range(5)]
    with behind(torch.device("cpu")) as take:
        take(lambda: done.append(threading.current_thread() is here))
    assert done[-1] is True


def test_a_jobs_error_goes_before_one_that_came_later():
    def fail():
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"), behind(torch.device("cuda")) as take:  # noqa: PT012
        take(fail)
        raise RuntimeError("of no interest")
    with pytest.raises(InputError, match="the disk is full"), behind(torch.device("cuda")) as take:
        take(fail)


def test_however_often_one_interrupts_a_job_is_done_before_its_file_is_closed():
    """Or a thread would go on writing to a number that is another file's by then."""
    begun, may_end, ended = threading.Event(), threading.Event(), []

    def write():
        begun.set()
        may_end.wait(5)
        ended.append(True)

    def interrupt():
        for pause in (0.1, 0.1, 0.1):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert not ended
        may_end.set()

    impatient = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt), behind(torch.device("cuda")) as take:  # noqa: PT012
        take(write)
        begun.wait(5)
        impatient.start()
        take(write)
    assert ended == [True]
    impatient.join()


@pytest.mark.parametrize("broken", [1, 3])
def test_rows_that_a_thread_can_not_write_are_told_of_and_others_are_kept(world, model, path, monkeypatch, broken):
    data, original = world.dataset, type(model).iter_generate
    whole = generated(path.with_name("whole.h5"), model, data, data.unseen, 9)
    monkeypatch.setattr(banks, "_background_writer", lambda device: behind(torch.device("cuda")))

    def blocks(*rest, **more):
        for k, block in enumerate(original(*rest, **more)):
            yield block * np.nan if k == broken else block

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "iter_generate", blocks)
        with pytest.raises(InputError, match=f"{data.class_names[data.unseen[broken]]}.* holds nan"):
            generated(path, model, data, data.unseen, 9)
    assert not path.exists()
    assert len(path.with_name(f"{path.name}.journal").read_text().splitlines()) == 1 + broken, "the plan, and classes"
    assert generated(path, model, data, data.unseen, 9) == whole


def test_a_bank_that_no_disk_holds_is_refused_before_anything_is_made(world, model, path):
    with pytest.raises(InputError, match=r"would take [\d,.]+ GB for 1,500,000,000,000 features; expected at most"):
        generated(path, model, world.dataset, [13], 1_500_000_000_000)
    assert not list(path.parent.iterdir())
    with pytest.raises(InputError, match=f"n_per_class is {10**30}"):
        model.generate([13], 10**30, seed=0)


def test_a_system_without_a_call_that_reserves_room_writes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "x").open("w+b") as file:
        preallocate(file.fileno(), (1 << 20) + 5)
        assert os.fstat(file.fileno()).st_size == (1 << 20) + 5
        file.seek(0)
        assert set(file.read()) == {0}


# What is left beside a bank.


def test_a_journal_that_a_kill_left_after_the_banks_move_goes_with_the_next_writer(path, monkeypatch):
    """The move is the last thing that the child does; its journal says that the plan is whole."""
    child = os.fork()
    if not child:
        replace = os.replace
        os.replace = lambda *arguments: (replace(*arguments), os._exit(9))
        fill(path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert f"{path.name}.journal" in names(path.parent)
    whole = path.read_bytes()
    with pytest.raises(InputError, match="exists"), create(path):
        pass
    assert f"{path.name}.journal" not in names(path.parent)
    fill(path, overwrite=True)
    assert names(path.parent) == [path.name]
    assert path.read_bytes() == whole


def test_what_holds_no_whole_class_is_not_kept(path):
    for wrong in (np.full((3, DIM), np.nan), np.zeros((3, DIM + 1))):
        with pytest.raises(InputError), create(path) as writer:
            writer.write(0, wrong)
        assert names(path.parent) == []
    half_done(path, missing=[0])
    with pytest.raises(InputError, match="holds nan"), create(path) as writer:
        writer.write(2, np.full((4, DIM), np.nan))
    assert fill(path) == [2, 3], "a class that is whole is kept"


def test_a_bank_and_another_file_of_its_name_are_not_written_at_once(path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.0)
    with create(path) as writer:
        with pytest.raises(InputError, match="another fgen is at work in"), atomic.new_file(path):
            pass
        for k in (0, 2, 3):
            writer.write(k, rows(k))
    assert len(FeatureBank.open(path)) == 8
    with atomic.new_file(path, overwrite=True) as partial:
        partial.write_text("theirs")
        with pytest.raises(InputError, match="another fgen is at work"):
            fill(path, overwrite=True)
    assert path.read_text() == "theirs"
