"""f-CLSWGAN: the classifier that its fakes are judged by."""

import numpy as np
import pytest
import torch

from fgen.classifiers.softmax import SoftmaxClassifier
from fgen.models.registry import make_model
from tests.conftest import TINY

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_the_classifier_is_the_head_of_real_scaled_rows_weights_and_biases(world, scaling):
    features, labels = world.dataset.split("trainval")
    settings = {"cls_epochs": 7, "cls_lr": 2e-2, "cls_batch_size": 16}
    model = make_model("clswgan", feature_scaling=scaling, **(TINY | settings))
    data = model.begin(features, labels, world.dataset.class_embeddings, device="cpu")
    model.initialise(4)
    model.pretrain(data, 4)
    head = SoftmaxClassifier(epochs=7, lr=2e-2, batch_size=16, scaling=scaling).fit(features, labels, seed=4)
    with torch.no_grad():
        logits = model.networks["classifier"](data.batch(np.arange(len(data))).features)
    np.testing.assert_allclose(logits.log_softmax(1), head.decision_function(features), atol=1e-4)
