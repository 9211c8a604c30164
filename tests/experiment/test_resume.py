"""Runs that are killed, stopped or started twice, through the shell door: what goes on ends as if nothing had been.

Commands are processes forked off a server that has imported fgen already; the last test starts the program itself.
"""

import errno
import importlib
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import count

import pytest

from fgen.cli import main
from fgen.config import dump_toml
from fgen.models.registry import make_model
from fgen.training import loop
from tests.conftest import THREADS, tiny

#: Those whose bytes come from products; in the others what counts is the order of files and messages.
numeric = pytest.mark.numeric

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["fgen.cli", "fgen.experiment.runner", "pytest", "torch._dynamo"])
SECONDS = 60

ONCE = {"cls_epochs": 1}
#: Two epochs of two steps, a checkpoint after each.
CONFIG = {
    "dataset": {"name": "toy"},
    "model": {"name": "clswgan", "hidden_dim": 16, "noise_dim": 4, "batch_size": 300, "lr": 0.01, "epochs": 2, **ONCE},
    "train": {"device": "cpu", "threads": THREADS, "checkpoint_every": 0.0},
    "bank": {"n_per_class": 20},
    "classifier": {"epochs": 3},
    "protocol": {"evaluations": 2, "calibrate": True, "seeds": [0]},
}


class Point:
    """The n-th call of a function, where a process sends itself a signal."""

    def __init__(self, function, call=1, number=signal.SIGKILL, after=False):
        self.function, self.call, self.number, self.after = function, call, number, after

    def arm(self):
        path, _, name = self.function.rpartition(".")
        try:
            owner = importlib.import_module(path)
        except ModuleNotFoundError:
            module, _, member = path.rpartition(".")
            owner = getattr(importlib.import_module(module), member)
        original, calls = getattr(owner, name), []

        def counted(*arguments, **options):
            calls.append(None)
            if len(calls) == self.call and not self.after:
                self.hit()
            result = original(*arguments, **options)
            if len(calls) == self.call and self.after:
                self.hit()
            return result

        setattr(owner, name, counted)

    def hit(self):
        os.kill(os.getpid(), self.number)

    def __repr__(self):
        return f"{self.function.rpartition('.')[2]}-{self.call}{'-after' if self.after else ''}"


def _enter(argv, output, point):
    """What the child does."""
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    if point is not None:
        point.arm()
    sys.exit(main(argv))


def fgen(*argv, output, point=None):
    """The exit code and the output of a command; a negative code is the signal that ended it."""
    process = PROCESSES.Process(target=_enter, args=([str(part) for part in argv], output, point))
    process.start()
    process.join(SECONDS)
    assert process.exitcode is not None, f"{argv} hangs"
    return process.exitcode, output.read_text()


def outcome(run):
    """All that must be the same after an interruption, by name."""
    names = ("model/*", "head/*", "head_zsl/*", "bank.h5", "predictions.npz", "choice.json", "metrics.csv")
    found = {path.relative_to(run): path.read_bytes() for name in names for path in run.glob(f"seeds/*/{name}")}
    result = json.loads((run / "result.json").read_text())
    assert len(found) == len(result["seeds"]) * 10
    return found | {name: result[name] for name in ("scores", "uncalibrated", "accuracy", "choice", "dataset")}


def assert_same(run, expected):
    found = outcome(run)
    assert {str(name) for name in expected if found.get(name) != expected[name]} == set()
    assert found.keys() == expected.keys()
    leftovers = [entry.name for entry in run.rglob("*") if entry.suffix in (".partial", ".old", ".journal")]
    assert leftovers == []


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(dump_toml(CONFIG))
    return path


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    """What a run that nothing disturbs leaves."""
    folder = tmp_path_factory.mktemp("unbroken")
    code, text = fgen("run", config, "--out", folder / "run", output=folder / "output")
    assert code == 0, text
    return outcome(folder / "run")


def interrupted(config, folder, point, unbroken):
    """Interrupt a run at the point, go on, compare; returns the first part's exit code and output."""
    run = folder / "run"
    code, text = fgen("run", config, "--out", run, output=folder / "first", point=point)
    assert not (run / "result.json").exists() or code == 0
    if code != 0:
        again, message = fgen("run", config, "--out", run, "--resume", output=folder / "second")
        assert again == 0, message
    assert_same(run, unbroken)
    return code, text


@numeric
def test_two_unbroken_runs_are_the_same(config, unbroken, tmp_path):
    time.sleep(1.1)  # times of day, in seconds, would show
    assert interrupted(config, tmp_path, None, unbroken)[0] == 0


