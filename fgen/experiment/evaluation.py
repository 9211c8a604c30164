"""Evaluation of a bank: train a classifier on it and score the classifier."""

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgen.compute.device import MOST_THREADS, cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.bank_origins import difference, run_section, training_digests
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig, named_config
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.heads import HeadRecipe, train_heads, warn_of_a_poor_fit
from fgen.experiment.steps import representation
from fgen.experiment.validation_bank import choose_beside
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.stats import SCORES
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a classifier that was trained on a bank.

    Attributes:
        scores: at the gamma that was given or chosen.
        uncalibrated: at gamma 0.
        calibration: a sentence on the choice of gamma; "" where none was chosen.
    """

    scores: GZSLScores
    uncalibrated: GZSLScores
    calibration: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the scores, and where gamma was chosen it and the scores without it, as JSON can hold them."""
        scores, uncalibrated = (
            {name: row.as_dict()[name] for name in SCORES} for row in (self.scores, self.uncalibrated)
        )
        if not self.calibration:
            return scores
        return scores | {
            "gamma": self.scores.gamma,
            "calibration": self.calibration,
            "uncalibrated": uncalibrated,
        }


def evaluate_bank(
    path: str | Path,
    dataset: ZSLDataset,
    classifier: Any,
    *,
    seed: int = 0,
    run: str | Path | None = None,
    gamma: float | None = None,
) -> Evaluation:
    """Train a classifier on the data set's real training rows and a bank's synthetic ones, and score it.

    Args:
        path: the bank; its classes are matched to the data set's by name.
        classifier: a config of ``CLASSIFIERS``, or an :class:`fgen.classifiers.any_estimator.EstimatorConfig`.
        run: a run folder whose model's own space the head lives in.
        gamma: subtracted from the seen classes' scores (calibrated stacking, Chao et al. 2016). None chooses it for the
            same classifier on the validation bank beside the bank; without one it is 0.

    Raises:
        InputError: bank and data set don't match, the validation bank is another bank's, or gamma is no number.
    """
    if gamma is not None and not math.isfinite(gamma):
        raise InputError(f"gamma is {gamma}", "a finite number")
    dataset.require_test_rows()
    path, folder = Path(path), None if run is None else Path(run)
    with FeatureBank.open(path) as bank:
        train, bank_section = (run_section(bank.config, section) for section in ("train", "bank"))
        dataset, space = with_shots_of(bank, dataset), bank.space
        model = None if folder is None else model_of(path, bank, folder)
        _check_columns(path, bank, dataset, model)
        ids = match_classes(bank, dataset)
        warn_of_other_data(path, bank, dataset, folder)
        _warn_of_classes_seen_before(bank, ids, dataset)
        rows = np.flatnonzero(bank.synthetic & (ids[bank.labels] >= 0))
        synthetic, labels = np.asarray(bank.features[rows], dtype=np.float32), ids[bank.labels[rows]]
        missing = np.setdiff1d(dataset.unseen, labels)
        if missing.size:
            raise InputError(
                f"{path} has no synthetic features for {missing.size} unseen classes, "
                f"{dataset.name_of(missing[0])!r} among them",
                f"some for each of the {len(dataset.unseen)}",
                "Generate them with fgen generate --classes unseen",
            )
        represent = None if model is None else representation(model)
        seed_of_run = None if folder is None else seed_folder(folder, bank.seed)
    with_real = bool(bank_section.get("real", True)) or _lacks_seen_classes(path, dataset, labels)
    device = "cpu" if train.get("device") == "cpu" else "auto"  # others may not be here
    recipe = HeadRecipe(classifier, seed, with_real, precision=str(train.get("precision", "auto")), device=device)
    threads = train.get("threads")
    with cpu_threads(threads if type(threads) is int and 1 <= threads <= MOST_THREADS else None):
        choice = choose_beside(path, recipe, None if represent is None else seed_of_run) if gamma is None else None
        (heads,) = train_heads(recipe, dataset, synthetic, labels, represent=represent, space=space)
        if with_real:
            warn_of_a_poor_fit(heads, dataset, represent)
        scored = heads.score(dataset, represent)
    chosen = gamma or 0.0 if choice is None else choice.gamma
    return Evaluation(scored.at(chosen)[0], scored.at(0.0)[0], "" if choice is None else choice.sentence)


def head_settings(path: str | Path, name: str) -> dict[str, Any]:
    """Return the settings of the head ``name`` in the run that a bank comes from, or the name alone."""
    with FeatureBank.open(path) as bank:
        given = run_section(bank.config, "classifier")
    return given if given.get("name", "softmax") == name else {"name": name}


def model_of(path: Path, bank: FeatureBank, run: Path) -> FeatureGenerator:
    """Return the model of a run, of the bank's seed where there is one, whose space the bank lives in.

    Raises:
        InputError: the run has another space, or no model of the seed whose space it is, or another model made the
            bank in such a space.
    """
    compare_models(bank, run)
    folder = seed_folder(run, bank.seed)
    if bank.space != "raw" and folder.path.name != str(bank.seed):
        raise InputError(f"the bank is of seed {bank.seed}, and {run} has no model of it", "the run that it comes from")
    model = load_model(folder.model)
    expect_known_space(path, bank, run, model)
    return model


