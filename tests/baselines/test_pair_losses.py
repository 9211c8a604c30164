"""The loss that the scorer of pairs is trained by."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fgen.baselines.multimodal import MultimodalConfig
from fgen.nn.multimodal import ImageTextScorer, contrastive, make_fusion

IMAGES, ROWS = torch.randn(5, 4), torch.randn(6, 3)
TARGETS, PRESENT, OWN = torch.tensor([4, 1, 1, 4, 2]), [1, 2, 4], torch.tensor([2, 0, 0, 2, 1])


class Counted(nn.Module):
    """How many texts were encoded."""

    def forward(self, rows):
        self.encoded = len(rows)
        return rows


@pytest.mark.parametrize(("contrast", "cross_entropy"), [(1.0, 1.0), (0.5, 2.0), (0.0, 1.0), (3.0, 0.0)])
def test_it_is_the_weighted_sum_of_both_and_a_weight_of_0_costs_nothing(contrast, cross_entropy):
    config = MultimodalConfig(contrastive_weight=contrast, classification_weight=cross_entropy)
    texts = Counted()
    scorer = ImageTextScorer(None, texts, make_fusion("bilinear", 4, 3, 2))
    loss = config.build().loss(scorer, IMAGES, ROWS, TARGETS)
    assert texts.encoded == (6 if cross_entropy else 3), "the classes of the batch alone"
    scores = scorer(IMAGES, ROWS)
    expected = contrast * contrastive(scores[:, PRESENT], OWN) + cross_entropy * F.cross_entropy(scores, TARGETS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
