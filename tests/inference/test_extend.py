"""Classes that are added to a trained head: its other numbers stay, and what they cost the old classes is told."""

import logging
from copy import deepcopy

import numpy as np
import pytest
import torch

import fgen
from experiments.examples import add_a_class
from fgen.classifiers.new_rows import with_new_rows
from fgen.data.toy import toy_world
from fgen.errors import InputError
from fgen.features.scaling import FeatureScaler
from fgen.inference.extend import add_classes

numeric = pytest.mark.numeric

PRIORGAN = {"method": "priorgan", "model": {"epochs": 2, "hidden_dim": 16, "noise_dim": 8, "prior_alpha": 0.01}}
KINDS = {
    "softmax": PRIORGAN | {"classifier": {"solver": "lbfgs"}},
    "recipe": PRIORGAN | {"classifier": {"name": "cosine", "whitening": 1.0, "scaling": "sqrt"}},
    "own space": {"method": "cadavae", "model": {"epochs": 20, "hidden_dim": 64, "noise_dim": 8, "batch_size": 32}}
    | {"classifier": {"solver": "lbfgs"}},
}
#: What a head holds of its classes, and of all of them.
TENSORS = {"weight": True, "bias": True, "prototypes": True, "centre": False, "whitening": False}
LATE = [22, 23]


@pytest.fixture(scope="module")
def data():
    return toy_world(n_seen=20, n_unseen=4, rows_per_class=16, embedding_dim=4, sigma=0.4).dataset


@pytest.fixture(scope="module")
def names(data):
    return np.array(data.class_names)


@pytest.fixture(scope="module")
def saved(data, names, tmp_path_factory):
    """Classifiers of all but the two late classes, on the disk."""
    (X, y), folder = data.split("trainval"), tmp_path_factory.mktemp("classifiers")
    for kind, settings in KINDS.items():
        classifier = fgen.ZeroShotClassifier(
            data.class_embeddings[:22], classes=names[:22], n_per_class=30, calibrate=False, **settings
        ).fit(X, names[y])
        classifier.gamma_ = 0.5
        classifier.save(folder / kind)
    return folder


@pytest.fixture
def known(saved):
    return fgen.ZeroShotClassifier.load(saved / "softmax")


@pytest.fixture(scope="module")
def generator(saved):
    return fgen.ZeroShotClassifier.load(saved / "softmax").generator_


@numeric
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_classifier_takes_new_classes_and_its_old_numbers_stay(kind, saved, data, names, tmp_path, caplog):
    classifier = fgen.ZeroShotClassifier.load(saved / kind)
    old, gamma, seen = classifier.predictor_.head, classifier.gamma_, classifier.seen_
    with caplog.at_level(logging.INFO):
        assert classifier.add_classes(names[LATE], data.class_embeddings[LATE]) is classifier
    change, new = classifier.extension_, classifier.predictor_.head
    assert str(change) in caplog.text
    assert f"{change.before:.1%}" in str(change)
    assert f"{change.after:.1%}" in str(change)
    assert (change.n_old, change.n_new) == (22, 2)
    for name in set(TENSORS) & set(vars(old)):
        kept = getattr(new, name)[: len(getattr(old, name))]
        assert torch.equal(kept, getattr(old, name)), name
        assert len(getattr(new, name)) == len(kept) + 2 * TENSORS[name]
    assert (classifier.gamma_, *classifier.seen_) == (gamma, *seen), "new classes are unseen ones"
    assert change.after > change.before - 0.2
    assert change.new > 0.4, "chance is 1 / 24"
    classifier.save(tmp_path / "again")
    again, X = fgen.ZeroShotClassifier.load(tmp_path / "again"), data.features
    assert again.predict_proba(X).tobytes() == classifier.predict_proba(X).tobytes()


@numeric
@pytest.mark.parametrize("kind", ["softmax", "recipe"])
def test_real_rows_of_new_classes_are_recognised(kind, saved, data, names):
    classifier = fgen.ZeroShotClassifier.load(saved / kind)
    classifier.add_classes(names[LATE], data.class_embeddings[LATE])
    late = np.isin(data.labels, LATE)
    assert np.mean(classifier.predict(data.features[late]) == names[data.labels[late]]) > 0.4, "chance is 1 / 24"


def test_classes_added_one_after_the_other_are_all_there(known, data, names):
    for k in LATE:
        known.add_classes(names[[k]], data.class_embeddings[[k]], n_per_class=5)
    assert known.classes_.tolist() == names.tolist()
    assert known.predict_proba(data.features[:3]).shape == (3, 24)
    assert known.generator_.generate(names[LATE], 2, seed=0)[0].shape == (4, data.feature_dim)


