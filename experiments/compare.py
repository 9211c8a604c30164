"""Tables of what a generator is worth beside the baselines, under one honest protocol: on `emoji`, or on your AWA1.

    python experiments/compare.py demo --seeds 0 --out runs/demo
    python experiments/compare.py family --seeds 0 1 2 3 4 --out runs/compare
    python experiments/compare.py awa1 --data FOLDER --out runs/awa1

Each row and seed is a run of its own, on one thread; two run at a time. What is finished in --out isn't computed again,
and what was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import fgen
from fgen.data.emoji import emoji_card
from fgen.errors import InputError, Interrupted
from fgen.experiment.results import format_gap, format_score, format_table
from fgen.experiment.workers import Workers
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.stats import paired_interval, summarise
from fgen.reports.run_report import write_report

HERE = Path(__file__).resolve().parent
RIDGE = "fgen2026_ridge_emoji"
GAUSSIAN = "fgen2026_gaussian_emoji"
OURS = "fgen2026_priorgan_emoji"
AWA1_BASE = "fgen2026_clswgan-matching_awa1_zsl"
SAME_HEAD = 'classifier={name="cosine",scaling="sqrt",whitening=1.0}'

OUTSIDE = "T1 outside ImageNet"

Rows = dict[str, tuple[str, list[str]]]

#: Row of the table -> experiment and overrides.
DEMO: Rows = {
    "softmax on seen only": (RIDGE, ['model={name="seen_only"}', "protocol.calibrate=false"]),
    "ridge": (RIDGE, ["protocol.calibrate=false"]),
    "ridge, calibrated": (RIDGE, []),
    "f-CLSWGAN": ("xian2018_clswgan_emoji", []),
    "f-CLSWGAN + feature matching": ("fgen2026_clswgan-matching_emoji", []),
    "fgen's recipe": (OURS, []),
    "its prior alone": (OURS, ["model.truncation=0", "model.epochs=1"]),
}
FAMILY: Rows = {
    **{name: (RIDGE, [f'model={{name="{name}"}}']) for name in ("ridge", "dap", "eszsl", "sae", "ale", "devise")},
    "prior as Gaussians": (GAUSSIAN, []),
    "f-CLSWGAN": ("xian2018_clswgan_emoji", []),
    "f-CLSWGAN + feature matching": ("fgen2026_clswgan-matching_emoji", []),
    "f-VAEGAN-D2": ("xian2019_fvaegan_emoji", []),
    "TF-VAEGAN": ("narayan2020_tfvaegan_emoji", []),
    "cycle-CLSWGAN": ("felix2018_cycle_emoji", []),
    "LisGAN": ("li2019_lisgan_emoji", []),
    "LsrGAN": ("vyas2020_lsrgan_emoji", []),
    "CE-GZSL": ("han2021_cegzsl_emoji", []),
    "FREE": ("chen2021_free_emoji", []),
    "ZSML": ("verma2020_zsml_emoji", []),
    "GAZSL": ("zhu2018_gazsl_emoji", []),
    "CADA-VAE": ("schonfeld2019_cadavae_emoji", []),
    "flow matching": ("fgen2026_flow_emoji", []),
    "diffusion (ZeroDiff)": ("ye2025_diffusion_emoji", []),
    "f-CLSWGAN + matching, fgen's head": ("fgen2026_clswgan-matching_emoji", [SAME_HEAD, "bank.n_per_class=40"]),
    "fgen's recipe": (OURS, []),
    "its prior alone": (OURS, ["model.truncation=0", "model.epochs=1"]),
}
#: Every method in the same narrow nets for the same few steps, each with class-mean matching, and fgen's recipe.
AWA1_NETS = 'hidden_dim=512,noise_dim=32,lr=0.0005,feature_scaling="standard",output="linear",class_mean_weight=100.0'
#: CADA-VAE's steps are a tenth of the others' work, and its terms are faded in over epochs.
AWA1_STEPS = {
    **dict.fromkeys((name for name in fgen.MODELS if name != "priorgan"), "steps=200"),
    "cadavae": "steps=2000,cross_start=0,cross_end=3,alignment_start=0,alignment_end=2,divergence_end=9",
}
AWA1: Rows = {
    **{name: (AWA1_BASE, [f'model={{name="{name}"}}']) for name in ("ridge", "eszsl", "sae")},
    **{name: (AWA1_BASE, [f'model={{name="{name}",{AWA1_NETS},{steps}}}']) for name, steps in AWA1_STEPS.items()},
    "priorgan, fgen's recipe": ("fgen2026_priorgan_awa1_zsl", []),
}
TABLES = {"demo": DEMO, "family": FAMILY, "awa1": AWA1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the data set's .mat files, where it isn't emoji")
    parser.add_argument("--epochs", type=int, help="the same number for all generators (default: each one's own)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a thread each")
    parser.add_argument("--rows", nargs="+", help="only these rows")
    arguments = parser.parse_args()
    of_awa1 = arguments.table == "awa1"
    if of_awa1 != (arguments.data is not None):
        parser.error("--data belongs to the table awa1, which needs it")
    if of_awa1 and arguments.epochs is not None:
        parser.error("--epochs is not for the table awa1, whose generators have steps")
    if unknown := set(arguments.rows or ()) - set(TABLES[arguments.table]):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; rows are {', '.join(TABLES[arguments.table])}")
    place = [] if arguments.data is None else [f"dataset.path={arguments.data}"]
    table = TABLES[arguments.table].items()
    rows = {label: (name, [*own, *place]) for label, (name, own) in table if label in (arguments.rows or [label])}
    try:
        make_table(rows, arguments)
    except InputError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "What was finished is kept; mend that, and the same command goes on."
        print(f"compare: {where}{error.strerror or error}. {remedy}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"compare: {str(error) or 'stopped'}. The same command goes on.", file=sys.stderr)
        return 130
    return 0


def make_table(rows: Rows, arguments: argparse.Namespace) -> None:
    """Run what isn't finished, and print and write the table, with a picture of the recipe's bank."""
    started = time.monotonic()
    dataset = configure(*next(iter(rows.values()))).dataset.load()
    results = run_all(rows, arguments)
    reference = best_baseline(rows, results)
    found = facts(results, reference, outside=dataset.name == "emoji")
    text = report(dataset, found, reference, arguments)
    print(f"\n{text}\n")
    (arguments.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    (arguments.out / "table.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    drawn = next((label for label in rows if "fgen's recipe" in label), next(iter(rows)))
    print(f"run folders: {arguments.out}/, each with its feature bank in seeds/*/bank.h5")
    bank = folder(arguments.out, drawn, arguments.seeds[0]) / "seeds" / str(arguments.seeds[0]) / "bank.h5"
    if bank.exists() and (picture := draw(dataset, bank, arguments.out / "features.png")):
        print(f"picture: {picture}")
    if arguments.table == "demo":
        page = arguments.out / "report.html"
        ordered = [reference, *(label for label in rows if label != reference)]
        write_report([folder(arguments.out, label, arguments.seeds[0]) for label in ordered], page)
        print(f"report: {page}")
    print(f"{time.monotonic() - started:.0f} s")


def folder(out: Path, label: str, seed: int) -> Path:
    slug = "-".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())
    return out / slug / f"seed-{seed}"


def run_all(rows: Rows, arguments: argparse.Namespace) -> dict[str, list[tuple[GZSLScores, dict]]]:
    """Every row and seed, the seeds in the outer loop, so that a stopped table has whole seeds."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = [(label, seed) for seed in arguments.seeds for label in rows]
    units = [
        partial(run_one, *rows[label], seed, arguments.epochs, folder(arguments.out, label, seed))
        for label, seed in jobs
    ]
    results, errors = {}, {}
    finished = Workers(arguments.jobs).results(units)
    for one in tqdm(finished, total=len(jobs), unit="run", disable=not sys.stderr.isatty()):
        label, seed = jobs[one.number]
        if one.value is None:
            errors[one.number] = one.error
        else:
            results[label, seed] = one.value
            print(f"{label}, seed {seed}: H {100 * one.value[0].H:.1f}", file=sys.stderr)
    if errors:
        raise errors[min(errors)]
    return {label: [results[label, seed] for seed in arguments.seeds] for label in rows}


