"""Damaged and hostile files: every one is read or refused in one sentence, quickly, and nothing else happens.

``FGEN_FUZZ_CASES`` (default 300) and ``FGEN_FUZZ_SEED`` (default 0) widen the hunt; a failure names its case,
and the file it used lies in the folder the message names.
"""

import os
import shutil
import signal
import struct
import time
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import scipy.io

from fgen import cli
from fgen.data.bank import FeatureBank
from fgen.data.files import save_dataset
from fgen.data.tables import read_embeddings_csv, read_features
from fgen.data.toy import make_toy
from fgen.encoders.image import read_image
from fgen.errors import InputError
from tests.data.test_xlsa17 import append, element, matlab_object, matrix_element

CASES = int(os.environ.get("FGEN_FUZZ_CASES", "300"))
SEED = int(os.environ.get("FGEN_FUZZ_SEED", "0"))
SECONDS = 5
CONFIG = """[dataset]
name = "toy"
[model]
name = "clswgan"
epochs = 3
lr = 1e-4
[train]
device = "cpu"
[protocol]
name = "honest"
setting = "gzsl"
seeds = [0, 1]
"""


#: Doors below the shell's, where these two need a run folder.
DOORS = {"read-embeddings": read_embeddings_csv, "read-features": read_features, "read-image": read_image}


def attempt(command):
    """The exit code of a command."""
    if command[0] not in DOORS:
        return cli.main(command)
    try:
        DOORS[command[0]](*command[1:])
    except InputError:
        return 2
    return 0


class Hung(BaseException):
    """Out of time; no Exception, so that no handler of the code under test takes it for a damaged file."""


@contextmanager
def limited():
    def stop(*_):
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(folder, command, what):
    """Exit 0 or 2, in time, and every file in the folder is what and where it was."""
    before, start = contents(folder), time.perf_counter()
    try:
        with limited():
            code = attempt(command)
    except (Exception, Hung) as error:
        pytest.fail(f"{what}: {command} let {type(error).__name__} escape: {error}")
    assert code in (0, 2), f"{what}: {command} ended with {code}"
    assert time.perf_counter() - start < SECONDS, f"{what}: {command}"
    assert contents(folder) == before, f"{what}: {command} changed its folder"
    return code


# Damage to bytes: each takes a generator and a bytearray and changes it.


def truncate(draw, data):
    del data[int(draw.integers(len(data))) :]


def flip_bits(draw, data):
    for _ in range(int(draw.integers(1, 20))):
        data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))


def flip_early_bits(draw, data):
    """Headers and tags lie at the front and are few beside the numbers."""
    for _ in range(int(draw.integers(1, 6))):
        data[int(draw.integers(min(len(data), 2048)))] ^= 1 << int(draw.integers(8))


def fill_run(draw, data):
    start = int(draw.integers(len(data)))
    stop = min(len(data), start + int(draw.integers(1, 300)))
    data[start:stop] = bytes([int(draw.choice([0, 255, 32]))]) * (stop - start)


def splice(draw, data):
    start, stop = sorted(int(at) for at in draw.integers(len(data), size=2))
    piece, at = bytes(data[start : min(stop, start + 500)]), int(draw.integers(len(data)))
    data[at : at + len(piece) * int(draw.integers(2))] = piece


def cut_out(draw, data):
    start = int(draw.integers(len(data)))
    del data[start : start + int(draw.integers(1, 200))]


def claim_a_giant(draw, data):
    """A size field becomes huge: sizes are aligned integers of four or eight bytes with a small value."""
    aligned = [at for at in range(0, len(data) - 8, 4) if 0 < struct.unpack_from("<I", data, at)[0] < 5000]
    for at in draw.choice(aligned, size=int(draw.integers(1, 4))) if aligned else ():
        struct.pack_into("<I", data, int(at), int(draw.choice([0, 2**16, 2**30, 2**31 - 1, 2**32 - 1])))


def append_noise(draw, data):
    data += draw.bytes(int(draw.integers(1, 300)))


def replace_all(draw, data):
    data[:] = draw.bytes(int(draw.integers(0, 600)))


DAMAGES = (
    truncate,
    flip_bits,
    flip_early_bits,
    flip_early_bits,
    fill_run,
    splice,
    cut_out,
    claim_a_giant,
    claim_a_giant,
    append_noise,
    replace_all,
)


# Files that are whole and hold nonsense: each changes the variables of a .mat pair, or the arrays of an .npz.


def other_value(draw, array):
    values = [0, -1, 1.5, 1e9, 1e300, -1e300, 2**63, np.nan, np.inf, -np.inf]
    changed = np.array(array).astype(draw.choice(["f8", "f8", "i8", "u8", "f4"]) if array.dtype.kind != "O" else "O")
    if changed.size:
        with np.errstate(all="ignore"):
            changed.flat[int(draw.integers(changed.size))] = values[int(draw.integers(len(values)))]
    return changed


