"""What a record says of an encoder: the hash of its weights, and its settings."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 (hex) of tensors: of their names, types, shapes and bytes, in the names' order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_of(encoder: Any, source: str) -> dict[str, Any]:
    """Return the settings of an encoder, a dataclass, that aren't its source and differ from their defaults."""
    values = {field.name: (getattr(encoder, field.name), field.default) for field in dataclasses.fields(encoder)}
    return {name: value for name, (value, default) in values.items() if name != source and value != default}
