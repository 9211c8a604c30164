"""The embedded real data set ``emoji``: pictures of objects in eight designs, and descriptions of the objects in
words.

How it was built, from what and under which licences: ``experiments/emoji/README.md``.
"""

from functools import cache
from importlib.resources import files

import numpy as np

from fgen.data.dataset import ZSLDataset
from fgen.data.splits import SPLIT_NAMES
from fgen.features.encoder_record import EncoderRecord

#: What made the features, so that a run on them encodes new pictures alike.
ENCODER = EncoderRecord(
    name="efficientnet-lite0",
    weights="7f22105182f93e4465d4c4b47a4f4d5ae5279d10be6cced4e7d85a33e8f6d80f",
    dim=1280,
    preprocessing={
        "crop": "central square",
        "size": 224,
        "interpolation": "bicubic",
        "mean": 127 / 255,
        "std": 128 / 255,
    },
)


def load_emoji() -> ZSLDataset:
    """Return the data set: features ``(N, 1280)`` of an ImageNet EfficientNet-Lite0, all of them at least 0.

    Kinds of class embedding: ``sentence (C, 384)``, ``word (C, 50)``, ``attributes (C, K)`` (multi-hot keywords).
    ``test_seen`` and ``val_seen`` are whole designs, so that a seen test picture is a drawing by another hand.
    """
    stored = _stored()
    # The square root of a feature was stored in 8 bits.
    features = np.square(stored["features"] * (stored["root_max"] / np.float32(255)))
    keywords = np.unpackbits(stored["attributes"], axis=1, count=len(stored["keywords"]))
    return ZSLDataset(
        features,
        stored["labels"].astype(np.int64),
        {"sentence": stored["sentence"], "word": stored["word"], "attributes": keywords},
        class_names=stored["class_names"].tolist(),
        splits={name: stored[f"split_{name}"].astype(np.int64) for name in SPLIT_NAMES},
        name="emoji",
        embedding=("sentence",),
        image_encoder=ENCODER,
    )


def emoji_card() -> dict[str, np.ndarray]:
    """Return what is known of the data set apart from features and labels.

    Returns:
        ``designs`` (names), ``design`` (``(N,)`` index of each row's design), ``subgroups`` (C names),
        ``imagenet_overlap`` (``(C,)`` bool: an ImageNet-1k label names the class too), ``keywords`` (K names) and
        ``credits`` (for each design: author, licence and address).
    """
    parts = ("designs", "design", "subgroups", "imagenet_overlap", "keywords", "credits")
    return {name: _stored()[name].copy() for name in parts}


@cache
def _stored() -> dict[str, np.ndarray]:
    with files("fgen.data").joinpath("emoji.npz").open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)