def run_one(experiment: str, overrides: list[str], seed: int, epochs: int | None, out: Path) -> tuple[GZSLScores, dict]:
    """One seed of one row, in a process of its own; its scores, and what its result says of time and choice."""
    logging.getLogger("fgen").setLevel(logging.WARNING)
    config = configure(experiment, [*overrides, f"protocol.seeds=[{seed}]", "train.threads=1"])
    if epochs is not None and config.model.name in fgen.MODELS and config.model.epochs > 1:
        config = replace(config, model=replace(config.model, epochs=epochs))
    result = fgen.run(config, out=out, resume=True)
    kept = {
        key: result.description[key] for key in ("choice", "timing", "transductive", "unseen_embeddings_in_training")
    }
    return result.outcomes[0].scores, kept


def configure(experiment: str, overrides: list[str]) -> fgen.ExperimentConfig:
    """The committed experiment of this name, overridden."""
    return fgen.ExperimentConfig.from_file(HERE / f"{experiment}.toml", overrides)


def best_baseline(rows: Rows, results: dict[str, list[tuple[GZSLScores, dict]]]) -> str:
    """The baseline with the best mean H, which every generator is held against."""
    baselines = [label for label, row in rows.items() if configure(*row).model.name in fgen.BASELINES] or list(rows)
    return max(baselines, key=lambda label: np.mean([scores.H for scores, _ in results[label]]))


