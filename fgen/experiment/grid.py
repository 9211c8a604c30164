"""Experiments of a sweep: each config with each combination of other values of its settings."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fgen.config import apply_overrides, assign, parse_override
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.recommended import settings_for

#: Threads of a run whose settings name no number: as many runs as cores are then as fast as they can be.
THREADS = 1
#: Of a folder's name.
MOST_LETTERS = 120

Config = ExperimentConfig | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class Experiment:
    """An experiment of a sweep, whose run folder is ``OUT/NAME``."""

    name: str
    config: ExperimentConfig


def combinations(
    configs: Sequence[Config],
    grid: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> list[Experiment]:
    """Return all experiments of a sweep, checked.

    Args:
        configs, grid, seeds: as in :func:`sweep`.
        overrides: ``section.key=value``, of all experiments.

    Raises:
        InputError: a grid without values, with a value twice, of seeds, or with settings that an experiment refuses.
    """
    _check_grid(grid)
    found: dict[str, ExperimentConfig] = {}
    for source in configs:
        stem, settings = _settings(source, overrides)
        for values in itertools.product(*grid.values()):
            own = deepcopy(settings)
            for path, value in zip(grid, values, strict=True):
                assign(own, path, value, f"the grid's {path}")
            if seeds is not None:
                assign(own, "protocol.seeds", list(seeds), "seeds")
            config = ExperimentConfig.from_mapping(own)
            config = replace(config, train=replace(config.train, threads=config.train.threads or THREADS))
            name = _name(stem or f"{config.model.name}-{Path(config.dataset.source).stem}", grid, values)
            found[_distinct(name, found)] = config
    return [Experiment(name, config) for name, config in found.items()]


def parse_grid(items: Sequence[str]) -> dict[str, list[Any]]:
    """Return the grid of ``section.key=[value, value]`` items.

    Raises:
        InputError: an item that isn't one, or a setting twice.
    """
    grid: dict[str, list[Any]] = {}
    for item in items:
        path, values = parse_override(item)
        if not isinstance(values, list):
            found = f"--set-grid {item!r} gives {values!r}"
            raise InputError(found, "a list of values", "Try --set-grid 'model.lr=[1e-4, 3e-4]'")
        if path in grid:
            raise InputError(f"--set-grid gives {path} twice", "all values of a setting in one list")
        grid[path] = values
    return grid


def _check_grid(grid: Mapping[str, Sequence[Any]]) -> None:
    """Refuse settings without values, a value twice, and seeds."""
    for path, values in grid.items():
        if path == "protocol.seeds":
            raise InputError("the grid holds protocol.seeds", "settings", "Give the seeds as --seeds 0 1, or seeds=")
        if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
            raise InputError(f"the grid's {path} is {values!r}", "a list of one or more values")
        if repeated := [value for k, value in enumerate(values) if value in values[:k]]:
            raise InputError(f"the grid's {path} holds {repeated[0]!r} twice", "different values")


def _settings(source: Config, overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of a file, or "", and the settings in it, not yet checked."""
    if isinstance(source, ExperimentConfig):
        source = source.to_mapping()
    if isinstance(source, Mapping):
        return "", apply_overrides(source, overrides)
    path = Path(source)
    stem = path.resolve().parent.name if path.name == "config.toml" else path.stem
    return stem, settings_for(str(source), overrides)


def _name(stem: str, paths: Iterable[str], values: Sequence[Any]) -> str:
    """Return a name for a folder: ``STEM,lr=0.001``, with the sections of settings that are called alike."""
    keys = [path.rpartition(".")[2] for path in paths]
    named = [key if keys.count(key) == 1 else path for key, path in zip(keys, paths, strict=True)]
    parts = [f"{key}={_short(value)}" for key, value in zip(named, values, strict=True)]
    return re.sub(r"[^\w.,=+-]+", "-", ",".join([stem, *parts]))[:MOST_LETTERS]


def _short(value: Any) -> str:
    """Return a value as a name has it: of a section that has a name, that."""
    if isinstance(value, Mapping):
        return str(value.get("name", "+".join(f"{key}={_short(one)}" for key, one in value.items())))
    return "+".join(map(_short, value)) if isinstance(value, list | tuple) else str(value)


def _distinct(name: str, taken: Iterable[str]) -> str:
    """Return the name, with a number after it where others have it."""
    names = (f"{name}-{k}" if k > 1 else name for k in itertools.count(1))
    return next(one for one in names if one not in taken)
