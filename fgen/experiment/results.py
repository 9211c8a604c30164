"""Result of a run: its scores with their intervals, and its table."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fgen.errors import InputError, visible
from fgen.experiment.directory import RunDirectory
from fgen.experiment.records import read_predictions
from fgen.io.reading import guarded_read, read_json
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.stats import SCORES as SCORES

#: Rows of the table of expected scores.
EXPECTED = {"expected": "expected", "the same, uncalibrated": "uncalibrated"}


@dataclass(frozen=True)
class SeedOutcome:
    """One seed's result.

    Attributes:
        scores: on the test rows, after calibration where that was asked for.
        uncalibrated: the same without calibration.
        choice: what selection chose: epochs (or a baseline's setting), gamma, and the score it looked at.
        seconds: wall time by phase.
    """

    seed: int
    scores: GZSLScores
    uncalibrated: GZSLScores
    choice: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """A run's result; ``description`` is what ``result.json`` holds.

    Attributes:
        out: the run folder, or None where nothing was kept.

    Example:
        >>> settings = {"dataset": {"name": "toy"}, "model": {"name": "ridge"}}
        >>> fgen.run(settings, out="runs/ridge").scores.keys() == fgen.RunResult.load("runs/ridge").scores.keys()
        True
    """

    description: dict[str, Any]
    outcomes: tuple[SeedOutcome, ...] = ()
    out: Path | None = None

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """``{score: {mean, low, high, per_seed}}`` as fractions."""
        return dict(self.description["scores"])

    @property
    def per_seed(self) -> list[GZSLScores]:
        """The scores of each seed, as :func:`fgen.metrics.stats.paired_interval` compares them with another run's."""
        if self.out is None or self.outcomes:
            return [outcome.scores for outcome in self.outcomes]
        folder = RunDirectory.open(self.out)
        return [read_predictions(folder.seed(seed).predictions)[1] for seed in self.description["seeds"]]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the result of a finished run's folder.

        Raises:
            InputError: the run isn't finished, or its result is damaged.
        """
        folder = RunDirectory.open(path)
        remedy = f"Finish it with fgen run {folder.config} --resume"
        if not folder.result.exists():
            raise InputError(f"{folder.result} doesn't exist", "a finished run", remedy)
        with guarded_read(folder.result, "result", remedy):
            result = cls(read_json(folder.result), out=folder.path)
            result.table()  # what it shows is there
            return result

    def table(self) -> str:
        """Return a table for the terminal, in percent."""
        above, header, rows, below = self._parts()
        return "\n".join([*above, format_table(header, rows), *below])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table, and the sentences around it."""
        above, header, rows, below = self._parts()
        lines = [(header, "th"), *((row, "td") for row in rows)]
        cells = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) for line, tag in lines)
        table = f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
        before, after = ("".join(f"<p>{html.escape(line)}</p>" for line in part) for part in (above, below))
        return f"<div>{before}{table}{after}</div>"

    def _parts(self) -> tuple[list[str], list[str], list[list[str]], list[str]]:
        """Return the lines above the table, its header, its rows, and the lines below it."""
        facts = self.description
        head = (
            f"{facts['model']} on {facts['dataset']['name']}: protocol {facts['protocol']}, "
            f"setting {facts['setting']}, "
            f"{len(facts['seeds'])} seed{'s' if len(facts['seeds']) > 1 else ''}"
        )
        above, rows = [visible(head), *self.warnings()], [self.row("%")]
        if self.scores["S"]["mean"] is None:
            above.append("T1 alone: there are no test rows of seen classes.")
            return above, ["", "T1"], [row[:2] for row in rows], [self.choices()]
        if facts["calibrated"]:
            rows.append(["uncalibrated", *(format_score(facts["uncalibrated"][name]) for name in SCORES)])
        below = [self.choices(), *(self.calibration() if facts["calibrated"] else [])]
        return above, ["", *SCORES], rows, below

    def calibration(self) -> list[str]:
        """Return a sentence for each thing that the seeds' gammas rest on; none of a run of an earlier fgen."""
        told = (choice["held_out"]["sentence"] for choice in self.description["choice"] if "held_out" in choice)
        return list(dict.fromkeys(told))

    def choices(self) -> str:
        """Return a line that names what was chosen for each seed, and the T1 of guessing."""
        chosen = [
            f"epoch {choice['epochs']}{' of ' + str(choice['of']) if 'of' in choice else ''}"
            + (f" with gamma {choice['gamma']:.3g}" if choice.get("gamma") else "")
            + (f" and weights {format_weights(choice['embedding_weights'])}" if "embedding_weights" in choice else "")
            for choice in self.description["choice"]
            if "epochs" in choice
        ]
        chosen += [format_fusion(choice) for choice in self.description["choice"] if "fusion" in choice]
        chance = f"chance T1 {100 / self.description['dataset']['n_unseen']:.1f}"
        return f"chosen: {', '.join(chosen)}; {chance}" if chosen else chance

    def warnings(self) -> list[str]:
        """Return a sentence for each thing beyond the seen classes that training or selection saw."""
        sentences = {
            "test_used_for_selection": "The TEST SET was used to choose the number of epochs: not comparable with "
            "honest results.",
            "transductive": "TRANSDUCTIVE: training saw unlabelled features of the test rows.",
            "unseen_embeddings_in_training": "Training saw the embeddings of the unseen classes.",
        }
        return [sentence for key, sentence in sentences.items() if self.description[key]]

    def row(self, label: str) -> list[str]:
        """Return ``label``, then each score in percent with its 95 % interval."""
        return [label, *(format_score(self.scores[name]) for name in SCORES)]


def format_expectation(choice: Mapping[str, Any]) -> str:
    """Return what gamma rests on, and a table of the scores to expect of classes without test rows.

    Args:
        choice: what ``choice.json`` holds; of an earlier fgen it doesn't tell, and the text is empty.
    """
    told = choice.get("held_out")
    if told is None:
        return ""
    names = [name for name in SCORES if name in told["expected"]]
    rows = [[label, *(format_score(told[key][name]) for name in names)] for label, key in EXPECTED.items()]
    return "\n".join([told["sentence"], format_table(["%", *names], rows)])


def format_fusion(choice: Mapping[str, Any]) -> str:
    """Return what was chosen of a decision-level fusion as text."""
    fusion = choice["fusion"]
    weights = format_weights(dict(zip(fusion["members"], fusion["weights"], strict=True)))
    told = f"fused by {fusion['rule']}" + (f" ({weights})" if fusion["rule"] in ("weighted", "stacked") else "")
    return told + (f" with gamma {choice['gamma']:.3g}" if choice.get("gamma") else "")


def format_weights(weights: Mapping[str, float]) -> str:
    """Return weights of kinds as text, sorted by name."""
    return ", ".join(f"{kind} {weight:.3g}" for kind, weight in sorted(weights.items()))


def format_score(score: Mapping[str, Any]) -> str:
    """Return ``mean [low, high]`` in percent, without what is None; ``-`` where there is no mean."""
    mean, low, high = (score.get(key) for key in ("mean", "low", "high"))
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return "-" if mean is None else f"{100 * mean:.1f}{interval}"


def format_gap(gap: Mapping[str, float | None]) -> str:
    """Return a paired difference in percent, as ``+1.0 [-0.5, +2.5]``; ``-`` where there is none."""
    mean, low, high = (gap[key] for key in ("difference", "low", "high"))
    if mean is None or low is None or high is None:
        return "-"
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns as wide as their widest cell; the first is aligned to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *map(line, rows)])
