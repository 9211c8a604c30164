"""Weights of networks: read from files without executing anything, loaded into a network, and told apart by a hash."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file

from fgen.errors import InputError, did_you_mean, first_line
from fgen.io.reading import guarded_read

T = TypeVar("T")
#: What checkpoints of training call the state dict within them.
WRAPPERS = ("state_dict", "model")


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Return a state dict by name from a ``.safetensors`` file, or from a file of ``torch.save``.

    The latter is read with ``weights_only=True``. A checkpoint that holds a state dict under ``"state_dict"`` or
    ``"model"`` is read too.

    Raises:
        InputError: no such file, or no state dict is in it; the message names it.
    """
    path = Path(path)
    with guarded_read(path, "weights", "Give a .safetensors file or a state dict of torch.save"):
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        for name in WRAPPERS:
            content = content[name] if isinstance(content, dict) and name in content else content
        if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise InputError(f"{path} holds no state dict", "a tensor for each name of the network's")
        return dict(content)


def load_weights(
    network: torch.nn.Module, weights: Mapping[str, torch.Tensor], name: str, *, unused: Iterable[str] = ()
) -> None:
    """Load a state dict into a network.

    Args:
        network: its parameters and buffers are replaced.
        weights: by name; of the network's shapes.
        name: of the network, for messages.
        unused: modules of which the weights may hold tensors though the network doesn't, as a head that was removed.

    Raises:
        InputError: names are missing or left over, or a shape differs; the message names the first.
    """
    own, heads = network.state_dict(), tuple(f"{module}." for module in unused)
    expected = f"the {len(own)} tensors of {name}"
    if missing := [key for key in own if key not in weights]:
        remedy = did_you_mean(missing[0], weights)
        raise InputError(f"the weights lack {missing[0]!r} and {len(missing) - 1} more", expected, remedy)
    if left := [key for key in weights if key not in own and not key.startswith(heads)]:
        raise InputError(f"the weights hold {left[0]!r} and {len(left) - 1} more that {name} lacks", expected)
    for key, tensor in own.items():
        if weights[key].shape != tensor.shape:
            found = f"the weights' {key!r} has shape {tuple(weights[key].shape)}"
            raise InputError(found, f"{tuple(tensor.shape)}, as {name} has it")
    network.load_state_dict({key: weights[key] for key in own})


def built(build: Callable[[], T]) -> T:
    """Return what ``build`` makes; torch's random state, from which networks draw their first weights, stays."""
    with torch.random.fork_rng(devices=[]):
        return build()


def weights_digest(network: torch.nn.Module) -> str:
    """Return the SHA-256 of a network's parameters and buffers: names, types, shapes and values, sorted by name.

    It is the same whichever file they were read from.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def downloaded(name: str, download: Callable[[], T]) -> T:
    """Return what a library downloads, or has downloaded before.

    Raises:
        InputError: it can't be had.
    """
    try:
        return download()
    except Exception as error:  # each library raises others where there is no network
        found = f"the weights of {name} can't be downloaded ({first_line(error)})"
        raise InputError(
            found, "a network, or a file with weights", "Give weights=PATH, --weights in the shell"
        ) from None
