"""The bench's outcome: JSON, a markdown table, and a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.head import LBFGS, LBFGS_EQUAL
from experiments.bench.machine import sentence
from experiments.bench.training import AUTO, EQUAL, LIMIT, LIMIT_AUTO, TRAFFIC

Row = Mapping[str, Any]

TITLES = {
    "training": "f-CLSWGAN, 5 critic steps + 1 generator step",
    "epochs": "a whole training of f-CLSWGAN, from raw features, its classifier's included",
    "methods": "each method, against its formulas by autograd",
    "losses": "terms, value and gradients, against published loops",
    "head": "the final head, from raw features to trained",
    "generation": "a feature bank on disk",
    "memory": "peak anonymous memory beyond the imports",
    "run": "a whole `fgen run`",
}


def markdown(report: Mapping[str, Any]) -> str:
    """The table of all parts; a median is followed by its range."""
    lines = [f"Measured on {sentence(report['machine'])}. Medians of alternated runs, with their range.", ""]
    lines += ["| what | case | compared with | fgen | gain |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        lines += [f"| {TITLES[row['part']]} | {_where(row)} | {' | '.join(cells)} |" for cells in _cells(row)]
    return "\n".join(lines)


def larger_than_memory(result: Mapping[str, Any]) -> str:
    """What :mod:`experiments.bench.larger_than_memory` measured, in a sentence."""
    steps, ratio, megabytes = result["seconds_per_step"], result["speed_ratio"], result["anonymous_mb"]
    return (
        f"{result['gigabytes']:.0f} GB of features on disk ({result['rows_of_trainval']:,} training rows of "
        f"{result['columns']:,} columns): {1000 * steps['on_disk']:.0f} ms a step against "
        f"{1000 * steps['in_memory']:.0f} ms in memory, {ratio['median']:.2f} of its speed ({ratio['lowest']:.2f} to "
        f"{ratio['highest']:.2f}, {ratio['turns']} turns); {megabytes['beyond_networks_while_training']:.0f} MB of "
        f"anonymous memory beyond the networks' {megabytes['networks']:.0f} MB. An epoch of a head by Adam takes "
        f"{result['seconds']['head']:.0f} s and {megabytes['of_the_head']:.0f} MB."
    )


def float32_alone(report: Mapping[str, Any]) -> str:
    """What is gained on a processor that isn't faster with rounded factors, in a sentence."""
    steps = [row for row in report["rows"] if row["part"] == "training"]
    gains = [row["gain"][EQUAL]["median"] for row in steps]
    shares = [row["arms"][LIMIT]["median"] / row["arms"][EQUAL]["median"] for row in steps]
    machine = report["machine"]
    return (
        f"On a processor whose bfloat16 isn't faster ({machine['cores']} cores of {machine['cpu']}) "
        f"`auto` is float32: {min(gains):.1f}x to {max(gains):.1f}x the textbook's steps, {100 * min(shares):.0f} % to "
        f"{100 * max(shares):.0f} % of the speed of the products and Adam alone."
    )


def accelerator(report: Mapping[str, Any]) -> str:
    """What a GPU gained, in a few sentences: steps at the published widths, heads, and a whole training."""
    steps = {row["case"]: row for row in report["rows"] if row["part"] == "training"}
    heads = {row["case"]: row["gain"][LBFGS] for row in report["rows"] if row["part"] == "head"}
    (whole,) = (row for row in report["rows"] if row["part"] == "epochs")
    cub, wide = steps["CUB"], [row for case, row in steps.items() if case != "emoji"]
    textbook, fgen = (_amount(cub["arms"][arm], "s") for arm in (cub["reference"], AUTO))
    auto, exact = ([row["gain"][arm]["median"] for row in wide] for arm in (AUTO, EQUAL))
    traffic = [row["arms"][AUTO]["median"] / row["arms"][TRAFFIC]["median"] for row in wide]
    (training,) = whole["arms"].values()
    epochs = whole["facts"]["epochs"]
    return (
        f"On an {report['machine']['gpu']} a step of CUB's takes {fgen} where the textbook's takes {textbook}, and "
        f"steps of all published widths are {min(auto):.1f}x to {max(auto):.1f}x as fast, in float32 {min(exact):.1f}x "
        f"to {max(exact):.1f}x; they take {min(traffic):.1f} to {max(traffic):.1f} times what their memory traffic in "
        f"float32 would. The final head by L-BFGS is {_times(heads['CUB'])} as fast on CUB and "
        f"{_times(heads['emoji'])} on emoji. A whole training of {epochs} epochs on CUB's sizes, from raw features, "
        f"takes {_amount(training, whole['unit'])}."
    )


def summary(report: Mapping[str, Any]) -> str:
    """A short table for people in a hurry: how many times the textbook's speed steps and heads have, and could have."""
    arms = {"training": (EQUAL, AUTO, LIMIT_AUTO), "head": (LBFGS_EQUAL, LBFGS)}
    whats = {"training": "a training step", "head": "the final head, by L-BFGS"}
    lines = ["| | textbook | equal precision | `auto` | products and Adam alone |", "|---|---|---|---|---|"]
    for row in report["rows"]:
        if row["part"] in arms:
            gains = [_times(row["gain"][arm]) if arm in row["gain"] else "" for arm in arms[row["part"]]]
            cells = [
                f"{whats[row['part']]}, {_where(row)}",
                _amount(row["arms"][row["reference"]], row["unit"]),
                *gains,
            ]
            lines.append(f"| {' | '.join([*cells, '', ''][:5])} |")
    return "\n".join(lines)


