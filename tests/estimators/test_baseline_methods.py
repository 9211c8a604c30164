"""``ZeroShotClassifier(method="ridge")`` and the other baselines: estimators that generate nothing."""

import pickle

import numpy as np
import pytest

from fgen import BASELINES, ZeroShotClassifier
from fgen.data.toy import make_toy
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig
from fgen.experiment.selection import baseline_scorer, choose_setting
from fgen.experiment.steps import Task
from tests.conftest import ANY_WIDTHS

PLAIN = {"embedding_norm": "none", "embedding_scale": 1.0}
#: Of the methods that take steps.
QUICK = {"dap": {"l2": 3.0}, "ale": {"epochs": 2}, "devise": {"epochs": 2}, "seen_only": {"epochs": 2}}
QUICK["multimodal"] = {"epochs": 2}


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=8, n_unseen=3, rows_per_class=12, sigma=0.4)


@pytest.mark.parametrize("method", ANY_WIDTHS)
def test_it_scores_as_the_baseline_does(data, method):
    X, y = data.split("trainval")
    tests, _ = data.split("test_unseen")
    settings = QUICK.get(method, {})
    model = ZeroShotClassifier(data.class_embeddings, method=method, model=settings, calibrate=False, **PLAIN).fit(X, y)
    by_hand = BASELINES[method](**settings).build().fit(X, y, data.class_embeddings).scores(tests)
    np.testing.assert_allclose(model.decision_function(tests), by_hand, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(tests).sum(axis=1), 1)
    assert model.predict(tests).tolist() == by_hand.argmax(axis=1).tolist()
    assert (model.n_features_in_, model.gamma_, model.calibration_) == (data.feature_dim, 0, None)
    assert model.unseen_.tolist() == data.unseen.tolist()
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.decision_function(tests), model.decision_function(tests))


def test_its_setting_and_gamma_are_chosen_on_held_out_classes_as_in_a_run(data):
    X, y = data.split("trainval")
    names = np.array([f"sort {k}" for k in range(11)])
    model = ZeroShotClassifier(data.class_embeddings, classes=names, method="eszsl", **PLAIN).fit(X, names[y])
    sections = {"dataset": {"name": "toy"}, "model": {"name": "eszsl"}, "protocol": {"calibrate": True}}
    task = Task(ExperimentConfig.from_mapping(sections), data, 0)
    choice = choose_setting(task)
    assert model.predictor_.head.baseline.config == BASELINES["eszsl"](**choice["settings"])
    assert model.gamma_ == choice["gamma"]
    assert model.calibration_ == choice["held_out"]
    tested = baseline_scorer(task, model.predictor_.head.baseline.config).kept()
    decisions = model.decision_function(data.rows(tested.rows))
    expected = tested.scores - choice["gamma"] * np.isin(np.arange(11), data.seen)
    np.testing.assert_allclose(decisions, expected, rtol=1e-5, atol=1e-6)


def test_what_a_baseline_has_not_is_refused_by_name(data, tmp_path):
    X, y = data.split("trainval")
    model = ZeroShotClassifier(data.class_embeddings, method="ridge", calibrate=False).fit(X, y)
    with pytest.raises(AttributeError, match="method 'ridge' is a baseline, which makes no features"):
        _ = model.generator_
    with pytest.raises(InputError, match="'ridge' is a baseline, which can't be saved; expected a generator"):
        model.save(tmp_path / "it")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="classifier is set; expected none with 'ridge'"):
        model.set_params(classifier={}).fit(X, y)
    with pytest.raises(InputError, match=r"features have 3 columns|X has shape \(2, 3\); expected \(N, "):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(InputError, match="hold NaN or infinities in row 0"):
        model.predict(np.full((2, data.feature_dim), np.nan))
    with pytest.warns(UserWarning, match="normalised alike"):
        model.predict(100 * X)
