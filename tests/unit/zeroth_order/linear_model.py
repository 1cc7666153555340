"""A search on a linear model with noise, whose curvature is steep along a few of the principal directions."""

import torch
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.measured_values import Curvature
from zoodip_core.zeroth_order.search_space import CalibratedSearchSpace

D, K = 24, 6
SETTINGS = SearchSettings.parse(
    {"steps": 200, "n": 2, "directions": "orthogonal", "subspace": "none", "learning_rate": 0.05}
)
STEEP = torch.tensor([100.0, 10.0, 1.0, 0.3, 0.1, 0.03])
"""Curvature along the principal directions: most of it along one, as in a real model."""


def space(curvature: Tensor = STEEP, starts: Tensor | None = None) -> CalibratedSearchSpace:
    """Return a space of principal directions of equal scale around the origin."""
    rows, shape = torch.eye(D)[:K].contiguous(), torch.diag(curvature / curvature.sum())
    return CalibratedSearchSpace(torch.zeros(D), rows, torch.ones(K), shape, starts)


def search(chosen: CalibratedSearchSpace | None = None, *, n: int = 2) -> GaussNewtonSearch:
    """Return a search from the origin."""
    settings = SETTINGS.model_copy(update={"n": n})
    return GaussNewtonSearch(torch.zeros(D), settings, images=1, space=chosen or space())


def residuals(candidates: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
    """Return noisy outputs minus their target, of a linear model with the curvature of the space."""
    noise = 0.1 * torch.randn(K, generator=generator)
    return (candidates[:, :K] - goal[:K]) * STEEP.sqrt() + noise


def curvature_of(left: Tensor) -> Curvature:
    """Return the measurements of a step from the residuals of its candidates."""
    change = left[1:] - left[0]
    derivatives = 2 * (change * left[0]).mean(1) / SETTINGS.mu
    matrix = 2 * change @ change.T / (change.shape[1] * SETTINGS.mu**2)
    return Curvature(derivatives, matrix, left.square().mean(1))


def advance(one: GaussNewtonSearch, goal: Tensor, generator: torch.Generator, steps: int) -> None:
    """Run steps of a search for `goal`."""
    for _ in range(steps):
        one.tell(curvature_of(residuals(one.ask().candidates, goal, generator)))


def excess(theta: Tensor, goal: Tensor) -> float:
    """Return the loss above that of the goal."""
    return float(((theta - goal)[:K].square() * STEEP).mean())
