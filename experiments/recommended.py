"""What ``fgen.recommended`` chooses, beside the test scores of every row that it considers.

    python experiments/recommended.py --out runs/recommended [--data AWA1_FOLDER] [--sets emoji slice0] [--seeds 0 1]

A row is a generator with one kind of head, with the settings that were best on held-out classes. Sets are emoji with
all kinds of embedding and with each alone, five slices of 100 seen and 25 unseen emoji classes, and AWA1 where its
folder is given. What is finished in --out isn't computed again, and what was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fgen
from fgen import rng
from fgen.errors import InputError, Interrupted
from fgen.experiment.recommended import Recommendation, recommend
from fgen.experiment.results import format_table
from fgen.io.atomic import write_json

KINDS = ("sentence", "word", "attributes")
SLICES, SLICE_SEEN, SLICE_UNSEEN = 5, 100, 25
SETS = ("emoji", *(f"emoji-{kind}" for kind in KINDS), "awa1", *(f"slice{k}" for k in range(SLICES)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with AWA1's .mat files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, help="only these")
    parser.add_argument("--budget", type=float, default=3.0, help="see fgen.recommended")
    arguments = parser.parse_args()
    names = [name for name in arguments.sets or SETS if name != "awa1" or arguments.data is not None]
    logging.getLogger("fgen").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    try:
        found = {(name, seed): compare(name, seed, arguments) for name in names for seed in arguments.seeds}
    except InputError as error:
        print(f"recommended: {error}", file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"recommended: {str(error) or 'stopped'}. The same command goes on.", file=sys.stderr)
        return 130
    text = report(found)
    print(text)
    (arguments.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    return 0


def compare(name: str, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a set, the chosen one first, each with test scores and seconds."""
    folder = arguments.out / f"{name}-seed{seed}"
    choice = folder / "choice.json"
    if not choice.exists():
        dataset, start = data_set(name, arguments), time.monotonic()
        chosen = recommend(dataset, seed=seed, budget=arguments.budget)
        rows = rows_of(chosen, dataset)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(choice, chosen.as_dict() | {"seconds": time.monotonic() - start, "rows": rows})
    stored = json.loads(choice.read_text(encoding="utf-8"))
    rows = []
    for number, row in enumerate(tqdm(stored["rows"], desc=folder.name, unit="run", disable=None)):
        config = fgen.ExperimentConfig.from_mapping(row["config"])
        result = fgen.run(config, out=folder / str(number), resume=True)
        scores, timing = result.outcomes[0].scores, next(iter(result.description["timing"].values()))
        seconds = {"seconds": sum(timing.values()), "choosing": stored["seconds"]}
        rows.append(row["facts"] | seconds | {"test T1": scores.T1, "test H": scores.H})
    return rows


def rows_of(chosen: Recommendation, dataset: fgen.ZSLDataset) -> list[dict[str, Any]]:
    """Return facts and config of the best candidate of each generator and kind of head, the chosen one first."""
    best: dict[tuple[str, str], int] = {}
    for number, candidate in enumerate(chosen.candidates):
        key = (candidate.facts["candidate"], candidate.facts["head"])
        held = best.setdefault(key, number)
        if held and candidate.score() > chosen.candidates[held].score():  # 0 is the choice
            best[key] = number
    return [
        {"facts": chosen.candidates[k].as_dict(), "config": chosen.experiment(dataset, k).to_mapping() | {"ours": {}}}
        for k in best.values()
    ]


def data_set(name: str, arguments: argparse.Namespace) -> fgen.ZSLDataset:
    """Return a data set by its name in the table; a slice is written to a file, which its runs read."""
    if name == "awa1":
        return fgen.load_dataset(arguments.data)
    emoji = fgen.load_dataset("emoji", KINDS)
    if name.startswith("slice"):
        path = arguments.out / f"{name}.h5"
        if not path.exists():
            arguments.out.mkdir(parents=True, exist_ok=True)
            fgen.save_dataset(slice_of(emoji, int(name.removeprefix("slice"))), path)
        return fgen.load_dataset(path)
    return emoji if name == "emoji" else emoji.with_embedding(name.removeprefix("emoji-"))


def slice_of(dataset: fgen.ZSLDataset, number: int) -> fgen.ZSLDataset:
    """Return a data set of some of the seen and some of the unseen classes, with the same splits."""
    stream = rng.stream(number, "slice of classes")
    sizes = ((dataset.seen, SLICE_SEEN), (dataset.unseen, SLICE_UNSEEN))
    classes = np.sort(np.concatenate([stream.choice(ids, size, replace=False) for ids, size in sizes]))
    rows = np.flatnonzero(np.isin(dataset.labels, classes))
    return fgen.ZSLDataset(
        dataset.rows(rows),
        np.searchsorted(classes, dataset.labels[rows]),
        {kind: matrix[classes] for kind, matrix in dataset.embeddings.items()},
        class_names=[dataset.name_of(k) for k in classes],
        splits={name: np.searchsorted(rows, np.intersect1d(own, rows)) for name, own in dataset.splits.items()},
        name=f"slice{number}",
        embedding=dataset.embedding,
    )


def report(found: dict[tuple[str, int], list[dict[str, Any]]]) -> str:
    """Return the table of all rows, and below it how far the choices are behind the best rows."""
    header = ["set, seed", "", "row", "settings", "held-out T1", "H", "test T1", "H", "seconds"]
    lines = []
    for (name, seed), rows in found.items():
        for row in rows:
            settings = ", ".join(f"{key} {row[key]:g}" for key in ("l2", "epochs") if key in row)
            scores = [f"{100 * row[key]:.1f}" for key in ("T1", "H", "test T1", "test H")]
            mark, label = "chosen" if row is rows[0] else "", f"{row['candidate']}, {row['head']}"
            lines.append([f"{name}, {seed}", mark, label, settings, *scores, f"{row['seconds']:.0f}"])
    return "\n".join([format_table(header, lines), *summary(list(found.values()))])


def summary(sets: Sequence[list[dict[str, Any]]]) -> list[str]:
    """Return the choices' mean scores beside the best rows', and the time that choosing takes."""
    lines = []
    for score in ("test T1", "test H"):
        chosen, best = np.mean([[rows[0][score], max(row[score] for row in rows)] for rows in sets], axis=0)
        lines.append(f"mean {score}: {100 * chosen:.1f}, of the best row on each set {100 * best:.1f}")
    times = [rows[0]["choosing"] / max(row["seconds"] for row in rows) for rows in sets]
    return [*lines, f"choosing takes {np.median(times):.1f} times as long as the slowest row (median over the sets)"]


if __name__ == "__main__":
    sys.exit(main())
