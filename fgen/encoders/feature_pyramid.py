"""Feature pyramids of an image network: maps of several stages, from fine to coarse, pooled and put side by side."""

import copy
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from fgen.encoders.network import NetworkEncoder, blank_picture
from fgen.errors import InputError

#: What networks call the sequence of their blocks; without one it is the network itself, as in ResNet.
TRUNKS = ("features", "stages", "blocks", "_blocks")
#: Finer maps, of half the picture's height, hold edges only.
FINEST = 4


class StageMaps(torch.nn.Module):
    """The feature maps of modules within a network.

    Args:
        network: any.
        stages: names of modules that return maps ``(n, C, h, w)``.
    """

    def __init__(self, network: torch.nn.Module, stages: Sequence[str]) -> None:
        super().__init__()
        self.network, self.stages = network, tuple(stages)
        self._found: dict[tuple[int, str], torch.Tensor] = {}  # by thread
        for name in self.stages:
            network.get_submodule(name).register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self._found[threading.get_ident(), name] = output

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the map of each stage of a batch."""
        self.network(batch)
        return {name: self._found.pop((threading.get_ident(), name)) for name in self.stages}


class PooledMaps(torch.nn.Module):
    """The mean of each stage's map over height and width, side by side.

    Args:
        maps: of the stages.
        pyramid: makes other maps of these, as ``torchvision.ops.FeaturePyramidNetwork`` does; by default none does.
    """

    def __init__(self, maps: StageMaps, pyramid: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.maps, self.pyramid = maps, torch.nn.Identity() if pyramid is None else pyramid

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features ``(n, D)`` of a batch."""
        return torch.cat([found.mean(dim=(2, 3)) for found in self.pyramid(self.maps(batch)).values()], dim=1)


def stage_names(encoder: NetworkEncoder) -> list[str]:
    """Return the last block of each map size of a network, from fine to coarse.

    Raises:
        InputError: it has fewer than two, as a Transformer, whose tokens have no size.
    """
    trunks = [name for name, _ in encoder.network.named_modules() if name.rpartition(".")[2] in TRUNKS]
    trunk = trunks[0] if trunks else ""
    sizes: dict[str, int] = {}

    def note(name: str, module: Any, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3]:
            sizes[name] = output.shape[2]

    children = encoder.network.get_submodule(trunk).named_children()
    hooks = [child.register_forward_hook(partial(note, f"{trunk}.{name}".lstrip("."))) for name, child in children]
    picture = encoder.preprocess(blank_picture())
    with torch.inference_mode():
        encoder.forward(picture[None])
    for hook in hooks:
        hook.remove()
    last = {size: name for name, size in sizes.items() if 1 < size <= picture.shape[1] // FINEST}
    if len(last) < 2:
        raise InputError(f"{encoder.record.name} has maps of {len(last)} sizes", "a convolutional network")
    return [last[size] for size in sorted(last, reverse=True)]


def pyramid_encoder(encoder: NetworkEncoder, stages: Sequence[str] | None = None) -> NetworkEncoder:
    """Return an encoder by the pooled maps of several stages of another encoder's network, side by side.

    Args:
        encoder: a convolutional network.
        stages: names of modules within its network; by default :func:`stage_names`.

    Raises:
        InputError: the network has no stages.
    """
    stages = stage_names(encoder) if stages is None else list(stages)
    record, maps = encoder.record, StageMaps(copy.deepcopy(encoder.network), stages)
    preprocessing = {**record.preprocessing, "stages": stages}
    return NetworkEncoder(f"pyramid:{record.name}", PooledMaps(maps), encoder.preprocess, preprocessing, record.weights)
