"""Any estimator with scikit-learn's methods behind the head's interface."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch

from fgen.classifiers.any_estimator import EstimatorConfig, imported_config
from fgen.classifiers.base import NO_CANDIDATE
from fgen.classifiers.registry import CLASSIFIERS, load_head
from fgen.errors import InputError, MissingExtra

CLASSES = np.array([3, 7, 8, 20])


class Means:
    """Nearest class means, without scores."""

    def fit(self, X, y):
        assert X.dtype == np.float32
        assert y.dtype == np.int64
        self.labels = np.unique(y)
        self.means = np.stack([X[y == k].mean(axis=0) for k in self.labels])

    def distances(self, X):
        return ((X[:, None] - self.means) ** 2).sum(axis=2)


class Centroids(Means):
    """The least that an estimator can be, with decisions alone: a single column of two classes."""

    def decision_function(self, X):
        scores = -self.distances(X)
        return scores[:, 1] - scores[:, 0] if len(self.means) == 2 else scores


class Votes(Means):
    """Probabilities alone, which are 0 or 1."""

    def predict_proba(self, X):
        return np.eye(len(self.means))[self.distances(X).argmin(axis=1)]


class Network:
    """A torch layer that is trained from torch's own random numbers, and answers with tensors that carry gradients."""

    def fit(self, X, y):
        self.layer, (rows, targets) = torch.nn.Linear(X.shape[1], int(y.max()) + 1), map(torch.from_numpy, (X, y))
        steps = torch.optim.Adam(self.layer.parameters(), lr=0.1)
        for _ in range(100):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(self.layer(rows), targets).backward()
            steps.step()

    def predict_proba(self, X):
        return self.layer(torch.from_numpy(X)).softmax(dim=1)


def of_sklearn(text):
    """The estimator that a text of scikit-learn's makes."""
    names = {}
    for module in ("discriminant_analysis", "ensemble", "linear_model", "naive_bayes", "neighbors", "pipeline", "svm"):
        names |= vars(pytest.importorskip(f"sklearn.{module}"))
    return eval(text, names)


LINEAR = [
    "LogisticRegression()",
    "LogisticRegression(C=1e4, max_iter=1000)",
    "LinearSVC()",
    "RidgeClassifier(fit_intercept=False)",
    "SGDClassifier()",
    "SGDClassifier(loss='log_loss')",
    "LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto')",
]
OTHERS = [
    "RandomForestClassifier(20)",
    "KNeighborsClassifier()",
    "GaussianNB()",
    "SVC()",
    "Pipeline([('only', LogisticRegression())])",
]
BOOSTED = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier"}


def blobs(n_classes=4, n_rows=120, seed=0):
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(0, 3, (n_classes, 6))
    positions = np.arange(n_rows) % n_classes
    return (means[positions] + draw.normal(size=(n_rows, 6))).astype(np.float32), CLASSES[positions]


def fitted(estimator, n_classes=4, seed=1, **settings):
    return EstimatorConfig(estimator=estimator, **settings).build().fit(*blobs(n_classes), seed=seed)


