"""How the result files of two checkouts compare: byte by byte, and where bytes differ, value by value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open

#: What differs between any two runs: times, and which fgen it was.
VARYING = ("timing", "version", "git_commit", "created_by")


def compare_results(base: Path, here: Path) -> list[dict[str, Any]]:
    """Compare all files of two folders, by relative path.

    Returns:
        For each file that either holds: ``file``; ``equal``, whether all bytes are; and the names of values that
        ``differ``, and that only one has, ``base_alone`` and ``here_alone``. A file that only one has is the value "".
    """
    paths = sorted({path.relative_to(root) for root in (base, here) for path in root.rglob("*") if path.is_file()})
    return [compare(base, here, path) for path in paths if path.stem not in VARYING]


def compare(base: Path, here: Path, path: Path) -> dict[str, Any]:
    """Return how a file compares, see :func:`compare_results`."""
    files = [root / path for root in (base, here)]
    equal = all(file.exists() for file in files) and files[0].read_bytes() == files[1].read_bytes()
    ours, theirs = ({} if equal else contents(file) for file in files)
    return {
        "file": str(path),
        "equal": equal,
        "differ": sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]),
        "base_alone": sorted(ours.keys() - theirs.keys()),
        "here_alone": sorted(theirs.keys() - ours.keys()),
    }


def told(found: dict[str, Any]) -> str:
    """Return a line about a file."""
    if found["equal"]:
        return f"{found['file']}: equal bytes"
    parts = (("differ", "DIFFERS in"), ("base_alone", "MISSING here:"), ("here_alone", "new here:"))
    said = [f"{title} {', '.join(found[key]) or 'the file'}" for key, title in parts if found[key]]
    return f"{found['file']}: {'; '.join(said) or 'equal values, other bytes'}"


def contents(path: Path) -> dict[str, Any]:
    """Return the values of a file by name, those of :data:`VARYING` left out; none of a file that isn't there."""
    if not path.exists():
        return {}
    readers = {".safetensors": read_safetensors, ".npz": read_npz, ".h5": read_hdf5, ".json": read_json}
    values = readers[path.suffix](path) if path.suffix in readers else {"": path.read_bytes()}
    return {key: comparable(value) for key, value in values.items() if key.split(".")[0] not in VARYING}


def comparable(value: Any) -> Any:
    """Return an array as its type, shape and bytes; anything else as it is."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes() if value.dtype != object else value.tolist()
    return value


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors and the metadata of a file; metadata of JSON value by value."""
    with safe_open(path, framework="np") as file:
        values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it isn't a mapping)
        metadata = file.metadata() or {}
    for key, text in metadata.items():
        try:
            values |= leaves(f"metadata.{key}", json.loads(text))
        except json.JSONDecodeError:
            values[f"metadata.{key}"] = text
    return values


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays of an archive."""
    with np.load(path) as archive:
        return dict(archive)


def read_hdf5(path: Path) -> dict[str, Any]:
    """Return the attributes and datasets of a bank; its config value by value."""
    with h5py.File(path) as file:
        values = {name: file[name][()] for name in file} | dict(file.attrs)
    return values | dict(leaves("config", json.loads(values.pop("config"))))


def read_json(path: Path) -> dict[str, Any]:
    """Return the leaves of a JSON file."""
    return dict(leaves("", json.loads(path.read_text(encoding="utf-8"))))


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values within nested mappings, named by the keys on the way, with a dot between them."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(f"{name}.{key}".lstrip("."), inner)
    else:
        yield name, value
