"""What calibration is worth where classes are few: random slices of 12 seen and 4 unseen classes of emoji.

    python experiments/slices.py --out runs/slices [--seeds 0 1 2]

Each slice and seed trains fgen's recipe on the slice and once without each of its seen classes, as `fgen train` does,
and two heads on what it generates. Gamma and the expected H come from the held-out classes alone; the slice's test rows
then tell what they were worth. What is finished in --out isn't computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import fgen
from fgen import rng
from fgen.classifiers.cosine import CosineConfig
from fgen.classifiers.softmax import SoftmaxConfig
from fgen.data.folds import n_folds, validation_folds
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.heads import ScoredRows
from fgen.experiment.results import format_table
from fgen.experiment.steps import Task, fit, new_heads, new_model, representation, synthetic_rows
from fgen.io.atomic import write_json
from fgen.metrics.calibration import best_gamma
from fgen.metrics.gamma import choose

RECIPE = Path(__file__).resolve().parent / "fgen2026_priorgan_emoji.toml"
KINDS = ("sentence", "word", "attributes")
N_SLICES, N_SEEN, N_UNSEEN = 20, 12, 4
HEADS = {
    "whitened cosine": CosineConfig(scaling="sqrt", whitening=1.0),
    "softmax by L-BFGS": SoftmaxConfig(scaling="sqrt", solver="lbfgs", l2=1e-3),
}


def take_slice(emoji: fgen.ZSLDataset, number: int) -> fgen.ZSLDataset:
    """Return a random slice with emoji's own test rows; which classes it has follows from its number."""
    stream = rng.stream(number, "slice")
    seen, unseen = (
        np.sort(stream.choice(*group, replace=False)) for group in ((emoji.seen, N_SEEN), (emoji.unseen, N_UNSEEN))
    )
    classes = np.concatenate([seen, unseen])
    parts = {name: emoji.splits[name] for name in ("trainval", "test_seen", "test_unseen")}
    parts = {name: rows[np.isin(emoji.labels[rows], classes)] for name, rows in parts.items()}
    rows, ends = np.concatenate([*parts.values()]), np.cumsum([len(part) for part in parts.values()])
    return fgen.ZSLDataset(
        emoji.rows(rows),
        np.searchsorted(classes, emoji.labels[rows], sorter=np.argsort(classes)),
        {kind: emoji.embeddings[kind][np.sort(classes)] for kind in KINDS},
        class_names=[emoji.name_of(k) for k in np.sort(classes)],
        splits=dict(zip(parts, np.split(np.arange(len(rows)), ends[:-1]), strict=True)),
        embedding=KINDS,
    )


def scored_heads(task: Task) -> dict[str, ScoredRows]:
    """Train the recipe's generator on a task, and score its test rows by each head."""
    model = fit(task, new_model(task))
    bank, scored = synthetic_rows(task, model), {}
    for name, head in HEADS.items():
        own = replace(task, recipe=replace(task.recipe, classifier=head))
        (heads,) = new_heads(own, model, *bank, with_zsl=False)
        scored[name] = heads.score(task.dataset, representation(model))
    return scored


def measure(emoji: fgen.ZSLDataset, number: int, seed: int) -> dict[str, Any]:
    """Return for each head what calibration makes of a slice."""
    config = ExperimentConfig.from_file(RECIPE, ["train.threads=1"])
    task = Task(config, take_slice(emoji, number), seed)
    folds = validation_folds(task.dataset, n_folds(task.dataset), seed=seed)
    of_folds = [scored_heads(replace(task, dataset=fold)) for fold in folds]
    result = {}
    for name, scored in scored_heads(task).items():
        choice = choose([fold[name].held_out() for fold in of_folds], n_seen=N_SEEN, n_unseen=N_UNSEEN)
        none, chosen = scored.at(0.0)[0], scored.at(choice.gamma)[0]
        expected = choice.expected["H"]
        result[name] = {
            "gamma": choice.gamma,
            "H": {"uncalibrated": none.H, "calibrated": chosen.H, "at the best gamma": best_gamma(none.curve)[1]},
            "expected": [expected.mean, expected.low, expected.high],
        }
    return result


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean H of each head without, with and with the best gamma, and what the slices lost at most.

    Args:
        rows: of all slices, seed by seed.
    """
    lines = []
    for name in HEADS:
        own = [row[name] for row in rows]
        h = {kind: np.array([row["H"][kind] for row in own]) for kind in own[0]["H"]}
        by_slice = {kind: values.reshape(-1, N_SLICES).mean(axis=0) for kind, values in h.items()}
        change = by_slice["calibrated"] / np.maximum(by_slice["uncalibrated"], 1e-9) - 1
        low, high = np.array([row["expected"][1:] for row in own]).T
        holds = ((low <= h["calibrated"]) & (h["calibrated"] <= high)).reshape(-1, N_SLICES).sum(axis=1)
        means = [f"{100 * values.mean():.1f}" for values in h.values()]
        lines.append([name, *means, f"{100 * change.min():+.0f} %", ", ".join(f"{n} of {N_SLICES}" for n in holds)])
    return format_table(["H in percent", *own[0]["H"], "worst slice", "the interval of the expected H holds"], lines)


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    logging.getLogger("fgen").setLevel(logging.ERROR)
    options.out.mkdir(parents=True, exist_ok=True)
    emoji, rows = fgen.load_dataset("emoji", KINDS), []
    for seed, number in tqdm([(seed, number) for seed in options.seeds for number in range(N_SLICES)], unit="slice"):
        file = options.out / f"{number}-{seed}.json"
        if not file.exists():
            write_json(file, measure(emoji, number, seed))
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    print(table(rows))


if __name__ == "__main__":
    main()
