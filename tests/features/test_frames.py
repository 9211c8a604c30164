"""Tables such as pandas' DataFrames: rows go by the names in their index, at every door that takes class embeddings."""

import numpy as np
import pytest

import fgen
from fgen import ZeroShotClassifier, ZSLDataset
from fgen.baselines import BASELINES
from fgen.data.bank import FeatureBank
from fgen.errors import InputError
from fgen.features.frames import column_names, row_labels

NAMES = ["zebra", "yak", "ape", "cat", "dog", "elk"]
ORDER = [4, 2, 0, 5, 1, 3]
TINY = {"steps": 2, "hidden_dim": 8, "cls_epochs": 1}


class Table:
    """What of pandas' DataFrame fgen looks at."""

    def __init__(self, rows, index=None, columns=None):
        self.rows = np.asarray(rows)
        self.index = range(len(self.rows)) if index is None else index
        self.columns = range(self.rows.shape[1]) if columns is None else columns

    @property
    def shape(self):
        return self.rows.shape

    def __len__(self):
        return len(self.rows)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


def frame(rows, index=None, columns=None):
    return pytest.importorskip("pandas").DataFrame(np.asarray(rows), index=index, columns=columns)


tables = pytest.mark.parametrize("table", [Table, frame])


@pytest.fixture(scope="module")
def data():
    stream = np.random.default_rng(0)
    embeddings = stream.random((6, 4)).astype(np.float32)
    labels = np.repeat(np.arange(4), 8)
    features = embeddings[labels] @ stream.random((4, 5)) + 0.01 * stream.random((32, 5))
    return features.astype(np.float32), labels, embeddings


@tables
def test_an_index_and_columns_are_read_where_they_say_something(table):
    rows = np.zeros((3, 2))
    assert row_labels(rows) is None
    assert row_labels(rows.tolist()) is None
    assert row_labels(table(rows)) is None
    assert row_labels(table(rows, index=[0, 1, 2])) is None
    assert row_labels(table(rows, index=[1, 0, 2])) == [1, 0, 2]
    assert row_labels(table(rows, index=["a", "b", "c"])) == ["a", "b", "c"]
    assert column_names(rows) is None
    assert column_names(table(rows)) is None
    assert column_names(table(rows, columns=["a", 1])) is None
    assert column_names(table(rows, columns=["a", "b"])) == ("a", "b")


@tables
def test_a_data_set_puts_the_rows_of_a_table_in_the_order_of_its_names(data, table):
    features, labels, embeddings = data
    shuffled = table(embeddings[ORDER], index=[NAMES[k] for k in ORDER])
    by_name = ZSLDataset(features, labels, shuffled, class_names=NAMES)
    assert by_name.class_embeddings.tobytes() == embeddings.tobytes()
    kinds = {"words": shuffled, "more": table(embeddings, index=NAMES)}
    by_index = ZSLDataset(features, labels, kinds)
    assert by_index.class_names == tuple(NAMES[k] for k in ORDER)
    assert by_index.embeddings["more"].tobytes() == by_index.embeddings["words"].tobytes(), "of one class in each row"
    for unnamed in (table(embeddings), table(embeddings.astype(object))):
        positions = ZSLDataset(features, labels, unnamed)
        assert positions.class_names is None
        assert positions.class_embeddings.tobytes() == embeddings.tobytes()
    late = table(embeddings[:2] + 1, index=["gnu", "hare"])
    assert by_name.with_classes(["hare", "gnu"], late).class_embeddings[6].tolist() == (embeddings[1] + 1).tolist()


@tables
def test_an_index_that_fits_neither_names_nor_positions_is_refused(data, table):
    features, labels, embeddings = data
    for index, names, message in (
        (ORDER, None, r"index 4, 2, 0, …; expected names, or the rows' numbers. Call sort_index\(\) if"),
        (range(1, 7), None, r"index 1, 2, 3, …; .* reset_index\(drop=True\) if labels count the rows from 0"),
        (ORDER, NAMES, r"index 4, 2, 0, …; expected the names in class_names, in any order. Call reset_index"),
        (["yac", *NAMES[2:], "zebra"], NAMES, r"the names in class_names, in any order. Did you mean 'yak'\?"),
    ):
        with pytest.raises(InputError, match=message):
            ZSLDataset(features, labels, table(embeddings, index=index), class_names=names)
        with pytest.raises(InputError, match=message):
            fgen.make_model("clswgan", **TINY).fit(
                features, labels, table(embeddings, index=index), seed=0, class_names=names
            )
        with pytest.raises(InputError, match=r"class_embeddings\['words'\] has the index"):
            ZSLDataset(features, labels, {"words": table(embeddings, index=index)}, class_names=names)
    with pytest.raises(InputError, match="expected names, or the rows' numbers"):
        BASELINES["ridge"]().build().fit(features, labels, table(embeddings, index=ORDER))


