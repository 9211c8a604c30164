"""Readers of files that are replaced meanwhile: all of one version, and never "not found" while there is one."""

import os
from pathlib import Path

import pytest

from fgen.errors import InputError
from fgen.io import consistent_read
from fgen.io.atomic import replace_directory
from fgen.io.consistent_read import current, read_consistently, read_folder


def save(path, content):
    with replace_directory(path) as folder:
        for name in "ab":
            (folder / name).write_text(content)


def both(folder):
    return (folder / "a").read_text(), (folder / "b").read_text()


def disturbed(*disturbances):
    """A reader that something happens to between its two files, once for each disturbance."""
    left = list(disturbances)

    def read(folder):
        a = (folder / "a").read_text()
        if left:
            left.pop(0)()
        return a, (folder / "b").read_text()

    return read


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_that_is_replaced_between_two_files_is_read_again(tmp_path):
    save(tmp_path / "x", "old")
    once, twice = (lambda: save(tmp_path / "x", "new")), (lambda: save(tmp_path / "x", "newer"))
    assert read_folder(tmp_path / "x", disturbed(once, twice)) == ("newer", "newer")


def test_a_folder_is_read_beside_its_place_while_or_after_it_is_replaced(tmp_path):
    """Its writer was killed between its two moves; nothing is written, for the folder may be read-only."""
    save(tmp_path / "x", "old")
    (tmp_path / "link").symlink_to("x")
    os.replace(tmp_path / "x", tmp_path / ".x.fgen.old")
    before = names(tmp_path)
    for name in ("x", "link"):
        assert read_folder(tmp_path / name, both) == ("old", "old")
    assert names(tmp_path) == before
    assert read_folder(tmp_path / "x", disturbed(lambda: save(tmp_path / "x", "new"))) == ("new", "new")
    assert names(tmp_path) == ["link", "x"]


def test_a_folder_that_steps_aside_and_comes_back_is_found(tmp_path):
    save(tmp_path / "x", "old")
    aside = tmp_path / ".x.fgen.old"

    def step_aside():
        os.replace(tmp_path / "x", aside)

    def come_back():
        os.replace(aside, tmp_path / "x")

    assert read_folder(tmp_path / "x", disturbed(step_aside, come_back)) == ("old", "old")


def test_what_was_replaced_by_as_much_as_the_same_number_of_a_file_is_seen(tmp_path):
    """A file system gives the number of a file that has gone to the next one; an open handle keeps it."""
    path = tmp_path / "x"
    path.write_text("0")
    contents = iter(range(1, 4))

    def read():
        found = path.read_text()
        if (content := next(contents, None)) is not None:
            path.unlink()
            path.write_text(str(content))
        return found

    assert read_consistently([path], read) == "3"


def test_a_reader_without_a_quiet_moment_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(consistent_read, "TRIES", 3)
    save(tmp_path / "x", "old")
    with pytest.raises(InputError, match="x is replaced all the while"):
        read_folder(tmp_path / "x", disturbed(*[lambda: save(tmp_path / "x", "new")] * 3))


def test_errors_of_a_folder_at_rest_are_its_readers_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_folder(tmp_path / "x", both)
    assert current(tmp_path / "x") == tmp_path / "x"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotADirectoryError):
        read_folder(tmp_path / "pipe", both)


@pytest.mark.parametrize("name", ["/", "a\x00b", "round"])
def test_names_of_no_folder_at_all_are_the_readers_to_refuse(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "round").symlink_to("round")
    with pytest.raises((OSError, ValueError)):
        read_folder(Path(name), both)
