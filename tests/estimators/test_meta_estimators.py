"""What docs/scikit-learn.md says of scikit-learn's meta-estimators is what they do, row by row."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from fgen import FeatureSynthesizer, ZeroShotClassifier
from fgen.data.toy import make_toy
from fgen.errors import InputError

pytest.importorskip("sklearn", minversion="1.9")
from sklearn import calibration, ensemble, feature_selection, inspection, model_selection, multiclass, multioutput
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
TEXT = (Path(__file__).parents[2] / "docs" / "scikit-learn.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| (`[^|]*) \| (\w+) \| ([^|]*) \|$", TEXT, flags=re.MULTILINE)
DATA = make_toy(n_seen=6, n_unseen=2, rows_per_class=12, sigma=0.3)
NAMES = np.array([f"sort {k}" for k in range(8)])
X, IDS = DATA.split("trainval")
Y = NAMES[IDS]
UNSEEN, UNSEEN_IDS = DATA.split("test_unseen")


def named(**settings):
    """A classifier that takes a hundredth of a second, and answers about every second unseen row rightly."""
    return by_number(classes=NAMES, **settings)


def by_number(**settings):
    plain = {"method": "ridge", "calibrate": False, "embedding_norm": "none", "embedding_scale": 1.0}
    return ZeroShotClassifier(DATA.class_embeddings, **(plain | settings))


def answers_unseen(fitted):
    return bool(np.isin(fitted.predict(UNSEEN), NAMES[6:]).any())


def boosted():
    generator = {"method": "flow", "model": {"epochs": 10, "hidden_dim": 8}, "n_per_class": 5}
    member = named(**generator, classifier={"solver": "lbfgs", "l2": 1e-5})
    return answers_unseen(ensemble.AdaBoostClassifier(member, n_estimators=2, random_state=0).fit(X, Y))


def cloned():
    pipeline = make_pipeline(StandardScaler(), named())
    fitted = pickle.loads(pickle.dumps(clone(pipeline).fit(X, Y)))
    return answers_unseen(fitted) and not hasattr(clone(fitted[-1]), "classes_")


def searched():
    found = model_selection.GridSearchCV(named(), {"model__alpha": [0.1, 1.0]}, cv=2, error_score="raise").fit(X, Y)
    other = model_selection.RandomizedSearchCV(named(), {"model__alpha": [0.1, 1.0]}, n_iter=2, cv=2, random_state=0)
    return answers_unseen(found.best_estimator_) and answers_unseen(other.fit(X, Y).best_estimator_)


def scored(scoring):
    return model_selection.cross_val_score(named(), X, Y, cv=2, scoring=scoring, error_score="raise").min() > 0.5


def curves():
    settings = {"cv": 2, "error_score": "raise"}
    curve = model_selection.validation_curve(
        named(), X, Y, param_name="model__alpha", param_range=[0.1, 1.0], **settings
    )
    learning = model_selection.learning_curve(named(), X, Y, train_sizes=[0.5, 1.0], **settings)
    several = model_selection.cross_validate(named(), X, Y, scoring=["accuracy", "f1_macro"], **settings)
    found = (curve[1], learning[1], several["test_accuracy"], several["test_f1_macro"])
    return all(np.isfinite(scores).all() for scores in found) and scored(None)


def predicted(method):
    return np.mean(model_selection.cross_val_predict(named(), X, Y, cv=2, method=method) == Y) > 0.5


def trained_on_other_descriptions():
    kept = np.isin(IDS, [0, 2, 4])
    voting = ensemble.VotingClassifier([("one", by_number())], voting="soft").fit(X[kept], IDS[kept])
    return voting.classes_.tolist() == [0, 2, 4] and voting.estimators_[0].seen_.tolist() == [0, 1, 2]


def stacked(**settings):
    member = named().fit(X, Y) if settings else named()
    return ensemble.StackingClassifier([("one", member)], LogisticRegression(), **settings).fit(X, Y)


def bagged(member, y):
    return ensemble.BaggingClassifier(member, n_estimators=2, random_state=0).fit(X, y).predict(X)


def numbers_bagged():
    flow = {"method": "flow", "model": {"steps": 2, "hidden_dim": 8}, "n_per_class": 5}
    return bagged(by_number(**flow, classifier={"solver": "lbfgs"}), IDS)


def calibrated_on_all():
    rows, labels = np.concatenate([X, UNSEEN]), np.concatenate([Y, NAMES[UNSEEN_IDS]])
    frozen = calibration.CalibratedClassifierCV(FrozenEstimator(named().fit(X, Y)))
    with pytest.raises((IndexError, RuntimeWarning)):  # such warnings are errors in tests
        clone(frozen).fit(X, Y)
    return answers_unseen(frozen.fit(rows, labels))


def both_outputs():
    fitted = multioutput.MultiOutputClassifier(named()).fit(X, np.stack([Y, Y], axis=1))
    return np.isin(fitted.predict(UNSEEN), NAMES[6:]).any(axis=0).all()


def one_selected():
    chosen = feature_selection.SequentialFeatureSelector(named(), n_features_to_select=1, cv=2).fit(X[:, :3], Y)
    importances = inspection.permutation_importance(named().fit(X, Y), X, Y, n_repeats=1, random_state=0)
    return chosen.get_support().sum() == 1 and importances.importances_mean.shape == (16,)


def resampled():
    pipeline = pytest.importorskip("imblearn.pipeline").make_pipeline(
        StandardScaler(),
        FeatureSynthesizer(DATA.class_embeddings, classes=NAMES, method="flow", model={"steps": 2}, n_per_class=9),
        LogisticRegression(),
    )
    return set(pipeline.fit(X, Y).classes_) == set(NAMES)


RENUMBERED = "y holds the label .*label encoders in scikit-learn's VotingClassifier"
#: What is done, and of what is refused or fails the message.
ROWS = {
    "`clone`, `Pipeline`, `pickle`": (cloned, None),
    "`GridSearchCV`": (searched, None),
    "`cross_val_score`": (curves, None),
    "`cross_val_predict`": (lambda: predicted("predict"), None),
    '`cross_val_predict(method="predict_proba")`': (lambda: predicted("predict_proba"), RENUMBERED),
    '`scoring="accuracy"`': (lambda: all(map(scored, ("accuracy", "balanced_accuracy", "f1_macro"))), None),
    '`scoring="neg_log_loss"`': (lambda: scored("neg_log_loss"), "different number of classes"),
    "`VotingClassifier`": (lambda: ensemble.VotingClassifier([("one", named())]).fit(X, Y), RENUMBERED),
    "`VotingClassifier`, row numbers as labels": (trained_on_other_descriptions, None),
    "`StackingClassifier`": (stacked, RENUMBERED),
    '`StackingClassifier(cv="prefit")`': (lambda: not answers_unseen(stacked(cv="prefit")), None),
    "`BaggingClassifier`": (lambda: bagged(named(), Y), RENUMBERED),
    "`BaggingClassifier`, row numbers as labels": (numbers_bagged, "index 6 is out of bounds"),
    "`AdaBoostClassifier`": (boosted, None),
    "`CalibratedClassifierCV`": (
        lambda: calibration.CalibratedClassifierCV(named(), cv=2).fit(X, Y),
        "previously unseen",
    ),
    "`CalibratedClassifierCV(FrozenEstimator(...))`": (calibrated_on_all, None),
    "`OneVsRestClassifier`": (lambda: multiclass.OneVsRestClassifier(named()).fit(X, Y), RENUMBERED),
    "`MultiOutputClassifier`": (both_outputs, None),
    "`ClassifierChain`": (
        lambda: multioutput.ClassifierChain(named()).fit(X, np.stack([Y, Y], axis=1)),
        "features has shape .* and type <U",
    ),
    "`SequentialFeatureSelector`": (one_selected, None),
    "`RFE`": (lambda: feature_selection.RFE(named()).fit(X, Y), "should have `coef_`"),
    "`TunedThresholdClassifierCV`": (
        lambda: model_selection.TunedThresholdClassifierCV(named()).fit(X, Y),
        "Only binary classification",
    ),
    "`imblearn.pipeline.Pipeline`": (resampled, None),
}


def test_every_row_of_the_table_is_run():
    assert [what for what, _, _ in TABLE] == list(ROWS)
    assert re.search(r"scikit-learn ([\d.]+) and", TEXT)[1].startswith("1.9")


@pytest.mark.parametrize(("what", "verdict"), [row[:2] for row in TABLE], ids=lambda text: text.replace("`", ""))
def test_it_does_what_the_table_says(what, verdict):
    action, message = ROWS[what]
    assert (verdict in ("works", "misleads")) == (message is None)
    if message is None:
        assert action()
        return
    with pytest.raises((ValueError, IndexError, AttributeError), match=message) as told:
        action()
    assert isinstance(told.value, InputError) == (verdict == "refused")


@pytest.mark.parametrize("what", ['`scoring="neg_log_loss"`', "`OneVsRestClassifier`"])
def test_what_is_named_beside_a_row_does_the_same(what):
    if "scoring" in what:
        for scoring in ("roc_auc_ovr", "top_k_accuracy"):
            with pytest.raises(ValueError, match=r"[Nn]umber of classes"):
                scored(scoring)
    else:
        for kind in (multiclass.OneVsOneClassifier, multiclass.OutputCodeClassifier):
            with pytest.raises(InputError, match="y holds the label"):
                kind(named()).fit(X, Y)


def test_the_examples_run_one_after_the_other():
    pytest.importorskip("imblearn")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(code, "scikit-learn.md", "exec"), names)
    assert set(names["search"].best_params_) == {"model__epochs", "classifier__l2"}
    assert names["probabilities"].shape == (200, 25)
    assert (np.asarray(names["scores"]) < 0).all()
