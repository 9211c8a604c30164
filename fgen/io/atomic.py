"""Writing of files and folders that are complete or absent, also if the writer is killed."""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgen.errors import InputError

#: Seconds that a writer waits for another one of the same file or folder.
PATIENCE = 5.0
#: Error numbers of file systems without locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
#: Folders of :func:`working_in` in this process, with their open handles.
_held: dict[Path, int] = {}


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to. After the block it is on the disk and replaces ``path``.

    Raises:
        InputError: as :func:`locked` has it.
    """
    path = Path(path)
    _make_parents(path)
    partial = path.with_name(path.name + ".partial")
    with locked(path):
        try:
            yield partial
            fsync_path(partial)
            os.replace(partial, path)
            fsync_path(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield the path of :func:`atomic_file`, for a name that a user gave.

    Raises:
        InputError: as :func:`expect_free` has it, or the disk refuses.
    """
    expect_free(path, overwrite=overwrite)
    try:
        with atomic_file(path) as partial:
            expect_free(path, overwrite=overwrite)  # another fgen may have written it meanwhile
            yield partial
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror or error})") from error


def expect_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a name for a file to be.

    Raises:
        InputError: something of that name exists that isn't to be replaced, or its folder doesn't exist.
    """
    if os.path.exists(path) and not path.is_file():
        raise InputError(f"{path} exists and is no regular file", "a new name", "Choose another name")
    if os.path.exists(path) and not overwrite:
        remedy = "Choose another name, or allow overwriting: --overwrite, in Python overwrite=True"
        raise InputError(f"{path} exists", "a new name", remedy)
    if not os.path.isdir(path.parent):
        raise InputError(f"The folder {path.parent} doesn't exist", "an existing folder", "Create it first")


@contextmanager
def replace_directory(path: str | Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` to write to. After the block it replaces ``path``.

    A folder can't be replaced in one move, so an older one is renamed first. Meanwhile
    :func:`fgen.io.consistent_read.read_folder` reads it there. :func:`recover_replacement` renames it back if the
    writer was killed between the two moves.

    Args:
        path: the folder to be.
        check: refuses to have what is at ``path`` replaced, once no other fgen writes there.

    Raises:
        InputError: as :func:`locked` has it, or ``check`` refuses.
    """
    path = Path(path)
    _make_parents(path)
    path = path.resolve()
    if path == Path.cwd():
        raise InputError(f"{path} is the folder that this runs in", "another", "Name a folder within it")
    partial = beside(path, "partial")
    with locked(path):
        recover_replacement(path)
        if check is not None:
            check(path)
        try:
            with _new_folder(partial, path):
                yield partial
        finally:
            recover_replacement(path)


@contextmanager
def replace_files(folder: Path, first: str) -> Iterator[Path]:
    """Yield an empty folder to write files to; on success all of them are moved into ``folder`` as one change.

    A single rename decides: that of the folder with the new files to its second name. A writer that is killed before
    it leaves the old files. One that is killed after it leaves the new files, which :func:`recover_files` moves to
    their places.

    Args:
        folder: where the files belong.
        first: the name of one of the files, the same in each call; it names the lock.

    Raises:
        InputError: as :func:`locked` has it.
    """
    decided = beside(folder / first, "new")
    partial = beside(folder / first, "partial")
    with locked(folder / first):
        _finish_files(decided, folder)
        with _new_folder(partial, decided):
            yield partial
        _finish_files(decided, folder)
        fsync_path(folder)


@contextmanager
def _new_folder(partial: Path, path: Path) -> Iterator[None]:
    """Make an empty folder ``partial``, in place of one that a killed writer left; after the block have it on the disk,
    set an older ``path`` aside and move the new folder there.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield
        for file in (*partial.iterdir(), partial):
            fsync_path(file)
        if path.exists():
            os.replace(path, beside(path, "old"))
        os.replace(partial, path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recover_files(folder: Path, first: str) -> None:
    """Finish a :func:`replace_files` of the same ``first`` whose writer is at work or was killed.

    Raises:
        InputError: as :func:`locked` has it. OSError: the folder can't be written to.
    """
    decided = beside(folder / first, "new")
    if decided.exists():
        with locked(folder / first):
            _finish_files(decided, folder)


def _finish_files(decided: Path, folder: Path) -> None:
    """Move files that were written as one to their places."""
    if decided.exists():
        for file in sorted(decided.iterdir()):
            os.replace(file, folder / file.name)
        decided.rmdir()


def expect_only(path: Path, names: Collection[str]) -> None:
    """Refuse to have a folder replaced that holds anything but files of these names.

    Raises:
        InputError: it does, or is no folder.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "a new folder", "Choose another name")
    others = sorted(name for name in os.listdir(path) if name not in names) if path.exists() else []
    if others:
        raise InputError(f"{path} also holds {others[0]!r}", f"a folder of {' and '.join(names)} alone, or a new one")


