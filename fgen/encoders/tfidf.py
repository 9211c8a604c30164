"""Embeddings of long texts by their words' frequencies (TF-IDF), reduced by a singular value decomposition."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from fgen.encoders.base import EncoderRecord
from fgen.encoders.fingerprint import sha256_of_tensors
from fgen.encoders.passages import checked_texts
from fgen.errors import InputError, first_line, require, shortened
from fgen.features.checks import as_matrix, checked_names
from fgen.io import stored_folder

FORMAT = "fgen-tfidf"
#: Types of a vectorizer's settings that are stored.
PLAIN = (str, bool, int, float, list, tuple, type(None))
log = logging.getLogger("fgen")


@dataclass(eq=False)
class TfidfEncoder:
    """Encoder of long and noisy texts, such as pages of an encyclopedia: TF-IDF, then SVD (Deerwester et al. 1990).

    :meth:`fit` learns words, weights and directions from texts, so texts that come later need the same fitted encoder:
    :meth:`save` it. The arguments are those of scikit-learn's ``TruncatedSVD`` and ``TfidfVectorizer``.

    Args:
        n_components: A at most; fewer where there are fewer texts or words.
        random_state: seed of the SVD.
        normalize_embeddings: whether embeddings get a length of 1.
        vectorizer: other settings of ``TfidfVectorizer``, such as ``{"min_df": 2, "stop_words": "english"}``.

    Raises:
        InputError: settings that scikit-learn refuses. MissingExtra: when it is used without ``fgen[sklearn]``.

    Example:
        >>> encoder = TfidfEncoder(2).fit(["a striped mammal", "a mammal with hooves", "a pot for hot drinks"])
        >>> encoder.encode(["hooves and a striped coat"]).shape
        (1, 2)
    """

    n_components: int = 300
    random_state: int = 0
    normalize_embeddings: bool = True
    vectorizer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_components < 1:
            raise InputError(f"n_components is {self.n_components}", "at least 1")
        if isinstance(words := self.vectorizer.get("ngram_range"), list):  # from JSON or TOML, which have no tuples
            self.vectorizer = {**self.vectorizer, "ngram_range": tuple(words)}
        self._fitted: Any = None
        self._components = np.empty((0, 0), np.float64)
        self._folder = ""

    @property
    def needs_fit(self) -> bool:
        """Whether :meth:`fit` has to be called before :meth:`encode`."""
        return self._fitted is None

    @property
    def record(self) -> EncoderRecord:
        """What data remember of this encoder; its name has the folder that it was saved in or read from."""
        self._expect_fitted()
        name = f"tfidf:{self._folder}" if self._folder else "tfidf"
        return EncoderRecord(name, sha256_of_tensors(self._tensors()), len(self._components), {})

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn words, their weights and the directions from N texts.

        Raises:
            InputError: fewer than two texts, no word that they share, or settings that scikit-learn refuses.
            MissingExtra: without ``fgen[sklearn]``.
        """
        texts = checked_texts(texts)
        decomposition = require("sklearn.decomposition", "sklearn", "TF-IDF")
        vectorizer = self._new_vectorizer({})
        try:
            counts = vectorizer.fit_transform(texts)
            dim = min(self.n_components, *counts.shape)
            svd = decomposition.TruncatedSVD(dim, random_state=self.random_state).fit(counts)
        except ValueError as error:
            found = f"TF-IDF can't be learned from {len(texts)} texts ({first_line(error)})"
            raise InputError(found, "texts with words that min_df, max_df and stop_words leave") from None
        if dim < self.n_components:
            log.info("TF-IDF has %d numbers for each text, since there are %d texts and %d words", dim, *counts.shape)
        self._fitted, self._components, self._folder = vectorizer, svd.components_, ""
        return self

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts of any length.

        Args:
            texts: such as pages of an encyclopedia.
            batch_size, device, show_progress_bar: have no effect.

        Raises:
            InputError: before :meth:`fit`, or a text without a word that it has learned.
        """
        texts = checked_texts(texts)
        self._expect_fitted()
        counts = self._fitted.transform(texts)
        empty = np.flatnonzero(counts.getnnz(axis=1) == 0)
        if empty.size:
            found = f"no word of {shortened(texts[empty[0]])} was in the texts that TF-IDF learned from"
            raise InputError(found, "at least one", "Describe it in other words, or fit an encoder on all texts")
        rows = np.asarray(counts @ self._components.T)
        if self.normalize_embeddings:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return rows.astype(np.float32)

    def save(self, folder: str | Path) -> None:
        """Write the fitted encoder as JSON and safetensors.

        Raises:
            InputError: before :meth:`fit`, a setting that JSON can't hold, or the folder holds other files.
        """
        self._expect_fitted()
        if odd := [name for name, value in self.vectorizer.items() if not isinstance(value, PLAIN)]:
            raise InputError(f"vectorizer has {odd[0]}, which is {self.vectorizer[odd[0]]!r:.60}", "what JSON can hold")
        words = sorted(self._fitted.vocabulary_, key=self._fitted.vocabulary_.get)
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__}
        stored_folder.write(folder, "tfidf", FORMAT, {"settings": settings, "words": words}, self._tensors())
        self._folder = os.fspath(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "TfidfEncoder":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no such folder, or damaged files. MissingExtra: without ``fgen[sklearn]``.
        """
        require("sklearn.feature_extraction.text", "sklearn", "TF-IDF")

        def restore(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> TfidfEncoder:
            encoder, words = cls(**description["settings"]), checked_names(description["words"], name="words")
            encoder._fitted = encoder._new_vectorizer({"vocabulary": words})
            if encoder._fitted.use_idf:
                encoder._fitted.idf_ = tensors["idf"].numpy()
            encoder._components = as_matrix("components", tensors["components"].numpy(), dtype=np.float64)
            if encoder._components.shape[1] != len(words):
                raise ValueError(f"{len(words)} words have {encoder._components.shape[1]} columns")
            encoder._folder = os.fspath(folder)
            return encoder

        return stored_folder.read(folder, "tfidf", {FORMAT: restore})

    def _new_vectorizer(self, more: dict[str, Any]) -> Any:
        library = require("sklearn.feature_extraction.text", "sklearn", "TF-IDF")
        try:
            return library.TfidfVectorizer(**self.vectorizer, **more)
        except TypeError as error:
            found = f"vectorizer has a setting that TfidfVectorizer doesn't ({first_line(error)})"
            raise InputError(found, "settings of scikit-learn's TfidfVectorizer") from None

    def _tensors(self) -> dict[str, torch.Tensor]:
        idf = {"idf": torch.from_numpy(np.array(self._fitted.idf_))} if self._fitted.use_idf else {}
        return {"components": torch.from_numpy(np.array(self._components)), **idf}

    def _expect_fitted(self) -> None:
        if self.needs_fit:
            raise InputError("the TF-IDF encoder has learned no words", "fit(texts) first, or load(folder)")
