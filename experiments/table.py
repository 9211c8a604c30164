"""The papers' numbers beside ours: one row for each experiment that has either.

    python experiments/table.py [NAME ...]

``[paper]`` says what a paper or its table reports and where it was read, ``[ours]`` what fgen measured, with the seeds,
the commit and the command. Names keep the experiments in whose name one of them occurs: a method, a data set.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fgen
from fgen.experiment.results import format_table
from fgen.metrics.calibration import harmonic_mean

HERE = Path(__file__).resolve().parent
SCORES = ("T1", "U", "S", "H")


def main() -> int:
    """Print the table of the experiments that the command line names, by default of all."""
    wanted = sys.argv[1:] or [""]
    paths = [path for path in sorted(HERE.glob("*.toml")) if any(name in path.stem for name in wanted)]
    text = table({path.stem: fgen.ExperimentConfig.from_file(path) for path in paths})
    if not text:
        print(f"table: no experiment with numbers is called like {', '.join(wanted)}", file=sys.stderr)
        return 2
    print(text)
    return 0


def table(experiments: Mapping[str, fgen.ExperimentConfig]) -> str:
    """Percent, by experiment; empty where none has numbers."""
    header = ["experiment", *(f"paper {name}" for name in SCORES), *(f"ours {name}" for name in SCORES)]
    rows, sources = [], []
    for name, config in experiments.items():
        if config.paper or config.ours:
            rows.append([name, *_percent(config.paper), *_percent(config.ours), str(config.ours.get("commit", ""))])
            sources += [f"{name}: {config.paper['read_in']}"] if config.paper else []
    if not rows:
        return ""
    lines = ["", "Where the papers' numbers were read:", *sources] if sources else []
    return "\n".join([format_table([*header, "commit"], rows), *lines])


def _percent(section: Mapping[str, Any]) -> list[str]:
    """T1, U, S and H; an H that isn't given follows from U and S."""
    given = dict(section)
    if {"U", "S"} <= set(given):
        given.setdefault("H", harmonic_mean(given["U"], given["S"]))
    return [f"{100 * given[name]:.1f}" if name in given else "" for name in SCORES]


if __name__ == "__main__":
    sys.exit(main())
