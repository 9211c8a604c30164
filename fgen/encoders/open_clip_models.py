"""Encoders of pictures and of texts by the two towers of a CLIP model of open_clip, which share one space."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgen.compute.device import cpu_threads
from fgen.encoders.base import EncoderRecord
from fgen.encoders.network import NetworkEncoder
from fgen.encoders.weights import built, load_weights, read_weights, weights_digest
from fgen.errors import InputError, first_line, require, shortened

log = logging.getLogger("fgen")


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


class OpenClipTextEncoder:
    """The text tower of a CLIP model: embeddings of length 1 in the space of its image tower.

    Args:
        folder: as :func:`open_clip_encoder` takes it; so are ``weights``. The record's ``weights`` are those of the
            image tower's record.

    Raises:
        InputError: as :func:`open_clip_encoder`. MissingExtra: without ``fgen[vision]``.
    """

    def __init__(self, folder: str, weights: str | Path | None = None) -> None:
        self._model = read_model(folder, weights).eval().requires_grad_(False)
        self._tokenizer = require("open_clip", "vision", "an encoder of open_clip").get_tokenizer(f"local-dir:{folder}")
        digest, dim = weights_digest(ImageTower(self._model)), self._model.encode_text(self._tokenizer([""])).shape[1]
        context = self._tokenizer.context_length
        self.record = EncoderRecord(f"open_clip:{folder}", digest, dim, {"context_length": context, "norm": 1})

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 1, device: str = "cpu", show_progress_bar: bool = False
    ) -> np.ndarray:
        """Return embeddings ``(N, A)`` float32 of length 1; a batch size of 1 gives a text the same bytes.

        A text of more tokens than the model reads is cut, and a warning names it.
        """
        tokens, model = self._tokens(texts), self._model.to(device)
        rows = []
        with cpu_threads(1), torch.inference_mode():
            for batch in tqdm(tokens.split(batch_size), unit="batch", disable=not show_progress_bar):
                rows.append(model.encode_text(batch.to(device), normalize=True).cpu().numpy())
        return np.concatenate(rows)

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        limit = self._tokenizer.context_length
        tokens = self._tokenizer(list(texts), context_length=limit)
        longer = self._tokenizer(list(texts), context_length=limit + 1)
        beyond = (longer != 0).sum(dim=1) > (tokens != 0).sum(dim=1)
        if cut := [text for text, is_cut in zip(texts, beyond.tolist(), strict=True) if is_cut]:
            log.warning("%d texts have more than %d tokens and are cut: %s", len(cut), limit, shortened(cut[0], 30))
        return tokens


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
