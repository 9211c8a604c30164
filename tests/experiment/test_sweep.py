"""Sweeps: the same bytes from one process and from several, of which one is killed; failures; what can't be meant."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fgen
from fgen.cli import main
from fgen.compute.device import blas_threads, threads_in_use
from fgen.config import dump_toml
from fgen.data.bank_spec import BankSpec
from fgen.errors import MissingExtra
from fgen.experiment import runner
from fgen.experiment import sweep as sweep_module
from fgen.experiment.grid import combinations
from fgen.experiment.seed_unit import SeedUnit
from fgen.experiment.shards import split_spec
from fgen.experiment.workers import MOST_DEATHS, Workers
from fgen.io.atomic import working_in
from fgen.training import loop

#: Two epochs of two steps, a checkpoint after each step.
GENERATOR = {
    "dataset": {"name": "toy"},
    "model": {"name": "clswgan", "hidden_dim": 16, "noise_dim": 4, "batch_size": 300, "epochs": 2, "cls_epochs": 1},
    "train": {"device": "cpu", "checkpoint_every": 0.0},
    "bank": {"n_per_class": 20},
    "classifier": {"epochs": 3},
    "protocol": {"evaluations": 2, "calibrate": True},
}
GRID = {"model.lr": [0.01, 0.001]}
RIDGE = {"dataset": {"name": "toy"}, "model": {"name": "ridge"}}
NAMES = ["clswgan-toy,lr=0.01", "clswgan-toy,lr=0.001"]


def files(folder):
    """The content of all files in a folder, but for times."""
    found = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in [path for path in found if path.name == "timing.json"]:
        del found[path]
    for path in [path for path in found if path.name == "result.json"]:
        found[path] = {key: value for key, value in json.loads(found[path]).items() if key != "timing"}
    return found


def group_is_alive(number):
    """Return whether a process of a group is there."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True)
class KilledOnce:
    """A seed whose process is killed at its third checkpoint, the first time."""

    unit: SeedUnit
    killed: Path

    @property
    def seed(self):
        return self.unit.seed

    def __call__(self):
        if self.killed.exists():
            return self.unit()
        calls, write = [], loop.write_checkpoint

        def written(*arguments):
            write(*arguments)
            calls.append(arguments)
            if len(calls) == 3:
                self.killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        loop.write_checkpoint = written
        return self.unit()


@pytest.fixture
def killing(monkeypatch, tmp_path):
    """Have the process of the first experiment killed once, after which there is a file ``killed``."""

    def units(config, *arguments):
        found = runner.seed_units(config, *arguments)
        return [KilledOnce(unit, tmp_path / "killed") for unit in found] if config.model.lr == 0.01 else found

    monkeypatch.setattr(sweep_module, "seed_units", units)
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of the sweep."""
    out = tmp_path_factory.mktemp("alone")
    result = fgen.sweep(GENERATOR, out=out, grid=GRID)
    assert list(result.results) == NAMES
    return out


@contextmanager
def dask_cluster(**options):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50, **options
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
@pytest.mark.numeric
def test_two_workers_of_which_one_is_killed_half_way_make_the_bytes_of_one_process(alone, killing):
    result = fgen.sweep(GENERATOR, out=killing / "out", grid=GRID, jobs=2)
    assert (killing / "killed").exists()
    assert not result.failures
    assert files(killing / "out") == files(alone)


@pytest.mark.slow
@pytest.mark.numeric
def test_a_dask_cluster_of_which_a_worker_is_killed_half_way_makes_the_bytes_of_one_process(alone, killing):
    with dask_cluster() as address:
        result = fgen.sweep(GENERATOR, out=killing / "out", grid=GRID, backend="dask", address=address)
    assert (killing / "killed").exists()
    assert not result.failures
    assert files(killing / "out") == files(alone)


def mortal():
    """A unit that kills its process; sent by its code, for which a worker needn't import this file."""

    def die():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    return die


def test_a_worker_that_always_dies_is_reported_and_ends_no_other_unit(tmp_path):
    units = [mortal(), *(partial(int, k) for k in (1, 2, 3))]
    found = {one.number: one for one in Workers(2).results(units)}
    assert {number: one.value for number, one in found.items()} == {0: None, 1: 1, 2: 2, 3: 3}
    assert f"died each of {MOST_DEATHS + 1} times" in str(found[0].error)


