"""Trajectories of tokens through a search, and tokens rebuilt from a few directions of their change.

Principal directions are those of the steps between neighboring points. The points themselves contain the complete
change, so their first direction would nearly be the change and every cut would keep it. The steps are not centered,
because their mean is part of the change.
"""

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
from benchmarks.quality.learning.snapshots import make_learner, plan_identity, search_folder
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import load_checkpoint, save_checkpoint

Directions = Literal["none", "principal", "random", "all"]

POINTS = 1024
"""Maximum number of points of a trajectory; several times the dimensions of a token of the embedded model."""

RANDOM_SEED = 0


@dataclass(frozen=True, eq=False)
class Cut:
    """θ_0 plus the part of the change that k directions keep."""

    directions: Directions
    kept: int  # k
    share: float  # of the squared norm of the change
    token: Float[Tensor, " d"]


def record_trajectory(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], folder: Path, log: Callable[[str], None]
) -> Float[Tensor, "points cases flat"]:
    """Return θ_0, θ after evenly spaced steps, and the last θ, for a plan with a single length.

    Searches if the trajectory is not stored yet; resumes an interrupted search.

    Raises:
        InvalidCheckpointError: a file in `folder` is damaged.
        BenchmarkError: a search diverged.
    """
    (count,) = plan.forwards
    plan_id = plan_identity(plan, bundle, cases)
    path = search_folder(plan, plan_id, folder) / f"walk-{count}.safetensors"
    if not path.is_file():
        points = _search(plan, bundle, cases, path.with_suffix(".part"), plan_id, log)
        save_checkpoint({"points": points}, path, identity=plan_id)
    return load_checkpoint(path, identity=plan_id)["points"]


def _search(
    plan: Plan,
    bundle: Bundle,
    cases: Sequence[Learnable],
    part: Path,
    plan_id: str,
    log: Callable[[str], None],
) -> Float[Tensor, "points cases flat"]:
    """Continue from the stored part of the trajectory, if there is one."""
    state = load_checkpoint(part, identity=plan_id) if part.is_file() else None
    points = [] if state is None else list(state.pop("points"))
    learner = make_learner(plan, bundle, cases, state)
    points = points or [learner.tokens()]
    steps = plan.forwards[0] // learner.forwards_per_step
    every = math.ceil(steps / POINTS)
    saved = time.perf_counter()
    while learner.step < steps:
        learner.advance()
        if learner.step % every == 0 or learner.step == steps:
            points.append(learner.tokens())
        if time.perf_counter() - saved > snapshots.CHECKPOINT_EVERY_S:
            save_checkpoint(learner.state() | {"points": torch.stack(points)}, part, identity=plan_id)
            saved = time.perf_counter()
            log(f"{plan.method.name}, trajectory: {learner.step} of {steps} steps")
    part.unlink(missing_ok=True)
    return torch.stack(points)


def principal_directions(points: Float[Tensor, "points d"]) -> Float[Tensor, "directions d"]:
    """Return orthonormal rows: the directions in which the token moved most, largest first."""
    moves = (points[1:] - points[:-1]).double()
    directions: Tensor = torch.linalg.svd(moves, full_matrices=False)[2]
    return directions


def random_directions(dimensions: int) -> Float[Tensor, "d d"]:
    """Return random orthonormal rows; the same ones each time."""
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    drawn = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(drawn)[0]
    return columns.T


def powers_below(dimensions: int) -> list[int]:
    """Return 1, 2, 4, … below the number of dimensions."""
    return [1 << power for power in range((dimensions - 1).bit_length())]


def cuts(points: Float[Tensor, "points d"]) -> Iterator[Cut]:
    """Yield no change; the change in 1, 2, 4, … directions, principal and random; the complete change."""
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
    """Return θ_k = θ_0 + (θ_end − θ_0) Dᵀ D, where D holds the first k rows."""
    change, chosen = (points[-1] - points[0]).double(), directions[:kept]
    along = chosen @ change
    share = float(along.square().sum() / change.square().sum())
    return Cut(name, kept, share, points[0] + (along @ chosen).float())
