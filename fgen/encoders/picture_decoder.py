"""A decoder of features: trained on pictures and the features that an encoder made of them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from fgen import rng
from fgen.compute.device import cpu_threads
from fgen.errors import InputError, TrainingDiverged, wrong_array
from fgen.nn.decoder import SIDE, PictureDecoder, picture_loss

#: Rows that are decoded at once.
BATCH_ROWS = 256
#: Pictures whose mean colour training starts from.
MEASURED_PICTURES = 1000
#: Share of the steps in which the rate rises to ``lr``; it then falls to 0 along a cosine.
WARM_UP = 0.05


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Settings of a decoder and its training, by default those chosen on held-out seen drawings of ``emoji``.

    Attributes:
        width: channels of the decoder's first map.
        dropout: share of the columns that a step hides: generated features err in each of them.
        steps: of training, in which ``batch_size`` rows are drawn.
        lr: highest rate of Adam.
    """

    width: int = 64
    dropout: float = 0.5
    steps: int = 700
    batch_size: int = 64
    lr: float = 2e-3


def fit_decoder(
    features: np.ndarray,
    pictures: np.ndarray,
    *,
    seed: int,
    config: DecoderConfig | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> PictureDecoder:
    """Train a decoder on the CPU; the same seed gives the same bytes on one machine with one number of threads.

    Args:
        features: ``(N, D)`` float32, scaled.
        pictures: ``(N, 64, 64, 3)`` uint8, of the same rows.
        seed: names every random number used.
        threads: of the CPU; None takes torch's number.
        progress: show a bar.

    Raises:
        InputError: arrays that don't fit. TrainingDiverged: the loss left the finite numbers.
    """
    config = DecoderConfig() if config is None else config
    if pictures.shape != (len(features), SIDE, SIDE, 3) or pictures.dtype != np.uint8:
        raise wrong_array("pictures", pictures, f"({len(features)}, {SIDE}, {SIDE}, 3) uint8")
    if not len(features):
        raise InputError("there are no pictures to train a decoder on", "at least 1")
    rows, targets = torch.from_numpy(np.ascontiguousarray(features)), torch.from_numpy(pictures)
    decoder = PictureDecoder(rows.shape[1], config.width)
    with cpu_threads(threads):
        _initialise(decoder, rows, targets, seed)
        optimiser = torch.optim.Adam(decoder.parameters(), lr=config.lr)
        for step in tqdm(range(config.steps), unit="step", desc="training a decoder", disable=not progress):
            stream, shape = rng.stream(seed, "decoder", step), (config.batch_size, rows.shape[1])
            drawn = torch.from_numpy(stream.integers(len(rows), size=config.batch_size))
            mask = torch.from_numpy(stream.random(shape, np.float32) >= config.dropout) / (1 - config.dropout)
            loss = picture_loss(decoder(rows[drawn], mask), _channels_first(targets[drawn]))
            optimiser.param_groups[0]["lr"] = config.lr * _rate(step, config.steps)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in decoder.parameters()):
        raise TrainingDiverged("the decoder left the finite numbers", "finite weights", "Look for outliers in features")
    return decoder.eval()


def _initialise(decoder: PictureDecoder, rows: torch.Tensor, targets: torch.Tensor, seed: int) -> None:
    """Set weights from N(0, 2 / fan-in) (He et al. 2015), and all else from the training rows."""
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.zero_()
            if parameter.ndim == 1:
                continue
            shape = tuple(parameter.shape)
            noise = rng.stream(seed, "init", "decoder", name).standard_normal(shape, dtype=np.float32)
            parameter.copy_(torch.from_numpy(noise) * (2 / math.prod(shape[1:])) ** 0.5)
    decoder.begin(rows, _channels_first(targets[:MEASURED_PICTURES]))


def _rate(step: int, steps: int) -> float:
    """Return the share of the highest rate in a step."""
    rising = min(1.0, (step + 1) / (WARM_UP * steps))
    return rising * (1 + math.cos(math.pi * step / steps)) / 2


def _channels_first(pictures: torch.Tensor) -> torch.Tensor:
    """Return pictures ``(B, 3, H, W)`` float32 in [0, 1] of ``(B, H, W, 3)`` uint8."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def decode(decoder: PictureDecoder, features: np.ndarray) -> np.ndarray:
    """Return pictures ``(N, 64, 64, 3)`` uint8 of scaled features ``(N, D)``."""
    pictures = np.empty((len(features), SIDE, SIDE, 3), np.uint8)
    with torch.inference_mode():
        for start in range(0, len(features), BATCH_ROWS):
            decoded = decoder(torch.from_numpy(features[start : start + BATCH_ROWS]))
            pictures[start : start + len(decoded)] = (decoded * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pictures
