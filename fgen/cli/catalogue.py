"""Commands that list what there is: experiments to begin with, methods and heads."""

import json
from dataclasses import asdict
from pathlib import Path

from fgen.cli.registry import JSON, OVERWRITE, argument, command, say


@command(
    argument("name", nargs="?", help="an experiment that comes with fgen; without it and --data all are listed"),
    argument("--data", help="the data set to run it on; without a name, by the method that fgen recommends"),
    argument("--out", help="TOML file, or - to print it (default: NAME.toml; without a name, that of the data set)"),
    OVERWRITE,
    prints=True,
)
def new(name: str | None, data: str | None, out: str | None, overwrite: bool) -> None:
    """A TOML file to edit and run, from an experiment that comes with fgen."""
    from fgen.data.files import load_dataset
    from fgen.experiment.committed import START, committed_experiment, experiment_on
    from fgen.io.atomic import new_file

    if name is None and data is None:
        say(_listed())
        return
    if data is not None:
        text = experiment_on(name or START, load_dataset(data))
    else:
        text = committed_experiment(name or START).read_text(encoding="utf-8")
    target = out or f"{name or Path(data or START).stem}.toml"
    if target == "-":
        say(text.rstrip("\n"))
        return
    with new_file(Path(target), overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")
    say(f"written: {target}; fgen run {target} runs it")


def _listed() -> str:
    """Return a line for each experiment that comes with fgen."""
    from fgen.config import read_toml
    from fgen.experiment.committed import committed_experiments

    found = {name: read_toml(path) for name, path in committed_experiments().items()}
    width = max(map(len, found), default=0)
    sources = {name: one["dataset"].get("name") or one["dataset"]["path"] for name, one in found.items()}
    return "\n".join(f"{name:{width}}  {one['model']['name']} on {sources[name]}" for name, one in found.items())


@command(argument("name", nargs="?", help="a method or a head, whose settings are shown, as a config has them"), JSON)
def methods(name: str | None, as_json: bool) -> None:
    """Generators, baselines and heads, with their settings and defaults."""
    from fgen.reports.catalogue import Entry, catalogue, entry

    if name is not None:
        found = entry(name)
        say(json.dumps(asdict(found), indent=2) if as_json else found.as_toml())
        return
    kinds = catalogue()
    if as_json:
        plain = {k: {n: asdict(e) if isinstance(e, Entry) else e for n, e in kind.items()} for k, kind in kinds.items()}
        say(json.dumps(plain, indent=2))
        return
    width = max(len(name) for kind in kinds.values() for name in kind)
    for kind, entries in kinds.items():
        told = (f"  {name:{width}}  {e.about if isinstance(e, Entry) else e}" for name, e in entries.items())
        say("\n".join([f"{kind}:", *told]))
    say("fgen methods NAME shows the settings of one")