def unfamiliar(per_seed: list[GZSLScores]) -> Iterator[GZSLScores]:
    """The same scores on the unseen classes that the features' own ImageNet network was never trained to name."""
    overlap = np.asarray(emoji_card()["imagenet_overlap"], dtype=bool)
    for scores in per_seed:
        keep = ~overlap[scores.unseen]
        names = [field.name for field in fields(scores) if field.name in ("unseen", "per_class_T1", "per_class_U")]
        narrowed = replace(scores, **{name: getattr(scores, name)[keep] for name in names})
        means = {name: float(np.nanmean(getattr(narrowed, f"per_class_{name}"))) for name in ("T1", "U")}
        yield replace(narrowed, **means)


def facts(results: dict[str, list[tuple[GZSLScores, dict]]], reference: str, *, outside: bool) -> dict:
    """What the table says of each row.

    Args:
        outside: also T1 on the unseen classes outside ImageNet's labels, which emoji knows.
    """
    scores = {label: [one for one, _ in found] for label, found in results.items()}
    return {
        label: {
            "scores": summarise(scores[label])
            | ({OUTSIDE: summarise(list(unfamiliar(scores[label])))["T1"]} if outside else {}),
            "minus reference": {name: paired_interval(scores[label], scores[reference], name) for name in ("T1", "H")},
            "seconds": float(np.median([sum(next(iter(kept["timing"].values())).values()) for _, kept in found])),
            "per_seed": [kept for _, kept in found],
        }
        for label, found in results.items()
    }


def report(dataset: fgen.ZSLDataset, found: dict, reference: str, arguments: argparse.Namespace) -> str:
    """The table, and what its columns mean."""
    names = list(found[reference]["scores"])
    rows = [
        [
            label,
            *(format_score(row["scores"][name]) for name in names),
            *("" if label == reference else format_gap(row["minus reference"][name]) for name in ("T1", "H")),
            f"{row['seconds']:.0f}",
        ]
        for label, row in found.items()
    ]
    budget = "each its own epochs" if arguments.epochs is None else f"{arguments.epochs} epochs for every generator"
    if arguments.table == "awa1":
        budget = "200 steps for every generator, CADA-VAE 2,000, priorgan an epoch"
    return "\n".join(
        [
            f"{dataset.name}: {len(dataset.seen)} seen and {len(dataset.unseen)} unseen classes, honest protocol, "
            f"seeds {', '.join(map(str, arguments.seeds))}; chance T1 {100 / len(dataset.unseen):.1f}; {budget}",
            format_table(["percent, mean [95 % interval]", *names, "T1 gap", "H gap", "seconds"], rows),
            f"gaps: minus {reference!r}, paired over classes and seeds; seconds: of one seed on one thread, selection, "
            "final training, bank, heads and test",
        ]
    )


def draw(dataset: fgen.ZSLDataset, bank_path: Path, path: Path, n_classes: int = 8) -> Path | None:
    """A picture of a bank of raw features beside real ones; None of a bank that lives elsewhere."""
    from fgen.reports.plots import plot_features

    classes = dataset.unseen[:: max(1, len(dataset.unseen) // n_classes)][:n_classes]
    rows = dataset.splits["test_unseen"]
    rows = rows[np.isin(dataset.labels[rows], classes)]
    with fgen.FeatureBank.open(bank_path) as bank:
        if bank.space != "raw":
            return None
        synthetic, labels = bank.to_numpy(classes)
    plot_features(
        path,
        dataset.rows(rows),
        dataset.labels[rows],
        synthetic,
        labels,
        dataset.class_names,
        title="Unseen classes: real features and those generated from descriptions alone",
    )
    return path


if __name__ == "__main__":
    sys.exit(main())