def test_labels_that_are_numbers_stay_numbers(data):
    X, y = data.split("trainval")
    settings = KINDS["softmax"] | {"n_per_class": 5, "calibrate": False}
    classifier = fgen.ZeroShotClassifier(data.class_embeddings[:22], **settings).fit(X, y)
    classifier.add_classes(LATE, data.class_embeddings[LATE])
    assert classifier.classes_.tolist() == list(range(24))
    assert classifier.classes_.dtype.kind == "i"


def test_the_predictor_that_classes_are_added_to_is_left_as_it_was(known, data, names):
    before = known.predictor_
    add_classes(before, names[LATE], data.class_embeddings[LATE], n_per_class=5, seed=0)
    assert len(before.labels) == len(before.model.class_embeddings) == len(before.head.weight) == 22


@numeric
def test_new_rows_are_the_minimum_of_the_cross_entropy_over_all_classes(data):
    X, y = data.split("trainval")
    scaler, n_old, l2 = FeatureScaler.fit("minmax", X), 18, 1e-2
    targets = np.where(y < n_old, 0, y - n_old + 1)
    head = fgen.SoftmaxClassifier(solver="lbfgs", l2=l2).fit(X[y < n_old], y[y < n_old], scaler=scaler)
    weight, bias = with_new_rows(head.weight, head.bias, scaler, X, targets, l2)
    new = torch.zeros(2, X.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    rows, labels = torch.from_numpy(scaler.apply(X)).double(), torch.tensor(y)
    optimizer = torch.optim.LBFGS([new], max_iter=60, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        old = rows @ head.weight.double().T + head.bias.double()
        logits = torch.cat([old, rows @ new[:, :-1].T + new[:, -1]], dim=1)
        value = torch.nn.functional.cross_entropy(logits, labels) + l2 / 2 * new[:, :-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.equal(weight[:n_old], head.weight)
    assert torch.equal(bias[:n_old], head.bias)
    np.testing.assert_allclose(weight[n_old:], new[:, :-1].detach(), atol=0.02)
    np.testing.assert_allclose(bias[n_old:], new[:, -1].detach(), atol=0.02)


def foreign_heads(X, labels, n_classes):
    """Heads over raw features of someone's own, each with its rows."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((n_classes, X.shape[1])), rng.standard_normal(n_classes)
    layer = torch.nn.Linear(X.shape[1], n_classes)
    yield (weight, bias), lambda head: head
    yield (weight.astype(np.float32), bias.astype(np.float32)), lambda head: head
    yield layer, lambda head: (head.weight.detach().numpy(), head.bias.detach().numpy())
    linear_model, svm = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "svm"))
    for kind in (linear_model.LogisticRegression(max_iter=50), svm.LinearSVC(), linear_model.RidgeClassifier()):
        yield kind.fit(X, labels), lambda head: (head.coef_, head.intercept_)


@numeric
@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_a_head_of_ones_own_gets_rows_and_is_left_as_it_was(data, names, generator):
    X, y = data.split("trainval")
    for head, rows in foreign_heads(X, names[y], 20):
        before = deepcopy(rows(head))
        grown = fgen.extend_head(
            head, generator, names[LATE], data.class_embeddings[LATE], labels=names[:20], n_per_class=10
        )
        assert type(grown) is type(head)
        for old, given, new in zip(before, rows(head), rows(grown), strict=True):
            assert np.array_equal(old, given)
            assert np.array_equal(old, new[:20])
            assert (len(new), new.dtype) == (22, old.dtype)
        if hasattr(head, "classes_"):
            assert set(grown.predict(data.features)) & set(names[LATE])
            assert grown.classes_.tolist() == names[[*range(20), *LATE]].tolist()


def test_a_layer_without_biases_gets_some_which_are_0_for_its_own_rows(data, names, generator):
    layer = torch.nn.Linear(data.feature_dim, 20, bias=False)
    new = names[LATE], data.class_embeddings[LATE]
    grown = fgen.extend_head(layer, generator, *new, labels=names[:20], n_per_class=10)
    assert torch.equal(grown(torch.ones(1, data.feature_dim))[:, :20], layer(torch.ones(1, data.feature_dim)))
    assert grown.bias[20:].all()


def test_a_model_describes_its_own_classes_and_a_gamma_has_more_rows_predicted_as_new(data, names, generator):
    X, y = data.split("trainval")
    means = np.stack([X[y == k].mean(axis=0) for k in range(20)])
    head = (4 * means, -2 * (means**2).sum(axis=1))
    shares = []
    for gamma in (0.0, 2.0):
        W, b = fgen.extend_head(head, generator, names[20:22], labels=names[:20], gamma=gamma, n_per_class=20)
        shares.append(np.mean((data.features @ W.T + b).argmax(axis=1) >= 20))
    assert shares[1] > shares[0] > 0


def test_a_logistic_regression_of_two_classes_gets_a_row_for_each(data, names, generator):
    linear_model, svm = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "svm"))
    X, y = data.split("trainval")
    X, labels = X[y < 2], names[y[y < 2]]
    head = linear_model.LogisticRegression().fit(X, labels)
    grown = fgen.extend_head(head, generator, names[LATE], data.class_embeddings[LATE], n_per_class=10)
    assert np.array_equal(grown.coef_[1], head.coef_[0])
    assert not grown.coef_[0].any()
    two = grown.predict_proba(X)[:, :2]
    np.testing.assert_allclose(two / two.sum(axis=1, keepdims=True), head.predict_proba(X), atol=1e-6)
    with pytest.raises(InputError, match="LinearSVC has a single row for its two classes"):
        fgen.extend_head(svm.LinearSVC().fit(X, labels), generator, names[LATE], data.class_embeddings[LATE])


@pytest.mark.parametrize(
    ("chosen", "change", "said"),
    [
        (["class 00"], None, "'class 00', which is known already"),
        (["new", "new"], None, "'new', which is known already; expected classes that are new, each once"),
        ([7, 8], None, "holds 7; expected labels of type str"),
        ("new", None, "a list of the new classes' labels"),
        (["new"], None, r"shape \(2, 4\); expected \(1, 4\)"),
        (["new", "newer"], lambda e: e[:, :3], r"shape \(2, 3\); expected \(2, 4\)"),
        (["new", "newer"], lambda e: e * np.nan, "embeddings .*nan"),
    ],
)
def test_classes_that_do_not_fit_are_refused_in_one_message(chosen, change, said, known, data):
    embeddings = data.class_embeddings[LATE] if change is None else change(data.class_embeddings[LATE])
    with pytest.raises(InputError, match=said):
        known.add_classes(chosen, embeddings)
    assert len(known.classes_) == 22
    head, model = (np.zeros((22, data.feature_dim)), np.zeros(22)), known.generator_
    with pytest.raises(InputError, match=said):
        fgen.extend_head(head, model, chosen, embeddings, labels=known.classes_)


def test_heads_without_rows_of_weights_refuse(data, names, generator):
    ensemble = pytest.importorskip("sklearn.ensemble")
    (X, y), forest = data.split("trainval"), ensemble.RandomForestClassifier(5)
    new = names[LATE], data.class_embeddings[LATE]
    with pytest.raises(InputError, match=r"type RandomForestClassifier; expected .*torch\.nn\.Linear"):
        fgen.extend_head(forest.fit(X, y), generator, *new)
    for head, said in (({"name": "knn"}, "'knn' is no formula of weights"), (forest, "has no linear form")):
        settings = KINDS["softmax"] | {"classifier": head, "n_per_class": 5, "calibrate": False}
        classifier = fgen.ZeroShotClassifier(data.class_embeddings[:22], classes=names[:22], **settings)
        classifier.fit(X, names[y])
        with pytest.raises(InputError, match=said):
            classifier.add_classes(*new)


@pytest.mark.parametrize(
    ("head", "labels", "said"),
    [
        (np.zeros((20, 3)), range(20), "weights for 3 columns of features"),
        (np.zeros((20, 16)), ["nothing", *range(19)], "the label 'nothing'"),
        (np.zeros((20, 16)), range(19), r"classes has shape \(19,\); expected \(20,\)"),
        (np.zeros((20, 16)), None, "20 rows, and the model 22 classes; expected labels"),
    ],
)
def test_a_head_that_does_not_fit_the_model_is_refused(head, labels, said, generator, names):
    labels = labels and [names[k] if isinstance(k, int) else k for k in labels]
    with pytest.raises(InputError, match=said):
        fgen.extend_head((head, np.zeros(len(head))), generator, ["new"], np.zeros((1, 4)), labels=labels)


def test_the_example_script_adds_classes():
    classifier, layer = add_a_class.main()
    assert len(classifier.classes_) == 25
    assert layer.out_features == 22
    assert classifier.extension_.new > 0.2, "chance is 1 / 25"
