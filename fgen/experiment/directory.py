"""Folder of a run: the paths of its files, its lock, and what its small files hold."""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from fgen.config import dump_toml, read_toml
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig, Recipe
from fgen.features.encoder_record import IMAGE_ENCODER, EncoderRecord
from fgen.io.atomic import atomic_file, beside, working_in, write_json
from fgen.io.reading import guarded_read, read_json

log = logging.getLogger("fgen")
RecipeT = TypeVar("RecipeT", bound=Recipe)


class File:
    """Attribute of a folder: the path of a file or folder in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: SeedDirectory | RunDirectory, _: type | None = None) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class SeedDirectory:
    """The folder of one seed.

    Attributes:
        model: the trained generator, a folder.
        validation_model: the generator of the validation task, a folder; it never saw that task's unseen classes.
        head, head_zsl: the heads over seen and unseen classes, and over the unseen alone, folders.
        bank: what the heads were trained on.
        metrics: a row for each epoch.
        predictions: what was predicted for each test row.
        choice: what selection chose, and why.
        weights: folders of the selections with each of the weights of kinds that are tried, until one is chosen.
        held_out_scores: scores of the held-out rows with what was chosen, in a member of a fusion.
        members: folders of a fusion's members, by number, each as this one.
        data: the fingerprint of the data that all else here comes from, and the encoder of their pictures.
        timing: seconds by phase.
    """

    path: Path

    model = File("model")
    validation_model = File("validation_model")
    head = File("head")
    head_zsl = File("head_zsl")
    bank = File("bank.h5")
    metrics = File("metrics.csv")
    predictions = File("predictions.npz")
    choice = File("choice.json")
    weights = File("weights")
    held_out_scores = File("held_out_scores.npz")
    members = File("members")
    data = File("data.json")
    timing = File("timing.json")

    def candidate(self, number: int) -> SeedDirectory:
        """Return the folder of a selection with one of the weights of kinds that are tried."""
        return SeedDirectory(self.weights / str(number))

    def member(self, number: int) -> SeedDirectory:
        """Return the folder of a member of a fusion."""
        return SeedDirectory(self.members / str(number))

    def read_choice(self, config: RecipeT) -> tuple[dict[str, Any], RecipeT]:
        """Return what selection chose, and the recipe with the head's penalty and the weights of kinds that it chose.

        Raises:
            InputError: a file that isn't there, or that no selection wrote.
        """
        with guarded_read(self.choice, "choice", "Remove it and go on with fgen run --resume, which chooses again"):
            choice = read_json(self.choice)
            numbers = {key: choice[key] for key in ("gamma", "epochs", "l2") if key != "l2" or key in choice}
            whole = type(choice["epochs"]) is int and choice["epochs"] > 0
            if not whole or not all(type(number) in (int, float) for number in numbers.values()):
                raise ValueError(f"it chose {numbers}")
            if not all(isinstance(row, dict) for row in choice["history"]):
                raise ValueError("its history holds other things than evaluations")
            return choice, config.with_choice(choice)

    def record_fingerprint(self, dataset: ZSLDataset) -> None:
        """Record the fingerprint of the data that the folder's files are made from.

        Raises:
            InputError: the files that are there were made from other data.
        """
        self.check_fingerprint(dataset)
        if not self.data.exists():
            noted: dict[str, Any] = {"sha256": dataset.fingerprint, "parts": dataset.digests}
            if dataset.image_encoder is not None:
                noted[IMAGE_ENCODER] = dataset.image_encoder.to_json()
            write_json(self.data, noted)

    def training_digests(self) -> dict[str, str]:
        """Return the ``digests`` of the data that the files were made from, as far as they were recorded.

        An earlier fgen recorded ``all`` alone, and only in the bank. Without any record the dict is empty.
        """
        if self.data.exists():
            with guarded_read(self.data, "data", "Choose another --out"):
                noted = read_json(self.data)
                return {**noted.get("parts", {}), "all": noted["sha256"]}
        if self.bank.exists():
            with FeatureBank.open(self.bank) as bank:
                return {"all": bank.data_sha256} if bank.data_sha256 else {}
        return {}

    def image_encoder(self) -> EncoderRecord | None:
        """Return what made the features of pictures that the files were made from; None where it wasn't known."""
        if not self.data.exists():
            return None
        with guarded_read(self.data, "data", "Choose another --out"):
            noted = read_json(self.data)
            return EncoderRecord.from_json(noted[IMAGE_ENCODER]) if IMAGE_ENCODER in noted else None

    def load_dataset(self, config: ExperimentConfig) -> ZSLDataset:
        """Load the data set that the files were made from, with its shots.

        Raises:
            InputError: it is gone, or holds other data now.
        """
        given, run = config.dataset, RunDirectory(self.path.parents[1])
        if given.path is not None and not Path(given.path).exists():
            raise InputError(
                f"{run.path} was made from {given.path}, which isn't there",
                "its data set",
                f"Go to the folder that it was run in, or mend dataset.path in {run.config}",
            )
        dataset = given.load()
        self.check_fingerprint(dataset)
        return dataset

    def check_fingerprint(self, dataset: ZSLDataset) -> None:
        """Refuse data whose fingerprint isn't the recorded one, where there is one."""
        noted = self.training_digests()
        if noted and noted["all"] != dataset.fingerprint:
            raise InputError(
                f"{self.path} was made from other data than {dataset.name} holds now",
                "the data set that the run began with",
                "Bring it back, or choose another --out",
            )

    def has_selected(self) -> bool:
        """Return whether a selection was begun."""
        return (
            self.choice.exists()
            or self.weights.exists()
            or self.members.exists()
            or any(self.path.glob("checkpoint/selection*.safetensors"))
            or self.held_out(0).exists()
        )

    def remove_trained(self) -> None:
        """Remove the model and all that was made with it; the checkpoint stays."""
        for made in (self.validation_model, self.head_zsl, self.head, self.bank, self.metrics, self.model):
            if made.is_dir():
                shutil.rmtree(made)
            made.unlink(missing_ok=True)

    def stopped_in(self) -> str | None:
        """Return the first phase of a run that isn't finished; None where all are."""
        if self.predictions.exists():
            return None
        files = {"selection": self.choice, "training": self.model, "bank": self.bank, "heads": self.head}
        return next((phase for phase, file in files.items() if not file.exists()), "test")

    def checkpoint(self, phase: str) -> Path:
        """Return the checkpoint file of a training.

        Args:
            phase: ``selection`` (of a fold: ``selection-0``), ``final``, or ``validation``.
        """
        return self.path / "checkpoint" / f"{phase}.safetensors"

    def held_out(self, fold: int) -> Path:
        """Return the file of what decides about the held-out rows of a fold."""
        return self.path / "checkpoint" / f"held_out-{fold}.npz"


