"""A finished run put to use: which class new features are of, among the run's own and those of banks made since."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgen.classifiers.base import Head, predict_calibrated
from fgen.classifiers.registry import load_head
from fgen.compute.device import cpu_threads
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.evaluation import compare_data, compare_models
from fgen.experiment.heads import represented
from fgen.experiment.steps import Task, new_heads, synthetic_rows
from fgen.features.rows import Features, as_rows
from fgen.models.base.generator import FeatureGenerator
from fgen.models.registry import load_model

log = logging.getLogger("fgen")


@dataclass(frozen=True)
class Recogniser:
    """A head with the model whose space it lives in, and its calibration: raw features in, classes out.

    Attributes:
        seen: ids of the classes whose scores ``gamma`` is subtracted from.
        class_names: by id, or None.
        threads: CPU threads, as the run had them; None leaves torch's choice.
    """

    model: FeatureGenerator
    head: Head
    seen: np.ndarray
    gamma: float
    class_names: tuple[str, ...] | None
    threads: int | None = None

    @classmethod
    def open(cls, run: str | Path, banks: Sequence[str | Path] = (), *, width: int | None = None) -> Recogniser:
        """The first seed of a finished run: its saved head, or where there are banks a new one.

        Of a training alone there is no head either: one is trained as a run would have trained it, but for what a run
        chooses by validation, so with a gamma of 0.

        Args:
            banks: of classes that the run doesn't know, as
                :func:`fgen.experiment.generation.generate_from_run` makes them from new embeddings. A head like the
                run's is then trained over all classes, on what the run's was and on these banks' rows, of each class
                at most as many as the run's ``bank.n_per_class``, for classes with more would be answered in place of
                the others; it gets the run's gamma.
            width: the columns of the features to be answered, where they are known: a head that takes a while isn't
                trained for others than the model's.

        Raises:
            InputError: the run isn't finished, or has no saved head; its data have gone; banks or a width that don't
                fit.
        """
        directory = RunDirectory.open(run)
        folder = directory.first_seed()
        trained_alone = folder.model.exists() and not folder.choice.exists()
        if not trained_alone and not (folder.bank if banks else folder.head).exists():
            expected = "a finished run whose classifier.name is 'softmax' or 'cosine'"
            raise InputError(f"{run} has no saved head", expected)
        config, gamma = ExperimentConfig.from_file(directory.config), 0.0
        if not trained_alone:
            choice, config = folder.read_choice(config)
            gamma = float(choice["gamma"])
        model = load_model(folder.model)
        if width is not None:
            _expect_width(width, model)
        if banks or trained_alone:
            log.info("%s: a head is trained for it", run)
            head, seen, names = _head_with(banks, Path(run), config, folder, model)
        else:
            head, names = load_head(folder.head), model.class_names
            with FeatureBank.open(folder.bank) as bank:
                seen = np.flatnonzero(bank.is_seen)
        return cls(model, head, seen, gamma, names, config.train.threads)

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Class ids ``(N,)`` and their calibrated log-probabilities ``(N,)`` of raw features ``(N, D)``."""
        features = as_rows(features)
        _expect_width(features.shape[1], self.model)
        if odd := self.model.scaler.scale_warning(features):
            log.warning("%s: are they scaled as the run's were?", odd)
        with cpu_threads(self.threads):
            rows = represented(features, self.model.represent) if self.model.has_own_space else features
            scores = self.head.candidate_scores(rows)
        answers = predict_calibrated(scores, self.head.classes_, self.gamma, self.seen)
        best = scores[np.arange(len(scores)), np.searchsorted(self.head.classes_, answers)]
        return answers, best - self.gamma * np.isin(answers, self.seen)

    def name(self, class_id: int) -> str:
        """The class's name, or its id where classes have none."""
        return str(class_id) if self.class_names is None else self.class_names[class_id]


def _expect_width(width: int, model: FeatureGenerator) -> None:
    if width != model.scaler.dim:
        raise InputError(f"features have {width} columns", f"{model.scaler.dim}, as in training")


def _head_with(
    banks: Sequence[str | Path], run: Path, config: ExperimentConfig, folder: SeedDirectory, model: FeatureGenerator
) -> tuple[Head, np.ndarray, tuple[str, ...] | None]:
    """A head over the run's classes and the banks', the seen ones' ids, and all names."""
    dataset, seed, space = config.dataset.load(), config.protocol.seeds[0], model.bank_space
    folder.check_fingerprint(dataset)
    if folder.bank.exists():
        with FeatureBank.open(folder.bank) as own:
            features, ids = own.to_numpy()
    else:
        features, ids = synthetic_rows(Task(config, dataset, seed), model)
    task, rows, labels = dataset, [features], [ids]
    for path in banks:
        with FeatureBank.open(path) as bank:
            width = model.scaler.dim if bank.space == "raw" else model.bank_dim
            if bank.space not in ("raw", space) or bank.features.shape[1] != width:
                raise InputError(
                    f"{path} holds {bank.features.shape[1]} columns of the space {bank.space!r}",
                    f"{width} of {space!r}, as the run's own bank, or of 'raw'",
                )
            if bank.space != "raw":
                compare_models(bank, run)
            elif {"features", "unknown"} & compare_data(bank, run).keys():
                log.warning("%s was made from other data than %s: are its features of the same network?", path, run)
            counts = np.minimum(np.diff(bank.class_ptr), config.bank.n_per_class)
            given = np.flatnonzero(counts)
            if not len(given):
                raise InputError(f"{path} has no rows", "some of each new class")
            chosen = np.concatenate([bank.class_ptr[k] + np.arange(counts[k]) for k in given])
            if len(chosen) < len(bank):
                log.info("%s: the first %d rows of a class are taken, as many as the run's", path, counts.max())
            features = np.asarray(bank.features[chosen], dtype=np.float32)
            with cpu_threads(config.train.threads):
                rows.append(features if bank.space == space else model.represent(features))
            labels.append(task.n_classes + np.repeat(np.arange(len(given)), counts[given]))
            task = _with_classes(task, [bank.class_names[k] for k in given], bank.class_embeddings[given], path)
    synthetic, of_synthetic = np.concatenate(rows), np.concatenate(labels)
    config = config.candidates()[-1]  # of several penalties a run has chosen one by now; here the smallest
    heads = new_heads(Task(config, task, seed), model, synthetic, of_synthetic, with_zsl=False)
    return heads.gzsl, dataset.seen, task.class_names


def _with_classes(task: ZSLDataset, names: Sequence[str], embeddings: np.ndarray, path: str | Path) -> ZSLDataset:
    """The task with a bank's classes.

    Raises:
        InputError: one of them is known already.
    """
    if known := sorted({*names} & {*(task.class_names or ())}):
        raise InputError(f"{path} has rows of {known[0]!r}, which is answered already", "classes that are new")
    try:
        return task.with_classes(names, embeddings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
