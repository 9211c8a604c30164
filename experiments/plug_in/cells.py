"""Cells of the table, a bank and a classifier each: computed in other processes, and kept in files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from experiments.plug_in.banks import Banks, Part, parts_of
from experiments.plug_in.classifiers import CLASSIFIERS
from experiments.plug_in.protocol import choose_fits, test_scores
from fgen.experiment.workers import Workers
from fgen.io.atomic import write_json

Work = Callable[..., None]
#: A bank of a seed: its experiment, its overrides, the seed, its folder.
Task = tuple[str, tuple[str, ...], int, Path]
Cells = dict[tuple[str, str], list[dict[str, Any]]]


def compute(banks: Banks, seeds: list[int], out: Path, jobs: int) -> Cells:
    """Return for each bank and classifier, and each seed, what was chosen and its scores on the test rows."""
    tasks: dict[tuple[str, int], Task] = {
        (bank, seed): (recipe, tuple(overrides), seed, out / str(seed) / _slug(bank))
        for bank, (recipe, overrides) in banks.items()
        for seed in seeds
    }
    cells = [(task, name) for task in tasks.values() for name in CLASSIFIERS]
    workers = Workers(jobs)
    _all(workers, "generators", train, [(task, part) for task in tasks.values() for part in (0, 1)])
    _all(workers, "choice on validation classes", choose_cell, cells)
    _all(workers, "test", test_cell, cells)
    return {
        (bank, name): [json.loads(_result(tasks[bank, seed], name).read_text("utf-8")) for seed in seeds]
        for bank in banks
        for name in CLASSIFIERS
    }


def _all(workers: Workers, title: str, work: Work, calls: list[tuple[Any, Any]]) -> None:
    """Do a piece of work for each pair of arguments, with a bar.

    Raises:
        Exception: the error of the first that failed, once the others are finished.
    """
    results = workers.results([partial(work, *call) for call in calls])
    found = list(tqdm(results, title, len(calls), unit="cell", disable=not sys.stderr.isatty()))
    if errors := {one.number: one.error for one in found if one.error is not None}:
        raise errors[min(errors)]


@lru_cache(maxsize=1)
def _parts(task: Task) -> tuple[Part, Part]:
    torch.set_num_threads(1)
    threadpool_limits(1)
    return parts_of(*task)


def train(task: Task, part: int) -> None:
    """Train a bank's generator for the validation task (0) or the whole one (1), where that isn't done."""
    _ = _parts(task)[part].model


def choose_cell(task: Task, name: str) -> None:
    """Choose for a classifier on validation classes, where that isn't done."""
    path = _choice(task, name)
    if not path.exists():
        write_json(path, choose_fits(_parts(task)[0], name))


def test_cell(task: Task, name: str) -> None:
    """Score what was chosen on the test rows, where that isn't done."""
    path = _result(task, name)
    if not path.exists():
        choice = json.loads(_choice(task, name).read_text("utf-8"))
        write_json(path, {"choice": choice, "scores": test_scores(_parts(task)[1], name, choice)})


def _choice(task: Task, name: str) -> Path:
    return task[-1] / f"{_slug(name)}.choice.json"


def _result(task: Task, name: str) -> Path:
    return task[-1] / f"{_slug(name)}.json"


def _slug(label: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())
