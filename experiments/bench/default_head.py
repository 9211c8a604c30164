"""The default head of ``ZeroShotClassifier`` beside the papers' one, Adam of 25 epochs: seconds and H.

``python -m experiments.bench.default_head``: on 1,000 classes of :func:`experiments.bench.scale.world` and on emoji.
Seconds are those of a head on real rows and a bank, in turns. H is that of the whole estimator, whose gamma is chosen
on held-out classes, on the test rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fgen
from experiments.bench.machine import describe_machine
from experiments.bench.scale import N_GENERATED, world
from fgen.estimators.recipe import default_solver
from fgen.metrics.accuracy import gzsl_scores

HEADS: dict[str, dict[str, Any]] = {"default": default_solver({}), "adam": {"solver": "adam", "epochs": 25}}
MODEL: dict[str, Any] = {"hidden_dim": 256, "noise_dim": 64, "steps": 100}


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    found = {}
    for name, data in {"1,000 classes": world(1_000, spread=4.0), "emoji": fgen.load_dataset("emoji")}.items():
        seconds, scores = head_seconds(data, options.rounds), {head: h_of(data, own) for head, own in HEADS.items()}
        ratios = [adam / own for adam, own in zip(seconds["adam"], seconds["default"], strict=True)]
        found[name] = {"seconds": seconds, "H": scores}
        middle = {head: statistics.median(own) for head, own in seconds.items()}
        print(
            f"{name:14} adam {middle['adam']:.2f} s, default {middle['default']:.2f} s: "
            f"{statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}] times as fast; "
            f"H {100 * scores['adam']:.1f} and {100 * scores['default']:.1f}",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": describe_machine(), **found}, indent=1) + "\n", encoding="utf-8")
    return 0


def head_seconds(data: fgen.ZSLDataset, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each head's training in each round."""
    features, labels = data.split("trainval")
    model = fgen.make_model("priorgan", **MODEL).fit(features, labels, data.class_embeddings, seed=0)
    rows, of_rows = model.generate(data.unseen, N_GENERATED, seed=0)
    both, classes = (np.concatenate([features, rows]), np.concatenate([labels, of_rows])), np.arange(data.n_classes)
    seconds: dict[str, list[float]] = {name: [] for name in HEADS}
    for number in range(rounds):
        for name in list(HEADS)[:: -1 if number % 2 else 1]:
            head = fgen.SoftmaxClassifier(**HEADS[name])
            start = time.perf_counter()
            head.fit(*both, classes=classes)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def h_of(data: fgen.ZSLDataset, classifier: dict[str, Any]) -> float:
    """Return H of the estimator with a head."""
    features, labels = data.split("trainval")
    model = fgen.ZeroShotClassifier(
        data.class_embeddings, method="priorgan", model=MODEL, n_per_class=N_GENERATED, classifier=classifier
    ).fit(features, labels)
    (of_seen, seen), (of_unseen, unseen) = data.split("test_seen"), data.split("test_unseen")
    rows, truth = np.concatenate([of_seen, of_unseen]), np.concatenate([seen, unseen])
    return float(gzsl_scores(truth, model.predict(rows), seen=data.seen, unseen=data.unseen).H)


if __name__ == "__main__":
    sys.exit(main())
