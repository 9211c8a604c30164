"""Files and folders that are either whole or not there."""

import errno
import fcntl
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial as partial_call

import pytest

from fgen.errors import InputError
from fgen.io import atomic
from fgen.io.atomic import atomic_file, new_file, recover_replacement, replace_directory, working_in, write_json


class Cut(BaseException):
    """Ends a writer like a kill: nothing in fgen catches it."""


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def write_folder(path, content):
    with replace_directory(path) as folder:
        (folder / "a").write_text(content)
        (folder / "b").write_text(content)


def half_write(path, error):
    path.write_text("half")
    raise error


def read_folder(path):
    return {entry.name: entry.read_text() for entry in path.iterdir()}


def fail(*_, **__):
    raise OSError(28, "No space left on device")


# Files.


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    with atomic_file(tmp_path / "deep" / "x") as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path / "deep", "a move between disks wouldn't be atomic"
        assert not (tmp_path / "deep" / "x").exists()
    assert (tmp_path / "deep" / "x").read_text() == "new"
    assert names(tmp_path / "deep") == ["x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Cut])
@pytest.mark.parametrize("old", ["old", None])
def test_a_failed_file_leaves_the_old_one_and_no_other(tmp_path, error, old):
    if old:
        (tmp_path / "x").write_text(old)
    with pytest.raises(error), atomic_file(tmp_path / "x") as partial:
        half_write(partial, error)
    assert names(tmp_path) == (["x"] if old else [])
    assert not old or (tmp_path / "x").read_text() == old


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_disk_that_fails_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, step):
    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"), atomic_file(tmp_path / "x") as partial:
        partial.write_text("new")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def record(event, call):
        def wrapped(*arguments):
            events.append(event)
            return call(*arguments)

        return wrapped

    monkeypatch.setattr(os, "fsync", record("fsync", fsync))
    monkeypatch.setattr(os, "replace", record("replace", replace))
    with atomic_file(tmp_path / "x") as partial:
        partial.write_text("new")
    assert events == ["fsync", "replace", "fsync"], "the file, the move, the folder that now names it"


def test_what_a_killed_writer_left_is_no_obstacle(tmp_path):
    (tmp_path / "x.partial").write_text("much longer than what comes now")
    with atomic_file(tmp_path / "x") as partial:
        partial.write_text("new")
    assert (tmp_path / "x").read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_json_is_canonical_and_refuses_what_json_cannot_hold(tmp_path):
    write_json(tmp_path / "a", {"b": [1.5, "é"], "a": None})
    write_json(tmp_path / "b", {"a": None, "b": [1.5, "é"]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"a": None, "b": [1.5, "é"]}
    for wrong in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a", {"a": wrong})
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Folders.


def test_a_folder_takes_the_place_of_the_old_one_with_all_that_is_in_it(tmp_path):
    write_folder(tmp_path / "deep" / "x", "old")
    (tmp_path / "deep" / "x" / "extra").write_text("old")
    write_folder(tmp_path / "deep" / "x", "new")
    assert read_folder(tmp_path / "deep" / "x") == {"a": "new", "b": "new"}
    assert names(tmp_path / "deep") == ["x"]


def test_a_folder_and_all_in_it_are_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace

    def flushed(handle):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("replace"), replace(*paths)))
    write_folder(tmp_path / "x", "new")
    assert sorted(events[:2]) == ["a", "b"]
    assert events[2:] == [".x.fgen.partial", "replace", tmp_path.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Cut])
@pytest.mark.parametrize("old", [True, False])
def test_a_failed_folder_leaves_the_old_one_and_no_other(tmp_path, error, old):
    if old:
        write_folder(tmp_path / "x", "old")
    with pytest.raises(error), replace_directory(tmp_path / "x") as folder:
        half_write(folder / "a", error)
    assert names(tmp_path) == (["x"] if old else [])
    assert not old or read_folder(tmp_path / "x") == {"a": "old", "b": "old"}


@pytest.mark.parametrize("failing_move", [1, 2])
def test_a_folder_whose_move_fails_is_the_old_one_again(tmp_path, monkeypatch, failing_move):
    write_folder(tmp_path / "x", "old")
    replace, moves = os.replace, []

    def interrupted(*arguments):
        moves.append(arguments)
        if len(moves) == failing_move:
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "x", "new")
    assert names(tmp_path) == ["x"]
    assert read_folder(tmp_path / "x") == {"a": "old", "b": "old"}


def test_a_folder_starts_empty_whatever_a_killed_writer_left(tmp_path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "stale").write_text("stale")
    write_folder(tmp_path / "x", "new")
    assert read_folder(tmp_path / "x") == {"a": "new", "b": "new"}


