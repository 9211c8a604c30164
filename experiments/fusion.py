"""What fusion is worth on emoji: kinds of words and image networks, alone and fused early and late.

    python experiments/fusion.py --out runs/fusion

It writes the drawings of emoji as PNG files (which needs npm) and encodes them by two more networks than its own,
EfficientNet-Lite0. Then it runs every single kind, every fusion and the multimodal classifier, by the honest protocol.
Rows are compared by H on held-out classes alone; test scores stand beside it. What is finished in --out isn't computed
again.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fgen
from fgen.data.emoji import load_emoji
from fgen.encoders.image import encode_images, image_encoder
from fgen.encoders.picture_list import list_pictures
from fgen.errors import InputError
from fgen.experiment.fused_runs import fuse_runs
from fgen.experiment.results import RunResult, format_gap, format_score, format_table
from fgen.metrics.decision_fusion import RULES
from fgen.metrics.stats import paired_interval

HERE = Path(__file__).resolve().parent
KINDS = ("attributes", "sentence", "word")
NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
SCORES = ("T1", "U", "S", "H")
#: Method -> its experiment: the prior alone as Gaussians takes seconds, the recipe's generator minutes.
METHODS = {"gaussian": "fgen2026_gaussian_emoji", "priorgan": "fgen2026_priorgan_emoji"}
#: Settings of the multimodal classifier: a layer for pairs that its networks learn.
LAYERS = ("cosine", "concat", "bilinear", "gated")
log = logging.getLogger("fgen")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--drawings", type=Path, help="a folder that emoji/build.py --drawings wrote (default: make it)"
    )
    parser.add_argument("--method", choices=METHODS, default="gaussian")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    try:
        data = features_of_drawings(arguments.out, arguments.drawings)
        results = {label: run() for label, run in all_rows(arguments, data)}
    except InputError as error:
        print(f"fusion: {error}", file=sys.stderr)
        return 2
    text = table(results, arguments)
    print(f"\n{text}")
    (arguments.out / f"table-{arguments.method}.txt").write_text(text + "\n", encoding="utf-8")
    return 0


def features_of_drawings(out: Path, drawings: Path | None) -> dict[str, Path]:
    """Return a data set for each image network and for all side by side: emoji's classes, words and splits."""
    out.mkdir(parents=True, exist_ok=True)
    emoji, kept = load_emoji(), {network: out / f"{network}.h5" for network in NETWORKS}
    together = out / "all-networks.h5"
    if not all(path.exists() for path in (*kept.values(), together)):
        fgen.save_dataset(of_rows(emoji, np.asarray(emoji.features), NETWORKS[0]), kept[NETWORKS[0]], overwrite=True)
        folder = drawings or out / "drawings"
        if not (folder / "paths.csv").exists():
            subprocess.run([sys.executable, HERE / "emoji" / "build.py", "--drawings", folder], check=True)
        pictures = list_pictures([folder / "paths.csv"])
        for network, path in kept.items():
            if not path.exists():
                part = path.with_suffix(".pictures.partial")
                rows = encode_images(pictures.paths, encoder=image_encoder(network), keep=part, progress=True)
                fgen.save_dataset(of_rows(emoji, rows, network), path)
                part.unlink()
        rows = np.concatenate([np.asarray(fgen.load_dataset(path).features) for path in kept.values()], axis=1)
        fgen.save_dataset(of_rows(emoji, rows, "all networks"), together, overwrite=True)
    return kept | {"all": together}


def of_rows(emoji: fgen.ZSLDataset, rows: np.ndarray, name: str) -> fgen.ZSLDataset:
    """Return emoji with other features of the same drawings."""
    if len(rows) != len(emoji.labels):
        raise InputError(f"there are {len(rows)} drawings", f"{len(emoji.labels)}, emoji's")
    kinds = {kind: emoji.embeddings[kind] for kind in KINDS}
    names, splits = emoji.class_names, emoji.splits
    return fgen.ZSLDataset(rows, emoji.labels, kinds, class_names=names, splits=splits, embedding=KINDS, name=name)


