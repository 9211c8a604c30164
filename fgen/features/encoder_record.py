"""The record that data sets, runs and classifiers keep of the encoder that their features come from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fgen.errors import InputError

#: The name under which files hold a record.
IMAGE_ENCODER = "image_encoder"


@dataclass(frozen=True)
class EncoderRecord:
    """What a data set, a bank or a run remembers of the encoder that its rows come from.

    Attributes:
        name: as ``--encoder`` takes it, such as ``"efficientnet-lite0"`` or ``"torchvision:resnet50"``.
        weights: SHA-256 of the weights, 64 hexadecimal digits; empty where they aren't known, as of a callable.
        dim: number of columns of what it returns.
        preprocessing: what is done to an input before the network sees it, as JSON can hold it.
    """

    name: str
    weights: str
    dim: int
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def require_width(self, width: int) -> None:
        """Refuse features of another number of columns than the encoder returns."""
        if width != self.dim:
            raise InputError(f"features have {width} columns", f"{self.dim}, as {self.name} returns")

    def to_json(self) -> str:
        """Return the record as one line of JSON; equal records give equal text."""
        return json.dumps({key: getattr(self, key) for key in self.__dataclass_fields__}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: it is no such text.
        """
        try:
            record = cls(**json.loads(text))
            fits = isinstance(record.preprocessing, dict) and isinstance(record.dim, int)
            if not fits or not isinstance(record.name, str) or not isinstance(record.weights, str):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            raise InputError(f"{text[:60]!r} is no record of an encoder", "name, weights, dim, preprocessing") from None
        return record