@dataclass(frozen=True)
class RunDirectory:
    """``RUN_DIR``: ``result.json``, ``config.toml`` (resolved), and a :class:`SeedDirectory` for each seed."""

    path: Path

    config = File("config.toml")
    result = File("result.json")

    @classmethod
    def create(cls, path: Path, config: ExperimentConfig, *, resume: bool, longer: bool = False) -> RunDirectory:
        """Start a run folder, or go on in one that was made with the same config, and the same seeds or the first ones.

        Args:
            longer: the folder is known to differ in having fewer epochs or steps alone, and goes on to more.

        Raises:
            InputError: the folder holds something else, or another config, or another process is at work in it.
        """
        folder = cls(path)
        begun = ("config.toml.partial", beside(folder.config, "lock").name)
        others = path.is_dir() and any(entry.name not in begun for entry in path.iterdir())
        if path.is_file() or (others and not folder.config.exists()):
            raise InputError(f"{path} exists and is no run folder", "a new or empty folder", "Choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        with folder.locked():
            config = _as_begun(folder.config, config)
            if not folder.has_begun():
                if resume and not folder.config.exists():
                    log.info("%s holds nothing to go on with: it begins there", path)
                shutil.rmtree(path / "seeds", ignore_errors=True)
            elif not resume:
                raise InputError(
                    f"{path} already holds a run", "a new folder", "Add --resume to go on, or choose --out"
                )
            elif not longer and (difference := folder.difference(config)):
                raise InputError(
                    f"{path} was started with another config",
                    f"the same settings when resuming ({difference}), and the same seeds, or more after them",
                    f"Compare with {folder.config}, or choose another --out",
                )
            with atomic_file(folder.config) as temporary:
                temporary.write_text(dump_toml(config.to_mapping()), encoding="utf-8")
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open the folder of a run, finished or not.

        Raises:
            InputError: it holds no ``config.toml``.
        """
        folder = cls(Path(path))
        if not folder.config.exists():
            raise InputError(f"{path} is no run folder (it has no config.toml)", "the --out of fgen run or fgen train")
        return folder

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder against other processes of fgen while the block runs.

        Raises:
            InputError: one is at work in it, or it was moved or removed meanwhile.
        """
        return working_in(self.path)

    def seed(self, seed: int) -> SeedDirectory:
        """Return the folder of one seed."""
        return SeedDirectory(self.path / "seeds" / str(seed))

    def difference(self, config: ExperimentConfig) -> str:
        """Return the first setting that differs from those that the folder was begun with, "" where all are the same.

        Settings that may change when a run goes on, and more seeds, are no difference.
        """
        return _difference(self.config, _as_begun(self.config, config))

    def has_begun(self) -> bool:
        """Return whether anything was computed; a run can be refused for its data after its folder was made."""
        files = (name for _, _, names in os.walk(self.path / "seeds", followlinks=True) for name in names)
        return self.result.exists() or any(name != "data.json" for name in files)


class Clock:
    """Clock of wall seconds by phase, summed over all calls that a run took and kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()
        try:
            with guarded_read(path, "timing"):
                kept = read_json(path).items()
                self.seconds = {phase: float(seconds) for phase, seconds in kept if type(seconds) in (int, float)}
        except InputError:  # none yet, or damaged: it decides nothing
            self.seconds = {}

    def mark(self, phase: str) -> None:
        """Add the time since the last mark to ``phase``."""
        now = time.monotonic()
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + now - self._last, 3)
        self._last = now
        write_json(self._path, self.seconds)


#: Settings that may change when a run goes on: more seeds may follow the first ones, the other decides no result.
MAY_CHANGE = ("protocol.seeds", "train.checkpoint_every")


def _as_begun(file: Path, config: ExperimentConfig) -> ExperimentConfig:
    """Return the experiment as a folder of an earlier fgen began it, which knew no folds."""
    if not file.exists() or "folds" in read_toml(file).get("protocol", {"folds"}):
        return config
    return replace(config, protocol=replace(config.protocol, folds=1))


def _difference(file: Path, now: ExperimentConfig) -> str:
    """Return the first setting that differs from those of a file, or seeds of which the file's aren't the first.

    Return "" where all are the same, and the error of a file that can't be read. Settings that an earlier fgen lacked
    have their defaults.
    """
    try:
        before = _as_begun(file, ExperimentConfig.from_file(file))
    except InputError as error:
        return str(error)
    if difference := setting_difference(before, now):
        return difference
    begun, seeds = list(before.protocol.seeds), list(now.protocol.seeds)
    return f"protocol.seeds was {begun} and is {seeds} now" if seeds[: len(begun)] != begun else ""


def setting_difference(before: ExperimentConfig, now: ExperimentConfig) -> str:
    """Return the first setting that differs, "" where all are the same but those that may change."""
    old, new = _settings(before), _settings(now)
    for name in old | new:
        if old.get(name) != new.get(name):
            then, here = ("not set" if value is None else repr(value) for value in (old.get(name), new.get(name)))
            return f"{name} was {then} and is {here} now"
    return ""


def _settings(config: ExperimentConfig) -> dict[str, Any]:
    """Return the settings by their full names, without those that may change and without notes."""
    sections = replace(config, paper={}, ours={}).to_mapping()
    named = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    return {name: value for name, value in named.items() if name not in MAY_CHANGE}
