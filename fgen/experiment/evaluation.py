"""A bank put to use: any classifier, trained on it, and its scores."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import MOST_THREADS, cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.bank_origins import difference, run_section, training_digests
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.heads import head_scorer, train_heads, warn_of_a_poor_fit
from fgen.metrics.accuracy import GZSLScores
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")


def evaluate_bank(
    path: str | Path,
    dataset: ZSLDataset,
    classifier: Any,
    *,
    seed: int = 0,
    run: str | Path | None = None,
    gamma: float = 0.0,
) -> GZSLScores:
    """Train a classifier on the data set's real training rows and a bank's synthetic ones, and score it.

    Args:
        path: the bank; its classes are matched to the data set's by name.
        classifier: a config of ``CLASSIFIERS``.
        run: a run folder whose model's own space the head lives in.
        gamma: subtracted from the seen classes' scores (calibrated stacking, Chao et al. 2016).

    Raises:
        InputError: bank and data set don't match, or gamma is no number.
    """
    if not math.isfinite(gamma):
        raise InputError(f"gamma is {gamma}", "a finite number")
    dataset.require_test_rows()
    with FeatureBank.open(path) as bank:
        space, bank_seed, width = bank.space, bank.seed, int(bank.features.shape[1])
        dataset = with_shots_of(bank, dataset)
        if space != "raw" and run is None:
            raise InputError(
                f"{path} holds features of the space {space!r}", "the run whose model knows it", "Add --run RUN_DIR"
            )
        if space == "raw" and bank.features.shape[1] != dataset.feature_dim:
            raise InputError(
                f"{path} holds features of {bank.features.shape[1]} columns",
                f"{dataset.feature_dim}, as {dataset.name} has",
                "Use the bank with the data set it was made for",
            )
        ids = match_classes(bank, dataset)
        warn_of_other_data(Path(path), bank, dataset, None if run is None else Path(run))
        precision = str(_setting(bank, "train", "precision", "auto"))
        device = "cpu" if _setting(bank, "train", "device", "auto") == "cpu" else "auto"  # others may not be here
        threads = _threads(bank)
        with_real = bool(_setting(bank, "bank", "real", True))
        _warn_of_classes_seen_before(bank, ids, dataset)
        if run is not None:
            compare_models(bank, Path(run))
        rows = np.flatnonzero(bank.synthetic & (ids[bank.labels] >= 0))
        synthetic, labels = np.asarray(bank.features[rows], dtype=np.float32), ids[bank.labels[rows]]
    missing = np.setdiff1d(dataset.unseen, labels)
    if missing.size:
        name = dataset.class_names[missing[0]] if dataset.class_names else f"class {missing[0]}"
        raise InputError(
            f"{path} has no synthetic features for {missing.size} unseen classes, {name!r} among them",
            f"some for each of the {len(dataset.unseen)}",
            "Generate them with fgen generate --classes unseen",
        )
    if not with_real:
        with_real = _lacks_seen_classes(path, dataset, labels)
    model = None if run is None else model_of(bank_seed, space, width, Path(run), dataset)
    represent = None if model is None or not model.has_own_space else model.represent
    with cpu_threads(threads):
        heads = train_heads(
            classifier,
            dataset,
            synthetic,
            labels,
            seed=seed,
            represent=represent,
            space=space,
            with_real=with_real,
            precision=precision,
            device=device,
        )
        if with_real:
            warn_of_a_poor_fit(heads, dataset, represent)
        return head_scorer(heads, dataset, represent)(gamma)[0]


def head_settings(path: str | Path, name: str) -> dict[str, Any]:
    """The settings of the head called ``name`` in the run that a bank comes from, or the name alone."""
    with FeatureBank.open(path) as bank:
        given = run_section(bank.config, "classifier")
    return given if given.get("name", "softmax") == name else {"name": name}


def model_of(seed: int, space: str, width: int, run: Path, dataset: ZSLDataset) -> FeatureGenerator:
    """The model of a run that a bank of this seed lives in the space of.

    Raises:
        InputError: the run has another space, no model of the seed whose space it is, or learned from other features.
    """
    folder = seed_folder(run, seed)
    if space != "raw" and folder.path.name != str(seed):
        raise InputError(f"the bank is of seed {seed}, and {run} has no model of it", "the run that it comes from")
    model = load_model(folder.model)
    known = {"raw": model.scaler.dim, model.bank_space: model.bank_dim}
    if known.get(space) != width:
        spaces = " or ".join(f"{columns} columns of the space {name!r}" for name, columns in known.items())
        raise InputError(f"the bank holds {width} columns of the space {space!r}", f"{spaces}, as {run} knows them")
    if model.scaler.dim != dataset.feature_dim:
        raise InputError(
            f"{dataset.name} has features of {dataset.feature_dim} columns",
            f"{model.scaler.dim}, as {run} was made for",
        )
    return model


def with_shots_of(bank: FeatureBank, dataset: ZSLDataset) -> ZSLDataset:
    """The data set as the run had it that a bank comes from: with its ``split_seed``, and with those rows moved to
    training that the generator was trained on as shots."""
    seed, shots = (_whole_number(bank, key) for key in ("split_seed", "shots"))
    classes = _setting(bank, "dataset", "shot_classes", None)
    chosen = tuple(classes) if isinstance(classes, list) else classes
    dataset = dataset.with_split_seed(seed)
    return dataset if dataset.shots is not None else dataset.with_shots(shots, chosen, seed=seed)


def split_seed_of(path: str | Path) -> int:
    """The ``split_seed`` of the run that a bank comes from."""
    with FeatureBank.open(path) as bank:
        return _whole_number(bank, "split_seed")


def _whole_number(bank: FeatureBank, key: str) -> int:
    value = _setting(bank, "dataset", key, 0)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputError(f"the bank's config has {value!r} as dataset.{key}", "a whole number from 0")
    return value


def _setting(bank: FeatureBank, section: str, key: str, default: Any) -> Any:
    """A setting of the run that the bank comes from, if it comes from one."""
    return run_section(bank.config, section).get(key, default)


def warn_of_other_data(path: Path, bank: FeatureBank, dataset: ZSLDataset, run: Path | None) -> None:
    """Warn of a bank whose generator was trained on other data than these, and of a run whose space heads live in."""
    of_run = {} if run is None else _noted_data_of(seed_folder(run, bank.seed))
    beside = SeedDirectory(path.absolute().parent)  # a run's own bank lies there, and tells less than the folder
    fuller = {data["all"]: data for data in (of_run, _noted_data_of(beside)) if data}
    noted = [(path, fuller.get(data["all"], data)) for data in training_digests(bank.config, bank.data_fingerprints)]
    noted = [(source, data) for source, data in noted if data["all"] in bank.data_fingerprints]
    for source, data in [*noted, *([(run, of_run)] if of_run else [])]:
        if told := difference(data, dataset.digests):
            log.warning("%s was made from other data than %s holds: %s", source, dataset.name, "; ".join(told.values()))
    if not bank.config_intact:
        log.warning("%s: its config isn't the one it was written with; shots and settings are taken from it", path)


def _noted_data_of(folder: SeedDirectory) -> dict[str, Any]:
    """What a run's folder notes of its data; nothing where it is no such folder, or damaged."""
    with suppress(InputError):
        noted = folder.training_digests() if folder.model.exists() else {}
        return noted if isinstance(noted.get("all"), str) else {}
    return {}