def other_shape(draw, array):
    array = np.asarray(array)
    ways = (
        array.T,
        array[:-1],
        array[:0],
        array[..., None],
        array.reshape(-1),
        np.concatenate([array, array]),
        array[:1],
    )
    return ways[int(draw.integers(len(ways)))]


def other_type(draw, array):
    array = np.asarray(array)
    kinds = ("c16", "?", "S3", "U3", "O", "f2", "i1", "u8")
    with np.errstate(all="ignore"):
        return array.astype(kinds[int(draw.integers(len(kinds)))])


def gone(draw, array):
    return None


def nonsense(draw, variables):
    """A copy of ``variables`` with one of them changed."""
    key = str(draw.choice(sorted(variables)))
    change = (other_value, other_shape, other_type, gone)[int(draw.integers(4))]
    try:
        value = change(draw, variables[key])
    except (ValueError, TypeError, OverflowError):
        value = None
    changed = {name: array for name, array in variables.items() if name != key}
    return (changed if value is None else changed | {key: value}), f"{key} {change.__name__}"


def foreign_pair(folder):
    """The pair with what others write: MATLAB's objects, names as a char matrix, R's vectors of one dimension."""
    shutil.copytree(folder / "pair", folder / "foreign")
    names, labels = [str(name) for name in range(6)], np.repeat(np.arange(1.0, 7), 4)
    rows = scipy.io.loadmat(folder / "pair" / "res101.mat")
    classes = scipy.io.loadmat(folder / "pair" / "att_splits.mat") | {"allclasses_names": names}
    scipy.io.savemat(folder / "foreign" / "res101.mat", {"features": rows["features"]})
    scipy.io.savemat(folder / "foreign" / "att_splits.mat", {k: v for k, v in classes.items() if k[0] != "_"})
    vector = [element(5, struct.pack("<i", len(labels))), element(1, b"labels"), element(9, labels.tobytes())]
    append(folder / "foreign" / "res101.mat", matlab_object("net", "string"), matrix_element(6, *vector))
    append(folder / "foreign" / "att_splits.mat", matlab_object("att_names", "table"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One small file of each kind."""
    folder = tmp_path_factory.mktemp("originals")
    toy = make_toy(n_seen=4, n_unseen=2, rows_per_class=4, feature_dim=3, embedding_dim=2)
    for name in ("x.h5", "x.npz", "pair"):
        save_dataset(toy, folder / name)
    with h5py.File(folder / "x.h5") as whole, h5py.File(folder / "chunked.h5", "w") as chunked:
        for key, value in whole.attrs.items():
            chunked.attrs[key] = value
        for key in whole:
            if key != "features":
                whole.copy(key, chunked)
        chunked.create_dataset("features", data=whole["features"][...], compression="gzip", chunks=(5, 2))
    with np.load(folder / "x.npz") as arrays:
        np.savez_compressed(folder / "packed.npz", **arrays)
    (folder / "packed").mkdir()
    (folder / "hdf5").mkdir()
    for name in ("res101.mat", "att_splits.mat"):
        variables = {k: v for k, v in scipy.io.loadmat(folder / "pair" / name).items() if not k.startswith("__")}
        scipy.io.savemat(folder / "packed" / name, variables, do_compression=True)
        with h5py.File(folder / "hdf5" / name, "w", userblock_size=512) as file:
            for key, value in variables.items():
                if key == "allclasses_names":
                    texts = [np.frombuffer(str(v[0]).encode("utf-16-le"), "<u2")[:, None] for v in value[:, 0]]
                    refs = [file.create_dataset(f"#refs#/{at}", data=text).ref for at, text in enumerate(texts)]
                    file.create_dataset(key, data=np.array([refs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
                else:
                    file[key] = value.T
    foreign_pair(folder)
    plan = {"counts": np.full(6, 4), "feature_dim": 3, "seen": np.arange(6) < 4, "seed": 0, "config": {"a": 1}}
    with FeatureBank.create(
        folder / "bank.h5", class_names=toy.class_names, class_embeddings=toy.class_embeddings, **plan
    ) as bank:
        for label in range(6):
            bank.write(label, toy.features[toy.labels == label])
    np.save(folder / "x.npy", toy.features)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(toy.class_names, toy.class_embeddings, strict=True)]
    (folder / "x.csv").write_text("name,a,b\n" + "\n".join(rows))
    (folder / "x.toml").write_text(CONFIG)
    return folder


SUBJECTS = {
    "pair/res101.mat": "inspect",
    "pair/att_splits.mat": "inspect",
    "packed/res101.mat": "inspect",
    "packed/att_splits.mat": "inspect",
    "hdf5/res101.mat": "inspect",
    "hdf5/att_splits.mat": "inspect",
    "x.h5": "inspect",
    "chunked.h5": "inspect",
    "bank.h5": "inspect",
    "x.npz": "inspect",
    "packed.npz": "inspect",
    "x.npy": "read-features",
    "x.csv": "read-embeddings",
    "x.toml": "inspect",
    "foreign/res101.mat": "inspect",
    "foreign/att_splits.mat": "inspect",
}


def place(folder, subject, data, originals):
    """A folder with the damaged file, and beside it what it needs; what the command is pointed at."""
    target = folder / subject
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".mat":
        for path in (originals / subject).parent.iterdir():
            (target.parent / path.name).write_bytes(path.read_bytes())
    target.write_bytes(data)
    return target.parent if target.suffix == ".mat" else target


@pytest.mark.parametrize("subject", SUBJECTS)
def test_whole_files_are_accepted(originals, tmp_path, subject):
    """Or the tests below would test nothing."""
    target = place(tmp_path, subject, (originals / subject).read_bytes(), originals)
    assert check(tmp_path, [SUBJECTS[subject], str(target)], "whole") == 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_damaged_bytes_are_read_or_refused(originals, tmp_path, subject):
    original = (originals / subject).read_bytes()
    n_cases = max(1, CASES * 3 // 4 // len(SUBJECTS))
    for case in range(n_cases):
        draw = np.random.default_rng([SEED, list(SUBJECTS).index(subject), case])
        data = bytearray(original)
        names = []
        for _ in range(int(draw.choice([1, 1, 2, 3]))):
            damage = DAMAGES[int(draw.integers(len(DAMAGES)))]
            if data:
                damage(draw, data)
            names.append(damage.__name__)
        folder = tmp_path / str(case)
        target = place(folder, subject, bytes(data), originals)
        check(folder, [SUBJECTS[subject], str(target)], f"seed {SEED}, case {case}, {', '.join(names)}")


@pytest.mark.parametrize("form", ["npz", "mat"])
def test_nonsense_in_whole_files_is_read_or_refused(originals, tmp_path, form):
    for case in range(max(1, CASES // 8)):
        draw = np.random.default_rng([SEED, 100 + (form == "mat"), case])
        folder = tmp_path / str(case)
        folder.mkdir()
        if form == "npz":
            with np.load(originals / "x.npz") as arrays:
                variables, what = nonsense(draw, dict(arrays))
            target = folder / "x.npz"
            np.savez(target, **variables)
        else:
            target = folder
            name = ("res101.mat", "att_splits.mat")[int(draw.integers(2))]
            for path in (originals / "pair").iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
            stored = {k: v for k, v in scipy.io.loadmat(folder / name).items() if not k.startswith("__")}
            variables, what = nonsense(draw, stored)
            try:
                scipy.io.savemat(folder / name, variables)
            except (TypeError, ValueError):  # SciPy itself won't write it
                continue
        check(folder, ["inspect", str(target)], f"seed {SEED}, case {case}, {what}")


@pytest.mark.parametrize("subject", ["x.h5", "x.npz", "packed/res101.mat"])
def test_a_refused_conversion_leaves_nothing_behind(originals, tmp_path, subject):
    data = bytearray((originals / subject).read_bytes())
    del data[len(data) * 3 // 4 :]
    target = place(tmp_path, subject, bytes(data), originals)
    for name in ("new.h5", "new.npz", "new"):
        assert check(tmp_path, ["convert", str(target), str(tmp_path / name)], subject) == 2
    whole = place(tmp_path / "whole", subject, (originals / subject).read_bytes(), originals)
    assert attempt(["convert", str(whole), str(tmp_path / "new.h5")]) == 0
    assert check(tmp_path, ["convert", str(whole), str(tmp_path / "new.h5")], "the target exists") == 2
    assert check(tmp_path, ["convert", str(whole), str(tmp_path / "new.csv")], "an unknown form") == 2
    assert check(tmp_path, ["convert", str(whole), str(tmp_path / "no" / "new.h5")], "no such folder") == 2


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "x.h5", "--dataset", "x.h5"],
        ["evaluate", "bank.h5", "--dataset", "bank.h5"],
        ["evaluate", "bank.h5", "--dataset", "toy"],
        ["evaluate", "bank.h5", "--dataset", "emoji"],
        ["evaluate", "bank.h5", "--dataset", "x.npz", "--run", "pair"],
        ["evaluate", "bank.h5", "--dataset", "x.npz", "--classifier", "oracle"],
        ["evaluate", "cut.h5", "--dataset", "x.npz"],
        ["convert", "bank.h5", "new.npz"],
        ["convert", "x.toml", "new.npz"],
        ["run", "x.h5"],
        ["run", "x.csv"],
        ["run", "pair"],
        ["run", "x.toml", "--set", "model.name=clswgann"],
        ["run", "x.toml", "--set", "model.lr=fast"],
        ["run", "x.toml", "--set", "dataset.name=zoo"],
        ["run", "x.toml", "--set", "dataset.path=pair"],
        ["inspect", "pair/res101.mat/.."],
    ],
    ids=" ".join,
)
def test_parts_that_do_not_belong_together_are_refused(originals, tmp_path, monkeypatch, command):
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / "bank.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    monkeypatch.chdir(tmp_path)
    assert check(tmp_path, command, "what doesn't belong together") == 2


ODD_PATHS = ["", ".", "/", "/dev/zero", "/dev/null", "nowhere", "x" * 5000, "a\nb", "a\0b", "~", "x.h5/y", "toy/"]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_sources_are_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.h5").touch()
    assert check(tmp_path, ["inspect", path], "odd source") == 2
    assert check(tmp_path, ["convert", path, "new.h5"], "odd source") == 2


@pytest.mark.parametrize("path", ["", "/dev/null", "x.h5/y", "no/such/folder", "new.mat", "x" * 300])
def test_odd_targets_are_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.h5").touch()
    assert check(tmp_path, ["convert", "toy", path], "odd target") == 2


ESC = "\x1b[31m"


def named_arrays(folder, **more):
    data = make_toy(n_seen=4, n_unseen=2, rows_per_class=4, feature_dim=3, embedding_dim=2)
    arrays = {"features": data.features, "labels": data.labels, "class_embeddings": data.class_embeddings}
    splits = {f"splits.{name}": rows for name, rows in data.splits.items()}
    np.savez(folder / "x.npz", **arrays | splits | more)


def an_array_that_is_not_read(folder):
    named_arrays(folder, **{f"a{ESC}": 1})
    return ["convert", "x.npz", "y.npz"]


def arrays_none_of_which_is_wanted(folder):
    np.savez(folder / "x.npz", **{f"a{ESC}": 1})
    return ["inspect", "x.npz"]


def arrays_without_features_to_predict_on(folder):
    np.savez(folder / "x.npz", **{f"a{ESC}": 1})
    return ["read-features", "x.npz"]


def a_data_set(folder):
    named_arrays(folder, name=f"a{ESC}\nb")
    return ["inspect", "x.npz"]


def a_data_set_that_is_trained_on(folder):
    named_arrays(folder, name=f"a{ESC}")
    (folder / "x.toml").write_text('[dataset]\npath = "x.npz"\n[model]\nname = "ridge"\n')
    return ["run", "x.toml"]


def a_kind_of_embedding(folder):
    named_arrays(folder, **{f"class_embeddings.a{ESC}": np.eye(6)})
    return ["convert", "x.npz", "y.npz"]


def a_member_of_an_h5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file[f"a{ESC}"] = 1
    return ["read-features", "x.h5"]


def external_storage(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("features", (2, 2), "f4", external=[(f"a{ESC}", 0, 16)])
    return ["read-features", "x.h5"]


def a_variable_of_matlab(folder):
    for name in ("res101.mat", "att_splits.mat"):
        scipy.io.savemat(folder / name, {f"a{ESC}": 1, "features": np.eye(2), "labels": [[1], [2]]})
    return ["inspect", "."]


def a_path(folder):
    (folder / f"a{ESC}.npz").write_bytes(b"")
    return ["inspect", f"a{ESC}.npz"]


def a_picture(folder):
    pytest.importorskip("PIL")
    (folder / f"a{ESC}.png").write_bytes(b"no picture")
    return ["read-image", f"a{ESC}.png"]


@pytest.mark.parametrize(
    "named",
    [
        an_array_that_is_not_read,
        arrays_none_of_which_is_wanted,
        arrays_without_features_to_predict_on,
        a_data_set,
        a_data_set_that_is_trained_on,
        a_kind_of_embedding,
        a_member_of_an_h5,
        external_storage,
        a_variable_of_matlab,
        a_path,
        a_picture,
    ],
    ids=lambda named: named.__name__,
)
def test_escape_sequences_of_foreign_names_are_shown_and_never_reach_the_terminal(tmp_path, monkeypatch, capsys, named):
    monkeypatch.chdir(tmp_path)
    command, *words = named(tmp_path)
    if command in DOORS:
        with pytest.raises(InputError) as error:
            DOORS[command](*words)
        printed = str(error.value)
    else:
        cli.main([command, *words])
        printed = "".join(capsys.readouterr())
    assert "\\x1b[31m" in printed
    assert "\x1b" not in printed


def test_letters_of_every_script_are_printed_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    named_arrays(tmp_path, name="зебра 縞馬 👩\u200d🔬 é")
    assert cli.main(["inspect", "x.npz"]) == 0
    assert "name: зебра 縞馬 👩\u200d🔬 é" in capsys.readouterr().out