def _where(row: Row) -> str:
    return row["case"] if row["device"] == "cpu" else f"{row['case']}, {row['device']}"


def _cells(row: Row) -> Iterator[tuple[str, str, str]]:
    """What it is compared with, what fgen has, and the gain."""
    if row["part"] == "generation":
        rates = row["facts"]["features_per_second"]
        limits = [f"{name} {_rate(rate)}" for name, rate in rates.items() if name != row["reference"]]
        share = row["facts"]["share_of_smaller_limit"]
        low, middle, high = (f"{100 * share[key]:.0f}" for key in ("low", "median", "high"))
        reached = f"{middle} % of the smaller limit ({low} to {high})"
        yield "; ".join(limits), f"{_rate(rates[row['reference']])} features/s", reached
        return
    if not row["gain"]:  # nothing to compare with
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["facts"].get("phases", {}).items())
        (arm,) = row["arms"].values()
        yield "", _amount(arm, row["unit"]) + (f": {phases}" if phases else ""), ""
        return
    for name, gain in row["gain"].items():
        reference, own = (_amount(row["arms"][arm], row["unit"]) for arm in (row["reference"], name))
        accuracy = row["facts"].get("accuracy")
        if accuracy:
            reference += f", accuracy {accuracy[row['reference']]['mean']:.3f}"
            own += f", accuracy {accuracy[name]['mean']:.3f}"
        choice = row["facts"].get("l2_choice")
        if choice and "lbfgs" in name:
            own += f" (and {choice['seconds']:.1f} s before to choose its penalty among {len(choice['penalties'])})"
        label = "" if name == "fgen" else f"{name}: "
        yield f"{row['reference']}: {reference}", f"{label}{own}", _times(gain)


def _times(gain: Mapping[str, float]) -> str:
    """``5.4x (5.2 to 5.9)``."""
    return f"{gain['median']:.1f}x ({gain['low']:.1f} to {gain['high']:.1f})"


def _amount(arm: Mapping[str, float], unit: str) -> str:
    """``12.3 ms (11.9 to 14.0)``."""
    values = [arm[key] for key in ("median", "low", "high")]
    if unit.startswith("s") and values[0] < 1:
        values, unit = [1000 * value for value in values], "m" + unit
    digits = 0 if values[0] >= 100 else 1 if values[0] >= 10 else 2
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} {unit}" if low == high else f"{middle} {unit} ({low} to {high})"


def _rate(arm: Mapping[str, float]) -> str:
    return f"{arm['median']:,.0f} ({arm['low']:,.0f} to {arm['high']:,.0f})"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Bars with their ranges, a panel for each part that was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    parts = {part: [row for row in report["rows"] if row["part"] == part] for part in TITLES}
    panels = {part: _bars(rows) for part, rows in parts.items() if rows}
    heights = [1.2 + 0.28 * len(bars) for bars in panels.values()]
    figure = Figure(figsize=(9, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (part, bars) in zip(grid, panels.items(), strict=True):
        labels, middles = [bar[0] for bar in bars], [bar[1] for bar in bars]
        below, above = [bar[1] - bar[2] for bar in bars], [bar[3] - bar[1] for bar in bars]
        colours = ["#b5651d" if "cuda" in label else "#2f6f8f" for label in labels]
        axes.barh(labels, middles, xerr=[below, above], color=colours, capsize=3, height=0.65)
        for label, middle, high in zip(labels, middles, (bar[3] for bar in bars), strict=True):
            axes.annotate(f" {middle:.3g}", (high, label), va="center", fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(TITLES[part].replace("`", ""), fontsize=10, loc="left")
        axes.set_xlabel(_axis(part), fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if part in ("training", "methods", "losses", "head"):
            axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    figure.suptitle(textwrap.fill(sentence(report["machine"]), width=120), fontsize=7)
    figure.savefig(path, dpi=120)


def _bars(rows: Sequence[Row]) -> list[tuple[str, float, float, float]]:
    """Label, median, low and high of each bar."""
    bars = []
    for row in rows:
        case = _where(row)
        if row["part"] == "generation":
            shown = {"": {k: 100 * row["facts"]["share_of_smaller_limit"][k] for k in ("median", "low", "high")}}
        elif not row["gain"] or row["part"] == "memory":
            shown = row["arms"]
        else:
            shown = row["gain"]
        for name, value in shown.items():
            label = f"{case}: {name}" if name not in ("", "fgen run") else case
            bars.append((label, value["median"], value["low"], value["high"]))
    return bars


def _axis(part: str) -> str:
    special = {
        "generation": "% of the smaller of products and disk",
        "memory": "MB",
        "run": "seconds",
        "epochs": "seconds",
    }
    return special.get(part, "times as fast as the reference")