def _check_columns(path: Path, bank: FeatureBank, dataset: ZSLDataset, model: FeatureGenerator | None) -> None:
    """Refuse a bank of a space that no model is there for, or of other features than the data set's."""
    if bank.space != "raw" and model is None:
        raise InputError(
            f"{path} holds features of the space {bank.space!r}", "the run whose model knows it", "Add --run RUN_DIR"
        )
    width = bank.features.shape[1] if model is None else model.scaler.dim
    if width != dataset.feature_dim:
        raise InputError(
            f"{path} was made for features of {width} columns",
            f"{dataset.feature_dim}, as {dataset.name} has",
            "Use the bank with the data set it was made for",
        )


def expect_known_space(path: str | Path, bank: FeatureBank, run: Path, model: FeatureGenerator) -> None:
    """Refuse a bank that holds neither raw features nor rows of the ``bank_space`` of a run's model."""
    known, width = {"raw": model.scaler.dim, model.bank_space: model.bank_dim}, bank.features.shape[1]
    if known.get(bank.space) != width:
        spaces = " or ".join(f"{columns} of {name!r}" for name, columns in known.items())
        raise InputError(f"{path} holds {width} columns of the space {bank.space!r}", f"{spaces}, as {run} knows them")


def with_shots_of(bank: FeatureBank, dataset: ZSLDataset) -> ZSLDataset:
    """Return the data set as the run had it that a bank comes from.

    It has the run's ``split_seed``, and the rows that the generator was trained on as shots are moved to training.
    """
    given = run_section(bank.config, "dataset")
    seed, shots = (_whole_number(given, key) for key in ("split_seed", "shots"))
    dataset = dataset.with_split_seed(seed)
    return dataset if dataset.shots is not None else dataset.with_shots(shots, given.get("shot_classes"), seed=seed)


def split_seed_of(path: str | Path) -> int:
    """Return the ``split_seed`` of the run that a bank comes from."""
    with FeatureBank.open(path) as bank:
        return _whole_number(run_section(bank.config, "dataset"), "split_seed")


def _whole_number(dataset: Mapping[str, Any], key: str) -> int:
    """Return a whole number of the section ``dataset`` of a bank's config, which anybody may have written, or 0."""
    value = dataset.get(key, 0)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InputError(f"the bank's config has {value!r} as dataset.{key}", "a whole number from 0")
    return value


def warn_of_other_data(path: Path, bank: FeatureBank, dataset: ZSLDataset, run: Path | None) -> None:
    """Warn where the bank's generator, or the run whose space heads live in, was trained on other data."""
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
    """Return what a seed's folder records of its data; {} where it is no such folder, or damaged."""
    with suppress(InputError):
        noted = folder.training_digests() if folder.model.exists() else {}
        return noted if isinstance(noted.get("all"), str) else {}
    return {}


def seed_folder(run: Path, seed: int) -> SeedDirectory:
    """Return the folder of a bank's seed in a run; of the run's first seed where it has no such model."""
    directory = RunDirectory.open(run)
    folder, first = directory.seed(seed), ExperimentConfig.from_file(directory.config).protocol.seeds[0]
    return folder if folder.model.exists() else directory.seed(first)


def match_classes(bank: FeatureBank, dataset: ZSLDataset) -> np.ndarray:
    """Return the data set's id of each class of the bank, by name; -1 for classes that it doesn't have."""
    known = {dataset.name_of(k): k for k in range(dataset.n_classes)}
    ids = np.array([known.get(name, -1) for name in bank.class_names], dtype=np.int64)
    if (ids < 0).all():
        found = f"the bank's classes ({bank.class_names[0]!r}, ...) aren't among {dataset.name}'s"
        raise InputError(f"{found} ({dataset.name_of(0)!r}, ...)", "the same class names")
    return ids


def _lacks_seen_classes(path: str | Path, dataset: ZSLDataset, labels: np.ndarray) -> bool:
    """Return whether a bank lacks rows of seen classes, so that the head needs the real ones; log either case."""
    lacks = not np.isin(dataset.seen, labels).all()
    if lacks:
        log.warning("%s lacks generated rows of seen classes: the head learns from the real ones", path)
    else:
        log.info("%s: the head learns from generated rows alone, as its run's did", path)
    return lacks


def compare_models(bank: FeatureBank, run: Path) -> None:
    """Warn of a bank that another model made than the run's, which raw features allow, and refuse it elsewhere."""
    is_raw, its_run = bank.space == "raw", "the run that it comes from"
    if not is_raw and compare_data(bank, run):
        raise InputError(f"the bank was made from other data than {run}", its_run)
    try:
        made_by = named_config("model", run_section(bank.config, "model"))
    except InputError:  # it comes from no run, or from one of another fgen
        return
    own = ExperimentConfig.from_file(RunDirectory.open(run).config).model
    if made_by == own:
        return
    if not is_raw:
        raise InputError(f"the bank was made by another {made_by.name} than that of {run}", its_run)
    log.warning(
        "the bank was made by %s, not by the model of %s (%s): heads live in the latter's space",
        made_by.name,
        run,
        own.name,
    )


def compare_data(bank: FeatureBank, run: Path) -> dict[str, str]:
    """Return what differs between the data that a bank and a run were made from, see :func:`difference`."""
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
