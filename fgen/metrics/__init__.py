"""How good the result is: accuracies, intervals, fidelity of features."""

from fgen.metrics.accuracy import GZSLScores, gzsl_scores, mean_accuracy, per_class_accuracy
from fgen.metrics.calibration import (
    CalibrationCurve,
    ausuc,
    best_gamma,
    calibration_curve,
    harmonic_mean,
    predict_classes,
)
from fgen.metrics.fidelity import (
    Comparison,
    Fidelity,
    FidelityScores,
    compare_features,
    frechet_distance,
    neighbour_scores,
)
from fgen.metrics.stats import paired_interval, summarise

__all__ = [
    "CalibrationCurve",
    "Comparison",
    "Fidelity",
    "FidelityScores",
    "GZSLScores",
    "ausuc",
    "best_gamma",
    "calibration_curve",
    "compare_features",
    "frechet_distance",
    "gzsl_scores",
    "harmonic_mean",
    "mean_accuracy",
    "neighbour_scores",
    "paired_interval",
    "per_class_accuracy",
    "predict_classes",
    "summarise",
]
