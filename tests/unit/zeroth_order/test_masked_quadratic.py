"""A masked loss on a quadratic: masked coordinates do not influence the search, the others do."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.diffusion.denoising import directional_derivatives, row_losses
from zoodip_core.zeroth_order import Derivatives, Losses, TokenSearch

MASK = torch.tensor([[[2.0, 2.0], [0.0, 0.0]]])  # of the four coordinates, the last two are masked
TARGET = torch.tensor([1.0, -0.5, 0.25, 0.75])


def _minimum(target: Float[Tensor, " 4"], derivative: str) -> Float[Tensor, " 4"]:
    """Search the minimum of the masked squared distance to a target, with candidates as the model's output."""
    settings = SearchSettings.parse(
        {"steps": 250, "tau": 16, "nu": 1e-4, "learning_rate": 0.1, "derivative": derivative}
    )
    search = TokenSearch(
        torch.zeros(4), settings, images=1, alphas_cumprod=torch.linspace(0.999, 0.005, 1000)
    )
    goal = target.view(1, 2, 2)
    while not search.done:
        output = search.ask().candidates.view(-1, 1, 2, 2)
        if derivative == "residual":
            search.tell(Derivatives(directional_derivatives(output, goal, settings.mu, MASK)))
        else:
            search.tell(Losses(row_losses(output, goal.expand_as(output), MASK[None])))
    return search.theta


@pytest.mark.parametrize("derivative", ["loss_difference", "residual"])
def test_only_the_masked_coordinates_are_free(derivative: str) -> None:
    """Another target of a masked coordinate gives the same bits; that of another coordinate moves the minimum."""
    found = _minimum(TARGET, derivative)
    torch.testing.assert_close(found[:2], TARGET[:2], rtol=0, atol=0.1)
    masked, visible = TARGET.clone(), TARGET.clone()
    masked[2:] = torch.tensor([-9.0, 100.0])
    assert torch.equal(_minimum(masked, derivative), found)
    visible[1] = 1.0
    torch.testing.assert_close(_minimum(visible, derivative)[:2], visible[:2], rtol=0, atol=0.1)


def test_the_derivative_is_that_of_the_masked_loss() -> None:
    """For a linear output, the residual's derivative is the exact one of the weighted mean of squares."""
    generator = torch.Generator().manual_seed(0)
    base, change, target = (torch.randn(4, 2, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    outputs, mu = torch.stack([base, base + 1e-3 * change]), 1e-3
    mask = MASK.double()
    exact = 2 * (mask * change * (base - target)).mean()
    torch.testing.assert_close(directional_derivatives(outputs, target, mu, mask)[0], exact)
    ahead, behind = (
        row_losses((base + sign * mu * change)[None], target[None], mask[None]) for sign in (1, -1)
    )
    torch.testing.assert_close((ahead - behind)[0] / (2 * mu), exact)
