"""How good the result is: accuracies, intervals, fidelity of features."""

from fgen.metrics.accuracy import GZSLScores, gzsl_scores, mean_accuracy, per_class_accuracy
from fgen.metrics.calibration import Curve, ausuc, best_gamma, calibration_curve, harmonic_mean, predict_classes
from fgen.metrics.fidelity import Closeness, Comparison, Fidelity, compare_features, frechet_distance, neighbour_scores
from fgen.metrics.stats import paired_interval, summarise

__all__ = [
    "Closeness",
    "Comparison",
    "Curve",
    "Fidelity",
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
