"""The way of the tokens through one search: θ from the start to the end, resumable to the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality import searching
from benchmarks.quality.learnable import Learnable
from benchmarks.quality.searching import Plan, begin_cohort, place_of, plan_identity
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
        if time.perf_counter() - saved > searching.CHECKPOINT_EVERY_S:
            save_checkpoint(cohort.state() | {"points": torch.stack(points)}, part, identity=own)
            saved = time.perf_counter()
            tell(f"{plan.method.name}, the way: {cohort.step} of {steps} steps")
    part.unlink(missing_ok=True)
    return torch.stack(points)
