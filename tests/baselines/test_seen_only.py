"""The deployed classifier that is never told of new classes."""

import torch

from fgen.baselines.seen_only import SeenOnlyConfig
from fgen.classifiers.softmax import SoftmaxClassifier


def test_it_is_the_softmax_head_of_its_settings_and_seed_on_the_seen_classes(world):
    data = world.dataset
    features, labels = data.split("trainval")
    baseline = SeenOnlyConfig(epochs=3, batch_size=16).build().fit(features, labels, data.class_embeddings, seed=5)
    head = SoftmaxClassifier(epochs=3, batch_size=16).fit(features, labels, seed=5)
    assert torch.equal(baseline.head.weight, head.weight)
    scores = baseline.scores(data.split("test_unseen")[0])
    assert scores[:, data.unseen].max() < scores[:, data.seen].min()
