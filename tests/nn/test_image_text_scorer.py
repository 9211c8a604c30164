"""Scores of image-text pairs: each fusion against a loop over pairs, the contrastive loss against its slow twin."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fgen.errors import InputError
from fgen.nn.multimodal import (
    FIRST_TEMPERATURE,
    FUSIONS,
    LARGEST_FACTOR,
    ImageTextScorer,
    Rescale,
    SideBySide,
    contrastive,
    make_fusion,
)

N, C, D, A, H = 5, 3, 7, 4, 6


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def pair_score(fusion, x, t):
    """The score of one image and one text, by the formula in the docstring, without the learned factor."""
    name = type(fusion).__name__
    if name == "CosineFusion":
        x, t = fusion.image.weight @ x, fusion.text.weight @ t
        return x @ t / (x.norm() * t.norm())
    if name == "BilinearFusion":
        return x @ fusion.weight @ t
    if name == "ConcatFusion":
        both = torch.cat([fusion.image.weight, fusion.text.weight], dim=1) @ torch.cat([x, t]) + fusion.image.bias
        return fusion.out.weight[0] @ both.clamp(min=0)
    both = torch.cat([fusion.image_gate.weight, fusion.text_gate.weight], dim=1) @ torch.cat([x, t])
    gate = 1 / (1 + (-both - fusion.image_gate.bias).exp())
    return fusion.out.weight[0] @ (gate * fusion.image(x).tanh() + (1 - gate) * fusion.text(t).tanh())


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_scores_each_pair_by_its_formula(name):
    torch.manual_seed(0)
    fusion = make_fusion(name, D, A, H).double()
    images, texts = draw(N, D), draw(C, A, seed=1)
    expected = torch.stack([torch.stack([pair_score(fusion, x, t) for t in texts]) for x in images])
    np.testing.assert_allclose(fusion(images, texts).detach(), expected.detach() / FIRST_TEMPERATURE, rtol=1e-9)
    with torch.no_grad():
        fusion.factor.log_change.fill_(9.0)
    np.testing.assert_allclose(fusion(images, texts).detach(), expected.detach() * LARGEST_FACTOR, rtol=1e-9)


def test_another_name_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="fusion is 'sum'; expected one of cosine, concat, bilinear, gated"):
        make_fusion("sum", D, A, H)


def slow_contrastive(scores, targets):
    """One image, then one text at a time."""
    n, k = len(scores), len(scores[0])
    of_images = [-np.log(np.exp(scores[i][targets[i]]) / sum(np.exp(scores[i][j]) for j in range(k))) for i in range(n)]
    of_texts = []
    for j in range(k):
        everything = sum(np.exp(scores[i][j]) for i in range(n))
        of_texts.append(np.mean([-np.log(np.exp(scores[i][j]) / everything) for i in range(n) if targets[i] == j]))
    return (np.mean(of_images) + np.mean(of_texts)) / 2


def test_the_contrastive_loss_is_that_of_the_loops():
    scores, targets = 3 * draw(9, 4), torch.tensor([0, 1, 2, 3, 3, 1, 1, 0, 2])
    assert contrastive(scores, targets).item() == pytest.approx(slow_contrastive(scores.tolist(), targets), rel=1e-12)


def test_with_one_image_for_each_text_it_is_clips_loss():
    scores, numbers = 3 * draw(6, 6), torch.arange(6)
    clip = (F.cross_entropy(scores, numbers) + F.cross_entropy(scores.T, numbers)) / 2
    assert contrastive(scores, numbers).item() == pytest.approx(clip.item(), rel=1e-12)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("loss", [contrastive, F.cross_entropy])
def test_the_gradient_of_each_loss_reaches_both_towers(name, loss):
    torch.manual_seed(0)
    image, text = torch.nn.Linear(2, D), torch.nn.Linear(3, A)
    scorer = ImageTextScorer(image, text, make_fusion(name, D, A, H))
    loss(scorer(draw(6, 2).float(), draw(C, 3, seed=1).float()), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    for parameter in scorer.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert image.weight.grad.abs().max() > 0
    assert text.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", FUSIONS)
def test_images_and_texts_of_zeros_have_scores_and_gradients(name):
    fusion = make_fusion(name, D, A, H)
    contrastive(fusion(torch.zeros(3, D), torch.zeros(3, A)), torch.arange(3)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in fusion.parameters())


def test_texts_may_be_several_tensors_and_encoders_left_out():
    class Masked(torch.nn.Module):
        def forward(self, ids, mask):
            return (ids * mask).float()

    fusion, ids, mask = make_fusion("bilinear", D, A, H), torch.ones(C, A).long(), torch.tensor([[1, 1, 0, 0]] * C)
    images = draw(N, D).float()
    found = ImageTextScorer(None, Masked(), fusion)(images, (ids, mask))
    assert torch.equal(found, ImageTextScorer(None, None, fusion)(images, (ids * mask).float()))


def test_two_image_networks_are_joined_side_by_side():
    first, second, pictures = torch.nn.Linear(4, 3), torch.nn.Linear(4, 2), draw(N, 4).float()
    joined = SideBySide(first, second)
    assert torch.equal(joined(pictures), torch.cat([first(pictures), second(pictures)], dim=1))
    scorer = ImageTextScorer(joined, None, make_fusion("concat", 5, A, H))
    scorer(pictures, draw(C, A).float()).sum().backward()
    assert first.weight.grad.abs().max() > 0 < second.weight.grad.abs().max()


def test_rescaling_is_stored_with_the_weights_and_not_trained():
    rescale = Rescale(2)
    rescale.load_state_dict({"offset": torch.tensor([1.0, 2.0]), "scale": torch.tensor([2.0, 4.0])})
    assert rescale(torch.tensor([[3.0, 10.0]])).tolist() == [[1.0, 2.0]]
    assert not list(rescale.parameters())
