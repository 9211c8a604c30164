"""Encoders of pictures and of texts by the two towers of a CLIP model of open_clip, which share one space."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgen.compute.device import choose_device, cpu_threads
from fgen.encoders.base import EncoderRecord
from fgen.encoders.network import NetworkEncoder
from fgen.encoders.passages import Pieces, checked_texts
from fgen.encoders.weights import built, load_weights, read_weights, weights_digest
from fgen.errors import InputError, first_line, require

#: Seconds before a bar is shown.
PATIENCE = 2
#: Tokens that a tokenizer puts around a text, at most.
N_MARKS = 2


class ImageTower(torch.nn.Module):
    """The features of pictures of a CLIP model as its ``encode_image`` returns them, not normalised."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features ``(n, D)`` of a batch."""
        features: torch.Tensor = self.model.encode_image(batch)
        return features


def open_clip_encoder(folder: str, weights: str | Path | None = None) -> NetworkEncoder:
    """Return the image tower of a CLIP model.

    Args:
        folder: as open_clip reads ``local-dir:FOLDER``, with ``open_clip_config.json`` and
            ``open_clip_model.safetensors``.
        weights: file of another state dict of the model, both towers.

    Raises:
        InputError: the folder isn't one, or the weights don't fit. MissingExtra: without ``fgen[vision]``.
    """
    model = read_model(folder, weights)
    library = require("open_clip.transform", "vision", "an encoder of open_clip")
    settings = model.visual.preprocess_cfg
    transform = library.image_transform_v2(library.PreprocessCfg(**settings), is_train=False)
    return NetworkEncoder(f"open_clip:{folder}", ImageTower(model), transform, settings)


@dataclass(eq=False)
class OpenClipTextEncoder:
    """The text tower of a CLIP model: embeddings of length 1 in the space of its image tower.

    A text of more tokens than the model reads is encoded in overlapping pieces, whose mean it gets, of length 1.

    Args:
        folder: as :func:`open_clip_encoder` takes it; so are ``weights``. The record's ``weights`` are those of the
            image tower's record.

    Raises:
        InputError: when it is used, as :func:`open_clip_encoder`. MissingExtra: likewise, without ``fgen[vision]``.
    """

    folder: str
    weights: str | None = None

    @cached_property
    def _model(self) -> Any:
        return read_model(self.folder, self.weights).eval().requires_grad_(False)

    @cached_property
    def _tokenizer(self) -> Any:
        library = require("open_clip", "vision", "an encoder of open_clip")
        return library.get_tokenizer(f"local-dir:{self.folder}")

    @cached_property
    def record(self) -> EncoderRecord:
        """What data remember of this encoder."""
        digest, dim = weights_digest(ImageTower(self._model)), self._model.encode_text(self._tokenizer([""])).shape[1]
        settings = {} if self.weights is None else {"weights": str(self.weights)}
        return EncoderRecord(f"open_clip:{self.folder}", digest, dim, settings)

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of length 1 of N texts.

        Args:
            texts: such as ``"a photo of a zebra"``.
            batch_size: number of texts that are encoded together; with 1 the same text has the same bytes.
            device: ``"cpu"``, where one thread works, ``"cuda"`` or ``"auto"``.
            show_progress_bar: show a bar if it takes more than two seconds.

        Raises:
            InputError: a text that is empty.
        """
        texts, chosen = checked_texts(texts), choose_device(device)
        pieces = Pieces.by_words(texts, self._n_tokens, self._tokenizer.context_length - N_MARKS)
        model, rows = self._model.to(chosen), []
        batches = self._tokenizer(pieces.texts).split(batch_size)
        with cpu_threads(1), torch.inference_mode():
            for batch in tqdm(batches, "encoding", unit="batch", delay=PATIENCE, disable=not show_progress_bar):
                rows.append(model.encode_text(batch.to(chosen), normalize=True).cpu().numpy())
        return pieces.mean(np.concatenate(rows), normalize=True)

    def _n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without those that mark its beginning and its end."""
        of_transformers = getattr(self._tokenizer, "tokenizer", None)
        if of_transformers is None:
            return [len(self._tokenizer.encode(text)) for text in texts]
        return [len(ids) for ids in of_transformers(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def read_model(folder: str, weights: str | Path | None) -> Any:
    """Return the CLIP model of a folder.

    Raises:
        InputError: as :func:`open_clip_encoder`. MissingExtra: without ``fgen[vision]``.
    """
    library, own = require("open_clip", "vision", "an encoder of open_clip"), weights is None
    try:
        model = built(
            lambda: library.create_model(
                f"local-dir:{folder}", load_weights=own, require_pretrained=own, pretrained_text=False
            )
        )
    except Exception as error:  # the library raises many types for a folder that is no model
        found = f"open_clip can't read {folder} ({first_line(error)})"
        raise InputError(found, "a folder with open_clip_config.json and open_clip_model.safetensors") from None
    if weights is not None:
        load_weights(model, read_weights(weights), f"open_clip:{folder}")
    return model