def recover_replacement(path: Path) -> None:
    """Undo or finish a folder's replacement whose writer was killed; the caller holds :func:`locked`."""
    aside = beside(path, "old")
    if aside.exists():
        if path.exists():
            shutil.rmtree(aside)
        else:
            os.replace(aside, path)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys: equal content gives equal bytes."""
    text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as file:
        file.write_text(text + "\n", encoding="utf-8")


def fsync_path(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with opened(path, os.O_RDONLY) as handle:
        os.fsync(handle)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Yield the handle of a file or a folder, which is closed after the block."""
    handle = os.open(path, flags, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock ``path`` against other threads and processes of fgen; wait up to ``PATIENCE`` seconds for another one.

    The lock is a file in the same folder, which is removed at the end. The lock of a killed writer is free again.

    Raises:
        InputError: another fgen still writes it, or its run folder was moved meanwhile.
    """
    _expect_in_place(path)
    lock = beside(path, "lock")
    handle = _open_lock(lock, path)
    try:
        yield
    finally:
        if _is_at(handle, lock):
            lock.unlink(missing_ok=True)
        os.close(handle)


def _open_lock(lock: Path, path: Path) -> int:
    """Open and lock the lock file; return its handle."""
    deadline = time.monotonic() + PATIENCE
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            lock_file(handle, path)
            if _is_at(handle, lock):  # or the one before has removed it, and the next one made another
                return handle
        except InputError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise
            time.sleep(0.01)
        os.close(handle)


def lock_file(handle: int, path: Path, *, wait: bool = False) -> None:
    """Lock an open file, a lock file or a journal, for ``path``; the lock ends when the file is closed.

    On a file system without locks it does nothing.

    Args:
        wait: wait until another process has unlocked it, however long that takes.

    Raises:
        InputError: another process has locked it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        remedy = "Wait for it, or choose another --out"
        raise InputError(f"another fgen is at work in {path}", "one at a time", remedy) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


@contextmanager
def working_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder against other processes of fgen. Refuse to continue if it was moved.

    Args:
        wait: wait for another one that is at work in it, see :func:`lock_file`.

    Raises:
        InputError: another fgen has locked it, or it was moved or removed meanwhile.
    """
    with opened(folder, os.O_RDONLY) as handle:
        lock_file(handle, folder, wait=wait)
        _held[folder] = handle
        try:
            yield
        except (OSError, InputError):
            _expect_in_place(folder)
            raise
        else:
            _expect_in_place(folder)
        finally:
            _held.pop(folder, None)


def _expect_in_place(path: Path) -> None:
    """Refuse a path in a folder of :func:`working_in` that was moved or removed.

    Raises:
        InputError: it was.
    """
    for folder, handle in list(_held.items()):
        if folder in (path, *path.parents) and not _is_at(handle, folder):
            found = f"{folder} was moved or removed while fgen was at work in it"
            raise InputError(found, "it to stay where it is", f"Bring it back to {folder}, and go on with --resume")


def _make_parents(path: Path) -> None:
    """Make the folders above ``path``, but none anew that was moved or removed under way."""
    _expect_in_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the handle was opened on the file or folder that is at ``path`` now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def preallocate(file: int, size: int) -> None:
    """Allocate ``size`` bytes on the disk for an open file, or raise OSError.

    Where the system has no call for that, as macOS, zeros are written.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.pwrite(file, zeros[: size - start], start)


def beside(path: Path, what: str) -> Path:
    """Return the path of fgen's own hidden file or folder beside ``path``."""
    return path.parent / f".{path.name}.fgen.{what}"