# Kills.


class Copies:
    """Copies of a run's folder before each of its commits: what a process that is killed there leaves behind."""

    def __init__(self, run, folder):
        self.run, self.folder = run, folder

    def arm(self):
        replace, numbers = os.replace, count(1)

        def copied_before(*arguments, **options):
            shutil.copytree(self.run, self.folder / str(next(numbers)))
            return replace(*arguments, **options)

        os.replace = copied_before


@pytest.mark.slow
def test_a_run_killed_before_any_of_its_commits_goes_on_to_the_same_bytes(config, unbroken, tmp_path):
    """Every file that others see appears by ``os.replace``: checkpoints, the choice, the model, the bank, heads, ..."""
    run, copies = tmp_path / "run", tmp_path / "copies"
    assert fgen("run", config, "--out", run, output=tmp_path / "first", point=Copies(run, copies))[0] == 0
    assert_same(run, unbroken)
    numbers = {int(copy.name) for copy in copies.iterdir()} - {4, 8, 9}  # checkpoints as 3 and 7 are
    assert len(numbers) > 15
    for number in sorted(numbers):
        code, text = fgen("run", config, "--out", copies / str(number), "--resume", output=tmp_path / "again")
        assert code == 0, text
        assert_same(copies / str(number), unbroken)


#: Between commits: at the first step, in the middle of an epoch, in an evaluation, in the final training, in the bank,
#: after everything.
MOMENTS = [
    Point("fgen.training.loop.train_step", 1),
    Point("fgen.training.loop.train_step", 2, after=True),
    Point("fgen.experiment.selection.synthetic_rows", 2),
    Point("fgen.training.loop.train_step", 7),
    Point("fgen.data.bank_writer.BankWriter.write", 3, after=True),
    Point("fgen.experiment.runner.describe", 1),
]


@numeric
@pytest.mark.parametrize("point", MOMENTS, ids=repr)
def test_a_run_killed_at_work_goes_on_to_the_same_bytes(config, unbroken, tmp_path, point):
    assert interrupted(config, tmp_path, point, unbroken)[0] == -signal.SIGKILL


@numeric
def test_a_run_killed_over_and_over_goes_on_to_the_same_bytes(config, unbroken, tmp_path):
    run, codes = tmp_path / "run", []
    points = [
        Point("fgen.training.loop.train_step", 2),
        Point("fgen.training.loop.train_step", 2),
        Point("fgen.training.loop.train_step", 5, after=True),
        Point("fgen.data.bank_writer.BankWriter.write", 3),
        Point("fgen.data.bank_writer.BankWriter.write", 2),
        Point("fgen.experiment.protocol.write_predictions", 1),
    ]
    for point in points:
        codes.append(fgen("run", config, "--out", run, "--resume", output=tmp_path / "output", point=point)[0])
    assert codes == [-signal.SIGKILL] * len(points)
    assert fgen("run", config, "--out", run, "--resume", output=tmp_path / "output")[0] == 0
    assert_same(run, unbroken)


def test_what_is_finished_is_not_done_again(config, tmp_path):
    run, options = tmp_path / "run", ["--set", "protocol.seeds=[0, 1]"]

    def go_on(function, call):
        point = Point(function, call)
        return fgen("run", config, "--out", run, *options, "--resume", output=tmp_path / "output", point=point)[0]

    assert go_on("fgen.data.bank_writer.BankWriter.write", 3) == -signal.SIGKILL
    model = run / "seeds" / "0" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    assert go_on("fgen.experiment.protocol.write_predictions", 2) == -signal.SIGKILL
    assert go_on("fgen.training.loop.train_step", 1) == 0
    assert model.stat().st_mtime_ns == before


def test_a_killed_bank_is_not_begun_again(config, tmp_path):
    run, writer = tmp_path / "run", "fgen.data.bank_writer.BankWriter.write"
    options = [config, "--out", run, "--resume"]
    assert fgen("run", *options, output=tmp_path / "output", point=Point(writer, 4))[0] == -signal.SIGKILL
    # Three of the toy world's five unseen classes are there.
    assert fgen("run", *options, output=tmp_path / "output", point=Point(writer, 3))[0] == 0


def test_a_finished_run_resumes_to_itself(config, unbroken, tmp_path):
    interrupted(config, tmp_path, None, unbroken)
    assert fgen("run", config, "--out", tmp_path / "run", "--resume", output=tmp_path / "output")[0] == 0
    assert_same(tmp_path / "run", unbroken)


