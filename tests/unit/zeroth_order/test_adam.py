"""ZOAdam: parity with torch's Adam, no side effects, schedules."""

from itertools import pairwise

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.zeroth_order.adam import SCHEDULES, Moments, ZOAdam


@pytest.mark.parametrize(
    ("beta1", "beta2", "adam_eps"), [(0.9, 0.999, 1e-3), (0.0, 0.0, 1e-8), (0.5, 0.99, 1.0)]
)
def test_ten_steps_equal_torchs_adam(beta1: float, beta2: float, adam_eps: float) -> None:
    """The update rule is Adam's, with bias correction and with ε outside the square root."""
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(16, generator=generator), torch.randn(10, 16, generator=generator)
    reference = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([reference], lr=5e-3, betas=(beta1, beta2), eps=adam_eps)
    settings = SearchSettings(adam_beta1=beta1, adam_beta2=beta2, adam_eps=adam_eps)
    rule, theta, moments = ZOAdam.from_settings(settings), start, Moments.zeros(start)
    for step, gradient in enumerate(gradients, start=1):
        reference.grad = gradient.clone()
        adam.step()
        theta, moments = rule.update(theta, gradient, moments, step)
        torch.testing.assert_close(theta, reference.detach(), rtol=1e-6, atol=1e-7)
    assert (theta - start).abs().max() > 5e-3


def test_update_does_not_modify_its_arguments() -> None:
    """`update` does not modify θ, the gradient or the moments."""
    theta, gradient = torch.ones(3), torch.full((3,), 2.0)
    moments = Moments.zeros(theta)
    ZOAdam.from_settings(SearchSettings()).update(theta, gradient, moments, 1)
    assert theta.equal(torch.ones(3))
    assert gradient.equal(torch.full((3,), 2.0))
    assert not moments.first.any()
    assert not moments.second.any()


def test_cosine_falls_from_one_to_almost_zero() -> None:
    """The factor of the cosine schedule is 1 at step 1, 0.5 in the middle, and never exactly 0."""
    shares = [SCHEDULES["cosine"](step, 100) for step in range(1, 101)]
    assert shares[0] == 1.0
    assert shares[50] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(shares))
    assert 0 < shares[-1] < 1e-3


def test_the_schedule_scales_the_step() -> None:
    """With `cosine`, a step in the middle of the search is half as long as with `constant`."""
    theta, gradient = torch.zeros(2), torch.ones(2)
    moved = {
        name: ZOAdam.from_settings(SearchSettings(steps=10, learning_rate_schedule=name)).update(
            theta, gradient, Moments.zeros(theta), 6
        )[0]
        for name in SCHEDULES
    }
    torch.testing.assert_close(moved["cosine"], moved["constant"] / 2)
