"""HDF5 files from strangers: what is read is what h5py reads, and no file keeps, crashes or fills the process."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest

from fgen import cli
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset, save_dataset
from fgen.data.tables import read_features
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.features.rows import iter_blocks, read_rows
from fgen.io import hdf5, hdf5_look
from fgen.io.matlab import open_mat


@pytest.fixture(scope="module")
def toy():
    return make_toy(n_seen=4, n_unseen=2, rows_per_class=4, feature_dim=3)


@pytest.fixture
def path(toy, tmp_path):
    """A data set on disk."""
    save_dataset(toy, tmp_path / "x.h5")
    return tmp_path / "x.h5"


def write_bank(toy, path):
    parts = {"counts": np.full(6, 4), "feature_dim": 3, "seen": np.arange(6) < 4, "seed": 0, "config": {}}
    names, embeddings = toy.class_names, toy.class_embeddings
    with FeatureBank.create(path, class_names=names, class_embeddings=embeddings, **parts) as bank:
        for label in range(6):
            bank.write(label, toy.features[toy.labels == label])


def bfloat16():
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    return kind


def another_bias():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind


def few_bits():
    """Whole numbers of 12 bits in 32, not the lowest ones."""
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(12)
    kind.set_offset(8)
    return kind


ODD_TYPES = {"bfloat16": bfloat16, "another bias": another_bias, "12 bits of 32": few_bits}


def put(path, name, kind, values, layout=h5py.h5d.CONTIGUOUS):
    """Replace a dataset by one of a type or a layout that h5py's own calls don't make."""
    with h5py.File(path, "r+") as file:
        del file[name]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(layout)
        if layout == h5py.h5d.CHUNKED:
            plan.set_chunk((1,) * np.ndim(values))
        made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(np.shape(values)), dcpl=plan)
        h5py.Dataset(made)[...] = values
        file.create_dataset("behind", data=np.full(99, 7.0))


@pytest.mark.parametrize("kind", ODD_TYPES)
@pytest.mark.parametrize("door", ["data set", "predict", "bank", "mat"])
def test_numbers_of_a_type_that_numpy_lacks_are_those_that_h5py_reads(toy, path, kind, door):
    if door == "bank":
        path = path.with_name("bank.h5")
        write_bank(toy, path)
    rows = np.arange(24 * 3, dtype=np.float32).reshape(24, 3)
    put(path, "features", ODD_TYPES[kind](), rows)
    with h5py.File(path) as file:
        expected = file["features"][...]
    assert np.array_equal(expected, rows)
    doors = {
        "data set": lambda: load_dataset(path).rows(np.arange(24)),
        "predict": lambda: read_rows(read_features(path)[0], np.arange(24)),
        "bank": lambda: FeatureBank.open(path).to_numpy()[0],
        "mat": lambda: open_mat(path)["features"].numbers()[...],
    }
    if door == "bank" and expected.dtype != np.float32:
        with pytest.raises(InputError, match="expected float32 or float16"):
            doors[door]()
    else:
        assert np.array_equal(doors[door](), rows)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "<i2", ">i8", "<u1"])
def test_the_types_that_numpy_has_are_mapped(path, dtype):
    rows = np.arange(24 * 3).reshape(24, 3).astype(dtype)
    put(path, "features", h5py.h5t.py_create(np.dtype(dtype)), rows)
    features, _ = read_features(path)
    assert isinstance(features, np.memmap)
    assert np.array_equal(features, rows)


def opened(path, act):
    """Whether anything opens a file while ``act`` runs; Linux alone can tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        pytest.skip("this system doesn't tell who opens a file")
    watch, in_open = libc.inotify_init1(os.O_NONBLOCK), 0x20
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(path), in_open) >= 0
        act()
        return bool(os.read(watch, 4096))
    except BlockingIOError:
        return False
    finally:
        os.close(watch)


def test_the_source_of_a_virtual_dataset_is_never_opened(toy, path):
    source = path.with_name("source.h5")
    save_dataset(toy, source)
    with h5py.File(path, "r+") as file:
        del file["labels"]
        layout = h5py.VirtualLayout((24,), "i4")
        layout[:] = h5py.VirtualSource(source, "labels", (24,))
        file.create_virtual_dataset("labels", layout)

    def refused():
        with pytest.raises(InputError, match="'labels' is a virtual dataset"):
            load_dataset(path)

    assert opened(source, lambda: load_dataset(source)), "or this would tell nothing"
    assert not opened(source, refused)


