"""Features of finished pictures in a file, so that a killed call resumes."""

import hashlib
import os
from pathlib import Path
from typing import Self

import numpy as np

from fgen.encoders.base import ImageEncoder
from fgen.encoders.pictures import PICTURE
from fgen.io.atomic import lock_file
from fgen.io.reading import guarded_read

#: What the file begins with. One that an older fgen left begins otherwise and is begun anew.
HEADER = b"fgen pictures 2\n"
#: Bytes before the features of a picture: the SHA-256 of what they depend on, and their number.
KEY, COUNT = hashlib.sha256().digest_size, 4


def picture_key(path: Path, encoder: ImageEncoder) -> bytes:
    """Return what the features of a picture depend on, hashed: the encoder, and the file's path, size and time.

    Raises:
        InputError: no such file.
    """
    with guarded_read(path, *PICTURE):
        about = path.stat()
    facts = about.st_size, about.st_mtime_ns, encoder.record.to_json(), encoder.batch_size
    return hashlib.sha256(os.fsencode(path.resolve()) + "|".join(map(str, ("", *facts))).encode()).digest()


class KeptFeatures:
    """Features by key in a file; a context manager. Without a file nothing is kept.

    Raises:
        InputError: another process is at work with the file.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._places = path, dict[bytes, tuple[int, int]]()

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("a+b")
            try:
                lock_file(self._file.fileno(), self._path)
                self._find_whole()
            except BaseException:
                self._file.close()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._path is not None:
            self._file.close()

    def _find_whole(self) -> None:
        """Note where the features of each key are; cut off those that a kill cut short."""
        handle = self._file.fileno()
        size, end = os.fstat(handle).st_size, len(HEADER)
        if os.pread(handle, end, 0) != HEADER:
            self._file.truncate(0)
            self._file.write(HEADER)
            self._file.flush()
            return
        while len(head := os.pread(handle, KEY + COUNT, end)) == KEY + COUNT:
            start, count = end + KEY + COUNT, int.from_bytes(head[KEY:], "little")
            if start + 4 * count > size:
                break
            self._places[head[:KEY]], end = (start, count), start + 4 * count
        self._file.truncate(end)

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the features ``(D,)`` of a key, or None."""
        if key not in self._places:
            return None
        start, count = self._places[key]
        return np.frombuffer(os.pread(self._file.fileno(), 4 * count, start), "<f4")

    def add(self, key: bytes, features: np.ndarray) -> None:
        """Store the features ``(D,)`` of a picture; they survive a kill of the process."""
        if self._path is not None:
            self._file.write(key + len(features).to_bytes(COUNT, "little") + features.astype("<f4").tobytes())
            self._file.flush()
