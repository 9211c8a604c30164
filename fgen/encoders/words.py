"""Embeddings of texts as means of the vectors of their words."""

import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from fgen.encoders.base import EncoderRecord
from fgen.encoders.fingerprint import settings_of, sha256_of_file, sha256_of_tensors
from fgen.encoders.passages import checked_texts
from fgen.encoders.word_vectors import WordTable, WordVectors, packaged_glove, read_word_vectors
from fgen.errors import InputError, shortened

#: What a word is: of the packaged GloVe's English, and of any language.
ENGLISH, LETTERS = r"[a-z]+", r"[^\W\d_]+"
log = logging.getLogger("fgen")


@dataclass(eq=False)
class WordEncoder:
    """Encoder of texts by the mean, or the IDF-weighted mean, of the vectors of their words.

    Words without a vector are left out, and a warning names them.

    Args:
        vectors: a GloVe or word2vec file, see :func:`fgen.encoders.word_vectors.read_word_vectors`; gensim's
            ``KeyedVectors``; by default GloVe's 50 dimensions, which a package holds.
        idf: whether words are weighted by their inverse document frequency in the texts of :meth:`fit`, or the weights
            themselves, by word; a word that isn't among them has the largest weight.
        lowercase: whether a text is lower-cased first.
        token_pattern: the regular expression of a word; by default letters, of the packaged GloVe a to z alone.

    Raises:
        InputError: when it is used, of a file that holds no word vectors. MissingExtra: without ``fgen[text]``, or
            ``fgen[words]`` for a file.

    Example:
        >>> WordEncoder().encode(["zebra: striped, a mammal", "teapot"]).shape
        (2, 50)
    """

    vectors: Any = None
    idf: bool | dict[str, float] = False
    lowercase: bool = True
    token_pattern: str | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.token_pattern or "")
        except re.error as error:
            raise InputError(f"token_pattern is {self.token_pattern!r} ({error})", "a regular expression") from None

    @cached_property
    def word_vectors(self) -> WordVectors:
        """The vectors by word.

        Raises:
            InputError: a file without word vectors. MissingExtra: the library that reads them is missing.
        """
        if self.vectors is None:
            return packaged_glove()
        return read_word_vectors(self.vectors) if isinstance(self.vectors, str | Path) else self.vectors

    @property
    def needs_fit(self) -> bool:
        """Whether :meth:`fit` has to be called before :meth:`encode`."""
        return self.idf is True

    @property
    def record(self) -> EncoderRecord:
        """What data remember of this encoder; weights of words are among its settings."""
        name = f"word:{self.vectors}" if isinstance(self.vectors, str | Path) else "word"
        return EncoderRecord(name, self._sha256, int(self.word_vectors.vector_size), settings_of(self, "vectors"))

    def fit(self, texts: Sequence[str]) -> Self:
        """Take the words' weights from their inverse document frequency in texts, if ``idf`` asks for weights.

        Of N texts, n with the word, the weight is log((1 + N) / (1 + n)) + 1, as scikit-learn's TfidfVectorizer has it.
        """
        if self.idf is not False:
            counts = Counter(word for text in checked_texts(texts) for word in set(self._words(text)))
            self.idf = {word: math.log((1 + len(texts)) / (1 + n)) + 1 for word, n in sorted(counts.items())}
        return self

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts.

        Args:
            texts: such as ``"zebra: striped, a mammal of the savanna"``.
            batch_size, device, show_progress_bar: have no effect.

        Raises:
            InputError: a text of which no word has a vector; ``idf`` before :meth:`fit`. MissingExtra: see the class.
        """
        texts = checked_texts(texts)
        if self.needs_fit:
            raise InputError("idf is true and no text was counted", "fit(texts) first, or weights by word")
        vectors, rows, unknown = self.word_vectors, [], Counter[str]()
        for text in texts:
            words = self._words(text)
            known = [word for word in words if word in vectors]
            if not known:
                raise InputError(f"no word of {text!r} has a vector", "English words", "Describe it in other words")
            unknown.update(word for word in words if word not in vectors)
            rows.append(np.average([vectors[word] for word in known], axis=0, weights=self._weights(known)))
        if unknown:
            shown = ", ".join(shortened(word, 30) for word, _ in unknown.most_common(5))
            more = ", …" if len(unknown) > 5 else ""
            log.warning("%d words have no vector and are left out: %s%s", len(unknown), shown, more)
        return np.array(rows, dtype=np.float32)

    def _words(self, text: str) -> list[str]:
        pattern = self.token_pattern or (ENGLISH if self.vectors is None else LETTERS)
        return [found.group() for found in re.finditer(pattern, text.lower() if self.lowercase else text)]

    def _weights(self, words: Sequence[str]) -> list[float] | None:
        """Return the weights of words; None where all weigh the same."""
        if not isinstance(self.idf, dict):
            return None
        rarest = max(self.idf.values(), default=1.0)
        return [self.idf.get(word, rarest) for word in words]

    @cached_property
    def _sha256(self) -> str:
        """The hash of a file of vectors, or of the vectors and words themselves; empty of vectors of another kind."""
        if isinstance(self.vectors, str | Path):
            return sha256_of_file(Path(self.vectors))
        vectors = self.word_vectors
        keys = list(vectors.rows) if isinstance(vectors, WordTable) else getattr(vectors, "index_to_key", None)
        matrix = getattr(vectors, "vectors", None)
        if keys is None or matrix is None:
            return ""
        words = torch.frombuffer(bytearray("\n".join(keys).encode()), dtype=torch.uint8)
        return sha256_of_tensors({"words": words, "vectors": torch.from_numpy(np.array(matrix))})
