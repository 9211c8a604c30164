"""What is chosen for a classifier on the validation task, and its scores on the test rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from experiments.plug_in.banks import Part
from experiments.plug_in.classifiers import CLASSIFIERS, Classifier, Rows
from fgen.classifiers.base import NO_CANDIDATE
from fgen.metrics.accuracy import GZSLScores, gzsl_scores
from fgen.metrics.calibration import best_gamma
from fgen.metrics.gamma import HeldOut, choose

MOST_WEIGHTS = 10
#: With fewer classes a fit takes little time, and more penalties are tried.
FEW_CLASSES = 100


@dataclass(frozen=True)
class Fit:
    """How a classifier is trained: its penalty, the generated rows of a class, and the weight of one of them."""

    setting: float
    ratio: float
    weight: float = 1.0


@dataclass(frozen=True)
class Trial:
    """A fit and its scores on the validation task: H without and with calibration, and the gamma."""

    fit: Fit
    H: float
    calibrated: float
    gamma: float


def scores_of(part: Part, classifier: Classifier, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Train a classifier, and return the test rows' class ids ``(M,)`` and scores ``(M, C)`` by class id."""
    features, labels = part.training_rows(fit.ratio)
    rows = Rows(part.prepare(features, classifier.columns), labels, part.dataset.seen, fit.weight)
    predict = classifier.fit(rows, fit.setting)
    tested, tested_labels = part.test_rows()
    scores = np.full((len(tested), part.dataset.n_classes), NO_CANDIDATE)
    scores[:, np.unique(labels)] = predict(part.prepare(tested, classifier.columns))
    return tested_labels, scores


def choose_fits(validation: Part, name: str) -> dict[str, Any]:
    """Choose penalty, rows and weights without gamma, and penalty, rows and gamma, on validation classes.

    Other numbers of rows are tried with the penalties that are best with the first, without and with calibration.
    Weights rise by the classifier's step until H falls.

    Returns:
        ``plain``, ``weighted`` and ``calibrated`` fits, ``gamma`` of the last, and all ``tried``.
    """
    classifier, task = CLASSIFIERS[name], validation.dataset
    first, *others = classifier.ratios
    settings = classifier.of_few if task.n_classes < FEW_CLASSES and classifier.of_few else classifier.settings
    tried: list[Trial] = []

    def attempt(fit: Fit) -> Trial:
        choice = choose([HeldOut.of(*scores_of(validation, classifier, fit), task.seen, task.unseen)])
        expected, uncalibrated = choice.expected["H"].mean, choice.uncalibrated["H"].mean
        tried.append(Trial(fit, uncalibrated, expected, choice.gamma))
        return tried[-1]

    def best(score: str) -> Trial:
        return max(tried, key=lambda trial: getattr(trial, score))

    for setting in settings:
        attempt(Fit(setting, first))
    plain = best("H")
    for setting in sorted({plain.fit.setting, best("calibrated").fit.setting}):
        for ratio in others:
            attempt(Fit(setting, ratio))
    weighted, calibrated = best("H"), best("calibrated")
    base = weighted.fit
    for power in range(1, MOST_WEIGHTS + 1) if classifier.step else ():
        trial = attempt(replace(base, weight=classifier.step**power))
        if trial.H < weighted.H:
            break
        weighted = trial
    fits = {"plain": plain.fit, "weighted": weighted.fit, "calibrated": calibrated.fit}
    return {key: asdict(fit) for key, fit in fits.items()} | {
        "gamma": calibrated.gamma,
        "tried": [asdict(trial) for trial in tried],
    }


def test_scores(whole: Part, name: str, choice: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Score what was chosen on the test rows, each different fit once.

    Returns:
        T1, U, S, H and AUSUC of ``plain``, ``weighted`` and ``calibrated``; and of ``best``, the calibrated fit at the
        gamma with the highest H on the test rows.
    """
    dataset, found = whole.dataset, {}
    for fit in {Fit(**choice[key]) for key in ("plain", "weighted", "calibrated")}:
        labels, scores = scores_of(whole, CLASSIFIERS[name], fit)
        found[fit] = lambda gamma, labels=labels, scores=scores: gzsl_scores(
            labels, scores, seen=dataset.seen, unseen=dataset.unseen, gamma=gamma
        )
    last = found[Fit(**choice["calibrated"])]
    results = {key: found[Fit(**choice[key])](0.0) for key in ("plain", "weighted")}
    results["calibrated"] = last(choice["gamma"])
    results["best"] = last(best_gamma(results["calibrated"].curve)[0])
    return {key: _numbers(result) for key, result in results.items()}


def _numbers(scores: GZSLScores) -> dict[str, float]:
    return {name: float(getattr(scores, name) or 0.0) for name in ("T1", "U", "S", "H", "AUSUC")}
