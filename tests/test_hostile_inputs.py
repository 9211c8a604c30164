"""Damaged and hostile files: every one is read or refused in one sentence, quickly, and nothing else happens.

What is read is what h5py, NumPy or SciPy read. ``FGEN_FUZZ_CASES`` (default 100) and ``FGEN_FUZZ_SEED`` (default 0)
widen the hunt; a failure names its case, and the file it used lies in the folder the message names.
"""

import importlib
import os
import shutil
import struct
from contextlib import suppress

import h5py
import numpy as np
import pytest
import scipy.io

from fgen import cli
from fgen.data.bank import FeatureBank
from fgen.data.files import load_dataset, save_dataset
from fgen.data.tables import read_embeddings_csv, read_features
from fgen.data.toy import make_toy
from fgen.encoders.image import read_image
from fgen.errors import InputError
from fgen.io import hdf5_look
from tests.data.test_xlsa17 import append, element, matlab_object, matrix_element
from tests.fuzz.array_files import change_mat, change_npy, change_npz
from tests.fuzz.damage import damage_bytes
from tests.fuzz.hdf5_files import change_hdf5
from tests.fuzz.limits import in_a_process
from tests.fuzz.readings import compared
from tests.fuzz.text_files import change_csv, change_json, change_toml

# What commands import when they need it: here once, and not in the process of each case.
for module in (
    "fgen.experiment.runner",
    "fgen.reports.inspection",
    "fgen.reports.run_report",
    "torch._dynamo",
    "matplotlib.backends.backend_agg",
):
    with suppress(ImportError):
        importlib.import_module(module)

