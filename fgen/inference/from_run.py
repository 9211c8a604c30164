"""Predictors of finished runs, which know the run's classes and those of banks made since."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgen.classifiers.registry import load_head
from fgen.compute.device import available_device, cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.evaluation import compare_data, compare_models, expect_known_space
from fgen.experiment.generation import trained_seed
from fgen.experiment.steps import Task, new_heads, synthetic_rows
from fgen.features.encoder_record import EncoderRecord
from fgen.inference.fused import fused_predictor
from fgen.inference.predictor import Predictor, expect_width
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")


def predictor_of_run(run: str | Path, banks: Sequence[str | Path] = (), *, width: int | None = None) -> Predictor:
    """Return the predictor of a run's first seed: with its saved head, or where there are banks with a new one.

    A folder of ``fgen train`` has a head as one of ``fgen run`` has, and gamma where ``protocol.calibrate`` chose one.
    In a folder of an earlier fgen, or with a head that can't be saved, one is trained as ``fgen run`` would train it.

    Args:
        run: the run folder.
        banks: of classes that the run doesn't know, as :func:`fgen.experiment.generation.generate_from_run` makes them
            from new embeddings. A head like the run's is trained over all classes: on the rows of the run's head, and
            on at most ``bank.n_per_class`` rows of each class of these banks, since classes with more rows would be
            predicted in place of the others. It gets the run's gamma.
        width: the number of columns of the features to predict, if known. Another number than the model's is refused
            before a head is trained.

    Raises:
        InputError: an unfinished run, or one without a saved head; data that are gone; banks or a width that don't fit.
    """
    directory = RunDirectory.open(run)
    config, gamma = ExperimentConfig.from_file(directory.config), 0.0
    folder = directory.seed(config.protocol.seeds[0])
    if config.dataset.fusion == "decision":
        if banks:
            raise InputError(f"{run} fuses the decisions of several models", "no banks with it, or a run of one model")
        fused = fused_predictor(folder, config)
        if width is not None:
            expect_width(width, fused.model)
        return fused
    trained_alone = folder.model.exists() and not folder.choice.exists()
    if not trained_alone and not (folder.bank if banks else folder.head).exists():
        expected = "a finished run whose classifier.name is 'softmax' or 'cosine'"
        raise InputError(f"{run} has no saved head", expected)
    if trained_alone:
        log.info("%s: its seen classes have no handicap; protocol.calibrate = true chooses one", run)
    else:
        choice, config = folder.read_choice(config)
        gamma = float(choice["gamma"])
    model = load_model(folder.model)
    if width is not None:
        expect_width(width, model)
    if banks or not folder.head.exists():
        log.info("%s: a head is trained for it", run)
        head, dataset = _head_with(banks, Path(run), config, folder, model)
        seen, names = dataset.seen, dataset.class_names
    else:
        head, names = load_head(folder.head), model.class_names
        with FeatureBank.open(folder.bank) as bank:
            seen = np.flatnonzero(bank.is_seen)
    labels = np.arange(head.n_classes_) if names is None else np.array(names, dtype=object)
    return Predictor(model, head, labels, seen, gamma, config.train.threads, image_encoder=folder.image_encoder())


def encoder_of_run(run: str | Path) -> EncoderRecord | None:
    """Return what made the features of pictures that a run learned from; None where it wasn't known.

    Raises:
        InputError: no run folder.
    """
    directory = RunDirectory.open(run)
    return directory.seed(ExperimentConfig.from_file(directory.config).protocol.seeds[0]).image_encoder()


def model_of_run(run: str | Path) -> tuple[FeatureGenerator, ExperimentConfig]:
    """Return the generator of a run's first seed, with the run's settings.

    Raises:
        InputError: no run folder, or one without a trained generator.
    """
    directory = RunDirectory.open(run)
    config = ExperimentConfig.from_file(directory.config)
    folder = trained_seed(directory, config, config.protocol.seeds[0])
    return load_model(folder.model, available_device(config.train.device)), config


def _head_with(
    banks: Sequence[str | Path], run: Path, config: ExperimentConfig, folder: SeedDirectory, model: FeatureGenerator
) -> tuple[Any, ZSLDataset]:
    """Train a head over the run's classes and those of the banks; return it with the data set of all these classes."""
    task = Task(config, folder.load_dataset(config), config.protocol.seeds[0])
    if folder.bank.exists():
        with FeatureBank.open(folder.bank) as own:
            features, labels = own.to_numpy()
    else:
        features, labels = synthetic_rows(task, model)
    for path in banks:
        with FeatureBank.open(path) as bank:
            _expect_same_space(bank, path, run, model)
            new_rows, counts = _first_rows(bank, path, config.bank.n_per_class)
            classes, n_known = np.flatnonzero(counts), task.dataset.n_classes
            dataset = _with_classes(task.dataset, bank, classes, path)
            if bank.space != model.bank_space:
                with cpu_threads(config.train.threads):
                    new_rows = model.represent(new_rows)
        features = np.concatenate([features, new_rows])
        labels = np.concatenate([labels, n_known + np.repeat(np.arange(len(classes)), counts[classes])])
        task = replace(task, dataset=dataset)
    # Of several penalties a run has chosen one by now; a training alone takes the smallest.
    task = replace(task, recipe=config.candidates()[-1])
    (heads,) = new_heads(task, model, features, labels, with_zsl=False)
    return heads.gzsl, task.dataset


def _expect_same_space(bank: FeatureBank, path: str | Path, run: Path, model: FeatureGenerator) -> None:
    """Refuse a bank of another space than raw features or the run's own bank; warn of one made from other data."""
    expect_known_space(path, bank, run, model)
    if bank.space != "raw":
        compare_models(bank, run)
    elif {"features", "unknown"} & compare_data(bank, run).keys():
        log.warning("%s was made from other data than %s: are its features of the same network?", path, run)


def _first_rows(bank: FeatureBank, path: str | Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first rows ``(M, D)`` float32 of each class of a bank, at most so many, and their numbers ``(C,)``."""
    counts = np.minimum(np.diff(bank.class_ptr), most)
    if not counts.any():
        raise InputError(f"{path} has no rows", "some of each new class")
    starts = bank.class_ptr[:-1]
    chosen = np.concatenate([start + np.arange(count) for start, count in zip(starts, counts, strict=True)])
    if len(chosen) < len(bank):
        log.info("%s: the first %d rows of a class are taken, as many as the run's", path, counts.max())
    return np.asarray(bank.features[chosen], dtype=np.float32), counts


def _with_classes(dataset: ZSLDataset, bank: FeatureBank, classes: np.ndarray, path: str | Path) -> ZSLDataset:
    """Return the data set with some classes of a bank.

    Raises:
        InputError: one of them is known already.
    """
    names = [bank.class_names[k] for k in classes]
    if known := sorted({*names} & {*(dataset.class_names or ())}):
        raise InputError(f"{path} has rows of {known[0]!r}, which is answered already", "classes that are new")
    try:
        return dataset.with_classes(names, bank.class_embeddings[classes])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
