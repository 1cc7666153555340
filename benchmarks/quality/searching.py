"""One search of all cases of a method: snapshots of the tokens at each count of forwards, resumable to the step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.backprop import BACKPROP_FORWARDS, BackpropCohort
from benchmarks.quality.cohort import Cohort, ForwardCohort
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learnable import Learnable
from benchmarks.quality.meter import Meter
from benchmarks.quality.methods import METHODS, Method
from zoodip_core.base_models.catalog import BaseModelEntry, resolve_settings
from zoodip_core.base_models.families import Family, detect_family
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle, locate
from zoodip_core.personalization.checkpoint import identity, load_checkpoint, save_checkpoint
from zoodip_core.zeroth_order.estimator import ESTIMATORS

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_EVERY_S = 20.0
ENDLESS = 1_000_000
"""Steps of a search whose rate is constant: its tokens along the way do not depend on where it ends."""


@dataclass(frozen=True)
class Snapshot:
    """What all cases have learned after so many forwards, and what it took."""

    forwards: int
    tokens: Float[Tensor, "cases flat"]
    fixed_losses: tuple[float, ...]
    seconds: float  # of all cases together
    peak_mb: float


@dataclass(frozen=True)
class Plan:
    """One search: its settings, and the counts of forwards at which its tokens are wanted."""

    method: Method
    settings: PersonalizationSettings
    forwards: tuple[int, ...]


def check_plans(
    methods: Sequence[str], entry: BaseModelEntry, *, forwards: Sequence[int], changes: dict[str, Any]
) -> None:
    """Refuse, before anything is measured, what no search could be asked for; anchors are passed over.

    Raises:
        BenchmarkError, InvalidSettingsError: as `plans`.
        InvalidModelError: the base model's folder is incomplete or of an unsupported kind.
    """
    family = detect_family(locate(entry))
    for name in methods:
        if name in METHODS:
            plans(METHODS[name], entry, family, seed=0, forwards=forwards, changes=changes)


def plans(
    method: Method,
    entry: BaseModelEntry,
    family: Family,
    *,
    seed: int,
    forwards: Sequence[int],
    changes: dict[str, Any],
) -> list[Plan]:
    """The searches that give a method's tokens: one for all counts, or one a count where the rate falls.

    Raises:
        BenchmarkError: a count is too small for one step, or a change is of what the run's own options say.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    refuse_changes(changes, "seed", "steps")
    values = dict(method.values) | ({} if method.rate is not None else changes) | {"seed": seed}
    settings = resolve_settings(entry, family, method.preset, values)
    per_step = forwards_per_step(method, settings)
    wanted = sorted(set(forwards))
    if wanted[0] < per_step:
        raise BenchmarkError(f"--forwards {wanted[0]}: one step of {method.name} takes {per_step}")
    if method.rate is None and settings.learning_rate_schedule == "constant":
        return [Plan(method, settings.model_copy(update={"steps": ENDLESS}), tuple(wanted))]
    return [
        Plan(method, settings.model_copy(update={"steps": count // per_step}), (count,)) for count in wanted
    ]


def refuse_changes(changes: dict[str, Any], *names: str) -> None:
    """Refuse changes of settings that a run's own options say: they would be lost without a word.

    Raises:
        BenchmarkError: one of the names is among the changes.
    """
    for name in names:
        if name in changes:
            message = (
                f"settings.{name} = {changes[name]}: the run's own options say it; allowed: any other setting"
            )
            raise BenchmarkError(message, field=f"settings.{name}")


def forwards_per_step(method: Method, settings: PersonalizationSettings) -> int:
    """U-Net forwards of one step of one case."""
    if method.rate is not None:
        return BACKPROP_FORWARDS
    return ESTIMATORS[settings.estimator].forwards(settings.n)


def plan_identity(plan: Plan, bundle: Bundle, cases: Sequence[Learnable]) -> str:
    """A hash of everything that the tokens depend on, the other cases of the batch included."""
    digest = hashlib.sha256(f"{plan.method.rate} {bundle.precision} {bundle.dtype}".encode())
    for case in cases:
        digest.update(
            identity(case.subject, plan.settings, bundle.fingerprint, list(case.references)).encode()
        )
    return digest.hexdigest()


def search(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], folder: Path, tell: Callable[[str], None]
) -> list[Snapshot]:
    """The snapshots of a plan: read where they are finished, else searched from the last checkpoint on.

    Raises:
        InvalidCheckpointError: a file in `folder` is damaged.
        BenchmarkError: a search diverged.
    """
    own = plan_identity(plan, bundle, cases)
    place = place_of(plan, own, folder)
    if not all(_tokens_path(place, count).is_file() for count in plan.forwards):
        _run(plan, bundle, cases, place, own, tell)
    return [_read(place, count, own) for count in plan.forwards]


def place_of(plan: Plan, own: str, folder: Path) -> Path:
    """Where the search with that identity is kept."""
    return folder / f"{plan.method.name}-seed{plan.settings.seed}-{own[:12]}"


def _run(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], place: Path, own: str, tell: Callable[[str], None]
) -> None:
    """Go on from the checkpoint, if there is one, through every count that has no tokens yet."""
    checkpoint = place / CHECKPOINT
    state = load_checkpoint(checkpoint, identity=own) if checkpoint.is_file() else None
    missing = [count for count in plan.forwards if not _tokens_path(place, count).is_file()]
    meter = Meter(bundle.device, state)
    cohort = begin_cohort(plan, bundle, cases, state)
    if cohort.step * cohort.forwards_per_step > missing[0]:  # beyond a count that is asked for only now
        meter, cohort = Meter(bundle.device), begin_cohort(plan, bundle, cases, None)
    saved = time.perf_counter()
    for count in missing:
        while (cohort.step + 1) * cohort.forwards_per_step <= count:
            cohort.advance()
            if time.perf_counter() - saved > CHECKPOINT_EVERY_S:
                save_checkpoint(cohort.state() | meter.state(), checkpoint, identity=own)
                saved = time.perf_counter()
                done = cohort.step * cohort.forwards_per_step
                tell(f"{place.name}: {done} of {plan.forwards[-1]} forwards")
        spent = meter.state()
        losses = torch.tensor(cohort.fixed_losses(), dtype=torch.float64)
        found = {"tokens": cohort.tokens(), "fixed_losses": losses} | spent
        save_checkpoint(cohort.state() | spent, checkpoint, identity=own)
        save_checkpoint(found, _tokens_path(place, count), identity=own)


def begin_cohort(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], state: dict[str, Tensor] | None
) -> Cohort:
    """The searches of a plan at their start, or where `state` was taken."""
    if plan.method.rate is None:
        return ForwardCohort(bundle, cases, plan.settings, state)
    return BackpropCohort(bundle, cases, plan.settings, plan.method.rate, state)


def _tokens_path(place: Path, count: int) -> Path:
    return place / f"tokens-{count}.safetensors"


def _read(place: Path, count: int, own: str) -> Snapshot:
    """A finished snapshot."""
    state = load_checkpoint(_tokens_path(place, count), identity=own)
    return Snapshot(
        count,
        state["tokens"],
        tuple(state["fixed_losses"].tolist()),
        float(state["seconds"]),
        float(state["peak_bytes"]) / 1e6,
    )
