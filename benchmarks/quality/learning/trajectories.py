"""The way of the tokens through one search: θ from the start to the end, resumable to the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import Learnable
from benchmarks.quality.learning import snapshots
from benchmarks.quality.learning.methods import Plan
from benchmarks.quality.learning.snapshots import begin_cohort, place_of, plan_identity
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import load_checkpoint, save_checkpoint

POINTS = 1024
"""Most points of a way: several times as many as a token has dimensions here."""


def walk(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], folder: Path, tell: Callable[[str], None]
) -> Float[Tensor, "points cases flat"]:
    """θ_0, then θ after steps that are evenly spread, then the last θ, of a plan with one count of forwards.

    Raises:
        InvalidCheckpointError: a file in `folder` is damaged.
        BenchmarkError: a search diverged.
    """
    (count,) = plan.forwards
    own = plan_identity(plan, bundle, cases)
    whole = place_of(plan, own, folder) / f"walk-{count}.safetensors"
    if not whole.is_file():
        points = _walk(plan, bundle, cases, whole.with_suffix(".part"), own, tell)
        save_checkpoint({"points": points}, whole, identity=own)
    return load_checkpoint(whole, identity=own)["points"]


def _walk(
    plan: Plan,
    bundle: Bundle,
    cases: Sequence[Learnable],
    part: Path,
    own: str,
    tell: Callable[[str], None],
) -> Float[Tensor, "points cases flat"]:
    """Go on from the part of the way that was saved, if there is one."""
    state = load_checkpoint(part, identity=own) if part.is_file() else None
    points = [] if state is None else list(state.pop("points"))
    cohort = begin_cohort(plan, bundle, cases, state)
    points = points or [cohort.tokens()]
    steps = plan.forwards[0] // cohort.forwards_per_step
    every = math.ceil(steps / POINTS)
    saved = time.perf_counter()
    while cohort.step < steps:
        cohort.advance()
        if cohort.step % every == 0 or cohort.step == steps:
            points.append(cohort.tokens())
        if time.perf_counter() - saved > snapshots.CHECKPOINT_EVERY_S:
            save_checkpoint(cohort.state() | {"points": torch.stack(points)}, part, identity=own)
            saved = time.perf_counter()
            tell(f"{plan.method.name}, the way: {cohort.step} of {steps} steps")
    part.unlink(missing_ok=True)
    return torch.stack(points)


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
