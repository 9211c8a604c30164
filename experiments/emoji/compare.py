"""The demo's table: what a generator is worth on `emoji`, beside the baselines, under one honest protocol.

    python experiments/emoji/compare.py --seeds 0 --out runs/demo

Everything is resumable: what is finished in --out is not computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import fgen
from fgen.data.emoji import emoji_card
from fgen.errors import InputError, Interrupted
from fgen.results import SCORES, RunResult, format_score, format_table
from fgen.scores.stats import paired_interval, summarise

HERE = Path(__file__).resolve().parent.parent
GENERATOR = HERE / "xian2018_clswgan_emoji.toml"
MATCHING = HERE / "fgen2026_clswgan-matching_emoji.toml"
BASELINE = HERE / "fgen2026_ridge_emoji.toml"

#: Row of the table -> experiment and overrides.
ROWS = {
    "softmax on seen only": (BASELINE, ['model={name="seen_only"}', "protocol.calibrate=false"]),
    "ridge": (BASELINE, ["protocol.calibrate=false"]),
    "ridge, calibrated": (BASELINE, []),
    "f-CLSWGAN": (GENERATOR, []),
    "f-CLSWGAN + feature matching": (MATCHING, []),
}
REFERENCE = "ridge, calibrated"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--budget", type=float, default=1.0, help="share of the generators' epochs")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    started = time.monotonic()
    try:
        results = {label: run_row(label, arguments) for label in ROWS}
    except (InputError, Interrupted) as error:
        print(f"compare: {error}. The same command goes on.", file=sys.stderr)
        return 130 if isinstance(error, Interrupted) else 2
    text = report(results, arguments)
    print(f"\n{text}\n")
    (arguments.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    (arguments.out / "table.json").write_text(json.dumps(facts(results), indent=2) + "\n", encoding="utf-8")
    picture = draw(arguments.out / slug("f-CLSWGAN + feature matching") / "seeds" / str(arguments.seeds[0]) / "bank.h5")
    print(f"run folders: {arguments.out}/, each with its feature bank in seeds/*/bank.h5\npicture: {picture}")
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def slug(label: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in label.lower()).replace("---", "-")


def run_row(label: str, arguments: argparse.Namespace) -> RunResult:
    path, overrides = ROWS[label]
    config = fgen.ExperimentConfig.from_file(path, [*overrides, f"protocol.seeds={arguments.seeds}"])
    if config.model.name in fgen.MODELS:
        epochs = max(1, round(arguments.budget * config.model.epochs))
        config = replace(config, model=replace(config.model, epochs=epochs))
    print(f"-- {label}", file=sys.stderr)
    return fgen.run(config, out=arguments.out / slug(label), resume=True, progress=sys.stderr.isatty())


def unfamiliar(result: RunResult) -> list:
    """The same scores on the unseen classes that the features' own ImageNet network was never trained to name."""
    overlap = np.asarray(emoji_card()["imagenet_overlap"], dtype=bool)
    narrowed = []
    for outcome in result.outcomes:
        scores = outcome.scores
        keep = ~overlap[scores.unseen]
        narrowed.append(
            replace(
                scores,
                unseen=scores.unseen[keep],
                per_class_T1=scores.per_class_T1[keep],
                per_class_U=scores.per_class_U[keep],
                T1=float(np.nanmean(scores.per_class_T1[keep])),
                U=float(np.nanmean(scores.per_class_U[keep])),
            )
        )
    return narrowed


def facts(results: dict[str, RunResult]) -> dict:
    reference = [outcome.scores for outcome in results[REFERENCE].outcomes]
    return {
        label: {
            "scores": result.scores,
            "outside ImageNet's labels": {name: summarise(unfamiliar(result))[name] for name in ("T1", "U")},
            f"minus {REFERENCE}": {
                name: paired_interval([o.scores for o in result.outcomes], reference, name) for name in ("T1", "H")
            },
            "timing": result.description["timing"],
            "choice": result.description["choice"],
        }
        for label, result in results.items()
    }


def report(results: dict[str, RunResult], arguments: argparse.Namespace) -> str:
    found = facts(results)
    header = ["percent, mean [95 % interval]", *SCORES, "T1 outside ImageNet"]
    rows = [
        [*result.row(label), format_score(found[label]["outside ImageNet's labels"]["T1"])]
        for label, result in results.items()
    ]
    dataset = results[REFERENCE].description["dataset"]
    lines = [
        f"emoji: {dataset['n_seen']} seen and {dataset['n_unseen']} unseen classes, honest protocol, "
        f"seeds {', '.join(map(str, arguments.seeds))}; chance T1 {100 / dataset['n_unseen']:.1f}; "
        f"{100 * arguments.budget:.0f} % of the generators' epochs",
        format_table(header, rows),
        "",
        f"minus {REFERENCE}, paired over classes and seeds:",
    ]
    for label in list(ROWS)[list(ROWS).index(REFERENCE) + 1 :]:
        gaps = found[label][f"minus {REFERENCE}"]
        parts = [
            f"{name} {100 * gap['difference']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            for name, gap in gaps.items()
        ]
        lines.append(f"  {label}: {', '.join(parts)}")
    return "\n".join(lines)


def draw(bank_path: Path, n_classes: int = 8) -> Path:
    from fgen.scores.plots import plot_features

    dataset = fgen.load_dataset("emoji")
    classes = dataset.unseen[:: max(1, len(dataset.unseen) // n_classes)][:n_classes]
    rows = dataset.splits["test_unseen"]
    rows = rows[np.isin(dataset.labels[rows], classes)]
    with fgen.FeatureBank.open(bank_path) as bank:
        synthetic, labels = bank.to_numpy(classes)
    path = bank_path.parents[3] / "features.png"
    plot_features(
        path,
        dataset.rows(rows),
        dataset.labels[rows],
        synthetic,
        labels,
        dataset.class_names,
        title="Unseen classes: real drawings and features generated from words alone",
    )
    return path


if __name__ == "__main__":
    sys.exit(main())
