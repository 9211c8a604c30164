"""Page about runs: scores side by side, what each run chose, its classes, and how its features compare.

One HTML file with its pictures inside, that can be mailed. Nothing is trained or scored anew; features are compared
where the data set and the bank are still there.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from fgen.baselines import BASELINES
from fgen.config import dump_toml
from fgen.data.bank import FeatureBank
from fgen.data.dataset import ZSLDataset
from fgen.data.splits import by_class, evenly_spaced
from fgen.errors import InputError, require
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.directory import RunDirectory, SeedDirectory
from fgen.experiment.records import Predictions, read_predictions
from fgen.experiment.results import SCORES, RunResult, format_fusion, format_gap, format_score, format_weights
from fgen.io.reading import guarded_read
from fgen.metrics.accuracy import GZSLScores
from fgen.metrics.fidelity import compare_features
from fgen.models.registry import load_model
from fgen.reports.comparison import distinct_names, paired_gap
from fgen.reports.html_page import expect_page, folded, heading, note, picture, table, write_page
from fgen.reports.plots import plot_calibration, plot_features, plot_scores, plot_training

#: Of so many unseen classes or fewer all are listed, else the best and the worst.
LISTED = 30
#: Rows that are compared at most, real and generated ones: of a class, and of all.
ROWS_OF_A_CLASS, ROWS = 200, 20_000
MEASURES = {
    "nearest_mean": "rows whose nearest class mean is their own class's",
    "coverage": "real rows with a row of these near by",
    "density": "how crowded these rows lie where real ones do (1: as real ones)",
    "precision": "rows that lie among real ones",
    "recall": "real rows that lie among these",
    "frechet": "squared Fréchet distance to real rows (0: the same mean and covariance)",
}


@dataclass(frozen=True)
class _Run:
    """Finished run, as far as its folder tells."""

    name: str
    result: RunResult
    folder: RunDirectory
    config: ExperimentConfig
    per_seed: tuple[tuple[Predictions, GZSLScores], ...]

    @classmethod
    def open(cls, path: str | Path, name: str) -> Self:
        folder, result = RunDirectory.open(path), RunResult.load(path)
        kept = tuple(read_predictions(folder.seed(seed).predictions) for seed in result.description["seeds"])
        run = cls(name, result, folder, ExperimentConfig.from_file(folder.config), kept)
        with guarded_read(folder.result, "result", "Make it again with fgen run --resume"):
            _facts(run)  # what the page shows is there
        return run

    @property
    def scores(self) -> list[GZSLScores]:
        return [scores for _, scores in self.per_seed]

    @property
    def first(self) -> SeedDirectory:
        return self.folder.seed(self.result.description["seeds"][0])


def write_report(runs: Sequence[str | Path], out: str | Path, *, progress: bool = False) -> None:
    """Write a page about finished runs; the first is what the others are held against.

    Args:
        runs: run folders.
        out: the HTML file; an earlier report of that name is replaced.
        progress: show a bar.

    Raises:
        InputError: a folder that holds no finished run, or ``out`` is something else. MissingExtra: no matplotlib.
    """
    expect_page(out)
    require("matplotlib.figure", "plots", "a report")
    opened = [_Run.open(path, name) for path, name in zip(runs, distinct_names(runs), strict=True)]
    runs_shown = tqdm(opened, unit="run", disable=not progress)
    # Each section is made as it's asked for.
    sections = chain(_overview(opened), chain.from_iterable(map(_details, runs_shown)))
    write_page(out, f"fgen: {', '.join(run.name for run in opened)}", sections)


def _overview(runs: Sequence[_Run]) -> Iterable[str]:
    yield heading(1, "fgen report")
    found = [paired_gap(run.result, runs[0].result) for run in runs[1:]]
    gaps = ["", *(gap if isinstance(gap, str) else format_gap(gap) for gap in found)]
    header = ["percent, mean [95 % interval]", *SCORES] + (["H minus the first's"] if len(runs) > 1 else [])
    rows = [run.result.row(run.name) + ([gap] if len(runs) > 1 else []) for run, gap in zip(runs, gaps, strict=True)]
    yield table(header, rows)
    yield note(
        "T1: accuracy on unseen classes when only they can be answered. U, S: on unseen and on seen classes "
        "when all can. H: the harmonic mean of both. AUSUC: the area under the curve of S over U. All are "
        "means over classes; intervals are over classes and seeds."
    )
    summaries = [run.result.scores for run in runs]
    yield picture(partial(plot_scores, names=[r.name for r in runs], scores=summaries, shown=("T1", "H")), "T1 and H")
    curves = [(run.name, run.scores[0].curve) for run in runs if run.scores[0].curve is not None][:10]
    if curves:
        drawn = partial(plot_calibration, curves=[curve for _, curve in curves], names=[name for name, _ in curves])
        yield picture(drawn, "calibration curves")
        yield note(
            "What taking a constant gamma from the seen classes' scores makes of seen and unseen accuracy, of "
            "each run's first seed. The dots were found on test rows: no result, but a bound."
        )


def _details(run: _Run) -> Iterable[str]:
    facts = run.result.description
    yield heading(2, run.name)
    yield from (note(sentence, "warning") for sentence in run.result.warnings())
    yield table([], [[key, value] for key, value in _facts(run).items()], words=(0, 1))
    yield from map(note, facts["dataset"]["notes"])
    if run.first.metrics.exists():
        with guarded_read(run.first.metrics, "metrics"), run.first.metrics.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        yield heading(3, f"Training, seed {facts['seeds'][0]}")
        yield picture(partial(plot_training, rows=rows), "each term over the epochs")
    dataset, why_not = _dataset(run)
    yield from _classes(run, dataset)
    yield heading(3, "Generated features beside real ones")
    if run.config.model.name in BASELINES:
        yield note("A baseline generates none.")
    elif not run.first.bank.exists():
        yield note(f"Not compared: there is no {run.first.bank}")
    elif dataset is None:
        yield note(f"Not compared: {why_not}")
    else:
        yield from _features(run, dataset)
    yield folded("settings", dump_toml(replace(run.config, paper={}, ours={}).to_mapping()))


def _facts(run: _Run) -> dict[str, str]:
    facts = run.result.description
    choices = [_choice(choice) for choice in facts["choice"]]
    dataset = facts["dataset"]
    seconds = [sum(phases.values()) for phases in facts["timing"].values()]
    return {
        "method": facts["model"],
        "data set": f"{dataset['name']}: {dataset['n_seen']} seen and {dataset['n_unseen']} unseen classes, described "
        f"by {', '.join(dataset['embedding'])}; fingerprint {dataset['fingerprint'][:12]}",
        "protocol": f"{facts['protocol']}, {facts['setting']}{', calibrated' if facts['calibrated'] else ''}",
        **{f"chosen, seed {seed}": choice for seed, choice in zip(facts["seeds"], choices, strict=True)},
        "H without calibration": format_score(facts["uncalibrated"]["H"]),
        "basis of gamma": "; ".join(run.result.calibration()) or "-",
        **{
            f"H expected, seed {seed}": format_score(choice["held_out"]["expected"]["H"])
            for seed, choice in zip(facts["seeds"], facts["choice"], strict=True)
            if "held_out" in choice
        },
        "seconds of a seed": f"{np.median(seconds):.0f}",
        "fgen": f"{facts['version']}{', commit ' + facts['git_commit'] if facts['git_commit'] else ''}",
    }


def _choice(choice: Mapping[str, Any]) -> str:
    """Return what was chosen for a seed, as text."""
    if "fusion" in choice:
        return format_fusion(choice)
    numbers = {key: choice[key] for key in ("epochs", "gamma", "l2") if key in choice} | choice.get("settings", {})
    told = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in numbers.items()
        if not isinstance(value, list)
    ]
    weights = choice.get("embedding_weights")
    return ", ".join([*told, *([f"weights: {format_weights(weights)}"] if weights else [])])


def _dataset(run: _Run) -> tuple[ZSLDataset | None, str]:
    """Return the data set that the run was made from, or None and why it can't be loaded."""
    try:
        return run.first.load_dataset(run.config), ""
    except InputError as error:
        return None, str(error)


