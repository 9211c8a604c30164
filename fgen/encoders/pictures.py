"""Pictures in files: which are read, and how one becomes red, green and blue values of 8 bits."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError, require
from fgen.io.reading import guarded_read

#: Largest number of pixels of a picture, so that a few copies fit into memory; a larger JPEG is read at half its size.
MAX_PIXELS = 1 << 26
#: Modes without transparency, unless a picture's "transparency" names a colour of theirs.
OPAQUE = ("1", "L", "RGB", "CMYK", "YCbCr")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
#: What :func:`fgen.io.reading.guarded_read` says of a file that is none.
PICTURE = "picture", f"Give one of {', '.join(SUFFIXES)}"
#: Held while warnings are filtered, which is a setting of the whole process.
_filtering = threading.Lock()


def read_picture(path: str | Path) -> np.ndarray:
    """Return a picture as ``(H, W, 3)`` uint8, as :func:`open_picture` reads it."""
    return np.asarray(open_picture(path))


def open_picture(path: str | Path) -> Any:
    """Return a picture as a Pillow image of mode RGB: at its full size, upright, transparent pixels laid over white.

    Raises:
        InputError: the file is no picture, has pixels without a known white value, or more than 67 million pixels.
        MissingExtra: without ``fgen[image]``.
    """
    pillow = require("PIL.Image", "image", "an image encoder")
    upright = require("PIL.ImageOps", "image", "an image encoder").exif_transpose
    with guarded_read(Path(path), *PICTURE), _opened(path, pillow) as picture:
        upright(picture, in_place=True)
        if picture.mode.startswith("I;16"):
            picture = pillow.fromarray((np.asarray(picture) // 256).astype(np.uint8))
        if picture.mode in ("I", "F"):
            raise InputError(f"{path} holds {picture.mode} numbers", "8 or 16 bits a colour")
        if picture.mode not in OPAQUE or "transparency" in picture.info:
            white = pillow.new("RGBA", picture.size, "white")
            picture = pillow.alpha_composite(white, picture.convert("RGBA"))
        return picture.convert("RGB")


@contextmanager
def _opened(path: str | Path, pillow: Any) -> Iterator[Any]:
    """Yield an opened picture, not decoded yet; a JPEG of more than :data:`MAX_PIXELS` is decoded at half its size.

    Raises:
        InputError: another picture of more pixels, or a JPEG of more than four times as many.
    """
    expected, remedy = f"at most {MAX_PIXELS:,}", "Make it smaller: networks look at a few hundred in a row"
    with _filtering, warnings.catch_warnings():
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


def central_square(picture: Any, size: int) -> Any:
    """Return the largest central square of a Pillow image, scaled to ``size`` x ``size`` by bicubic interpolation."""
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), 3)  # Pillow's Resampling.BICUBIC
