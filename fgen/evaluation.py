"""A bank put to use: any classifier, trained on it, and its scores."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from fgen.classifiers.heads import head_scorer, train_heads, warn_of_a_poor_fit
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.models.base import FeatureGenerator
from fgen.models.storage import load_model
from fgen.run_directory import RunDirectory
from fgen.scores.accuracy import GZSLScores
from fgen.settings import ExperimentConfig

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
        precision = str(_setting(bank, "train", "precision", "auto"))
        device = "cpu" if _setting(bank, "train", "device", "auto") == "cpu" else "auto"  # others may not be here
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
        given = _section(bank, "classifier")
    return given if given.get("name", "softmax") == name else {"name": name}


def model_of(seed: int, space: str, width: int, run: Path, dataset: ZSLDataset) -> FeatureGenerator:
    """The model of a run that a bank of this seed lives in the space of.

    Raises:
        InputError: the run has another space, or learned from other features.
    """
    directory = RunDirectory.open(run)
    folder = directory.seed(seed) if directory.seed(seed).model.exists() else directory.first_seed()
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
    """The data set with those rows moved to training that the bank's generator was trained on as shots."""
    shots = _setting(bank, "dataset", "shots", 0)
    if not shots or dataset.shots is not None:
        return dataset
    classes = _setting(bank, "dataset", "shot_classes", None)
    chosen = tuple(classes) if isinstance(classes, list) else classes
    return dataset.with_shots(shots, chosen, seed=_setting(bank, "dataset", "split_seed", 0))


def _setting(bank: FeatureBank, section: str, key: str, default: Any) -> Any:
    """A setting of the run that the bank comes from, if it comes from one."""
    return _section(bank, section).get(key, default)


def _section(bank: FeatureBank, section: str) -> dict[str, Any]:
    run = bank.config.get("run", bank.config)
    given = run.get(section, {}) if isinstance(run, dict) else {}
    return given if isinstance(given, dict) else {}


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
    try:
        made_by = ExperimentConfig.from_mapping({name: _section(bank, name) for name in ("dataset", "model")}).model
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


def _warn_of_classes_seen_before(bank: FeatureBank, ids: np.ndarray, dataset: ZSLDataset) -> None:
    leaked = np.intersect1d(ids[bank.seen], dataset.unseen)
    if leaked.size:
        log.warning(
            "%s: %d of its %d unseen classes were seen by the bank's generator: these are no zero-shot scores",
            dataset.name,
            len(leaked),
            len(dataset.unseen),
        )