def seed_folder(run: Path, seed: int) -> SeedDirectory:
    """The folder in a run of a bank's seed, or of the run's first."""
    directory = RunDirectory.open(run)
    folder = directory.seed(seed)
    return folder if folder.model.exists() else directory.first_seed()


def _threads(bank: FeatureBank) -> int | None:
    """The CPU threads of the run that the bank comes from; None where that is no number of threads."""
    threads = _setting(bank, "train", "threads", None)
    return threads if type(threads) is int and 1 <= threads <= MOST_THREADS else None


def match_classes(bank: FeatureBank, dataset: ZSLDataset) -> np.ndarray:
    """The data set's id of each class of the bank, -1 where it has none: by name, or by position without names."""
    names = dataset.class_names or tuple(f"class {k}" for k in range(dataset.n_classes))
    known = {name: k for k, name in enumerate(names)}
    ids = np.array([known.get(name, -1) for name in bank.class_names], dtype=np.int64)
    if (ids < 0).all():
        raise InputError(
            f"the bank's classes ({bank.class_names[0]!r}, ...) aren't among {dataset.name}'s ({names[0]!r}, ...)",
            "the same class names",
        )
    return ids


def _lacks_seen_classes(path: str | Path, dataset: ZSLDataset, labels: np.ndarray) -> bool:
    """Whether a bank whose run learned from generated rows alone can't stand in for the real ones; either is told."""
    lacks = not np.isin(dataset.seen, labels).all()
    if lacks:
        log.warning("%s lacks generated rows of seen classes: the head learns from the real ones", path)
    else:
        log.info("%s: the head learns from generated rows alone, as its run's did", path)
    return lacks


def compare_models(bank: FeatureBank, run: Path) -> None:
    """Warn of a bank that another model made than the run's, which raw features allow, and refuse it elsewhere."""
    if bank.space != "raw" and compare_data(bank, run):
        raise InputError(f"the bank was made from other data than {run}", "the run that it comes from")
    try:
        made_by = ExperimentConfig.from_mapping(
            {name: run_section(bank.config, name) for name in ("dataset", "model")}
        ).model
    except InputError:  # it comes from no run, or from one of another fgen
        return
    own = ExperimentConfig.from_file(RunDirectory.open(run).config).model
    if made_by == own:
        return
    if bank.space != "raw":
        raise InputError(
            f"the bank was made by another {made_by.name} than that of {run}", "the run that it comes from"
        )
    log.warning(
        "the bank was made by %s, not by the model of %s (%s): heads live in the latter's space",
        made_by.name,
        run,
        own.name,
    )


def compare_data(bank: FeatureBank, run: Path) -> dict[str, str]:
    """What differs between the data that a bank and a run were made from, see :func:`difference`."""
    own = seed_folder(run, bank.seed).training_digests()
    found = [difference(data, own) for data in training_digests(bank.config, bank.data_fingerprints)] if own else []
    return {part: told for parts in found for part, told in parts.items()}


def _warn_of_classes_seen_before(bank: FeatureBank, ids: np.ndarray, dataset: ZSLDataset) -> None:
    leaked = np.intersect1d(ids[bank.is_seen], dataset.unseen)
    if leaked.size:
        log.warning(
            "%s: %d of its %d unseen classes were seen by the bank's generator: these are no zero-shot scores",
            dataset.name,
            len(leaked),
            len(dataset.unseen),
        )
