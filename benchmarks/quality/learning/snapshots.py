"""One search of all cases of a method: snapshots of the tokens at each count of forwards, resumable to the step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import Learnable
from benchmarks.quality.learning.backprop import BackpropCohort
from benchmarks.quality.learning.forward import Cohort, ForwardCohort
from benchmarks.quality.learning.methods import Plan
from benchmarks.quantization.memory import resident_bytes
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import identity, load_checkpoint, save_checkpoint

_CLEAR = Path("/proc/self/clear_refs")
_RESTART_PEAK = "5"  # proc(5): sets the peak of resident memory back to what is resident now


class Meter:
    """Counts from its making on; what an interrupted run had spent is added."""

    def __init__(self, device: torch.device, state: dict[str, Tensor] | None = None) -> None:
        """Start to count.

        Args:
            device: whose memory counts: CUDA's own, else all of this process.
            state: taken out of it: what `state` gave before the interruption.
        """
        self._cuda = device.type == "cuda"
        before = {} if state is None else {name: float(state.pop(name)) for name in ("seconds", "peak_bytes")}
        self._seconds, self._peak = before.get("seconds", 0.0), before.get("peak_bytes", 0.0)
        self._started = time.perf_counter()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            _CLEAR.write_text(_RESTART_PEAK)

    def state(self) -> dict[str, Tensor]:
        """Seconds and peak so far."""
        now = torch.cuda.max_memory_allocated() if self._cuda else resident_bytes(peak=True)
        seconds = self._seconds + time.perf_counter() - self._started
        values = {"seconds": seconds, "peak_bytes": max(self._peak, float(now))}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class Snapshot:
    """What all cases have learned after so many forwards, and what it took."""

    forwards: int
    tokens: Float[Tensor, "cases flat"]
    fixed_losses: tuple[float, ...]
    seconds: float  # of all cases together
    peak_mb: float


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