def test_a_datasets_layout_is_looked_at_before_anything_that_could_open_other_files(path):
    class Virtual:
        """A dataset of which all but the creation properties is out of bounds."""

        class id:
            @staticmethod
            def get_create_plist():
                plan, space = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5s.create_simple((1,))
                plan.set_virtual(space, b"elsewhere.h5", b"x", space)
                return plan

    with pytest.raises(InputError, match="'labels' is a virtual dataset"):
        hdf5.check_storage(Virtual, "labels")


# Texts.


@pytest.mark.parametrize("layout", [h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT])
def test_a_name_that_claims_gigabytes_is_refused_before_they_are_allocated(path, layout):
    """Wherever the name lies. The address of a heap and a number there stand for it, behind its length."""
    names = [f"animal {k}" for k in range(6)]
    put(path, "class_names", h5py.h5t.py_create(h5py.string_dtype(), logical=True), names, layout)
    assert load_dataset(path).class_names == tuple(names)
    content = bytearray(path.read_bytes())
    text = names[3].encode()
    heap = content.rindex(b"GCOL", 0, content.index(text))
    number = int.from_bytes(content[content.index(text) - 16 :][:2], "little")
    at = content.index(len(text).to_bytes(4, "little") + heap.to_bytes(8, "little") + number.to_bytes(4, "little"))
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="claims a text of more than 16,384 bytes"):
        load_dataset(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


@pytest.mark.parametrize("layout", [h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT])
def test_a_name_of_more_than_16_kib_is_refused(path, layout):
    names = [*"abcde", "x" * 20_000]
    put(path, "class_names", h5py.h5t.py_create(h5py.string_dtype(), logical=True), names, layout)
    with pytest.raises(InputError, match=r"class_names\[5\] is no text of at most 16,384 bytes"):
        load_dataset(path)


def test_long_texts_that_nothing_reads_are_no_obstacle(toy, path):
    bank = path.with_name("bank.h5")
    write_bank(toy, bank)
    for at in (path, bank):
        with h5py.File(at, "r+") as file:
            file.attrs["how it was made"] = "{" + " " * 20_000 + "}"
            file.create_dataset("notes", data=["x" * 20_000], dtype=h5py.string_dtype())
            file["features"].attrs["unit"] = "y" * 20_000
    assert load_dataset(path).fingerprint == toy.fingerprint
    assert len(FeatureBank.open(bank)) == 24
    assert read_features(path)[0].shape == (24, 3)


def test_numbers_that_are_texts_are_refused_unread(path):
    put(path, "labels", h5py.h5t.py_create(h5py.string_dtype(), logical=True), ["1"] * 24)
    with pytest.raises(InputError, match="'labels' is of type object; expected numbers"):
        load_dataset(path)


def test_no_writer_writes_a_name_that_no_reader_reads(toy, tmp_path):
    long = "ä" * 9_000
    parts = {"labels": toy.labels, "class_embeddings": toy.class_embeddings}
    named = ZSLDataset(toy.features, **parts, class_names=[long, *"abcde"])
    with pytest.raises(InputError, match=r"the class name 'äää.*…' takes 18,000 bytes; expected at most 16,384"):
        save_dataset(named, tmp_path / "x.h5")
    with pytest.raises(InputError, match="takes 18,000 bytes"):
        save_dataset(ZSLDataset(toy.features, **parts, name=long), tmp_path / "x.h5")
    with pytest.raises(InputError, match="takes 18,000 bytes"):
        write_bank(named, tmp_path / "bank.h5")
    assert os.listdir(tmp_path) == []
    save_dataset(ZSLDataset(toy.features, **parts, class_names=["ä" * 8_000, *"abcde"]), tmp_path / "x.h5")
    assert load_dataset(tmp_path / "x.h5").class_names[0] == "ä" * 8_000


# Files that HDF5 doesn't come back from; what stands in for HDF5 here is harmless.


def act_instead(monkeypatch, program):
    hdf5_look._found.clear()
    monkeypatch.setattr(hdf5_look, "PROGRAM", program)


def test_a_file_that_keeps_hdf5_at_work_for_ever_is_refused(path, monkeypatch, capfd):
    limited = "import sys; sys.path[:] = sys.argv[3:]\nfrom fgen.io import hdf5_trial\n"
    endless = "hdf5_trial._Trial.read_file = lambda self, path: exec('while True: pass')\n"
    act_instead(monkeypatch, f"{limited}{endless}hdf5_trial.main(*sys.argv[1:3])")
    monkeypatch.setattr(hdf5_look, "CPU_SECONDS", 1)
    assert cli.main(["inspect", str(path)]) == 2
    assert cli.main(["inspect", str(path)]) == 2, "at once"
    first, second = capfd.readouterr().err.splitlines()
    assert first == second
    assert "keeps the HDF5 library at work for more than 1 seconds. It may be truncated or damaged" in first


def test_a_file_that_crashes_hdf5_is_refused(path, monkeypatch):
    act_instead(monkeypatch, "import os; os.abort()")
    with pytest.raises(InputError, match=r"makes the HDF5 library crash \(Aborted\)"):
        load_dataset(path)


def test_where_no_process_can_be_started_files_are_read_all_the_same(toy, path, monkeypatch):
    hdf5_look._found.clear()
    monkeypatch.setattr(sys, "executable", str(path.with_name("no python")))
    assert load_dataset(path).fingerprint == toy.fingerprint


def test_ctrl_c_is_heard_at_once_while_a_file_is_looked_at(path, monkeypatch):
    act_instead(monkeypatch, "import time; time.sleep(60)")
    interrupt = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    start = time.perf_counter()
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        load_dataset(path)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("error", [KeyError, OSError, RuntimeError, AttributeError])
def test_whether_a_file_is_a_bank_is_answered_whatever_error_h5py_has(path, monkeypatch, error):
    def damaged(path):
        raise error("Unable to synchronously open object (bad object header)")

    monkeypatch.setattr(hdf5, "open_read", damaged)
    assert not FeatureBank.is_bank(path)
    with pytest.raises(InputError, match=r"no readable \.h5 file \(\w+: .*bad object header"):
        load_dataset(path)


def test_a_file_is_looked_at_once_and_ones_own_not_at_all(toy, path, monkeypatch):
    looks = []
    monkeypatch.setattr(hdf5_look, "_trouble", lambda path: looks.append(path) or "")
    load_dataset(path)
    assert looks == [], "it was written by this process"
    with h5py.File(path, "r+") as file:
        file["labels"][0] = 1
    assert cli.main(["inspect", str(path)]) == 0
    load_dataset(path)
    assert looks == [path], "it has changed since"
    write_bank(toy, path.with_name("bank.h5"))
    assert cli.main(["inspect", str(path.with_name("bank.h5"))]) == 0
    assert looks == [path]


# Disks.


CROWDED = """
import os, resource, sys
from fgen import cli
target = sys.argv[1]
for limit in (0, 100, 1000, 3000, 6000, 9000, 20000, 99000, 1 << 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print(cli.main(["convert", "emoji", target]), os.listdir(os.path.dirname(target)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(cli.main(["convert", "emoji", target]))
"""


def test_where_a_data_set_has_no_room_there_is_one_message_and_nothing_left(tmp_path):
    target = tmp_path / "x.h5"
    command = [sys.executable, "-c", CROWDED, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.stderr.splitlines() == [f"fgen: {target} can't be written (File too large)."] * 9
    assert done.stdout.splitlines()[:9] == ["2 []"] * 9
    assert done.stdout.splitlines()[-1] == "0"
    assert load_dataset(target).fingerprint == load_dataset("emoji").fingerprint


@pytest.mark.parametrize(("call", "at"), [("posix_fallocate", 1), ("pwrite", 1), ("pwrite", 2), ("fsync", 2)])
def test_a_disk_that_is_full_while_a_data_set_is_written_is_one_message(toy, tmp_path, monkeypatch, capsys, call, at):
    original, calls = getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(28, os.strerror(28))
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        assert cli.main(["convert", "toy", str(tmp_path / "x.h5")]) == 2
    assert capsys.readouterr().err == f"fgen: {tmp_path / 'x.h5'} can't be written (No space left on device).\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("door", ["h5", "npy", "mat"])
def test_a_features_file_that_is_cut_while_it_is_mapped_is_told_of(toy, tmp_path, door):
    wide = ZSLDataset(np.ones((600, 400), np.float32), np.arange(600) % 6, toy.class_embeddings)
    if door == "npy":
        np.save(tmp_path / "x.npy", wide.features)
        features, path = read_features(tmp_path / "x.npy")[0], tmp_path / "x.npy"
    else:
        save_dataset(wide, tmp_path / ("x.h5" if door == "h5" else "pair"))
        path = tmp_path / ("x.h5" if door == "h5" else "pair/res101.mat")
        features = load_dataset(path).features
    os.truncate(path, 500_000)
    with pytest.raises(InputError, match="has become shorter while it was read"):
        read_rows(features, np.arange(500, 600))
    with pytest.raises(InputError, match="has become shorter while it was read"):
        list(iter_blocks(features))


def test_a_features_file_may_be_replaced_while_it_is_mapped(toy, path):
    data = load_dataset(path)
    save_dataset(make_toy(n_seen=2, n_unseen=1, rows_per_class=2, feature_dim=2), path, overwrite=True)
    assert np.array_equal(data.rows(np.arange(24)), toy.rows(np.arange(24)))