def all_rows(arguments: argparse.Namespace, data: dict[str, Path]) -> Iterator[tuple[str, Callable[[], RunResult]]]:
    """Yield the label of each row and what computes it."""
    first, second = NETWORKS[0], NETWORKS[1:]
    method = METHODS[arguments.method]

    def row(label: str, network: str = first, **settings: Any) -> tuple[str, Callable[[], RunResult]]:
        return label, lambda: run_one(method, data[network], arguments, label, settings)

    def fused(what: str, labels: list[str]) -> Iterator[tuple[str, Callable[[], RunResult]]]:
        members = [folder(arguments, label) for label in labels]
        for rule in RULES:
            yield f"decisions of {what}: {rule}", lambda rule=rule: fuse_runs(members, rule=rule, progress=True)

    for kind in KINDS:
        yield row(f"{kind} alone", embedding=kind)
    for left, right in ((KINDS[0], KINDS[1]), (KINDS[0], KINDS[2]), (KINDS[1], KINDS[2])):
        yield row(f"early: {left} + {right}", embedding=[left, right])
    yield row("early: all kinds", embedding=list(KINDS))
    yield row("early: all kinds, weights chosen", embedding=list(KINDS), embedding_weights="auto")
    yield from fused("kinds", [f"{kind} alone" for kind in KINDS])
    for network in second:
        yield row(f"{network[-5:]}, all kinds", network, embedding=list(KINDS))
    yield row("features of all networks, all kinds", "all", embedding=list(KINDS))
    yield from fused("networks", ["early: all kinds", *(f"{network[-5:]}, all kinds" for network in second)])
    for layer in LAYERS:
        model = {"name": "multimodal", "fusion": layer}
        yield row(f"multimodal, {layer}", embedding=list(KINDS), model=model)
    yield row("multimodal, cosine, all networks", "all", embedding=list(KINDS), model={"name": "multimodal"})


def run_one(method: str, path: Path, arguments: argparse.Namespace, label: str, settings: dict[str, Any]) -> RunResult:
    """Return the result of a row over all seeds; a finished one is read."""
    plain = fgen.ExperimentConfig.from_file(HERE / f"{method}.toml").to_mapping()
    model = settings.pop("model", None)
    plain["dataset"] = {key: plain["dataset"][key] for key in ("embedding_norm", "embedding_scale")}
    plain["dataset"] |= {"path": str(path)} | settings
    plain["protocol"]["seeds"] = arguments.seeds
    if model is not None:
        plain |= {"model": model}
    for free in ("paper", "ours", "train"):
        plain.pop(free, None)
    return fgen.run(plain, out=folder(arguments, label), resume=True, progress=True)


def folder(arguments: argparse.Namespace, label: str) -> Path:
    """Return the run folder of a row."""
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in label).split())
    return arguments.out / arguments.method / slug


def held_out(result: RunResult) -> float:
    """Return the mean over the seeds of the H that selection saw on held-out classes."""
    return float(np.mean([outcome.choice["val_H"] for outcome in result.outcomes]))


def table(results: dict[str, RunResult], arguments: argparse.Namespace) -> str:
    """Return the table; gaps are to the single kind that is best on held-out classes."""
    single = max((label for label in results if label.endswith("alone")), key=lambda label: held_out(results[label]))
    best = max(results, key=lambda label: held_out(results[label]))
    reference = results[single].per_seed

    def gap(label: str) -> str:
        return "" if label == single else format_gap(paired_interval(results[label].per_seed, reference, "H"))

    rows = [
        [label, f"{100 * held_out(one):.1f}", *(format_score(one.scores[name]) for name in SCORES), gap(label)]
        for label, one in results.items()
    ]
    return "\n".join(
        [
            f"emoji's drawings, honest protocol, {arguments.method}, seeds {', '.join(map(str, arguments.seeds))}; "
            "features are those of EfficientNet-Lite0 where no network is named",
            format_table(["percent, mean [95 % interval]", "held-out H", *SCORES, "H gap"], rows),
            f"best on held-out classes: {best!r}; of the single kinds {single!r}, which gaps are to, paired over "
            "classes and seeds",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
