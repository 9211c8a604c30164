"""What every baseline in BASELINES promises, whatever its formula."""

import numpy as np
import pytest

from fgen.baselines import BASELINES
from fgen.config import build, to_mapping
from fgen.data.toy import toy_world
from fgen.errors import InputError
from tests.conftest import ANY_WIDTHS

BY_EMBEDDING = [name for name in ANY_WIDTHS if name != "seen_only"]
#: How far below the optimum T1 may lie. This world is linear in the embeddings, of which DAP sees only the signs.
SLACK = {"ridge": 0.1, "dap": 0.45, "eszsl": 0.15, "sae": 0.15, "ale": 0.2, "devise": 0.2, "gaussian": 0.15}
SLACK["multimodal"] = 0.15


@pytest.fixture(scope="module")
def toy():
    return toy_world(n_seen=40, n_unseen=8, rows_per_class=40, seed=1)


def fitted(name, data, seed=3, **settings):
    rows = data.splits["trainval"]
    config = BASELINES[name](**settings)
    return config.build().fit(data.features[rows], data.labels[rows], data.class_embeddings, seed=seed)


def t1(scores, data, labels):
    hits = data.unseen[scores[:, data.unseen].argmax(axis=1)] == labels
    return np.mean([hits[labels == label].mean() for label in data.unseen])


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_unseen_classes_are_recognised_nearly_as_well_as_can_be(name, toy):
    features, labels = toy.dataset.split("test_unseen")
    best = toy.optimum()["T1"]
    found = t1(fitted(name, toy.dataset).scores(features), toy.dataset, labels)
    assert found > best - SLACK[name] > 3 / 8, "chance is 1/8"


@pytest.mark.parametrize("name", ANY_WIDTHS)
def test_every_class_has_a_score_and_a_seed_repeats_it(name, world):
    features, _ = world.dataset.split("test_unseen")
    first, again = (fitted(name, world.dataset).scores(features) for _ in range(2))
    assert first.shape == (len(features), world.dataset.n_classes)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", BASELINES)
def test_candidates_are_settings_that_a_config_file_can_hold(name):
    candidates = BASELINES[name]().candidates()
    assert len(set(candidates)) == len(candidates) > 0
    for candidate in candidates:
        assert build(BASELINES[name], to_mapping(candidate)) == candidate
        assert candidate.candidates() == [candidate], "nothing is left open in it"


class Watched:
    """Features that remember the most rows ever asked for at once."""

    def __init__(self, features):
        self._features, self.shape, self.dtype, self.most = features, features.shape, features.dtype, 0

    def __len__(self):
        return len(self._features)

    def __getitem__(self, key):
        rows = self._features[key]
        self.most = max(self.most, len(rows))
        return rows


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_features_are_read_in_blocks_that_change_nothing(name, world, monkeypatch):
    data = world.dataset
    whole = fitted(name, data).scores(data.features)
    monkeypatch.setattr("fgen.features.rows.BLOCK_BYTES", 4 * data.feature_dim * 64)
    rows = data.splits["trainval"]
    watched = Watched(data.features[rows])
    model = BASELINES[name]().build().fit(watched, data.labels[rows], data.class_embeddings, seed=3)
    np.testing.assert_allclose(model.scores(data.features), whole, atol=1e-3 * np.abs(whole).max())
    assert watched.most <= 64 < len(rows)


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_the_unit_of_the_features_changes_nothing(name, world):
    data = world.dataset
    rows = data.splits["trainval"]
    moved = data.features * 8 + 3
    model = BASELINES[name]().build().fit(moved[rows], data.labels[rows], data.class_embeddings, seed=3)
    scores = fitted(name, data).scores(data.features)
    np.testing.assert_allclose(model.scores(moved), scores, atol=1e-3 * np.abs(scores).max())


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_embeddings_of_classes_without_rows_are_not_learnt_from(name, world):
    data = world.dataset
    rows = data.splits["trainval"]
    other = data.class_embeddings.copy()
    other[data.unseen] *= -100
    model = BASELINES[name]().build().fit(data.features[rows], data.labels[rows], other, seed=3)
    scores = [m.scores(data.features)[:, data.seen] for m in (fitted(name, data), model)]
    np.testing.assert_allclose(*scores, atol=1e-5 * np.abs(scores[0]).max())


GOOD = {
    "features": [[0.0, 1], [1, 1], [2, 0], [3, 5]],
    "labels": [0, 1, 2, 0],
    "class_embeddings": [[0.0, 1], [1.0, 1], [2.0, 0]],
}


@pytest.mark.parametrize("name", BY_EMBEDDING)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [0, 1]}, r"labels has shape \(2,\); expected \(4,\)"),
        ({"labels": [0, 1, 9, 0]}, r"labels\[2\] is 9; expected 0 to 2"),
        ({"labels": [0, 0, 0, 0]}, "class 0"),
        ({"features": [[0.0, 0], [np.nan, 0], [1, 0], [2, 0]]}, "features"),
        ({"class_embeddings": [[0.0], [np.inf], [1.0]]}, "class_embeddings"),
        ({"class_embeddings": [0.0, 1.0, 2.0]}, "class_embeddings"),
        ({"class_embeddings": [["a"], ["b"], ["c"]]}, "class_embeddings holds the text 'a'"),
        ({"class_embeddings": [[0.0], [1.0, 2.0], [3.0]]}, "class_embeddings is no array of numbers"),
        ({"class_embeddings": [[0j], [1j], [2j]]}, "class_embeddings holds complex numbers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(name, change, words):
    with pytest.raises(InputError, match=words):
        BASELINES[name]().build().fit(**(GOOD | change))


@pytest.mark.parametrize("name", BY_EMBEDDING)
def test_rows_that_can_not_be_scored_are_refused(name):
    model = BASELINES[name]().build()
    with pytest.raises(InputError, match="fitted"):
        model.scores([[0.0, 1.0]])
    model.fit(**GOOD)
    with pytest.raises(InputError, match="row 1"):
        model.scores([[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(InputError, match="3 columns"):
        model.scores([[0.0, 1.0, 2.0]])


@pytest.mark.parametrize("name", [name for name in BY_EMBEDDING if name != "dap"])
def test_rows_and_embeddings_that_teach_nothing_break_nothing(name):
    for change in ({"features": np.ones((4, 2))}, {"class_embeddings": np.zeros((3, 2))}):
        model = BASELINES[name]().build().fit(**(GOOD | change))
        assert np.isfinite(model.scores(GOOD["features"])).all()
