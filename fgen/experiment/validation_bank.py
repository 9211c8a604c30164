"""The bank of the validation task, beside a bank: what a classifier of one's own is calibrated on.

Its generator is trained without the validation classes, for as many epochs as the run's own. The bank holds generated
rows of these classes, as many for each class as the bank beside it, and the real rows of the task: those to train on,
and those that play the test rows of seen and of unseen classes. A handicap of the seen classes that is good for a
classifier there is good for the same classifier on the bank beside it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import available_device, matrix_precision
from fgen.data.bank import FeatureBank
from fgen.data.bank_origins import run_section, training_digests
from fgen.data.bank_spec import BankSpec
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class
from fgen.errors import InputError
from fgen.experiment.banks import dataset_spec, write_bank
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.heads import HeadRecipe, Represent, train_heads
from fgen.experiment.selection import chosen_model
from fgen.experiment.steps import Task, fit, new_model
from fgen.features.scaled_rows import CPU
from fgen.io.atomic import expect_free
from fgen.metrics.gamma import GammaChoice, choose
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")


def path_beside(bank: str | Path) -> Path:
    """Return the path of the validation bank that belongs to a bank: ``NAME.validation.h5`` beside ``NAME.h5``."""
    bank = Path(bank)
    return bank.with_name(f"{bank.stem}.validation{bank.suffix}")


# Write.


def write_validation_bank(
    bank: str | Path, spec: BankSpec, task: Task, folder: SeedDirectory, *, overwrite: bool, progress: bool
) -> None:
    """Write the validation bank of a bank that is to be written. One that is there already and is the same is kept.

    Args:
        bank: path of the bank that it stands beside.
        spec: of that bank, with ``n_per_class`` in its config.
        task: the run's recipe, data set and seed.
        folder: of the seed; the generator is kept in it, so that it is trained once.

    Raises:
        InputError: the data set has no validation task, or another file has the name.
    """
    path, inner = path_beside(bank), replace(task, dataset=_validation_task(task.dataset))
    own = _spec_of(inner.dataset, spec, task.dataset.fingerprint)
    if not overwrite and path.exists() and _holds(path, own):
        log.info("%s is there already", path)
        return
    expect_free(path, overwrite=overwrite)
    model = _generator(inner, folder, progress=progress)
    rows = _rows_of(inner.dataset)
    write_bank(path, model, own, real=inner.dataset, rows=rows, overwrite=overwrite, progress=progress)


def _validation_task(dataset: ZSLDataset) -> ZSLDataset:
    task = dataset.validation()
    if len(task.seen) < 2 or not len(task.splits["test_seen"]):
        found = (
            f"{dataset.name} has no rows of {'seen' if len(task.seen) > 1 else 'two or more'} classes to validate on"
        )
        raise InputError(found, "at least 3 seen classes, one of them with 2 or more rows in 'train'")
    return task


def _rows_of(task: ZSLDataset) -> np.ndarray:
    """Return all rows ``(n,)`` of a task, ascending."""
    return np.sort(np.concatenate([task.splits[name] for name in ("trainval", "test_seen", "test_unseen")]))


def _spec_of(task: ZSLDataset, beside: BankSpec, fingerprint: str) -> BankSpec:
    """Return the spec of the validation task's bank.

    Args:
        task: with the class ids of the whole data set.
        beside: the spec of the bank that it stands beside. Where that has generated rows of seen classes, so has this.
        fingerprint: of the whole data set.
    """
    everyone = np.arange(task.n_classes)
    generated = np.isin(everyone, task.unseen)
    if beside.is_seen.any():  # it is of the data set's classes
        generated |= np.isin(everyone, task.seen) & (beside.counts > beside.real)
    rows = _rows_of(task)
    spec = dataset_spec(task, np.where(generated, beside.config["n_per_class"], 0), real=rows)
    place = np.zeros(len(task.labels), dtype=np.int64)
    place[np.concatenate(by_class(rows, task.labels))] = np.flatnonzero(~spec.synthetic)
    sets = {"rows_train": "trainval", "rows_val_seen": "test_seen", "rows_val_unseen": "test_unseen"}
    row_sets = {name: np.sort(place[task.splits[split]]) for name, split in sets.items()}
    return replace(spec, data_sha256=fingerprint, seed=beside.seed, config=beside.config, row_sets=row_sets)


def _holds(path: Path, spec: BankSpec) -> bool:
    """Return whether a file is the bank of a spec."""
    with FeatureBank.open(path) as bank:
        found = (bank.config, bank.seed, bank.data_sha256, tuple(bank.class_names), bank.space)
        wanted = (json.loads(spec.config_json), spec.seed, spec.data_sha256, spec.names, spec.space)
        arrays: list[tuple[Any, Any]] = [(bank.class_ptr, spec.class_ptr), (bank.is_seen, spec.is_seen)]
        arrays += [(bank.row_sets.get(name), rows) for name, rows in spec.row_sets.items()]
        return found == wanted and all(np.array_equal(one, other) for one, other in arrays)


def _generator(task: Task, folder: SeedDirectory, *, progress: bool) -> FeatureGenerator:
    """Return the generator of the validation task from the folder, trained before where it isn't there.

    It is trained for the chosen number of epochs, or in a run that chose nothing for the config's own.
    """
    config = ExperimentConfig.from_file(RunDirectory(folder.path.parents[1]).config)
    choice = folder.read_choice(config)[0] if folder.choice.exists() else None
    settings = task.recipe.model if choice is None else chosen_model(task, choice)
    device = available_device(task.recipe.train.device)
    if not folder.validation_model.exists():
        recipe = replace(task.recipe, model=settings, train=replace(task.recipe.train, device=device))
        task, title = replace(task, recipe=recipe), f"training for validation, seed {task.seed}" if progress else None
        with RunDirectory(folder.path.parents[1]).locked(), matrix_precision("highest", CPU):
            model = fit(task, new_model(task), title=title, checkpoint=folder.checkpoint("validation"))
            model.save(folder.validation_model)
    model = load_model(folder.validation_model, device)
    if model.config != settings:
        raise InputError(
            f"{folder.validation_model} was trained with other settings than its run chose",
            "the same",
            "Remove it, and it will be trained again",
        )
    return model


# Read.


def choose_beside(path: Path, recipe: HeadRecipe, run: SeedDirectory | None = None) -> GammaChoice | None:
    """Choose gamma for a head on the validation bank beside a bank.

    Args:
        path: the bank, for which a head of the same recipe is trained.
        run: folder of the seed whose model's own space the head lives in; None is the raw space.

    Returns:
        None where there is no such file, or the run has no generator that never saw the validation classes; it is
        logged, with what to do.

    Raises:
        InputError: it belongs to another bank, or is none of a validation task.
    """
    beside = path_beside(path)
    if not beside.exists():
        remedy = f"fgen generate RUN --out {path} --validation"
        log.warning("uncalibrated: there is no %s; %s makes it, and --gamma G sets one", beside, remedy)
        return None
    with FeatureBank.open(path) as bank, FeatureBank.open(beside) as validation:
        if told := _other_origin(bank, validation):
            raise InputError(
                f"{beside} doesn't belong to {path}: {told}",
                "the one that was made with it",
                f"Remove it, make both by fgen generate RUN --out {path} --validation --overwrite, or give --gamma",
            )
        represent: Represent | None = None
        if run is not None:
            if not run.validation_model.exists():
                log.warning(
                    "uncalibrated: %s isn't there, whose space the rows of %s need", run.validation_model, beside
                )
                return None
            represent = load_model(run.validation_model).represent
        return _choose(beside, validation, recipe, represent)


def _other_origin(bank: FeatureBank, validation: FeatureBank) -> str:
    """Return what tells that a validation bank was made with another bank, else ""."""
    names = validation.class_names if bank.is_seen.any() else bank.class_names  # else all are new to the data set
    parts: dict[str, tuple[Any, ...]] = {
        "data": (_data_of(bank), _data_of(validation)),
        "space": (bank.space, validation.space),
        "number of columns": (bank.features.shape[1], validation.features.shape[1]),
        "classes": (list(bank.class_names), list(names)),
        "model": tuple(run_section(one.config, "model") for one in (bank, validation)),
        "seed": (bank.seed, validation.seed),
        "n_per_class": tuple(one.config.get("n_per_class") for one in (bank, validation)),
    }
    return next((f"it has another {part}" for part, (one, other) in parts.items() if one != other), "")


def _data_of(bank: FeatureBank) -> set[str]:
    return {data["all"] for data in training_digests(bank.config, bank.data_fingerprints)}


def _choose(path: Path, bank: FeatureBank, recipe: HeadRecipe, represent: Represent | None) -> GammaChoice:
    """Train a head on a validation bank and choose gamma on the rows that play the test rows."""
    task = _task_of(path, bank)
    rows = np.flatnonzero(bank.synthetic)
    synthetic, labels = np.asarray(bank.features[rows], dtype=np.float32), bank.labels[rows]
    if missing := sorted(set(task.unseen) - set(labels)):
        raise InputError(f"{path} has no generated rows of {task.name_of(missing[0])!r}", "some of each unseen class")
    (heads,) = train_heads(recipe, task, synthetic, labels, represent=represent, space=bank.space, with_zsl=False)
    return choose([heads.score(task, represent).held_out()])


def _task_of(path: Path, bank: FeatureBank) -> ZSLDataset:
    """Return the validation task that a bank holds, with the bank's class ids and row numbers.

    Raises:
        InputError: it has no sets of rows, or sets that overlap or hold rows of other kinds.
    """
    if not bank.row_sets or bank.space != "raw":
        found = f"{path} has {'a space of its own' if bank.row_sets else 'no rows_train'}"
        raise InputError(found, "the raw bank of a validation task, as fgen generate --validation makes it")
    train, seen, unseen = (bank.row_sets[f"rows_{name}"] for name in ("train", "val_seen", "val_unseen"))
    rows, is_seen = np.concatenate([train, seen, unseen]), bank.is_seen[bank.labels]
    if len(np.unique(rows)) < len(rows) or bank.synthetic[rows].any() or not len(train):
        raise InputError(f"{path} has rows_train, rows_val_seen or rows_val_unseen that overlap", "distinct real rows")
    if not is_seen[seen].all() or is_seen[unseen].any():
        raise InputError(f"{path} has rows_val_seen of unseen or rows_val_unseen of seen classes", "classes as in seen")
    splits: Mapping[str, np.ndarray] = {"trainval": train, "test_seen": seen, "test_unseen": unseen}
    whole = ZSLDataset(bank.features, bank.labels, bank.class_embeddings, class_names=bank.class_names)
    return whole.inner("validation", splits, unseen=np.unique(bank.labels[unseen]))
