"""The Gauss–Newton search from a predicted token: a good prediction is kept, and a wrong one is left."""

import pytest
import torch

from tests.unit.zeroth_order.linear_model import (
    SETTINGS,
    D,
    K,
    advance,
    curvature_of,
    excess,
    residuals,
    search,
    space,
)
from zoodip_core.zeroth_order.gauss_newton import COMPARED_STEPS, loss_change


def test_change_of_the_loss_follows_from_derivative_and_curvature() -> None:
    """It equals the difference of two measured losses, however far the last candidate is."""
    generator = torch.Generator().manual_seed(8)
    candidates = 3 * torch.randn(4, D, generator=generator)
    left = residuals(candidates, torch.ones(D), generator)
    losses = left.square().mean(1)
    change = loss_change(curvature_of(left), SETTINGS.mu)
    assert change == pytest.approx(float(losses[-1] - losses[0]), rel=1e-4)


def test_good_prediction_is_kept_and_saves_steps() -> None:
    """A start near the goal stays, and ends nearer than a search from the initial token after the same steps."""
    goal, left = torch.zeros(D), list[float]()
    goal[:K] = torch.tensor([1.0, -1, 1, -1, 2, -2])
    for predicted in (0.9 * goal, None):
        one = search(space(predicted=predicted), n=4)
        advance(one, goal, torch.Generator().manual_seed(6), COMPARED_STEPS)
        left.append(excess(one.theta, goal))
    assert left[0] < 0.2 * left[1]


def test_wrong_prediction_is_left_after_the_compared_steps() -> None:
    """The search is then that of the initial token, with everything that it measured forgotten."""
    goal, wrong = torch.zeros(D), torch.zeros(D)
    goal[0], wrong[:K] = 0.1, -5 * torch.ones(K)
    one = search(space(predicted=wrong), n=4)
    fresh = search(n=4).state()
    torch.testing.assert_close(one.theta, wrong)
    for _ in range(COMPARED_STEPS):
        torch.testing.assert_close(one.ask().candidates[-1], torch.zeros(D), atol=1e-5, rtol=0)
        assert not one.theta.equal(torch.zeros(D))
        advance(one, goal, torch.Generator().manual_seed(6), 1)
    after = one.state()
    for name in ("theta", "filter.average", "filter.covariance", "filter.curvature"):
        assert after[name].equal(fresh[name])
    assert one.step == COMPARED_STEPS
    assert not one.ask().candidates[-1].equal(torch.zeros(D))


def test_search_with_one_direction_does_not_compare() -> None:
    """Its only direction is needed for the step."""
    one = search(space(predicted=torch.ones(D)), n=1)
    assert not torch.allclose(one.ask().candidates[-1], torch.zeros(D), atol=1e-3)