def same_models(run, other, seeds="0"):
    for seed in seeds:
        for name in ("model/model.safetensors", "model/model.json", "metrics.csv"):
            assert (run / "seeds" / seed / name).read_bytes() == (other / "seeds" / seed / name).read_bytes(), name
    return True


@numeric
def test_training_alone_goes_on_to_the_same_models(config, tmp_path):
    def train(out, *options, point=None):
        options = ["--out", tmp_path / out, "--set", "protocol.seeds=[0, 1]", *options]
        return fgen("train", config, *options, output=tmp_path / "output", point=point)

    assert train("whole")[0] == 0
    assert train("cut", point=Point("fgen.training.loop.train_step", 3))[0] == -signal.SIGKILL
    code, text = train("cut", "--resume", point=Point("fgen.training.loop.train_step", 4, signal.SIGINT))
    assert code == 130, text
    assert train("cut", "--resume")[0] == 0
    assert same_models(tmp_path / "cut", tmp_path / "whole", seeds="01")


def test_a_damaged_checkpoint_is_named_and_deleting_it_helps(config, unbroken, tmp_path):
    run = tmp_path / "run"
    fgen("run", config, "--out", run, output=tmp_path / "output", point=Point("fgen.training.loop.train_step", 3))
    checkpoint = run / "seeds" / "0" / "checkpoint" / "selection.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    code, text = fgen("run", config, "--out", run, "--resume", output=tmp_path / "output")
    assert code == 2
    assert re.search(rf"fgen: {checkpoint} can't be resumed from \(.*\).*Delete it to start this run anew", text)
    checkpoint.unlink()
    assert fgen("run", config, "--out", run, "--resume", output=tmp_path / "output")[0] == 0
    assert_same(run, unbroken)


# Signals.


def resume_command(text):
    """The command that a message names, without the program's name."""
    (command,) = re.findall(r"^fgen: stopped.* [gG]o on with: fgen (.*)$", text, re.MULTILINE)
    return shlex.split(command)


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 2), (signal.SIGHUP, 3), *((signal.SIGINT, step) for step in (1, 4, 8))]
)
def test_a_signal_at_any_training_step_stops_with_a_checkpoint(config, unbroken, tmp_path, number, step):
    """Steps 1 to 4 are the selection's, the others the final training's."""
    run = tmp_path / "a folder"
    point = Point("fgen.training.loop.train_step", step, number)
    code, text = fgen("run", config, "--out", run, output=tmp_path / "output", point=point)
    assert code == 128 + number, text
    phase, done = ("selection", step) if step <= 4 else ("final", step - 4)
    assert f"fgen: stopped after step {done}; a checkpoint was written. Go on with: fgen run" in text
    assert (run / "seeds" / "0" / "checkpoint" / f"{phase}.safetensors").exists()
    assert "Traceback" not in text
    command = resume_command(text)
    assert command[-1] == "--resume"
    code, text = fgen(*command, output=tmp_path / "output")
    assert code == 0, text
    assert_same(run, unbroken)


@pytest.mark.parametrize(
    "function",
    [
        "fgen.models.clswgan.CLSWGAN.pretrain",
        "fgen.experiment.protocol.SeedRun.fill_bank",
        "fgen.data.bank_writer.BankWriter.write",
    ],
)
def test_ctrl_c_at_other_work_names_the_command_that_goes_on(config, unbroken, tmp_path, function):
    point = Point(function, 1, signal.SIGINT)
    code, text = fgen("run", config, "--out", tmp_path / "run", output=tmp_path / "output", point=point)
    assert code == 130
    assert "Traceback" not in text
    assert "What was finished is kept" in text
    assert fgen(*resume_command(text), output=tmp_path / "output")[0] == 0
    assert_same(tmp_path / "run", unbroken)


def test_a_second_signal_is_obeyed_at_once(config, unbroken, tmp_path):
    """A step that hangs: the first Ctrl-C waits for it, the second doesn't."""
    point = Point("fgen.experiment.steps.train_heads", 1, signal.SIGINT)  # within training, at an epoch's end
    run = tmp_path / "run"
    code, text = fgen("run", config, "--out", run, output=tmp_path / "output", point=TwoSignals(point))
    assert code == 130
    assert "stopped. What was finished is kept" in text
    assert "a checkpoint was written" not in text
    assert fgen(*resume_command(text), output=tmp_path / "output")[0] == 0
    assert_same(run, unbroken)


class TwoSignals:
    """Sends the point's signal, and once more before anything else happens."""

    def __init__(self, point):
        self.point = point

    def arm(self):
        kill = os.kill

        def twice(process, number):
            kill(process, number)
            kill(process, number)

        os.kill = twice
        self.point.arm()


