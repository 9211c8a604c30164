"""Several finished runs side by side: their scores, and their differences from the first run's."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgen.errors import InputError, visible
from fgen.experiment.results import SCORES, RunResult, format_gap, format_table
from fgen.metrics.stats import paired_interval

#: Scores whose differences are told.
PAIRED = ("T1", "H")
FACTS = ("model", "protocol", "setting", "calibrated")


@dataclass(frozen=True)
class Compared:
    """A run beside the first one.

    Attributes:
        name: distinct among those that are compared.
        gaps: by score, the difference from the first run's, see :func:`fgen.metrics.stats.paired_interval`; of the
            first run, and where the runs can't be paired, there are none.
        unpaired: why they can't be paired, else "".
    """

    name: str
    result: RunResult
    gaps: Mapping[str, Mapping[str, float | None]]
    unpaired: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what is told of the run, as JSON can hold it; scores are fractions."""
        facts = self.result.description
        goal = "val_T1" if facts["setting"] == "zsl" else "val_H"
        chosen = [choice[goal] for choice in facts["choice"] if goal in choice]
        return {
            "run": self.name,
            "path": str(self.result.out),
            **{key: facts[key] for key in FACTS},
            "dataset": facts["dataset"]["name"],
            "seeds": facts["seeds"],
            "test_used_for_selection": facts["test_used_for_selection"],
            "selected_by": goal,
            "validation": float(np.mean(chosen)) if chosen else None,
            "scores": self.result.scores,
            "minus_first": {score: dict(gap) for score, gap in self.gaps.items()},
            "unpaired": self.unpaired,
        }


def compare_runs(paths: Sequence[str | Path]) -> list[Compared]:
    """Return finished runs beside the first of them.

    Raises:
        InputError: a folder that holds no finished run.
    """
    results = [RunResult.load(path) for path in paths]
    return [compared(name, one, results[0]) for name, one in zip(distinct_names(paths), results, strict=True)]


def compared(name: str, result: RunResult, first: RunResult) -> Compared:
    """Return a run beside the first one."""
    gaps = {} if result is first else {score: paired_gap(result, first, score) for score in PAIRED}
    reason = next((gap for gap in gaps.values() if isinstance(gap, str)), "")
    return Compared(name, result, {} if reason else gaps, reason)  # type: ignore[arg-type]


def paired_gap(run: RunResult, first: RunResult, score: str = "H") -> dict[str, float | None] | str:
    """Return the difference between two runs' scores with its interval, or why the runs can't be paired."""
    mine, others = run.description, first.description
    if mine["dataset"]["fingerprint"] != others["dataset"]["fingerprint"]:
        return "other data"
    if mine["seeds"] != others["seeds"]:
        return "other seeds"
    try:
        return paired_interval(run.per_seed, first.per_seed, score)
    except InputError:
        return "other classes"


def distinct_names(paths: Sequence[str | Path]) -> list[str]:
    """Return a distinct name for each folder: its own, or its path without the parts that all share."""
    parts = [Path(path).resolve().parts for path in paths]
    if len({own[-1] for own in parts}) == len(parts):
        return [own[-1] for own in parts]
    while len({own[0] for own in parts}) == 1 and all(len(own) > 1 for own in parts):
        parts = [own[1:] for own in parts]
    while len({own[-1] for own in parts}) == 1 and all(len(own) > 1 for own in parts):
        parts = [own[:-1] for own in parts]
    return ["/".join(own) for own in parts]


def as_table(runs: Sequence[Compared]) -> str:
    """Return a table for the terminal, in percent with 95 % intervals, and below it what makes runs incomparable."""
    score = "T1" if all(run.result.scores["H"]["mean"] is None for run in runs) else "H"
    rows = [
        [*run.result.row(visible(run.name)), format_gap(run.gaps[score]) if score in run.gaps else run.unpaired]
        for run in runs
    ]
    warnings = [f"{visible(run.name)}: {sentence}" for run in runs for sentence in run.result.warnings()]
    return "\n".join([format_table(["%", *SCORES, f"{score} minus the first's"], rows), *warnings])


def as_csv(runs: Sequence[Compared]) -> str:
    """Return the facts of :meth:`Compared.as_dict` as CSV: ``H_low`` beside ``H``, ``H_minus_first`` and its bounds."""
    text = io.StringIO()
    rows = [_flat(run.as_dict()) for run in runs]
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Return a run's facts with a cell for each."""
    scores, gaps = facts.pop("scores"), facts.pop("minus_first")
    facts["seeds"] = " ".join(map(str, facts["seeds"]))
    for name in SCORES:
        facts |= {name: scores[name]["mean"]} | {f"{name}_{end}": scores[name][end] for end in ("low", "high")}
    for name in PAIRED:
        gap = gaps.get(name, {})
        keys = {"difference": "", "low": "_low", "high": "_high"}
        facts |= {f"{name}_minus_first{end}": gap.get(key) for key, end in keys.items()}
    return facts
