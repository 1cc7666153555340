"""A token rebuilt from a few directions of its change: the principal ones of its way, or as many random ones.

The principal directions are those of the differences between neighbouring points of the way, not of the points: the
points themselves hold the whole change, so their first direction is nearly the change and no cut could tell anything.
The differences are not centred, for their mean is a part of the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Directions = Literal["none", "principal", "random", "all"]

RANDOM_SEED = 0


@dataclass(frozen=True, eq=False)
class Cut:
    """θ_0 and what k directions keep of the way from there."""

    directions: Directions
    kept: int  # k
    share: float  # of the change's squared norm that is kept
    token: Float[Tensor, " d"]


def principal_directions(points: Float[Tensor, "points d"]) -> Float[Tensor, "directions d"]:
    """Orthonormal rows: the directions in which the token moved most, the largest first."""
    moves = (points[1:] - points[:-1]).double()
    directions: Tensor = torch.linalg.svd(moves, full_matrices=False)[2]
    return directions


def random_directions(dimensions: int) -> Float[Tensor, "d d"]:
    """Orthonormal rows that have nothing to do with any way; the same each time."""
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    drawn = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(drawn)[0]
    return columns.T


def powers_below(dimensions: int) -> list[int]:
    """1, 2, 4, … below the number of dimensions."""
    return [1 << power for power in range((dimensions - 1).bit_length())]


def cuts(points: Float[Tensor, "points d"]) -> Iterator[Cut]:
    """Nothing of the change; 1, 2, 4, … directions of it, principal and random; all of it."""
    dimensions = points.shape[1]
    yield Cut("none", 0, 0.0, points[0])
    principal, random = principal_directions(points), random_directions(dimensions)
    for kept in powers_below(dimensions):
        yield _cut("principal", kept, points, principal)
        yield _cut("random", kept, points, random)
    yield Cut("all", dimensions, 1.0, points[-1])


def _cut(
    name: Directions,
    kept: int,
    points: Float[Tensor, "points d"],
    directions: Float[Tensor, "directions d"],
) -> Cut:
    """θ_k = θ_0 + (θ_end − θ_0) Dᵀ D with the first k rows D."""
    change, chosen = (points[-1] - points[0]).double(), directions[:kept]
    along = chosen @ change
    share = float(along.square().sum() / change.square().sum())
    return Cut(name, kept, share, points[0] + (along @ chosen).float())
