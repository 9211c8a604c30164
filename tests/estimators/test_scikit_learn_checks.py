"""scikit-learn's own checks of estimators, run on fgen's; each that fails is listed here with its reason.

They hand over features and labels alone, and a ZeroShotClassifier needs a description of every class. What is checked
is therefore a subclass whose ``fit`` describes the labels that it is given, class by class, with a row of the identity
matrix; so no class is unseen, and all else is fgen's. The nets are as small as can be.
"""

import numpy as np
import pytest

from fgen import FeatureSynthesizer, ZeroShotClassifier

pytest.importorskip("sklearn", minversion="1.9")  # earlier ones have other checks
from sklearn.utils.estimator_checks import check_estimator

SMALL = {"method": "flow", "model": {"steps": 2, "hidden_dim": 4}, "n_per_class": 2}


def described(y):
    """Constructor arguments that describe the labels ``y``; of None, two classes."""
    labels = np.unique(np.asarray(y).ravel()) if y is not None else np.arange(2)
    return {"class_embeddings": np.eye(len(labels)), "classes": labels}


class Described(ZeroShotClassifier):
    """Classifier of the labels in ``y``, described by rows of the identity matrix."""

    def fit(self, X, y, sample_weight=None):
        of_labels = self.get_params(deep=False) | described(y)
        self.predictor_ = ZeroShotClassifier(**of_labels).fit(X, y, sample_weight=sample_weight).predictor_
        return self


class DescribedSynthesizer(FeatureSynthesizer):
    """Sampler for the labels in ``y``, described by rows of the identity matrix."""

    def fit(self, X, y):
        fitted = FeatureSynthesizer(**(self.get_params(deep=False) | described(y))).fit(X, y)
        vars(self).update({name: value for name, value in vars(fitted).items() if name.endswith("_")})
        return self


WORDS = "refused in fgen's words: "
#: The checks that fail, and why they may: 8 of 62 of a classifier, 5 of 41 of a sampler, 14 of 62 of a baseline.
FAILING = {
    "check_complex_data": WORDS + "the message names the type, and says what to do",
    "check_dtype_object": WORDS + "an InputError, which is a ValueError and no TypeError, names row and column",
    "check_estimators_empty_data_messages": WORDS + "the message names the shape",
    "check_estimators_nan_inf": WORDS + "the message says nan as NumPy prints it, no NaN, with its row and column",
    "check_fit2d_1sample": WORDS + "the message asks for at least 2 seen classes, not for 2 rows",
}
FAILING_OF_CLASSIFIERS = FAILING | {
    "check_classifiers_regression_target": "labels may be any numbers, also fractions: class_embeddings says which",
    "check_supervised_y_2d": "labels (N, 1) are refused, where others take the column and warn",
    "check_sample_weight_equivalence_on_dense_data": "the generator takes a row once, whatever its weight above 0",
}
NO_WEIGHTS = "baselines take no weights of rows, and say so"
FAILING_OF_BASELINES = FAILING_OF_CLASSIFIERS | {
    "check_sample_weights_pandas_series": NO_WEIGHTS,
    "check_sample_weights_not_an_array": NO_WEIGHTS,
    "check_sample_weights_list": NO_WEIGHTS,
    "check_sample_weights_shape": NO_WEIGHTS,
    "check_sample_weights_not_overwritten": NO_WEIGHTS,
    "check_sample_weight_equivalence_on_dense_data": NO_WEIGHTS,
    "check_classifiers_one_label_sample_weights": NO_WEIGHTS,
}
ESTIMATORS = {
    "classifier": (Described(**SMALL, classifier={"solver": "lbfgs"}, calibrate=False), FAILING_OF_CLASSIFIERS),
    "baseline": (Described(method="ridge", calibrate=False), FAILING_OF_BASELINES),
    "sampler": (DescribedSynthesizer(**SMALL), FAILING),
}


@pytest.mark.filterwarnings("ignore")  # theirs, of what the checks do
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_checks_that_fail_are_those_that_are_listed(name):
    estimator, listed = ESTIMATORS[name]
    results = check_estimator(estimator, expected_failed_checks=listed, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed, "\n".join(f"{check}: {error}" for check, error in failed.items())
    found = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert found == listed.keys(), "what no longer fails is no longer listed"
    assert sum(result["status"] == "passed" for result in results) >= 35