CASES = int(os.environ.get("FGEN_FUZZ_CASES", "100"))
SEED = int(os.environ.get("FGEN_FUZZ_SEED", "0"))
#: Of the processor's time, so that a busy machine is no failure; a process that sleeps is ended after a minute.
SECONDS = 5
#: A report of a whole run draws its pictures for four or five seconds on a slow processor.
SECONDS_OF_A_REPORT = 20
MEMORY = 1 << 30
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
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
    except InputError as error:
        print(f"fgen: {error}")
        return 2
    return 0


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch):
    """A file that keeps HDF5 at work for ever is given up before this test's own limit."""
    monkeypatch.setattr(hdf5_look, "CPU_SECONDS", SECONDS // 2)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check(folder, command, what, *, goes_on=False):
    """Exit 0 or 2 with one message, within limits; every file in the folder is what and where it was.

    Args:
        goes_on: the command writes to the folder.
    """
    before = contents(folder)
    seconds = SECONDS_OF_A_REPORT if command[0] == "report" else SECONDS
    done = in_a_process(lambda: attempt(command), seconds)
    assert not done.trouble, f"{what}: {command} {done.trouble}"
    assert done.result in (0, 2), f"{what}: {command} ended with {done.result}"
    assert done.seconds < seconds, f"{what}: {command}"
    assert done.grown < MEMORY, f"{what}: {command} took {done.grown:,} bytes"
    assert b"\x1b" not in done.printed, f"{what}: {command} printed {done.printed!r}"
    messages = [line for line in done.printed.splitlines() if line.startswith(b"fgen: ")]
    assert len(messages) == done.result // 2, f"{what}: {command} printed {done.printed!r}"
    assert goes_on or contents(folder) == before, f"{what}: {command} changed its folder"
    return done.result


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


RUN = {
    "dataset": {"name": "toy"},
    "model": {"name": "clswgan", "hidden_dim": 8, "noise_dim": 2, "batch_size": 300, "epochs": 2},
    "train": {"device": "cpu", "threads": 1, "checkpoint_every": 0.0},
    "bank": {"n_per_class": 4},
    "classifier": {"epochs": 2},
    "protocol": {"evaluations": 1, "seeds": [0]},
}


def make_runs(folder):
    """A run folder, one that is trained to the half, and a saved classifier."""
    from fgen.config import dump_toml
    from fgen.estimators.zero_shot_classifier import ZeroShotClassifier

    (folder / "run.toml").write_text(dump_toml(RUN))
    assert cli.main(["run", str(folder / "run.toml"), "--out", str(folder / "run")]) == 0
    assert cli.main(["train", str(folder / "run.toml"), "--out", str(folder / "trained")]) == 0
    shutil.rmtree(folder / "trained/seeds/0/model")
    toy = load_dataset("toy")
    save_dataset(toy, folder / "run" / "x.h5")
    model = {"hidden_dim": 8, "noise_dim": 2, "steps": 2}
    classifier = ZeroShotClassifier(toy.class_embeddings, model=model, n_per_class=4, calibrate=False)
    classifier.fit(*toy.split("trainval")).save(folder / "classifier")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders that fgen itself has made, small ones."""
    folder = tmp_path_factory.mktemp("runs")
    made = in_a_process(lambda: make_runs(folder), 200)
    assert not made.trouble, f"{made.trouble} {made.printed!r}"
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
INSPECT, GENERATE = ["inspect", "run"], ["generate", "run", "--n-per-class", "2", "--out", "new.h5"]
PREDICT, REPORT = ["predict", "run", "run/x.h5", "--out", "new.csv"], ["report", "run", "--out", "new.html"]
RESUME, TRAIN = ["run", "run/config.toml", "--resume"], ["train", "run.toml", "--out", "trained", "--resume"]
#: What reads each file of a run folder or a saved classifier.
RUN_SUBJECTS = {
    "run/config.toml": (INSPECT, GENERATE, PREDICT),
    "run/result.json": (INSPECT, RESUME, REPORT),
    "run/seeds/0/choice.json": (INSPECT, RESUME, PREDICT),
    "run/seeds/0/timing.json": (RESUME,),
    "run/seeds/0/data.json": (RESUME,),
    "run/seeds/0/metrics.csv": (REPORT, RESUME),
    "run/seeds/0/predictions.npz": (REPORT, RESUME),
    "run/seeds/0/model/model.json": (["inspect", "run/seeds/0/model"], GENERATE, PREDICT),
    "run/seeds/0/model/model.safetensors": (["inspect", "run/seeds/0/model"], GENERATE),
    "run/seeds/0/head/head.json": (["inspect", "run/seeds/0/head"], PREDICT),
    "run/seeds/0/head/head.safetensors": (["inspect", "run/seeds/0/head"], PREDICT),
    "run/seeds/0/bank.h5": (["inspect", "run/seeds/0/bank.h5"], PREDICT, RESUME),
    "trained/seeds/0/checkpoint/final.safetensors": (TRAIN,),
    "classifier/classifier.json": (["inspect", "classifier"],),
    "classifier/model/model.json": (["inspect", "classifier"],),
    "classifier/head/head.json": (["inspect", "classifier"],),
}
#: What changes a file that stays whole, and how its contents are compared, if they are.
CHANGES = {
    "x.h5": (change_hdf5, ".h5"),
    "chunked.h5": (change_hdf5, ".h5"),
    "bank.h5": (change_hdf5, "bank"),
    "hdf5/res101.mat": (change_hdf5, "hdf5 .mat"),
    "hdf5/att_splits.mat": (change_hdf5, "hdf5 .mat"),
    "x.npz": (change_npz, ".npz"),
    "packed.npz": (change_npz, ".npz"),
    "x.npy": (change_npy, ".npy"),
    "pair/res101.mat": (change_mat, ".mat"),
    "pair/att_splits.mat": (change_mat, ".mat"),
    "x.csv": (change_csv, ".csv"),
    "x.toml": (change_toml, None),
}
#: As what a file's contents are compared.
FORMS = {subject: form for subject, (_, form) in CHANGES.items()}
FORMS |= {"packed/res101.mat": ".mat", "packed/att_splits.mat": ".mat"}
N_OF_BYTES = max(1, CASES // 2 // (len(SUBJECTS) + len(RUN_SUBJECTS)))
N_OF_CHANGES = max(1, CASES // 2 // (len(CHANGES) + len(RUN_SUBJECTS)))


def place(folder, subject, data, originals):
    """A folder with the damaged file, and beside it what it needs; what the command is pointed at."""
    target = folder / subject
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".mat":
        for path in (originals / subject).parent.iterdir():
            (target.parent / path.name).write_bytes(path.read_bytes())
    target.write_bytes(data)
    return target.parent if target.suffix == ".mat" else target


def try_file(folder, subject, change, originals, draw, what):
    """Change one file, have it read, and compare what is read of it."""
    target = place(folder, subject, (originals / subject).read_bytes(), originals)
    what = f"{what}, {change(draw, folder / subject)}, in {folder}"
    if check(folder, [SUBJECTS[subject], str(target)], what) == 0 and FORMS.get(subject):
        done = in_a_process(lambda: compared(FORMS[subject], target), SECONDS)
        if not done.trouble:  # the other library may end in any way
            assert done.result == "equal" or done.result.startswith("read by fgen alone"), f"{what}: {done.result}"


def try_run(folder, subject, change, runs, draw, what, monkeypatch):
    """Change one file of a run folder, and have it read by one of the commands that do."""
    shutil.copytree(runs, folder)
    what = f"{what}, {change(draw, folder / subject)}, in {folder}"
    command = RUN_SUBJECTS[subject][int(draw.integers(len(RUN_SUBJECTS[subject])))]
    monkeypatch.chdir(folder)
    check(folder, command, what, goes_on=command[0] != "inspect")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_whole_files_are_accepted(originals, tmp_path, subject):
    """Or the tests below would test nothing."""
    target = place(tmp_path, subject, (originals / subject).read_bytes(), originals)
    assert check(tmp_path, [SUBJECTS[subject], str(target)], "whole") == 0
    if FORMS.get(subject):
        assert compared(FORMS[subject], target) == "equal"


def test_whole_folders_are_accepted(runs, tmp_path, monkeypatch):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    commands = {" ".join(command): command for commands in RUN_SUBJECTS.values() for command in commands}
    for command in commands.values():
        assert check(tmp_path, command, "whole", goes_on=True) == 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_damaged_bytes_are_read_or_refused(originals, tmp_path, subject):
    for case in range(N_OF_BYTES):
        draw = np.random.default_rng([SEED, list(SUBJECTS).index(subject), case])
        try_file(tmp_path / str(case), subject, damage_bytes, originals, draw, f"seed {SEED}, case {case}")


@pytest.mark.parametrize("subject", CHANGES)
def test_odd_files_are_read_as_others_read_them_or_refused(originals, tmp_path, subject):
    for case in range(N_OF_CHANGES):
        draw = np.random.default_rng([SEED, 100 + list(CHANGES).index(subject), case])
        try_file(tmp_path / str(case), subject, CHANGES[subject][0], originals, draw, f"seed {SEED}, case {case}")


@pytest.mark.parametrize("subject", RUN_SUBJECTS)
@pytest.mark.parametrize("way", ["bytes", "whole"])
def test_damaged_parts_of_a_run_are_read_or_refused(runs, tmp_path, monkeypatch, way, subject):
    changes = {".json": change_json, ".toml": change_toml, ".csv": change_csv, ".npz": change_npz, ".h5": change_hdf5}
    change = damage_bytes if way == "bytes" else changes.get(os.path.splitext(subject)[1], damage_bytes)
    for case in range(N_OF_BYTES if way == "bytes" else N_OF_CHANGES):
        draw = np.random.default_rng([SEED, 200 + 100 * (way == "bytes") + list(RUN_SUBJECTS).index(subject), case])
        try_run(tmp_path / str(case), subject, change, runs, draw, f"seed {SEED}, case {case}", monkeypatch)


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
        ["run", "x.csv"],
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
