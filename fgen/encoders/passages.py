"""Texts as encoders take them: checked, and those beyond an encoder's limit cut into overlapping pieces."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fgen.errors import InputError, shortened
from fgen.features.checks import checked_names

#: Share of a piece that it has in common with the next one, at least.
OVERLAP = 0.25
log = logging.getLogger("fgen")


def checked_texts(texts: Sequence[str]) -> list[str]:
    """Return N texts as a list.

    Raises:
        InputError: no text, one that is empty, or something else than text; the message names its place.
    """
    texts = checked_names(texts, name="texts", distinct=False)
    empty = [place for place, text in enumerate(texts) if not text.strip()]
    if empty or not texts:
        raise InputError(f"text {empty[0]} is empty" if empty else "there are no texts", "a description of each class")
    return list(texts)


@dataclass(frozen=True)
class Pieces:
    """Texts, of which the long ones are cut into pieces.

    Attributes:
        texts: the pieces of all N texts, in the texts' order.
        counts: number of pieces of each text, ``(N,)``.
    """

    texts: list[str]
    counts: list[int]

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any, limit: int | None, prompt: str = "") -> Self:
        """Cut texts so that a prompt and a piece together have at most ``limit`` tokens.

        A short text is its only piece. Where the tokenizer doesn't say which characters a token stands for, nothing is
        cut, and a warning names what the encoder will cut off.

        Args:
            texts: N texts.
            tokenizer: of the transformers library, or None if the encoder has another kind.
            limit: what the encoder reads, with the tokens that are put around a text; None is without limit.
            prompt: what is put before each piece.
        """
        spans = None if limit is None or not callable(tokenizer) else _token_spans(tokenizer, texts, limit)
        if limit is None or spans is None:
            return cls(list(texts), [1] * len(texts))
        room = max(1, limit - len(tokenizer([prompt], truncation=False, verbose=False)["input_ids"][0]))
        cut = [_cut(text, tokens, room) for text, tokens in zip(texts, spans, strict=True)]
        log.debug("%d of %d texts have more than %d tokens", sum(len(own) > 1 for own in cut), len(texts), room)
        return cls([piece for own in cut for piece in own], [len(own) for own in cut])

    @classmethod
    def by_words(cls, texts: Sequence[str], count: Callable[[list[str]], list[int]], room: int) -> Self:
        """Cut texts between words, for a tokenizer that says no more than the number of tokens of a text.

        Args:
            texts: N texts.
            count: returns the numbers of tokens of some texts. Those of a text's words add up to those of the text.
            room: the largest number of tokens of a piece, unless a single word has more.
        """
        cut = []
        for text, n_tokens in zip(texts, count(list(texts)), strict=True):
            if n_tokens <= room:
                cut.append([text])
                continue
            words = [found.span() for found in re.finditer(r"\S+", text)]
            counts = count([text[start:end] for start, end in words])
            spans = [span for span, number in zip(words, counts, strict=True) for _ in range(number)]
            # A piece may begin and end in the middle of words, which it gets whole.
            cut.append(_cut(text, spans, max(1, room - 2 * (max(counts) - 1))))
        return cls([piece for own in cut for piece in own], [len(own) for own in cut])

    def mean(self, rows: np.ndarray, *, normalize: bool) -> np.ndarray:
        """Return embeddings of the texts ``(N, A)``: each the mean of the rows of its pieces.

        Args:
            rows: ``(P, A)`` float32, of all pieces. The row of a text with one piece is returned as it is.
            normalize: whether a mean gets a length of 1.
        """
        if len(rows) == len(self.counts):
            return rows
        parts = np.split(rows, np.cumsum(self.counts)[:-1])
        return np.stack([part[0] if len(part) == 1 else _mean(part, normalize) for part in parts])


def _mean(rows: np.ndarray, normalize: bool) -> np.ndarray:
    mean = rows.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), np.finfo(np.float32).tiny) if normalize else mean


def normalized_mean(rows: np.ndarray) -> np.ndarray:
    """Return the direction ``(A,)`` of several embeddings ``(n, A)``: each is normalised, and so is their mean."""
    return _mean(np.stack([_mean(row[None], normalize=True) for row in rows]), normalize=True)


def _token_spans(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[tuple[int, int]]] | None:
    """Return the first character and the end of each token of each text; None if the tokenizer doesn't say them."""
    try:
        found = tokenizer(
            list(texts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
        )
        return [list(spans) for spans in found["offset_mapping"]]
    except Exception:  # other tokenizers may raise anything
        _warn_truncated(tokenizer, texts, limit)
        return None


def _warn_truncated(tokenizer: Any, texts: Sequence[str], limit: int) -> None:
    """Warn of texts with more tokens than an encoder reads, if they can be counted."""
    try:
        counts = [len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]
    except Exception:
        return
    if cut := [text for text, count in zip(texts, counts, strict=True) if count > limit]:
        log.warning(
            "%d of %d texts are longer than the %d tokens that the encoder reads, and are cut off there: %s%s",
            *(len(cut), len(texts), limit, ", ".join(shortened(text, 30) for text in cut[:3])),
            ", …" if len(cut) > 3 else "",
        )


def _cut(text: str, spans: Sequence[tuple[int, int]], room: int) -> list[str]:
    """Return a text, or pieces of ``room`` tokens at most, evenly spaced; they begin and end at words where possible.

    Args:
        text: its characters.
        spans: of its T tokens, the first character and the end.
        room: the largest number of tokens of a piece.
    """
    if len(spans) <= room:
        return [text]
    common = int(OVERLAP * room)
    n_pieces = -(-(len(spans) - room) // (room - common)) + 1
    pieces = []
    for first in np.linspace(0, len(spans) - room, n_pieces).astype(int).tolist():
        begin = _at_word(text, spans, range(first, first + common // 2 + 1))
        end = _at_word(text, spans, range(first + room, first + room - common // 2 - 1, -1))
        pieces.append(text[spans[begin][0] : spans[end - 1][1]])
    return pieces


def _at_word(text: str, spans: Sequence[tuple[int, int]], places: range) -> int:
    """Return the first of some places between tokens that is also between words, or the first place."""
    for place in places:
        start = spans[place][0] if 0 < place < len(spans) else 0
        if start == 0 or any(character.isspace() for character in text[start - 1 : start + 1]):
            return place
    return places[0]
