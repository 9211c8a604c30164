"""Generation of a feature bank on disk from a run folder, class by class, in bounded memory."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import available_device, cpu_threads
from fgen.data.bank_spec import BankSpec
from fgen.data.dataset import ZSLDataset
from fgen.data.embedding_files import read_embeddings_of
from fgen.data.files import HDF5_SUFFIXES
from fgen.errors import InputError, did_you_mean
from fgen.experiment.banks import dataset_spec, write_bank
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.shards import write_in_shards
from fgen.experiment.steps import Task
from fgen.experiment.validation_bank import write_validation_bank
from fgen.experiment.workers import Workers
from fgen.features.labels import unusual_embeddings_warning
from fgen.io.atomic import expect_free
from fgen.models.base.generator import FeatureGenerator
from fgen.models.base.trained import MOST_ROWS
from fgen.models.registry import load_model

log = logging.getLogger("fgen")

#: Without a number, a class gets so many times the rows of a seen class: linear heads and trees are then most nearly
#: fair to seen and unseen classes without a handicap (`make plug-in`, on validation classes of emoji and AWA1).
ROWS_RATIO = 4
#: Limits of that number: means of fewer rows are unsteady, and more rows take disk and time for little.
FEWEST_ROWS, MOST_DEFAULT_ROWS = 10, 2000
#: The number where the data set isn't there any more.
ROWS_WITHOUT_DATA = 300


def generate_from_run(
    run: str | Path,
    *,
    out: str | Path,
    classes: str | None = None,
    n_per_class: int | None = None,
    embeddings: str | Path | None = None,
    seed: int | None = None,
    real: bool = False,
    validation: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    jobs: int = 1,
) -> None:
    """Write a bank from a run's model.

    Args:
        run: run folder.
        classes: ``"unseen"`` (by default), ``"seen"``, ``"all"`` or names separated by commas, as in a CSV: names that
            hold commas stand in double quotes.
        n_per_class: generated rows of a class; by default four times the mean number of a seen class's real rows.
        embeddings: file of classes that were never in the data set, in place of ``classes``, see
            :func:`fgen.data.embedding_files.read_embeddings`.
        seed: which of the run's models, and the noise; by default the run's first.
        real: store the data set's real training rows too.
        validation: write a bank of the validation task beside it, see :mod:`fgen.experiment.validation_bank`.
        jobs: processes, each of which generates some of the classes, to the bytes of one process. More than 1 needs
            ``fgen[sweep]``.

    Raises:
        InputError: unknown class names, embeddings of another width, no such seed in the run.
    """
    if n_per_class is not None and not 1 <= n_per_class < MOST_ROWS:
        raise InputError(f"--n-per-class is {n_per_class}", f"at least 1, below {MOST_ROWS:,}")
    if Path(out).suffix not in HDF5_SUFFIXES:
        raise InputError(f"{out} ends in {Path(out).suffix!r}", "an .h5 file: a bank is HDF5")
    workers, directory = Workers(jobs), RunDirectory.open(run)
    config = ExperimentConfig.from_file(directory.config)
    seed = config.protocol.seeds[0] if seed is None else seed
    folder = trained_seed(directory, config, seed)
    device = available_device(config.train.device)
    model = load_model(folder.model, device)
    if embeddings is not None:
        if real:
            raise InputError("--real and --embeddings were both given", "one of them: new classes have no real rows")
        if classes is not None:
            raise InputError("--classes and --embeddings were both given", "one of them: the file names its classes")
        dataset, data = folder.load_dataset(config) if validation else None, folder.training_digests()
        counted = dataset if validation or n_per_class else _data_if_there(folder, config)
        n = n_per_class or default_rows(counted)
        spec = _new_classes(embeddings, model, config.dataset.kinds, n)
        log.info("%s: labels count its own classes from 0, in the order of its class_names", out)
    else:
        dataset = counted = folder.load_dataset(config)
        data, n = dataset.digests, n_per_class or default_rows(dataset)
        spec = _classes_of(dataset, "unseen" if classes is None else classes, n, real=real)
    if folder.choice.exists():  # a run's; fgen train chooses nothing
        _, config = folder.read_choice(config)
    settings = {"n_per_class": n, "seed": seed, "run": config.of_seed(seed).to_mapping()}
    if data:
        settings["data"] = data
    spec = replace(spec, seed=seed, config=settings)
    expect_free(Path(out), overwrite=overwrite)
    with cpu_threads(config.train.threads):
        if validation and dataset is not None:  # first, for the same call goes on with it where it was stopped
            write_validation_bank(
                out, spec, Task(config, dataset, seed), folder, overwrite=overwrite, progress=progress
            )
        options: dict[str, Any] = {"real": dataset if real else None, "overwrite": overwrite, "progress": progress}
        if workers.in_process:
            write_bank(out, model, spec, **options)
        else:
            write_in_shards(Path(out), folder.model, device, spec, workers, **options)
    if n_per_class is None:
        why = f"{ROWS_RATIO} times a seen class's mean number of real ones, at least {FEWEST_ROWS}"
        why = why if counted is not None else "the data set isn't there, whose rows would decide"
        log.info("%s has %d rows of each class: %s; --n-per-class sets another number", out, n, why)


def trained_seed(directory: RunDirectory, config: ExperimentConfig, seed: int) -> SeedDirectory:
    """Return the folder of a seed whose generator is trained."""
    folder = directory.seed(seed)
    if seed not in config.protocol.seeds:
        raise InputError(f"{directory.path} has no model of seed {seed}", f"one of {list(config.protocol.seeds)}")
    if folder.members.exists():
        found, remedy = f"{directory.path} fuses the decisions of several models", "Run one kind of embedding alone"
        raise InputError(found, "a run of one model", f"{remedy}; a bank of each model is in {folder.members}")
    if not folder.model.exists():
        raise InputError(
            f"{directory.path} has no trained generator of seed {seed}",
            "one that fgen run or fgen train has trained; a baseline generates nothing",
            f"fgen inspect {directory.path} says how to go on",
        )
    return folder


def _data_if_there(folder: SeedDirectory, config: ExperimentConfig) -> ZSLDataset | None:
    """Return the data set of a run, or None where it is gone or holds other data now."""
    try:
        return folder.load_dataset(config)
    except InputError:
        return None


def default_rows(dataset: ZSLDataset | None) -> int:
    """Return the number of generated rows of a class where none is given; the data set is None where it is gone."""
    if dataset is None:
        return ROWS_WITHOUT_DATA
    labels = dataset.labels[dataset.splits["trainval"]]
    mean = np.count_nonzero(np.isin(labels, dataset.seen)) / len(dataset.seen)
    return int(np.clip(round(ROWS_RATIO * mean), FEWEST_ROWS, MOST_DEFAULT_ROWS))


def _new_classes(
    path: str | Path, model: FeatureGenerator, kinds: str | tuple[str, ...] | None, n_per_class: int
) -> BankSpec:
    """Return the spec of a bank of the classes of a file; warn of names that the run knows already."""
    names, matrix = read_embeddings_of(path, kinds, model.class_embeddings.shape[1])
    own = set(model.class_names or ())
    if known := [name for name in names if name in own]:
        log.warning("%s describes %s anew, a class of the run's own", path, ", ".join(map(repr, known[:5])))
    warn_unusual_embeddings(path, names, matrix, model)
    return BankSpec(
        class_names=names,
        class_embeddings=matrix,
        counts=np.full(len(names), n_per_class),
        is_seen=np.zeros(len(names), dtype=bool),
        feature_dim=model.scaler.dim,
    )


def warn_unusual_embeddings(path: str | Path, names: list[str], matrix: np.ndarray, model: FeatureGenerator) -> None:
    """Warn of embeddings that are far longer or shorter than those of training, or that are equal."""
    own, new = (np.linalg.norm(model.preprocessor(rows), axis=1) for rows in (model.class_embeddings, matrix))
    if odd := [name for name, length in zip(names, new, strict=True) if not own.min() / 5 < length < own.max() * 5]:
        length = new[names.index(odd[0])]
        log.warning(
            "%s: %d of %d embeddings are on another scale than the run's: %r has, once prepared, the length %.3g, the "
            "run's classes %.3g to %.3g",
            *(path, len(odd), len(names), odd[0], length, own.min(), own.max()),
        )
    if told := unusual_embeddings_warning(matrix, names):
        log.warning("%s: %s; such classes get much the same features", path, told)


def _classes_of(dataset: ZSLDataset, classes: str, n_per_class: int, *, real: bool) -> BankSpec:
    """Return the spec of a bank of a data set's classes; ``real`` adds its training rows."""
    chosen, everyone = choose_classes(classes, dataset), np.arange(dataset.n_classes)
    if not len(chosen) and not real:
        raise InputError(f"{dataset.name} has no {classes} classes", "some to generate")
    rows = dataset.splits["trainval"] if real else None
    return dataset_spec(dataset, np.where(np.isin(everyone, chosen), n_per_class, 0), real=rows)


def choose_classes(classes: str, dataset: ZSLDataset) -> np.ndarray:
    """Return the class ids that ``"unseen"``, ``"seen"``, ``"all"`` or ``"NAME,NAME"`` stand for."""
    everyone = np.arange(dataset.n_classes)
    groups = {"unseen": dataset.unseen, "seen": dataset.seen, "all": everyone}
    if classes in groups:
        return groups[classes]
    names = {dataset.name_of(k): k for k in everyone.tolist()}
    ids = []
    for name in [classes] if classes in names else _names(classes):
        if name in groups and name not in names:
            raise InputError(f"--classes names {name!r} among others", "it alone; 'all' is seen and unseen classes")
        if name not in names:
            hint = did_you_mean(name, names, n=3) or f"There are {len(names)}, as {next(iter(names))!r}"
            raise InputError(f"--classes names {name!r}", f"unseen, seen, all, or names of {dataset.name}", hint)
        ids.append(names[name])
    return np.array(ids)


def _names(text: str) -> list[str]:
    """Read one line of a CSV."""
    try:
        return next(csv.reader([text], strict=True), []) or [""]
    except csv.Error:
        return [text]
