"""Commands that train, and tell of runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgen.cli.registry import PROGRESS, argument, command, say

if TYPE_CHECKING:
    from fgen.reports.comparison import Compared

CONFIG = argument(
    "config",
    help="TOML file, or an experiment that fgen new lists; or a data set, for which settings are chosen",
)
SET = argument(
    "--set",
    action="append",
    default=[],
    metavar="SECTION.KEY=VALUE",
    dest="overrides",
    help="another value of a setting, as model.epochs=30; may be repeated",
)
RESUME = argument("--resume", action="store_true", help="go on where an earlier call stopped")


@command(
    CONFIG,
    argument("--out", help="run folder (default: runs/NAME_OF_CONFIG, of RUN_DIR/config.toml its own)"),
    SET,
    RESUME,
    argument("--jobs", type=int, default=1, help="seeds at a time, each in a process of its own (default: 1)"),
    argument("--json", action="store_true", dest="as_json", help="print result.json instead of a table"),
    argument(
        "--plan", action="store_true", dest="only_plan", help="tell time (with --jobs 1), memory and disk, and stop"
    ),
    PROGRESS,
)
def run(
    config: str,
    out: str | None,
    overrides: list[str],
    resume: bool,
    jobs: int,
    as_json: bool,
    only_plan: bool,
    progress: bool,
) -> None:
    """The whole protocol: select, train, generate, classify, score."""
    from fgen.experiment import runner
    from fgen.experiment.recommended import experiment_for

    file = Path(config)
    resumed = resume and (file.parent / "seeds").is_dir() and file.name == "config.toml"
    folder = Path(out or (file.parent if resumed else Path("runs") / file.stem))
    experiment = experiment_for(config, overrides, kept=folder / "config.toml" if resume else None, progress=progress)
    if only_plan:
        from fgen.experiment.plan import plan

        planned = plan(experiment)
        say(json.dumps(planned.as_dict(), indent=2) if as_json else planned.table())
        return
    result = runner.run(experiment, out=folder, resume=resume, progress=progress, jobs=jobs)
    say(json.dumps(result.description, indent=2) if as_json else f"{result.table()}\nrun folder: {folder}")


@command(CONFIG, argument("--out", required=True, help="run folder"), SET, RESUME, PROGRESS)
def train(config: str, out: str, overrides: list[str], resume: bool, progress: bool) -> None:
    """Train generator and head on all of trainval, without a test, for data that have no test rows."""
    from fgen.experiment.directory import SeedDirectory
    from fgen.experiment.recommended import experiment_for
    from fgen.experiment.results import format_expectation
    from fgen.experiment.runner import train_only

    experiment = experiment_for(config, overrides, kept=Path(out, "config.toml") if resume else None, progress=progress)
    models = train_only(experiment, out=out, resume=resume, progress=progress)
    for model in models:
        say(f"model: {model}")
        folder = SeedDirectory(model.parent)
        if folder.choice.exists():
            say(format_expectation(folder.read_choice(experiment)[0]))


@command(
    argument("runs", nargs="+", metavar="RUN_DIR", help="finished runs over the same rows, classes and seeds"),
    argument("--rule", default="mean", help="mean, weighted, product or stacked, of probabilities (default: mean)"),
    argument("--weights", nargs="+", type=float, help="of --rule weighted, one for each run (default: chosen)"),
    argument("--json", action="store_true", dest="as_json", help="print JSON instead of a table"),
    PROGRESS,
)
def fuse(runs: list[str], rule: Any, weights: list[float] | None, as_json: bool, progress: bool) -> None:
    """Decisions of several runs fused, as chosen on held-out classes, and scored on the test rows."""
    from fgen.experiment.fused_runs import fuse_runs

    result = fuse_runs(runs, rule=rule, weights=weights, progress=progress)
    say(json.dumps(result.description, indent=2) if as_json else result.table())


RUNS = argument("runs", nargs="+", metavar="RUN_DIR", help="run folders; the first is what others are held to")


def _forms(parser: argparse.ArgumentParser) -> None:
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", dest="as_csv", help="print CSV, scores as fractions")
    forms.add_argument("--json", action="store_true", dest="as_json", help="print JSON, scores as fractions")


def _say_compared(compared: Sequence[Compared], as_csv: bool, as_json: bool) -> None:
    """Print runs side by side."""
    from fgen.reports import comparison

    if as_json:
        say(json.dumps([run.as_dict() for run in compared], indent=2))
    elif as_csv:
        say(comparison.as_csv(compared).rstrip("\n"))
    else:
        say(comparison.as_table(compared))


@command(RUNS, _forms)
def compare(runs: list[str], as_csv: bool, as_json: bool) -> None:
    """One table of several runs: scores with intervals, and paired differences from the first."""
    from fgen.reports.comparison import compare_runs

    _say_compared(compare_runs(runs), as_csv, as_json)


@command(
    argument("configs", nargs="+", metavar="CONFIG", help="TOML files, experiments that fgen new lists, or data sets"),
    argument(
        "--set-grid",
        action="append",
        default=[],
        metavar="SECTION.KEY=[VALUE,VALUE]",
        dest="grid",
        help="values of a setting, each run with each of those of other --set-grid",
    ),
    SET,
    argument("--seeds", type=int, nargs="+", help="seeds of each experiment (default: its own)"),
    argument("--out", default="runs/sweep", help="folder of the run folders (default: runs/sweep)"),
    argument("--jobs", type=int, default=1, help="runs at a time, each in a process of its own (default: 1)"),
    argument("--backend", default="loky", help="loky, processes of this machine; dask, those of a cluster"),
    argument("--address", help="of Dask's scheduler, as tcp://HOST:8786"),
    _forms,
    PROGRESS,
)
def sweep(configs: list[str], out: str, as_csv: bool, as_json: bool, **options: Any) -> None:
    """Experiments with several settings and seeds, at once; the same command goes on after a stop."""
    from fgen.cli.sweeping import swept

    compared, failures = swept(configs, Path(out), **options)
    if compared:
        _say_compared(compared, as_csv, as_json)
    if failures:
        raise failures


@command(RUNS, argument("--out", required=True, help="the new run folder"))
def join(runs: list[str], out: str) -> None:
    """Finished runs of one experiment, each with other seeds, into one run."""
    from fgen.experiment.join import join_runs

    say(f"{join_runs(runs, out=out).table()}\nrun folder: {out}")


@command(RUNS, argument("--out", required=True, help="HTML, with its pictures inside"), PROGRESS)
def report(runs: list[str], out: str, progress: bool) -> None:
    """A page about runs: scores, training, classes, features."""
    from fgen.reports.run_report import write_report

    write_report(runs, out, progress=progress)
    say(f"report: {out}")