def _classes(run: _Run, dataset: ZSLDataset | None) -> Iterable[str]:
    """Yield the accuracies of each unseen class, and the classes that its rows were mistaken for."""
    unseen = run.scores[0].unseen
    alone, among_all = (np.mean([getattr(s, f"per_class_{n}") for s in run.scores], axis=0) for n in ("T1", "U"))
    labels = run.per_seed[0][0].labels
    names = _class_names(run, dataset)
    rows = []
    for place in np.argsort(-among_all, kind="stable"):
        own = labels == unseen[place]
        if own.any():
            answers = np.concatenate([predictions.gzsl[own] for predictions, _ in run.per_seed])
            taken, counts = np.unique(answers[answers != unseen[place]], return_counts=True)
            order = np.argsort(-counts, kind="stable")[:3]
            others = [f"{names(taken[k])} {counts[k] / len(answers):.0%}" for k in order]
            scores = [f"{100 * values[place]:.0f}" for values in (alone, among_all)]
            rows.append([names(unseen[place]), str(own.sum()), *scores, ", ".join(others)])
    yield heading(3, "Unseen classes")
    if len(rows) > LISTED:
        left_out = len(rows) - LISTED
        rows = [*rows[: LISTED // 2], [f"... {left_out} more", *[""] * 4], *rows[-LISTED // 2 :]]
    yield table(["", "test rows", "T1 (%)", "U (%)", "taken for"], rows, words=(0, 4))


def _class_names(run: _Run, dataset: ZSLDataset | None) -> Callable[[int], str]:
    """Return a class's name by its id, from the data set, else from the bank."""
    if dataset is not None:
        return dataset.name_of
    if run.first.bank.exists():
        with FeatureBank.open(run.first.bank) as bank:
            return bank.class_names.__getitem__
    return "class {}".format


def _features(run: _Run, dataset: ZSLDataset) -> Iterable[str]:
    """Yield a comparison of the unseen classes' real test rows with the bank's, in the bank's space."""
    rows = _some_of_each(dataset.splits["test_unseen"], dataset.labels)
    real, labels = dataset.rows(rows), dataset.labels[rows]
    with FeatureBank.open(run.first.bank) as bank:
        chosen = _some_of_each(np.flatnonzero(bank.synthetic & np.isin(bank.labels, dataset.unseen)), bank.labels)
        synthetic, of_synthetic, space = np.asarray(bank.features[chosen], np.float32), bank.labels[chosen], bank.space
    if space != "raw":
        real = load_model(run.first.model).represent(real)
    where = "the raw space" if space == "raw" else f"the method's own space ({space})"
    drawn = partial(
        plot_features,
        real=real,
        real_labels=labels,
        synthetic=synthetic,
        synthetic_labels=of_synthetic,
        class_names=dataset.class_names,
        title="Unseen classes: real features and those generated from descriptions alone",
    )
    yield picture(drawn, "real and generated features")
    try:
        compared = compare_features(real, labels, synthetic, of_synthetic).overall
    except InputError as error:
        yield note(f"Not compared: {error}")
        return
    generated, others = asdict(compared.synthetic), asdict(compared.real_split)
    measures = [[f"{name}: {text}", f"{generated[name]:.3g}", f"{others[name]:.3g}"] for name, text in MEASURES.items()]
    yield table([f"{compared.n_rows:,} rows on each side, in {where}", "generated", "other real rows"], measures)
    yield note(
        "Half of the real test rows of the unseen classes is the reference; generated rows, and the other "
        "half of the real ones, are held against it. A number says something only beside its neighbour."
    )


def _some_of_each(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return evenly spaced rows of each class, at most ROWS_OF_A_CLASS of each and ROWS in all."""
    parts = by_class(rows, labels)
    most = max(2, min(ROWS_OF_A_CLASS, ROWS // len(parts)))
    return np.sort(np.concatenate([evenly_spaced(part, most) for part in parts]))
