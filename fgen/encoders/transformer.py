"""Embeddings of texts by a Transformer of the Hugging Face library, and its module to train further."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from fgen.compute.device import choose_device, cpu_threads
from fgen.encoders.base import EncoderRecord
from fgen.encoders.fingerprint import settings_of, sha256_of_tensors
from fgen.encoders.hub import load_model, quiet_libraries
from fgen.encoders.passages import Pieces, checked_texts
from fgen.errors import InputError, require
from fgen.io.atomic import replace_directory
from fgen.nn.pooling import Pooling, make_pooling

POOLINGS = ("cls", "mean", "attention")
#: File of a learned pooling, beside those of the library.
POOLING_FILE = "pooling.safetensors"
#: Seconds after which a bar is shown.
PATIENCE = 2.0
EXPECTED = "a folder that save_pretrained wrote, with model.safetensors and a tokenizer, or a name"


class PooledTransformer(nn.Module):
    """A Transformer and the pooling of its outputs, to be used or trained as any module.

    Args:
        transformer: a model of the transformers library whose output has ``last_hidden_state (n, T, A)``.
        pooling: see :func:`fgen.nn.pooling.make_pooling`.
    """

    def __init__(self, transformer: nn.Module, pooling: nn.Module) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return embeddings ``(n, A)`` of token ids ``(n, T)``; a mask ``(n, T)`` of 0 is padding."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.pooling(hidden, attention_mask)


@dataclass(eq=False)
class TransformerEncoder:
    """Encoder of texts by any encoder of the transformers library, such as BERT (Devlin et al. 2019).

    The model is loaded when it is first used: from safetensors alone, and without code of its own. A text beyond its
    limit is encoded in overlapping pieces, whose mean it gets.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a name that the library may download.
        pooling: ``"mean"`` of the tokens' vectors, ``"cls"``, the first token's, or ``"attention"``, a weighted mean
            whose weights ``module`` learns; before that it is the mean.
        prompt: what is put before each text.
        truncate_dim: A, if only the first numbers of an embedding are wanted.
        normalize_embeddings: whether embeddings get a length of 1.
        revision: a commit, tag or branch of a model that is downloaded.
        local_files_only: whether nothing may be downloaded.

    Raises:
        InputError: when it is used, of a model that can't be loaded or lacks weights. MissingExtra: without
            ``fgen[text]``.

    Example:
        >>> encoder = TransformerEncoder("folder/of/bert", pooling="cls")  # doctest: +SKIP
        >>> encoder.encode(["zebra: striped, a mammal", "teapot"]).shape  # doctest: +SKIP
        (2, 768)
    """

    model: str
    pooling: Pooling = "mean"
    prompt: str | None = None
    truncate_dim: int | None = None
    normalize_embeddings: bool = False
    revision: str | None = None
    local_files_only: bool = False

    def __post_init__(self) -> None:
        self.model = os.fspath(self.model)
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling is {self.pooling!r}", f"one of {', '.join(POOLINGS)}")
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise InputError(f"truncate_dim is {self.truncate_dim}", "at least 1")

    @cached_property
    def tokenizer(self) -> Any:
        """The library's tokenizer of the model."""
        return self._loaded("AutoTokenizer")

    @cached_property
    def _library_model(self) -> tuple[Any, dict[str, Any]]:
        """The library's whole model, which may have a decoder, and what it says of the loading."""
        options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        model, loading = self._loaded("AutoModel", **options)
        return model, loading

    @cached_property
    def module(self) -> PooledTransformer:
        """The Transformer with its pooling, in evaluation mode; train it, and ``encode`` uses what it has learned.

        Its ``forward`` takes what :meth:`tokenize` returns.
        """
        whole, loading = self._library_model
        transformer = _text_part(whole)
        if isinstance(getattr(transformer, "pooler", None), nn.Module):
            transformer.pooler = None  # BERT's own last layer isn't used, and many files lack its weights
        kept = {id(parameter) for parameter in transformer.parameters()}
        named = {name for name, parameter in whole.named_parameters() if id(parameter) in kept}
        if missing := sorted(named & set(loading["missing_keys"])):
            found = f"the Transformer {self.model!r} lacks {len(missing)} weights, as {missing[0]}"
            raise InputError(found, "all weights of the model that its config.json describes")
        pooling = make_pooling(self.pooling, _width(transformer))
        if self.pooling == "attention" and (learned := Path(self.model) / POOLING_FILE).is_file():
            pooling.load_state_dict(load_file(learned))
        return PooledTransformer(transformer, pooling).eval()

    @property
    def max_length(self) -> int | None:
        """The largest number of tokens that the model reads; None is without limit."""
        transformer, limit = self.module.transformer, self.tokenizer.model_max_length
        if positions := getattr(transformer.config, "max_position_embeddings", None):
            # RoBERTa and its like begin to count positions after that of padding.
            first = getattr(getattr(transformer, "embeddings", None), "padding_idx", None)
            limit = min(limit, positions if first is None else positions - first - 1)
        return limit if limit < 1 << 30 else None  # a tokenizer without limit says 1e30

    @property
    def record(self) -> EncoderRecord:
        """What data remember of this encoder, with the weights that it has now."""
        width = _width(self.module.transformer)
        return EncoderRecord(
            name=f"hf:{self.model}",
            weights=sha256_of_tensors(self.module.state_dict()),
            dim=min(width, self.truncate_dim or width),
            preprocessing=settings_of(self, "model"),
        )

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, both ``(n, T)``, of n texts, each cut at the limit."""
        prompted = [f"{self.prompt or ''}{text}" for text in texts]
        found = self.tokenizer(
            prompted,
            padding=True,
            truncation=self.max_length is not None,
            max_length=self.max_length,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of N texts.

        Args:
            texts: such as ``"zebra: striped, a mammal of the savanna"``.
            batch_size: number of texts that are encoded together; only with 1 the same text has the same bytes,
                whatever the others are.
            device: ``"cpu"``, where one thread works, ``"cuda"`` or ``"auto"``. The module is moved there.
            show_progress_bar: show a bar if it takes more than two seconds.

        Raises:
            InputError: a text that is empty, or a model that can't be loaded. MissingExtra: without ``fgen[text]``.
        """
        texts, chosen = checked_texts(texts), choose_device(device)
        module = self.module.to(chosen)
        pieces = Pieces.of(texts, self.tokenizer, self.max_length, self.prompt or "")
        starts, training, rows = range(0, len(pieces.texts), batch_size), module.training, []
        bar = tqdm(starts, desc="encoding", unit="batch", delay=PATIENCE, disable=not show_progress_bar)
        module.eval()
        with cpu_threads(1), torch.inference_mode():  # the order of sums depends on the threads
            for start in bar:
                tokens = self.tokenize(pieces.texts[start : start + batch_size])
                found = module(**{name: ids.to(chosen) for name, ids in tokens.items()})[:, : self.truncate_dim]
                rows.append(nn.functional.normalize(found) if self.normalize_embeddings else found)
        module.train(training)
        return pieces.mean(torch.cat(rows).cpu().numpy(), normalize=self.normalize_embeddings)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the Transformer, its tokenizer and a learned pooling, for ``TransformerEncoder(folder)``.

        Raises:
            InputError: the folder exists.
        """
        if Path(folder).exists():
            raise InputError(f"{folder} exists", "a new name", "Choose another name")
        module, (whole, _) = self.module, self._library_model
        with replace_directory(folder) as new, quiet_libraries(bars=False):
            whole.save_pretrained(new)
            self.tokenizer.save_pretrained(new)
            if state := module.pooling.state_dict():
                save_file(state, new / POOLING_FILE)

    def _loaded(self, name: str, **options: Any) -> Any:
        """Return what a class of the library makes of the model.

        Raises:
            InputError: it can't be loaded. MissingExtra: without ``fgen[text]``.
        """
        library = require("transformers", "text", "a Transformer of texts")
        options |= {"revision": self.revision or "main", "local_files_only": self.local_files_only}
        with quiet_libraries(bars=False):
            load = partial(getattr(library, name).from_pretrained, self.model, trust_remote_code=False, **options)
            return load_model("the Transformer", self.model, load, EXPECTED)


def _text_part(model: Any) -> Any:
    """Return the part of a model that encodes texts: of one of texts and pictures, or of an encoder and a decoder."""
    if hasattr(model, "text_model"):
        return model.text_model
    return model.get_encoder() if model.config.is_encoder_decoder else model


def _width(transformer: Any) -> int:
    """Return A, the length of the vectors of tokens."""
    return int(transformer.config.hidden_size)
