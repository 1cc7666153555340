"""TokenSearch on quadratics: every option finds the minimum, and both derivatives agree."""

from typing import Any

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.zeroth_order import Derivatives, Losses, TokenSearch

ALPHAS = torch.linspace(0.999, 0.005, 1000)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"estimator": "spsa"},
        {"estimator": "one_point", "n": 4},
        {"directions": "orthogonal"},
        {"subspace": "none"},
        {"estimate_scale": "dimension"},
        {"learning_rate_schedule": "cosine"},
        {"timesteps": "snr"},
        {"derivative": "residual"},
    ],
    ids=str,
)
def test_every_option_converges_on_a_quadratic(changes: dict[str, Any]) -> None:
    """In every configuration, 250 steps reduce the squared distance to the minimum to less than 1 %."""
    d = 4
    target = torch.randn(d, generator=torch.Generator().manual_seed(0))
    settings = SearchSettings(**{"steps": 250, "tau": 16, "nu": 1e-4, "learning_rate": 0.1, **changes})
    search = TokenSearch(torch.zeros(d), settings, images=1, alphas_cumprod=ALPHAS)
    start = (search.theta - target).square().sum()
    while not search.done:
        residuals = search.ask().candidates - target
        if settings.derivative == "residual":
            along = 2 * ((residuals[1:] - residuals[0]) * residuals[0]).mean(1) / settings.mu
            search.tell(Derivatives(along))
        else:
            search.tell(Losses(residuals.double().square().mean(1)))
    assert (search.theta - target).square().sum() < start / 100


def test_residual_and_difference_agree_for_small_mu() -> None:
    """For an output linear in θ, both derivatives agree within μ, and so do the tokens after one step."""
    target, tokens = torch.linspace(-1, 1, 6), []
    for derivative in ("residual", "loss_difference"):
        settings = SearchSettings(derivative=derivative, mu=1e-3)
        search = TokenSearch(torch.zeros(6), settings, images=1)
        residuals = search.ask().candidates.double() - target
        if derivative == "residual":
            search.tell(Derivatives(2 * ((residuals[1:] - residuals[0]) * residuals[0]).mean(1) / 1e-3))
        else:
            search.tell(Losses(residuals.square().mean(1)))
        tokens.append(search.theta)
    assert tokens[0].abs().min() > 1e-3
    torch.testing.assert_close(tokens[0], tokens[1], rtol=0, atol=1e-5)