def test_without_a_checkpoint_ctrl_c_is_pythons_own(world, monkeypatch):
    point = Point("fgen.training.loop.train_step", 2, signal.SIGINT)
    monkeypatch.setattr(loop, "train_step", loop.train_step)  # so that it is put back
    point.arm()
    data, handler = world.dataset, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        make_model("clswgan", **tiny("clswgan")).fit(*data.split("trainval"), data.class_embeddings, seed=0)
    assert signal.getsignal(signal.SIGINT) is handler


# Full disks.


class FullDisk(Point):
    """The n-th call of a function finds no room."""

    def hit(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", [3, 14, 20])
def test_a_full_disk_stops_a_run_with_one_message_and_it_goes_on(config, unbroken, tmp_path, call):
    code, text = interrupted(config, tmp_path, FullDisk("os.replace", call), unbroken)
    assert code == 2
    complaints = [line for line in text.splitlines() if line.startswith("fgen: ")]
    assert complaints == text.splitlines()[-1:]
    assert re.search(r"the disk is full\. What was finished is kept; mend that and go on with: fgen run", complaints[0])


# Starting again.


def test_a_folder_in_use_is_refused_unless_resumed_with_the_same_config(config, unbroken, tmp_path):
    run = tmp_path / "run"
    point = Point("fgen.training.loop.train_step", 5)
    assert fgen("run", config, "--out", run, output=tmp_path / "output", point=point)[0] == -signal.SIGKILL
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def refused(*options):
        code, text = fgen("run", config, "--out", run, *options, output=tmp_path / "output")
        assert code == 2
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        return text

    assert re.search(r"^fgen: .*run already holds a run; .*Add --resume", refused(), re.MULTILINE)
    for other in ("model.lr=0.02", "bank.n_per_class=21", "protocol.seeds=[1]", "dataset.embedding_scale=2.0"):
        message = refused("--resume", "--set", other)
        assert re.search(r"^fgen: .*run was started with another config; .*config.toml", message, re.MULTILINE), other
        assert f"{other.partition('=')[0]} was " in message
    assert fgen("run", config, "--out", run, "--resume", output=tmp_path / "output")[0] == 0
    assert_same(run, unbroken)
    often = ("--set", "train.checkpoint_every=0.5")  # decides nothing
    assert fgen("run", config, "--out", run, "--resume", *often, output=tmp_path / "output")[0] == 0


@numeric
def test_seeds_are_added_to_a_finished_run(config, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    more = ["--set", "protocol.seeds=[0, 4]"]
    assert fgen("run", config, "--out", run, output=tmp_path / "output")[0] == 0
    assert fgen("run", config, "--out", run, "--resume", *more, output=tmp_path / "output")[0] == 0
    assert fgen("run", config, "--out", whole, *more, output=tmp_path / "output")[0] == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, whole)]
    assert results[0]["seeds"] == [0, 4]
    assert results[0]["scores"] == results[1]["scores"]
    assert same_models(run, whole, seeds="04")
    for name in ("seeds/0/bank.h5", "seeds/4/bank.h5", "config.toml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), "as if all seeds had been there from the start"
    code, text = fgen("run", config, "--out", run, "--resume", output=tmp_path / "output")
    assert code == 2, "a seed would be forgotten"
    assert "the same seeds, or more after them" in text


def test_a_folder_of_something_else_is_refused(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    for name in ("mine", "file"):
        for options in ([], ["--resume"]):
            code, text = fgen("run", config, "--out", tmp_path / name, *options, output=tmp_path / "output")
            assert code == 2
            assert "no run folder" in text


# The program itself.


@pytest.mark.slow
def test_ctrl_c_from_outside_stops_the_program_and_its_message_goes_on(config, tmp_path):
    options = ["--set", "model.epochs=80", "--set", "train.checkpoint_every=0.05"]
    assert fgen("train", config, "--out", tmp_path / "whole", *options, output=tmp_path / "output")[0] == 0
    checkpoint = tmp_path / "cut" / "seeds" / "0" / "checkpoint" / "final.safetensors"
    command = [sys.executable, "-m", "fgen.cli", "train", config, "--out", tmp_path / "cut", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + SECONDS
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130, text
    assert "a checkpoint was written" in text
    assert not (tmp_path / "cut" / "seeds" / "0" / "model").exists()
    assert fgen(*resume_command(text), output=tmp_path / "output")[0] == 0
    assert same_models(tmp_path / "cut", tmp_path / "whole")