def expect_good(head, n_classes):
    fresh, truth = blobs(n_classes, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (head.predict(fresh) == truth).mean() > 0.9
    assert (head.classes_ == CLASSES[:n_classes]).all()
    scores = head.scores(1000 * fresh, 22)
    assert np.isfinite(scores).all()
    assert scores[:, head.classes_].min() > NO_CANDIDATE
    assert (scores[:, 0] == np.float32(NO_CANDIDATE)).all()
    assert set(head.predict(fresh, gamma=1e6, seen=[3])) <= set(CLASSES[1:])


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", [*LINEAR, *OTHERS])
def test_scikit_learns_estimators_recognise_new_rows_and_keep_the_callers_class_ids(name, n_classes):
    expect_good(fitted(of_sklearn(name), n_classes), n_classes)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("kind", [Centroids, Votes, Network])
def test_so_does_any_object_with_the_methods(kind, n_classes):
    expect_good(fitted(kind(), n_classes), n_classes)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("module", BOOSTED)
def test_so_do_boosted_trees_whose_labels_have_to_begin_with_0(module, n_classes):
    kind = getattr(pytest.importorskip(module), BOOSTED[module])
    expect_good(fitted(kind(n_estimators=20, min_child_weight=0.1, verbosity=0, n_jobs=1), n_classes), n_classes)


def test_the_estimator_sees_scaled_rows_and_the_labels_0_to_k_minus_1_and_the_given_one_is_left_alone():
    given = Centroids()
    head = fitted(given)
    assert not vars(given)
    assert head.estimator.labels.tolist() == [0, 1, 2, 3]
    assert head.estimator.means.min() >= 0
    assert head.estimator.means.max() <= 1
    standard = fitted(given, scaling="standard")
    np.testing.assert_allclose(standard.estimator.means.mean(axis=0), 0, atol=1e-5)


def test_a_score_is_the_logarithm_of_a_probability_or_the_decision():
    fresh, _ = blobs(seed=1)
    scaled = (fresh - (head := fitted(of_sklearn("LogisticRegression()"))).scaler.offset) / head.scaler.scale
    np.testing.assert_allclose(np.exp(head.decision_function(fresh)), head.estimator.predict_proba(scaled), atol=1e-5)
    assert head.estimator.C == 1.0
    head = fitted(of_sklearn("LinearSVC()"))
    np.testing.assert_allclose(head.decision_function(fresh), head.estimator.decision_function(scaled), atol=1e-4)


@pytest.mark.parametrize("name", ["RandomForestClassifier(5)", "SGDClassifier()"])
def test_the_seed_is_that_of_an_estimator_without_its_own(name):
    fresh, _ = blobs(seed=1)
    one, again, other = (fitted(of_sklearn(name), seed=seed).decision_function(fresh) for seed in (2**40, 2**40, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    fixed = of_sklearn(name).set_params(random_state=5)
    assert fitted(fixed, seed=1).decision_function(fresh).tobytes() == fitted(fixed).decision_function(fresh).tobytes()
    assert of_sklearn(name).random_state is None


def test_torchs_own_random_numbers_are_the_seeds_and_those_outside_stay():
    fresh, _ = blobs(seed=1)
    before = torch.get_rng_state()
    one, again, other = (fitted(Network(), seed=seed).decision_function(fresh) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    assert torch.equal(torch.get_rng_state(), before)


# On disk.


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_estimator_is_kept_as_arrays_and_scores_the_same_bytes(name, n_classes, tmp_path):
    head, (fresh, _) = fitted(of_sklearn(name), n_classes), blobs(n_classes, seed=1)
    head.save(tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    assert loaded.scores(fresh, 22).tobytes() == head.scores(fresh, 22).tobytes()
    assert loaded.config.estimator.startswith(name.partition("(")[0])
    assert {file.name for file in (tmp_path / "head").iterdir()} == {"head.json", "head.safetensors"}
    loaded.save(tmp_path / "again")
    for file in ("head.json", "head.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "head" / file).read_bytes()
    with pytest.raises(InputError, match="without what fits them; expected the estimator itself"):
        loaded.fit(*blobs(n_classes))


@pytest.mark.parametrize("name", [*OTHERS, "SVC(kernel='linear')", "SGDClassifier(loss='modified_huber')"])
def test_saving_another_is_refused_by_name_and_the_way_out_is_named(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name.partition('(')[0]}.* could only be pickled.*skops"):
        fitted(of_sklearn(name)).save(tmp_path / "head")
    assert not list(tmp_path.iterdir())


def test_a_saved_head_names_its_estimator_and_nothing_imports_the_name(tmp_path, traced):
    path = tmp_path / "head"
    fitted(of_sklearn("LogisticRegression()")).save(path)
    described = json.loads((path / "head.json").read_text())
    for name in ("trace_of_import:make", "trace_of_import.make", "__import__('trace_of_import')"):
        (path / "head.json").write_text(json.dumps(described | {"config": described["config"] | {"estimator": name}}))
        load_head(path).scores(blobs()[0])
        (path / "head.json").write_text(json.dumps(described | {"config": {"name": name, "estimator": name}}))
        with pytest.raises(InputError, match="no readable head"):
            load_head(path)
    assert not traced()


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """A module ``trace_of_import`` that can be imported; call this to know whether it was."""
    (tmp_path / "trace_of_import.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\nmake = dict\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / "imported").exists
    sys.modules.pop("trace_of_import", None)


# What is refused.


class NeverFits(Centroids):
    def fit(self, X, y):
        raise ValueError("negative C\nand more")


class TooNarrow(Centroids):
    def decision_function(self, X):
        return super().decision_function(X)[:, :3]


class NotANumber(Centroids):
    def decision_function(self, X):
        return np.nan * super().decision_function(X)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Centroids, "is the class Centroids; expected an object, as Centroids\\(\\) is"),
        (torch.nn.Linear(2, 2), "Linear has no fit; expected an object with fit"),
        (None, "NoneType has no fit"),
        (torch.optim.lr_scheduler.ConstantLR, "is the class ConstantLR"),
        (CLASSIFIERS["softmax"](), "SoftmaxConfig has no fit"),
        ("sklearn.svm.LinearSVC", "is the text 'sklearn.svm.LinearSVC', as files keep it.*the estimator itself"),
        (NeverFits(), "NeverFits can't be fitted \\(negative C\\)"),
        (TooNarrow(), r"decision_function of TooNarrow gives the shape \(\d+, 3\); expected \(\d+, 4\)"),
        (NotANumber(), "decision_function of NotANumber gives NaN"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused_by_name(given, words):
    with pytest.raises(InputError, match=words):
        fitted(given)


def test_a_regressor_and_an_estimator_that_turns_out_to_have_no_scores_are_refused():
    with pytest.raises(InputError, match=r"LinearRegression\(\) has no predict_proba or decision_function"):
        fitted(of_sklearn("LinearRegression()"))
    with pytest.raises(InputError, match=r"the fitted VotingClassifier.* has no predict_proba or decision_function"):
        fitted(of_sklearn("VotingClassifier([('a', LogisticRegression())])"))


def test_without_scikit_learn_its_estimators_name_the_line_that_installs_it_and_others_work(monkeypatch):
    estimator = of_sklearn("LogisticRegression()")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtra, match=r'LogisticRegression\(\) needs sklearn.*pip install "fgen\[sklearn\]"'):
        EstimatorConfig(estimator=estimator).build()
    expect_good(fitted(Centroids()), 4)


# Paths of the command line.


def test_a_path_is_called_with_the_settings_and_the_heads_own_are_kept_from_it():
    pytest.importorskip("sklearn")
    config = imported_config("sklearn.linear_model.LogisticRegression", {"C": 3, "scaling": "standard"}, seed=0)
    assert (config.estimator.C, config.scaling) == (3, "standard")
    config = imported_config("sklearn.svm:LinearSVC", {}, seed=0)
    assert (type(config.estimator).__name__, config.scaling) == ("LinearSVC", "minmax")


def test_a_module_in_the_working_directory_is_found_and_torch_is_seeded_while_it_makes_the_estimator(
    tmp_path, monkeypatch
):
    (tmp_path / "own_nets.py").write_text(
        "import torch\nfrom types import SimpleNamespace\n"
        "def make(width=1):\n"
        "    return SimpleNamespace(fit=print, predict_proba=print, weights=torch.rand(width).tolist())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    one, again, other = (imported_config("own_nets:make", {"width": 2}, seed).estimator.weights for seed in (1, 1, 2))
    assert len(one) == 2
    assert one == again != other
    assert imported_config("own_nets.make", {}, 1).estimator.weights == one[:1]


@pytest.mark.parametrize(
    ("path", "settings", "words"),
    [
        ("nowhere.Classifier", {}, "no module nowhere; expected package.module.Class or module:function"),
        ("nowhere:make", {}, "Install the package that has it, or run where its file is"),
        ("fgen.classifiers.nowhere:make", {}, "no module fgen.classifiers.nowhere"),
        ("fgen.classifiers.softmax.SoftmaxClasifier", {}, "no attribute 'SoftmaxClasifier'.*'SoftmaxClassifier'"),
        ("fgen.classifiers.softmax:no:thing", {}, "can't be imported"),
        (".softmax", {}, "can't be imported"),
        ("./mine.py:make", {}, "can't be imported"),
        ("fgen.classifiers.softmax", {}, "can't be called .*; expected a class or function"),
        ("collections.OrderedDict", {}, "OrderedDict has no fit; expected an object with fit"),
        ("torch.nn.Linear", {}, "can't be called .*missing a required argument: 'in_features'"),
        ("torch.nn.Linear", {"in_features": 2, "out_features": 3}, "Linear has no fit"),
        ("fgen.classifiers.lbfgs:train_lbfgs", {"x": 1}, "can't be called .*--set classifier.NAME=VALUE"),
        ("broken_module:make", {}, "can't be imported .SyntaxError: "),
        ("needy_module:make", {}, "no module nowhere_at_all"),
    ],
)
def test_a_path_that_makes_no_classifier_is_refused_by_name(path, settings, words, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("def make(:\n")
    (tmp_path / "needy_module.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=words):
        imported_config(path, settings, seed=0)


def test_a_path_into_scikit_learn_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r'sklearn.svm.SVC needs sklearn.*pip install "fgen\[sklearn\]"'):
        imported_config("sklearn.svm.SVC", {}, seed=0)
