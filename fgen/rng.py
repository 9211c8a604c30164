"""Independent random streams, made from a seed and a purpose.

Streams are counter-based (Philox): a stream is a function of its key, so a run that stops and goes on
needs no generator state, and drawing from one stream never moves another.
"""

import hashlib
import operator
from collections.abc import Iterable

import numpy as np

from fgen.errors import InputError

Key = int | str | bytes


def _digest(parts: Iterable[Key]) -> bytes:
    """Return 128 bits that name a stream; parts are length-prefixed, so ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        part = part if isinstance(part, str | bytes) else operator.index(part)  # NumPy's numbers name the same stream
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{type(part).__name__}:{len(data)}:".encode() + data)
    return digest.digest()


def stream(seed: int, purpose: str, *key: Key) -> np.random.Generator:
    """Return the random stream of (seed, purpose, key).

    Args:
        seed: the run's seed, any integer >= 0.
        purpose: what the numbers are for ("batch", "noise", "init", ...).
        key: what else names the stream, for example the step or the class.

    Returns:
        A generator at the stream's start; the same arguments always give the same numbers.

    Raises:
        InputError: the seed is no whole number.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest((_whole(seed), purpose, *key)), "little")))


def subseed(seed: int, purpose: str, *key: Key) -> int:
    """Return a 63-bit seed of (seed, purpose, key) for libraries that need an integer."""
    return int.from_bytes(_digest((_whole(seed), purpose, *key))[:8], "little") >> 1


def _whole(seed: int) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise InputError(f"the seed is {seed!r}", "a whole number: the same gives the same result") from None


def class_key(name: str | None, class_embedding: np.ndarray) -> Key:
    """Return what names a class in the generation streams: its name, or the bytes of its float32 embedding.

    Args:
        name: class name, or None where the classes have none.
        class_embedding: ``(A,)``, raw.
    """
    if name is not None:
        return str(name)
    return hashlib.blake2b(np.ascontiguousarray(class_embedding, dtype="<f4").tobytes(), digest_size=16).digest()
