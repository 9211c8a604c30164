"""Top-down feature pyramid (FPN, Lin et al. 2017) on an image network, trained to tell seen classes apart."""

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from fgen import rng
from fgen.encoders.base import EncoderRecord
from fgen.encoders.feature_pyramid import PooledMaps, StageMaps, stage_names
from fgen.encoders.network import NetworkEncoder, blank_picture
from fgen.encoders.pictures import open_picture
from fgen.encoders.weights import built, load_weights
from fgen.errors import InputError, require, wrong_array
from fgen.io.atomic import atomic_file
from fgen.io.reading import guarded_read

log = logging.getLogger("fgen")
#: The file's one entry of metadata: safetensors writes several in any order.
ABOUT = "feature_pyramid"
MADE_BY = "Give a file of train_feature_pyramid"


@dataclass(frozen=True)
class FeaturePyramidConfig:
    """How a feature pyramid is trained on a network that stays as it is.

    Attributes:
        channels: of each stage's map in the pyramid; D is as many times the number of stages.
        epochs: passes over the pictures.
        lr: of Adam.
        batch_size: pictures of a step.
    """

    channels: int = 256
    epochs: int = 5
    lr: float = 1e-3
    batch_size: int = 16


def train_feature_pyramid(
    out: str | Path,
    encoder: NetworkEncoder,
    paths: Sequence[Path],
    labels: np.ndarray,
    *,
    seed: int,
    config: FeaturePyramidConfig | None = None,
) -> NetworkEncoder:
    """Train a pyramid with a linear classifier on top of its pooled maps, write it to a file, return its encoder.

    Args:
        out: a ``.safetensors`` file, for ``image_encoder("fpn:FILE")``. It holds the pyramid, not the network below it.
        encoder: of a convolutional network, whose weights stay.
        paths: N pictures, of seen classes only.
        labels: their classes, ``(N,)`` whole numbers.
        seed: of the first weights and of the pictures' order.
        config: settings.

    Raises:
        InputError: a file that is no picture, or a network without stages. MissingExtra: without ``fgen[vision]``.
    """
    config, labels = config or FeaturePyramidConfig(), np.asarray(labels)
    if labels.shape != (len(paths),) or labels.dtype.kind not in "iu" or not len(paths):
        raise wrong_array("labels", labels, f"a whole number for each of {len(paths)} pictures")
    classes, targets = np.unique(labels, return_inverse=True)
    stages = stage_names(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.subseed(seed, "feature pyramid"))
        network = top_down(encoder, stages, config.channels)
        head = torch.nn.Linear(config.channels * len(stages), len(classes))
    parameters = [*network.pyramid.parameters(), *head.parameters()]
    adam = torch.optim.Adam(parameters, lr=config.lr)
    for epoch in range(config.epochs):
        order, total = rng.stream(seed, "feature pyramid order", epoch).permutation(len(paths)), 0.0
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            batch = torch.stack([encoder.preprocess(open_picture(paths[row])) for row in rows])
            loss = torch.nn.functional.cross_entropy(head(network(batch)), torch.from_numpy(targets[rows]))
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.item() * len(rows)
        log.info("feature pyramid: epoch %d of %d, loss %.3f", epoch + 1, config.epochs, total / len(paths))
    about = {"encoder": encoder.record.to_json(), "stages": stages, **asdict(config)}
    content = save(network.pyramid.state_dict(), {ABOUT: json.dumps(about)})
    with atomic_file(out) as file:
        file.write_bytes(content)
    return _encoder(str(out), encoder, network, content)


def described_encoder(path: str | Path) -> EncoderRecord:
    """Return the record of the encoder that a pyramid's file was trained on.

    Raises:
        InputError: no such file, or it holds no pyramid.
    """
    with guarded_read(Path(path), "feature pyramid", MADE_BY), safe_open(path, framework="pt") as file:
        return EncoderRecord.from_json(json.loads(file.metadata()[ABOUT])["encoder"])


def read_feature_pyramid(path: str | Path, encoder: NetworkEncoder) -> NetworkEncoder:
    """Return the encoder by a pyramid that :func:`train_feature_pyramid` wrote.

    Args:
        path: the file.
        encoder: of the network that it was trained on, with the same weights.

    Raises:
        InputError: damage, or another network or other weights. MissingExtra: without ``fgen[vision]``.
    """
    if (record := described_encoder(path)) != encoder.record:
        remedy = "Give the weights that it was trained on: weights=PATH, --weights"
        raise InputError(f"{path} was trained on other weights of {record.name}", record.weights, remedy)
    with guarded_read(Path(path), "feature pyramid", MADE_BY):
        content = Path(path).read_bytes()
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[ABOUT])
        network = built(lambda: top_down(encoder, about["stages"], about["channels"]))
        load_weights(network.pyramid, load(content), "the feature pyramid")
    return _encoder(str(path), encoder, network, content)


def top_down(encoder: NetworkEncoder, stages: Sequence[str], channels: int) -> PooledMaps:
    """Return the pooled pyramid of a network's stages, with first weights from torch's random state."""
    operators = require("torchvision.ops", "vision", "a feature pyramid")
    maps = StageMaps(copy.deepcopy(encoder.network), stages)
    with torch.inference_mode():
        found = maps(encoder.preprocess(blank_picture())[None])
    pyramid = operators.FeaturePyramidNetwork([one.shape[1] for one in found.values()], channels)
    return PooledMaps(maps, pyramid)


def _encoder(path: str, encoder: NetworkEncoder, network: PooledMaps, content: bytes) -> NetworkEncoder:
    """Return the encoder by a pyramid; its hash is that of the network's hash and the pyramid's file."""
    digest = hashlib.sha256(encoder.record.weights.encode() + content).hexdigest()
    preprocessing = {**encoder.record.preprocessing, "stages": list(network.maps.stages)}
    return NetworkEncoder(f"fpn:{path}", network, encoder.preprocess, preprocessing, digest)
