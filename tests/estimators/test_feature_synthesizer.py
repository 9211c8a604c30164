"""``FeatureSynthesizer``: rows of classes without rows, for any classifier, with imbalanced-learn and without."""

import numpy as np
import pytest
import scipy.sparse

from fgen import FeatureSynthesizer
from fgen.data.toy import make_toy
from fgen.errors import InputError

SMALL = {"method": "flow", "model": {"hidden_dim": 8, "steps": 2}, "n_per_class": 4}
NAMES = np.array([f"sort {k}" for k in range(8)])


@pytest.fixture(scope="module")
def data():
    return make_toy(n_seen=6, n_unseen=2, rows_per_class=12, sigma=0.3)


@pytest.fixture(scope="module")
def rows(data):
    """Features and labels of seen classes, of which class 0 has few."""
    X, y = data.split("trainval")
    kept = np.flatnonzero(y != 0).tolist() + np.flatnonzero(y == 0)[:2].tolist()
    return X[kept], y[kept]


def small(data, **changes):
    return FeatureSynthesizer(data.class_embeddings, **(SMALL | changes))


def test_unseen_classes_get_rows_and_what_was_given_stays_first(data, rows):
    X, y = rows
    synthesizer = small(data)
    more_X, more_y = synthesizer.fit_resample(X, y)
    assert np.array_equal(more_X[: len(X)], X)
    assert more_y.tolist() == [*y.tolist(), 6, 6, 6, 6, 7, 7, 7, 7]
    assert (more_X.dtype, more_y.dtype) == (X.dtype, y.dtype)
    assert np.array_equal(more_X[len(X) :], synthesizer.generator_.generate([6, 7], 4, seed=0)[0])
    assert synthesizer.sampling_strategy_ == {6: 4, 7: 4}
    assert synthesizer.n_features_in_ == 16
    assert np.array_equal(small(data).fit_resample(X, y)[0], more_X), "the same seed, the same rows"


def test_few_rows_are_filled_up_by_strategy(data, rows):
    X, y = rows
    largest = np.bincount(y).max()
    _, labels = small(data, sampling_strategy="not majority").fit_resample(X, y)
    assert np.bincount(labels).tolist() == [largest] * 8
    _, labels = small(data, sampling_strategy={0: 5, 7: 3, 1: largest}).fit_resample(X, y)
    assert np.bincount(labels).tolist() == [5, *[largest] * 5, 0, 3]


def test_tables_of_pandas_stay_tables(data, rows):
    pandas = pytest.importorskip("pandas")
    X, y = rows
    table = pandas.DataFrame(X, columns=[f"f{k}" for k in range(16)], index=range(100, 100 + len(X)))
    for kind in ("str", "category"):
        labels = pandas.Series(NAMES[y], name="sort", index=table.index).astype(kind)
        synthesizer = small(data, classes=NAMES)
        more_X, more_y = synthesizer.fit_resample(table, labels)
        assert (more_X.columns.tolist(), more_y.name) == (table.columns.tolist(), "sort")
        assert more_X.index.tolist() == more_y.index.tolist() == list(range(len(X) + 8))
        assert more_X.dtypes.tolist() == table.dtypes.tolist()
        assert more_y.tolist() == [*NAMES[y], *["sort 6"] * 4, *["sort 7"] * 4]
        assert synthesizer.feature_names_in_.tolist() == table.columns.tolist()
    synthesizer.fit(X, NAMES[y])
    assert not hasattr(synthesizer, "feature_names_in_")


@pytest.mark.numeric
def test_it_works_in_a_pipeline_of_imbalanced_learn_and_in_its_searches(data):
    imblearn = pytest.importorskip("imblearn.pipeline")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    X, y = data.split("trainval")
    good = small(data, classes=NAMES, n_per_class=9)
    pipeline = imblearn.make_pipeline(StandardScaler(), good, LogisticRegression()).fit(X, NAMES[y])
    assert pipeline.classes_.tolist() == NAMES.tolist()
    assert set(pipeline.predict(data.split("test_unseen")[0])) & {"sort 6", "sort 7"}
    grid = {"featuresynthesizer__model__hidden_dim": [4, 6], "featuresynthesizer__n_per_class": [2]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, NAMES[y])
    synthesizer = search.best_estimator_["featuresynthesizer"]
    chosen = search.best_params_["featuresynthesizer__model__hidden_dim"]
    assert synthesizer.generator_.config.hidden_dim == chosen
    assert synthesizer.sampling_strategy_ == {"sort 6": 2, "sort 7": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_strategy": "auto"}, "sampling_strategy is 'auto'; expected one of 'unseen', 'not majority', or a"),
        ({"sampling_strategy": {9: 5}}, "sampling_strategy holds the label 9; expected labels that class_emb"),
        ({"sampling_strategy": {1: 3}}, r"sampling_strategy\[1\] is 3; expected a whole number of at least \d+, its"),
        ({"sampling_strategy": {1: 99.5}}, r"sampling_strategy\[1\] is 99.5; expected a whole number"),
        ({"method": "ridge", "model": None}, "method 'ridge' is a baseline, which makes no features; expected one of"),
        ({"n_per_class": 0}, "n_per_class is 0"),
        ({"class_embeddings": None}, "class_embeddings is missing"),
    ],
)
def test_what_does_not_fit_is_refused(data, rows, changes, message):
    with pytest.raises(InputError, match=message):
        small(data).set_params(**changes).fit_resample(*rows)


def test_sparse_features_and_missing_labels_are_refused(data, rows):
    X, y = rows
    with pytest.raises(InputError, match=r"sparse csr_matrix; expected a dense matrix. Call its toarray"):
        small(data).fit_resample(scipy.sparse.csr_matrix(X), y)
    with pytest.raises(InputError, match="FeatureSynthesizer requires y to be passed, but the target y is None"):
        small(data).fit_resample(X, None)