@pytest.mark.parametrize("killed_at", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_folder_is_the_old_or_the_new_one_wherever_its_writer_is_killed(tmp_path, killed_at, after):
    """A fork, so that no ``finally`` of the writer runs; the first move sets the old folder aside."""
    write_folder(tmp_path / "x", "old")
    child = os.fork()
    if not child:
        replace, moves = os.replace, []

        def replace_and_die(*arguments):
            moves.append(arguments)
            if len(moves) < killed_at or after:
                replace(*arguments)
            if len(moves) == killed_at:
                os._exit(9)

        os.replace = replace_and_die
        write_folder(tmp_path / "x", "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    recover_replacement(tmp_path / "x")
    expected = "new" if (killed_at, after) == (2, True) else "old"
    assert read_folder(tmp_path / "x") == {"a": expected, "b": expected}
    write_folder(tmp_path / "x", "next")
    assert read_folder(tmp_path / "x") == {"a": "next", "b": "next"}
    assert names(tmp_path) == ["x"]


def test_a_folder_of_the_users_beside_is_left_alone(tmp_path):
    for name in ("x.old", "x.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    for content in ("old", "new"):
        write_folder(tmp_path / "x", content)
    assert names(tmp_path) == ["x", "x.old", "x.partial"]
    (tmp_path / "link").symlink_to(tmp_path / "x")
    write_folder(tmp_path / "link", "newer")
    assert (tmp_path / "link").is_symlink()
    assert read_folder(tmp_path / "x") == {"a": "newer", "b": "newer"}


# Two at once.


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.0)


def test_of_two_writers_of_a_file_one_waits_for_the_other_and_both_are_whole(tmp_path):
    second_writes = threading.Event()

    def second():
        with new_file(tmp_path / "x", overwrite=True) as partial:
            second_writes.set()
            partial.write_text("second")

    with ThreadPoolExecutor(1) as threads, new_file(tmp_path / "x", overwrite=True) as partial:
        partial.write_text("fir")
        other = threads.submit(second)
        assert not second_writes.wait(0.1)
        partial.write_text("first")
    other.result()
    assert (tmp_path / "x").read_text() == "second"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("write", [atomic_file, replace_directory])
def test_who_waited_too_long_for_another_writer_is_refused_and_disturbs_nothing(tmp_path, impatient, write):
    with write(tmp_path / "x") as partial:
        before = names(tmp_path)
        with (
            pytest.raises(InputError, match=r"another fgen is at work in .*x; expected one at a time"),
            write(tmp_path / "x"),
        ):
            pass
        assert names(tmp_path) == before
        if not partial.is_dir():
            partial.write_text("whole")
    assert names(tmp_path) == ["x"]


def test_a_file_that_came_while_its_writer_waited_is_not_replaced_unasked(tmp_path):
    expect = atomic.expect_free
    with pytest.MonkeyPatch.context() as patch:

        def late(path, *, overwrite):
            expect(path, overwrite=overwrite)
            patch.undo()
            write_json(path, "theirs")

        patch.setattr(atomic, "expect_free", late)
        with pytest.raises(InputError, match="x exists"), new_file(tmp_path / "x"):
            pass
    assert json.loads((tmp_path / "x").read_text()) == "theirs"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("write", [atomic_file, replace_directory])
def test_what_a_killed_writer_holds_is_free_and_goes_with_the_next_one(tmp_path, impatient, write):
    child = os.fork()
    if not child:
        with write(tmp_path / "x") as partial:
            (partial / "a" if partial.is_dir() else partial).write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    assert len(names(tmp_path)) == 2, "a lock, and what was half written"
    with write(tmp_path / "x") as partial:
        (partial / "b" if partial.is_dir() else partial).write_text("whole")
    assert names(tmp_path) == ["x"]


def test_a_lock_that_its_holder_has_removed_meanwhile_is_none(tmp_path, monkeypatch):
    take_lock = atomic.lock_file

    def late(handle, path):
        monkeypatch.undo()
        (lock,) = tmp_path.iterdir()
        lock.unlink()
        take_lock(handle, path)

    monkeypatch.setattr(atomic, "lock_file", late)
    with atomic_file(tmp_path / "x") as partial:
        partial.write_text("new")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "PATIENCE", 0.0)
            with pytest.raises(InputError, match="another fgen"), atomic_file(tmp_path / "x"):
                pass
    assert names(tmp_path) == ["x"]


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_json(tmp_path / "x", 1)
    write_folder(tmp_path / "y", "new")
    assert names(tmp_path) == ["x", "y"]


def test_many_savers_of_one_folder_leave_one_of_theirs_whole(tmp_path):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda k: write_folder(tmp_path / "x", str(k)), range(20)))
    assert names(tmp_path) == ["x"]
    assert len(set(read_folder(tmp_path / "x").values())) == 1


def test_what_may_not_be_replaced_is_looked_at_once_no_other_writes_there(tmp_path):
    """An older one that a killed writer set aside comes back first, or its place would seem free."""
    write_folder(tmp_path / "x", "old")
    os.replace(tmp_path / "x", tmp_path / ".x.fgen.old")
    check = partial_call(atomic.expect_only, names=("model.json",))
    with pytest.raises(InputError, match="also holds 'a'"), replace_directory(tmp_path / "x", check):
        pass
    assert names(tmp_path) == ["x"]


# Folders that are worked in.


@pytest.mark.parametrize("loss", ["moved", "removed", "replaced"])
@pytest.mark.parametrize("deep", [True, False])
def test_a_folder_that_is_moved_or_removed_under_way_is_not_made_anew(tmp_path, loss, deep):
    folder = tmp_path / "run"
    folder.mkdir()
    target = folder / "seeds" / "x" if deep else folder / "x"

    def work():
        with working_in(folder):
            write_json(target, 1)
            folder.rename(tmp_path / "moved")
            if loss == "replaced":
                folder.mkdir()
            for write in (partial_call(write_json, target, 2), partial_call(write_folder, target.with_name("y"), "")):
                with pytest.raises(InputError, match="run was moved or removed while fgen was at work in it"):
                    write()

    with pytest.raises(InputError, match=r"Bring it back to .*run, and go on with --resume"):
        work()
    assert not folder.exists() or names(folder) == []
    assert json.loads((tmp_path / "moved" / target.relative_to(folder)).read_text()) == 1
    write_json(target, 3)


def test_an_error_under_way_in_a_folder_that_stays_is_told_as_it_is(tmp_path):
    with pytest.raises(OSError, match="No space left"), working_in(tmp_path):
        fail()
    with working_in(tmp_path), pytest.raises(InputError, match="another fgen is at work in"), working_in(tmp_path):
        pass
    with working_in(tmp_path):
        write_json(tmp_path / "x", 1)
