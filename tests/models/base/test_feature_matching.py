"""The switches of the matching terms: each with its own weight, and with what it was told of the real rows."""

import numpy as np
import pytest
import torch

from fgen.features.scaling import FeatureScaler
from fgen.models.base.feature_matching import FeatureMatching
from fgen.models.registry import make_model
from fgen.nn import matching
from fgen.training.training_set import TrainingSet
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

TERMS = ("class_mean", "moment", "mmd", "coral", "soul", "soul_mean", "pivot", "contrastive", "cycle")


@pytest.fixture(scope="module")
def data(world):
    features, labels = world.dataset.split("trainval")
    scaler = FeatureScaler.fit("minmax", features)
    return TrainingSet(features, labels, world.dataset.class_embeddings, scaler, torch.device("cpu"))


def terms_of(data, **settings):
    matched = FeatureMatching(make_model("clswgan", **(TINY | settings)).config, data, seed=0)
    batch = data.batch(np.arange(0, len(data), 5))
    fake = torch.rand(batch.features.shape, generator=torch.Generator().manual_seed(0))
    return matched.terms(fake, batch), fake, batch


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_multiplies_its_own_term_and_switches_on_no_other(term, data):
    once, thrice = (terms_of(data, **{f"{term}_weight": weight})[0] for weight in (1.0, 3.0))
    assert set(once) == set(thrice) == {term}
    assert once[term].item() > 0
    assert thrice[term].item() == pytest.approx(3 * once[term].item(), rel=1e-5)


def test_the_contrast_is_of_real_and_generated_rows_together_at_its_temperature(data):
    terms, fake, batch = terms_of(data, contrastive_weight=1.0, temperature=0.7)
    twin = matching.supervised_contrastive(torch.cat([batch.features, fake]), batch.labels.repeat(2), 0.7)
    assert terms["contrastive"].item() == pytest.approx(twin.item(), rel=1e-5)


def test_a_class_has_as_many_souls_as_wanted(data):
    config = make_model("clswgan", **TINY, soul_weight=1.0, n_souls=5).config
    assert FeatureMatching(config, data, seed=0).souls.shape == (data.n_classes, 5, data.feature_dim)