@pytest.mark.slow
def test_a_unit_that_dask_gives_up_is_reported_and_not_waited_for(monkeypatch):
    pytest.importorskip("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    with dask_cluster() as address:
        found = {
            one.number: one for one in Workers(backend="dask", address=address).results([mortal(), partial(int, 1)])
        }
    assert found[1].value == 1
    assert "died" in str(found[0].error)


def test_a_run_that_fails_ends_no_other_and_is_tried_again_by_the_next_call(tmp_path, monkeypatch, capsys):
    config = tmp_path / "ridge.toml"
    config.write_text(dump_toml(RIDGE))
    command = [
        "sweep",
        str(config),
        "--set-grid",
        "model.alpha=[0.1, 1.0]",
        "--seeds",
        "0",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    run = SeedUnit.__call__

    def fail(unit):
        if unit.seed == 1 and unit.config.model.alpha == 0.1:
            raise ZeroDivisionError("of this test")
        return run(unit)

    monkeypatch.setattr(SeedUnit, "__call__", fail)
    assert main(command) == 2
    told = capsys.readouterr()
    assert "ridge,alpha=1.0" in told.out
    assert "ridge,alpha=0.1 " not in told.out
    assert "1 runs failed; ridge,alpha=0.1, seed 1: ZeroDivisionError: of this test" in told.err
    assert "in fail" in (tmp_path / "out" / "failures.txt").read_text()
    monkeypatch.setattr(SeedUnit, "__call__", run)
    assert main(command) == 0
    assert not (tmp_path / "out" / "failures.txt").exists()
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert [row["run"] for row in rows] == ["ridge,alpha=0.1", "ridge,alpha=1.0"]


def test_what_is_finished_is_not_run_again(tmp_path, monkeypatch):
    first = fgen.sweep(RIDGE, out=tmp_path, seeds=[0])
    before = files(tmp_path)
    monkeypatch.setattr(SeedUnit, "__call__", lambda unit: pytest.fail("run again"))
    assert fgen.sweep(RIDGE, out=tmp_path, seeds=[0]).table() == first.table()
    assert files(tmp_path) == before


def test_a_sweep_and_several_jobs_make_the_files_of_fgen_run_on_as_many_threads(tmp_path):
    """An engine has set 1 for processes that are as many as the cores."""
    config = RIDGE | {"train": {"threads": 2}, "protocol": {"seeds": [0, 1]}}
    fgen.sweep(config, out=tmp_path / "sweep")
    with blas_threads(2):
        fgen.run(config, out=tmp_path / "run")
        fgen.run(config, out=tmp_path / "jobs", jobs=2)
    assert files(tmp_path / "run") == files(tmp_path / "sweep" / "ridge-toy") == files(tmp_path / "jobs")


def test_runs_of_a_sweep_have_a_thread_where_none_are_named(tmp_path):
    with blas_threads(2):
        (result,) = fgen.sweep(RIDGE, out=tmp_path).results.values()
        known = threads_in_use()["blas_threads"] == 2
    assert result.description["threads"] == 1
    assert result.description["blas_threads"] == (1 if known else threads_in_use()["blas_threads"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set-grid", "model.alpha"], "'model.alpha' is not an assignment"),
        (["--set-grid", "model.alpha=0.1"], "gives 0.1; expected a list of values"),
        (["--set-grid", "model.alpha=[]"], "model.alpha is []"),
        (["--set-grid", "model.alpha=[1.0, 1.0]"], "holds 1.0 twice"),
        (["--set-grid", "model.alpha=[1.0]", "--set-grid", "model.alpha=[2.0]"], "gives model.alpha twice"),
        (["--set-grid", "model.lr=[1e-4]"], "model.lr is set, which ridge doesn't have"),
        (["--set-grid", "model.alpha=[1.0, -1.0]"], "alpha is -1.0"),
        (["--set-grid", "model.alpha=[1.0, 'x']"], "model.alpha is 'x'"),
        (["--set-grid", "model.name.x=[1]"], "goes through model.name"),
        (["--set-grid", "protocol.seeds=[[0], [1]]"], "Give the seeds as --seeds"),
        (["--seeds", "0", "0"], "seeds are [0, 0]"),
        (["--jobs", "0"], "jobs is 0"),
        (["--backend", "slurm"], "backend is 'slurm'"),
        (["--backend", "dask"], "without an address"),
        (["--address", "tcp://x:1"], "which loky has no use for"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused_before_any_work(arguments, complaint, tmp_path, capsys):
    config = tmp_path / "ridge.toml"
    config.write_text(dump_toml(RIDGE))
    assert main(["sweep", str(config), *arguments, "--out", str(tmp_path / "out")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_second_sweep_in_the_same_folder_is_refused(tmp_path):
    with working_in(tmp_path), pytest.raises(fgen.InputError, match="another fgen is at work"):
        fgen.sweep(RIDGE, out=tmp_path)


def test_other_settings_in_a_folder_of_a_sweep_are_refused(tmp_path):
    fgen.sweep(RIDGE, out=tmp_path)
    with pytest.raises(fgen.InputError, match=r"another config.*model.alpha was"):
        fgen.sweep({**RIDGE, "model": {"name": "ridge", "alpha": 3.0}}, out=tmp_path)


def test_more_than_one_process_without_joblib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(MissingExtra, match=r'pip install "fgen\[sweep\]"'):
        fgen.sweep(RIDGE, out=tmp_path / "out", jobs=2)
    with pytest.raises(MissingExtra, match=r'pip install "fgen\[dask\]"'):
        fgen.sweep(RIDGE, out=tmp_path / "out", backend="dask", address="tcp://127.0.0.1:1")
    assert fgen.sweep(RIDGE, out=tmp_path / "out").results


def test_a_hook_is_refused_where_it_could_not_be_called(tmp_path):
    with pytest.raises(fgen.InputError, match="on_epoch is given, and jobs is 2"):
        fgen.run(GENERATOR, out=tmp_path / "out", jobs=2, on_epoch=print)


def test_names_tell_of_what_differs():
    grid = {"model.alpha": [0.5], "dataset.split_seed": [0, 1]}
    names = [one.name for one in combinations([RIDGE, RIDGE], grid)]
    assert names == [f"ridge-toy,alpha=0.5,split_seed={k}{end}" for end in ("", "-2") for k in (0, 1)]
    whole = {"model": [{"name": "ridge", "alpha": 1.0}, {"name": "eszsl"}]}
    assert [one.name for one in combinations([RIDGE], whole)] == ["ridge-toy,model=ridge", "eszsl-toy,model=eszsl"]


def test_joined_seeds_are_the_run_of_all_of_them(tmp_path, capsys):
    parts = [str(tmp_path / f"part-{seed}") for seed in (2, 0)]
    for path, seed in zip(parts, (2, 0), strict=True):
        fgen.run(RIDGE | {"protocol": {"seeds": [seed]}}, out=path)
    whole = fgen.run(RIDGE | {"protocol": {"seeds": [2, 0]}}, out=tmp_path / "whole")
    assert main(["join", *parts, "--out", str(tmp_path / "joined")]) == 0
    assert whole.table() in capsys.readouterr().out
    assert files(tmp_path / "joined") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"protocol": {"seeds": [0]}}, "seed 0 is in"),
        ({"model": {"name": "ridge", "alpha": 3.0}}, "model.alpha was"),
        ({"dataset": {"name": "toy", "shots": 1}}, "dataset.shots was 0 and is 1"),
    ],
)
def test_runs_that_are_no_seeds_of_one_experiment_are_not_joined(settings, complaint, tmp_path, capsys):
    first, other = (str(tmp_path / name) for name in ("first", "other"))
    fgen.run(RIDGE, out=first)
    fgen.run(RIDGE | {"protocol": {"seeds": [1]}} | settings, out=other)
    assert main(["join", first, other, "--out", str(tmp_path / "joined")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "joined").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_sweep_with_one_message_and_the_same_call_goes_on(alone, tmp_path, number):
    """Ctrl-C reaches all of its processes, ``kill`` the first alone, which has to stop the others."""
    toml, out = tmp_path / "clswgan-toy.toml", tmp_path / "out"
    toml.write_text(dump_toml(GENERATOR))
    command = ["sweep", str(toml), "--set-grid", "model.lr=[0.01,0.001]", "--out", str(out)]
    python = [sys.executable, "-m", "fgen", *command, "--jobs", "2"]
    with subprocess.Popen(python, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not list(out.glob("*/seeds/0/checkpoint/*")) and process.poll() is None:
            time.sleep(0.01)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in told
    for _ in range(100):
        if not group_is_alive(process.pid):
            break
        time.sleep(0.1)
    assert not group_is_alive(process.pid), "a worker goes on alone"
    assert told.splitlines()[-1].startswith("fgen: stopped. What was finished is kept; go on with: fgen sweep")
    assert main(command) == 0
    assert files(out / NAMES[0]) == files(alone / NAMES[0])


def test_shards_of_a_bank_join_to_the_bytes_of_one_process(alone, tmp_path):
    run, counts = alone / NAMES[0], ["--n-per-class", "50", "--classes", "all", "--real"]
    for name, jobs in (("one", []), ("two", ["--jobs", "2"])):
        assert main(["generate", str(run), *counts, "--out", str(tmp_path / f"{name}.h5"), *jobs]) == 0
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h5", "two.h5"]


@pytest.mark.parametrize("n_parts", [1, 2, 3, 9])
def test_each_generated_row_is_in_one_shard_and_shards_are_of_much_the_same_size(n_parts):
    real, made = np.array([3, 0, 2, 0, 0]), np.array([10, 0, 10, 30, 10])
    spec = BankSpec(
        class_embeddings=np.eye(5), counts=real + made, real_counts=real, is_seen=real > 0, feature_dim=2, seed=4
    )
    parts = split_spec(spec, n_parts)
    assert (sum(part.counts for part in parts) == made).all()
    assert all(((part.counts == made) | (part.counts == 0)).all() for part in parts)
    assert max(part.counts.sum() for part in parts) <= made.sum() / n_parts + made.max()
    assert len(parts) <= n_parts
    assert not any(part.real.any() for part in parts)