@tables
def test_a_model_and_a_bank_keep_the_names_of_a_table(data, table, tmp_path):
    features, labels, embeddings = data
    twin = fgen.make_model("clswgan", **TINY).fit(features, labels, embeddings, seed=0, class_names=NAMES)
    model = fgen.make_model("clswgan", **TINY).fit(features, labels, table(embeddings, index=NAMES), seed=0)
    assert model.class_names == tuple(NAMES)
    shuffled = table(embeddings[ORDER], index=[NAMES[k] for k in ORDER])
    other = fgen.make_model("clswgan", **TINY).fit(features, labels, shuffled, seed=0, class_names=NAMES)
    wanted = twin.generate([4, 5], 3, seed=1)[0]
    for made in (model.generate([4, 5], 3, seed=1), other.generate([4, 5], 3, seed=1)):
        assert made[0].tobytes() == wanted.tobytes()
    asked = table(embeddings[4:], index=NAMES[4:])
    assert model.generate(asked, 3, seed=1)[0].tobytes() == wanted.tobytes()
    assert (
        model.generate(asked, 3, seed=1, class_names=["elk", "dog"])[0].tobytes()
        == wanted[[3, 4, 5, 0, 1, 2]].tobytes()
    )
    by_hash = twin.generate(embeddings[4:], 3, seed=1)[0].tobytes()
    assert model.generate(table(embeddings[4:]), 3, seed=1)[0].tobytes() == by_hash
    plan = {"counts": np.ones(6), "feature_dim": 2, "seen": np.ones(6, bool), "seed": 0, "config": {}}
    with FeatureBank.create(tmp_path / "b.h5", class_names=NAMES, class_embeddings=shuffled, **plan) as writer:
        for k in range(6):
            writer.write(k, np.zeros((1, 2), np.float32))
    with FeatureBank.open(tmp_path / "b.h5") as bank:
        assert bank.class_embeddings.tobytes() == embeddings.tobytes()


@tables
@pytest.mark.parametrize("labels_of", [list(NAMES), [3, 1, 0, 2, 5, 4], [10, 20, 30, 40, 50, 60]])
def test_the_index_of_a_classifiers_table_holds_the_labels(data, table, labels_of):
    features, ids, embeddings = data
    labels_of = np.array(labels_of)
    settings = {"model": TINY, "n_per_class": 5, "calibrate": False}
    described = dict(zip(labels_of.tolist(), embeddings, strict=True))
    twin = ZeroShotClassifier(described, **settings).fit(features, labels_of[ids])
    index = labels_of.tolist()
    for given in (table(embeddings, index=index), table(embeddings.astype(object), index=index)):
        model = ZeroShotClassifier(given, **settings).fit(features, labels_of[ids])
        assert model.classes_.tolist() == index
        assert model.decision_function(features).tobytes() == twin.decision_function(features).tobytes()
    classes = ZeroShotClassifier(given, classes=labels_of, **settings).fit(features, labels_of[ids]).classes_
    assert classes.tolist() == index
    swapped = [index[1], index[0], *index[2:]]
    with pytest.raises(InputError, match=r"has the index .*, and classes gives it to row 0; .* Leave classes out"):
        ZeroShotClassifier(given, classes=swapped, **settings).fit(features, labels_of[ids])


@tables
def test_what_a_classifiers_table_cannot_hold_is_named(data, table):
    features, ids, embeddings = data
    text = np.concatenate([np.array(NAMES, dtype=object)[:, None], embeddings], axis=1)
    for given, message in (
        (table(text, columns=list("nabcd")), "the text 'zebra' in row 0, column 0; expected numbers.* by set_index"),
        (table(embeddings, index=["a", "a", *NAMES[2:]]), "classes has 'a' twice"),
        (table(embeddings, index=["a", 1, *NAMES[2:]]), "labels of the classes are str, int"),
    ):
        with pytest.raises(InputError, match=message):
            ZeroShotClassifier(given, model=TINY).fit(features, ids)


def test_series_of_another_order_are_refused(data):
    pandas = pytest.importorskip("pandas")
    features, ids, embeddings = data
    series = {name: pandas.Series(row, index=list("abcd")) for name, row in zip(NAMES, embeddings, strict=True)}
    settings = {"model": TINY, "n_per_class": 5, "calibrate": False}
    ZeroShotClassifier(series, **settings).fit(features, np.array(NAMES)[ids])
    series["cat"] = series["cat"][::-1]
    with pytest.raises(InputError, match=r"\['cat'\] has the index 'd', …; .*reindex"):
        ZeroShotClassifier(series, **settings).fit(features, np.array(NAMES)[ids])
