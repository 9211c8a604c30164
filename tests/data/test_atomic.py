"""Files and folders that are either whole or not there."""

import json
import os

import pytest

from fgen.data.atomic import atomic_file, replace_directory, settle, write_json


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
    settle(tmp_path / "x")
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
