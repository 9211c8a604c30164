"""The written-down critic step against autograd's."""

import pytest
import torch

from fgen.nn import losses
from fgen.nn.critic_gradients import critic_gradients
from fgen.nn.networks import Critic

pytestmark = pytest.mark.numeric

B, D, A, H = 7, 5, 3, 11


@pytest.fixture
def critic():
    torch.manual_seed(0)
    network = Critic(D, A, H).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    return network


def rows(width=A):
    torch.manual_seed(1)
    real, fake = torch.rand(B, D, dtype=torch.float64), torch.rand(B, D, dtype=torch.float64)
    return real, fake, torch.randn(B, width, dtype=torch.float64), torch.rand(B, 1, dtype=torch.float64)


def by_autograd(critic, real, fake, condition, alpha, gp_weight, scale):
    critic.zero_grad()
    distance, penalty = losses.critic_terms(critic, real, fake, condition, alpha)
    (scale * distance + gp_weight * penalty).backward()
    return scale * distance, penalty, [p.grad.clone() for p in critic.parameters()]


@pytest.mark.parametrize(("gp_weight", "scale"), [(10.0, 1.0), (0.0, 1.0), (3.0, 0.25)])
def test_the_written_down_step_equals_the_double_backward(critic, gp_weight, scale):
    distance, penalty, slow = by_autograd(critic, *rows(), gp_weight, scale)
    critic.zero_grad()
    ours = critic_gradients(critic, *rows(), gp_weight, scale)
    assert ours[0].item() == pytest.approx(distance.item(), abs=1e-12)
    assert ours[1].item() == pytest.approx(penalty.item(), rel=1e-9)
    for parameter, twin in zip(critic.parameters(), slow, strict=True):
        torch.testing.assert_close(parameter.grad, twin, rtol=1e-8, atol=1e-10)


def test_buffers_are_overwritten_and_not_added_to(critic):
    critic_gradients(critic, *rows(), 10.0)
    first = [p.grad for p in critic.parameters()]
    content = [g.clone() for g in first]
    critic_gradients(critic, *rows(), 10.0)
    for parameter, buffer, before in zip(critic.parameters(), first, content, strict=True):
        assert parameter.grad is buffer
        assert torch.equal(buffer, before)


def test_a_critic_without_a_condition_is_served_too():
    torch.manual_seed(0)
    critic = Critic(D, 0, H).double()
    real, fake, condition, alpha = rows(width=0)
    _, _, slow = by_autograd(critic, real, fake, condition, alpha, 10.0, 1.0)
    critic_gradients(critic, real, fake, condition, alpha, 10.0)
    for parameter, twin in zip(critic.parameters(), slow, strict=True):
        torch.testing.assert_close(parameter.grad, twin, rtol=1e-8, atol=1e-10)


def test_a_critic_blind_to_its_features_has_finite_gradients(critic):
    with torch.no_grad():
        critic.hidden.weight.zero_()
    critic_gradients(critic, *rows(), 10.0)
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters())
