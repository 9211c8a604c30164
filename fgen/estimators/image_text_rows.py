"""Pictures and texts as rows of numbers: those that encoders without training make, or that modules take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import nn

from fgen.errors import InputError
from fgen.features.checks import as_array, as_matrix


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Pictures or features.

    Attributes:
        rows: ``(N, D)``.
        shape: of a picture that a module takes; None of features.
    """

    rows: Any
    shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, X: Any, encoder: Any, preprocess: Any) -> Self:
        """Return the rows of pictures, or of features where there is no encoder.

        Raises:
            InputError: pictures that are no numbers of one shape, or an encoder that isn't one.
        """
        if preprocess is not None:
            X = _stacked([as_array("what preprocess returned", preprocess(picture)) for picture in X])
        if encoder is None:
            return cls(X)
        if not isinstance(encoder, nn.Module):
            return cls(encoding("image_encoder", encoder)(X))
        pictures = as_array("X", X)
        if pictures.ndim < 2 or pictures.dtype.kind not in "fiub":
            found, expected = f"X has shape {pictures.shape} and type {pictures.dtype}", "pictures as numbers (N, ...)"
            raise InputError(found, expected, "Give preprocess, which makes a tensor of a picture")
        rows = pictures.reshape(len(pictures), -1).astype(np.float32, copy=False)
        return cls(rows, tuple(pictures.shape[1:]))


def encoding(name: str, encoder: Any) -> Callable[[Any], Any]:
    """Return the method ``encode`` of an encoder.

    Raises:
        InputError: it has none, as the name of an encoder.
    """
    if isinstance(encoder, str | bytes) or not callable(getattr(encoder, "encode", None)):
        remedy = f"fgen.encoders.{name.removesuffix('_encoder')}.{name}({encoder!r:.40}) makes one of a name"
        found = f"{name} is {encoder!r:.40}"
        raise InputError(found, "a torch module, or an object with encode", remedy if isinstance(encoder, str) else "")
    method: Callable[[Any], Any] = encoder.encode
    return method


def _stacked(pictures: list[np.ndarray]) -> np.ndarray:
    if len({picture.shape for picture in pictures}) > 1:
        shapes = " and ".join(sorted({str(picture.shape) for picture in pictures})[:2])
        raise InputError(f"preprocess returned pictures of shapes {shapes}", "one shape")
    return np.stack(pictures) if pictures else np.empty((0, 0), np.float32)


def class_rows(
    texts: Mapping[Any, str | Sequence[str]] | None, encoder: Any, tokenizer: Any
) -> tuple[dict[Any, np.ndarray], tuple[int, int, int] | None]:
    """Return rows of classes by label, and of token ids their numbers of templates, arguments and tokens.

    Args:
        texts: ``{label: text}`` or ``{label: [text, ...]}``.
        encoder: a module, or an object with ``encode``, whose unit vectors are averaged over the templates.
        tokenizer: of a module.

    Raises:
        InputError: no texts, other numbers of templates, no tokenizer or one that returns something else, or an encoder
            that isn't one.
    """
    if not isinstance(texts, Mapping) or not texts:
        raise InputError(f"class_texts is {texts!r:.40}", "{label: text} with each of the classes")
    by_class = [[given] if isinstance(given, str) else list(given) for given in texts.values()]
    numbers, labels = {len(own) for own in by_class}, list(texts)
    if len(numbers) > 1 or numbers == {0}:
        raise InputError(f"classes have {sorted(numbers)} texts", "as many texts for each class, at least one")
    flat, (n_templates,) = [text for own in by_class for text in own], numbers
    if wrong := next((text for text in flat if not isinstance(text, str)), None):
        raise InputError(f"class_texts holds {wrong!r:.40}", "texts")
    if not isinstance(encoder, nn.Module):
        vectors = as_matrix("what text_encoder.encode returned", encoding("text_encoder", encoder)(flat))
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return dict(zip(labels, vectors.reshape(len(labels), n_templates, -1).mean(axis=1), strict=True)), None
    tokens = token_ids(tokenizer, flat)
    rows = tokens.reshape(len(labels), -1).astype(np.float32)
    return dict(zip(labels, rows, strict=True)), (n_templates, *tokens.shape[1:])


def token_ids(tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return what a tokenizer makes of n texts, ``(n, P, L)``: P arguments of a module, of L tokens each.

    Raises:
        InputError: no tokenizer, or something that is no matrix of ids for these texts.
    """
    if not callable(tokenizer):
        expected = "a callable from texts to token ids, for a text encoder that is a module"
        raise InputError(f"tokenizer is {tokenizer!r:.40}", expected)
    of_transformers = hasattr(tokenizer, "pad")
    options = {"padding": True, "truncation": True, "return_tensors": "np"} if of_transformers else {}
    found = tokenizer(texts, **options)
    if isinstance(found, Mapping):
        found = tuple(found[name] for name in ("input_ids", "attention_mask"))
    parts = [as_array("token ids", part) for part in (found if isinstance(found, tuple) else (found,))]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1 or parts[0].ndim != 2 or len(parts[0]) != len(texts) or parts[0].dtype.kind not in "iub":
        shown = ", ".join(f"{part.shape} {part.dtype}" for part in parts)
        raise InputError(f"the tokenizer returned {shown}", f"whole numbers ({len(texts)}, L), filled up to one length")
    return np.stack(parts, axis=1)
