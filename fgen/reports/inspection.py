"""Facts about a file or folder of any of fgen's kinds."""

from pathlib import Path
from typing import Any

import numpy as np

from fgen.classifiers.registry import load_head
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.files import load_dataset
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory
from fgen.experiment.results import SCORES, RunResult, format_score
from fgen.features.encoder_record import EncoderRecord
from fgen.inference.from_run import encoder_of_run
from fgen.inference.predictor import Predictor
from fgen.io.consistent_read import current
from fgen.models.registry import load_model


def inspect(source: str) -> dict[str, Any]:
    """Return facts about a data set, a bank, a run folder, a saved model, head or classifier, or a config.

    Raises:
        InputError: it is none of them, or damaged.
    """
    path = Path(source)
    if path.suffix == ".toml":
        config = ExperimentConfig.from_file(path)
        return {"kind": "config", **{key: str(value) for key, value in config.to_mapping().items()}}
    if (path / "config.toml").exists():
        return _run_facts(path) | _encoder_facts(encoder_of_run(path))
    stored = current(path)
    for name, facts in (("classifier", _classifier_facts), ("model", _model_facts), ("head", _head_facts)):
        if (stored / f"{name}.json").exists():
            return facts(path)
    if path.is_file() and FeatureBank.is_bank(path):
        return _bank_facts(path)
    try:
        return _dataset_facts(load_dataset(source))
    except InputError:
        runs = (folder for folder in path.parents if (folder / "config.toml").exists() and (folder / "seeds").is_dir())
        if path.exists() and (run := next(runs, None)):
            raise InputError(f"{path} is a part of a run", "the run's folder", f"Try fgen inspect {run}") from None
        if inner := sorted(folder.parent for folder in path.glob("*/config.toml")):
            raise InputError(f"{path} holds run folders", "one of them", f"Try fgen inspect {inner[0]}") from None
        raise


def _classifier_facts(path: Path) -> dict[str, Any]:
    fitted = Predictor.load(path)
    return {
        "kind": "saved ZeroShotClassifier",
        "method": fitted.model.config.name,
        "head": fitted.head.config.name,
        "seen": len(fitted.seen),
        "unseen": len(fitted.labels) - len(fitted.seen),
        "feature_dim": fitted.model.scaler.dim,
        "gamma": fitted.gamma,
        **_encoder_facts(fitted.image_encoder),
    }


def _encoder_facts(record: EncoderRecord | None) -> dict[str, str]:
    """Return the encoder of the pictures that features are of, where it is known."""
    return {} if record is None else {"image encoder": record.name}


def _run_facts(path: Path) -> dict[str, Any]:
    folder = RunDirectory.open(path)
    if not folder.result.exists():
        return {"kind": "run folder"} | _unfinished_facts(folder)
    result = RunResult.load(path)
    wanted = ExperimentConfig.from_file(folder.config).protocol.seeds
    missing = [seed for seed in wanted if seed not in result.description["seeds"]]
    if missing:  # seeds were added, and the call that was to run them was stopped
        return {"kind": "run folder", "finished": False, "seeds to go": missing} | _go_on(folder)
    scores = {name: format_score(result.scores[name]) for name in SCORES}
    keys = ("model", "protocol", "setting", "test_used_for_selection", "seeds", "version", "git_commit")
    return {"kind": "run folder", "finished": True} | {key: result.description.get(key) for key in keys} | scores


def _unfinished_facts(folder: RunDirectory) -> dict[str, Any]:
    """Return facts about a stopped run, or about a folder of ``fgen train``, which chooses nothing."""
    seeds = {n: folder.seed(n) for n in ExperimentConfig.from_file(folder.config).protocol.seeds}
    if any(seed.choice.exists() or seed.checkpoint("selection").exists() for seed in seeds.values()):
        stopped = {n: seed.stopped_in() for n, seed in seeds.items()}
        told = {n: f"stopped in the phase: {phase}" if phase else "whole" for n, phase in stopped.items()}
        return {"finished": False, "seeds": told} | _go_on(folder)
    if not any(seed.model.exists() or seed.checkpoint("final").exists() for seed in seeds.values()):
        return {"finished": False, "go on with": "the fgen run or fgen train that began it, and --resume"}
    if missing := [n for n, seed in seeds.items() if not seed.model.exists()]:
        command = f"fgen train {folder.config} --out {folder.path} --resume"
        return {"finished": False, "seeds to go": missing, "go on with": command}
    command = "fgen generate RUN_DIR --out bank.h5"
    return {"finished": False, "trained": True, "seeds": list(seeds), "use with": command}


def _go_on(folder: RunDirectory) -> dict[str, str]:
    return {"go on with": f"fgen run {folder.config} --resume"}


def _model_facts(path: Path) -> dict[str, Any]:
    model = load_model(path)
    return {
        "kind": "model",
        "method": model.config.name,
        "classes": len(model.class_embeddings),
        "embedding columns": model.class_embeddings.shape[1],
        "feature columns": model.scaler.dim,
        "config": str(model.config),
    }


def _head_facts(path: Path) -> dict[str, Any]:
    head = load_head(path)
    return {
        "kind": "head",
        "classes": len(head.classes_),
        "feature columns": head.scaler.dim,
        "config": str(head.config),
    }


def _bank_facts(path: Path) -> dict[str, Any]:
    with FeatureBank.open(path) as bank:
        return {
            "kind": "bank of a validation task" if bank.row_sets else "bank",
            "features": f"{bank.features.shape[0]:,} x {bank.features.shape[1]} {bank.features.dtype}",
            "synthetic": f"{int(bank.synthetic.sum()):,}",
            "classes": len(bank.class_names),
            "classes with rows": int((np.diff(bank.class_ptr) > 0).sum()),
            "seen classes": int(bank.is_seen.sum()),
            "space": bank.space,
            "seed": bank.seed,
            "fingerprint of its data": ", ".join(bank.data_fingerprints) or "not noted",
            **{name: len(rows) for name, rows in bank.row_sets.items()},
        }


def _dataset_facts(dataset: ZSLDataset) -> dict[str, Any]:
    return {
        "kind": "data set",
        "name": dataset.name,
        "features": f"{len(dataset.labels):,} x {dataset.feature_dim}",
        "embeddings": {kind: matrix.shape[1] for kind, matrix in dataset.embeddings.items()},
        "seen classes": len(dataset.seen),
        "unseen classes": len(dataset.unseen),
        "splits": {name: len(rows) for name, rows in dataset.splits.items()},
        "notes": list(dataset.notes),
        **_encoder_facts(dataset.image_encoder),
        "fingerprint": dataset.fingerprint,
    }
