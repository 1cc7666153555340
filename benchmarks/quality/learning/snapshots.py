"""One search of all cases of a method: resumable, with snapshots after each number of evaluations."""

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
from benchmarks.quality.learning.backprop import BackpropLearner
from benchmarks.quality.learning.evolution import DIRECTIONS, POPULATION, SIGMA, EvolutionLearner
from benchmarks.quality.learning.forward import BatchedLearner, ForwardLearner
from benchmarks.quality.learning.methods import Plan
from benchmarks.quantization.memory import reset_resident_peak, resident_bytes
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import identity, load_checkpoint, save_checkpoint
from zoodip_core.zeroth_order.gauss_newton import CONSTANTS
from zoodip_core.zeroth_order.search_space import NOISE_WITHOUT_CAPTIONS

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_EVERY_S = 20.0


@dataclass(frozen=True)
class Snapshot:
    """The tokens of all cases after a number of evaluations, and the cost of the search."""

    forwards: int
    tokens: Float[Tensor, "cases flat"]
    validation_losses: tuple[float, ...]
    seconds: float  # of all cases together
    peak_mb: float


class CostMeter:
    """Measures seconds and peak memory of a search, across interruptions."""

    def __init__(self, device: torch.device, state: dict[str, Tensor] | None = None) -> None:
        """Start to measure.

        Args:
            device: device of the search; on CUDA its own memory counts, otherwise the memory of this process.
            state: removed from it: the result of `state` before the interruption.
        """
        self._cuda = device.type == "cuda"
        before = {} if state is None else {name: float(state.pop(name)) for name in ("seconds", "peak_bytes")}
        self._seconds, self._peak = before.get("seconds", 0.0), before.get("peak_bytes", 0.0)
        self._started = time.perf_counter()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            reset_resident_peak()

    def state(self) -> dict[str, Tensor]:
        """Return seconds and peak memory so far."""
        now = torch.cuda.max_memory_allocated() if self._cuda else resident_bytes(peak=True)
        seconds = self._seconds + time.perf_counter() - self._started
        values = {"seconds": seconds, "peak_bytes": max(self._peak, float(now))}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def plan_identity(plan: Plan, bundle: Bundle, cases: Sequence[Learnable]) -> str:
    """Return a hash of everything that the tokens depend on, including the other cases of the batch."""
    digest = hashlib.sha256(f"{plan.method.rate} {bundle.precision} {bundle.dtype}".encode())
    if plan.method.evolves:
        digest.update(f"CMA-ES {DIRECTIONS} {POPULATION} {SIGMA}".encode())
    if plan.settings.search_space == "calibrated" and bundle.calibration is not None:
        digest.update(bundle.calibration.read_bytes())
        digest.update(str(CONSTANTS).encode())
        if any(case.subject.captions is None for case in cases):
            digest.update(str(NOISE_WITHOUT_CAPTIONS).encode())
    for index, case in enumerate(cases):
        settings = plan.case_settings(index)
        digest.update(identity(case.subject, settings, bundle.fingerprint, list(case.references)).encode())
    return digest.hexdigest()


def search(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], folder: Path, log: Callable[[str], None]
) -> list[Snapshot]:
    """Return the snapshots of a plan. Searches from the last checkpoint if one of them is missing.

    Raises:
        InvalidCheckpointError: a file in `folder` is damaged.
        BenchmarkError: a search diverged.
    """
    plan_id = plan_identity(plan, bundle, cases)
    place = search_folder(plan, plan_id, folder)
    if not all(_tokens_path(place, count).is_file() for count in plan.forwards):
        _run(plan, bundle, cases, place, plan_id, log)
    return [_read(place, count, plan_id) for count in plan.forwards]


def search_folder(plan: Plan, plan_id: str, folder: Path) -> Path:
    """Return the folder of the search with this identity."""
    return folder / f"{plan.method.name}-seed{plan.settings.seed}-{plan_id[:12]}"


def _run(
    plan: Plan,
    bundle: Bundle,
    cases: Sequence[Learnable],
    place: Path,
    plan_id: str,
    log: Callable[[str], None],
) -> None:
    """Continue from the checkpoint, if there is one, and store every missing snapshot."""
    checkpoint = place / CHECKPOINT
    state = load_checkpoint(checkpoint, identity=plan_id) if checkpoint.is_file() else None
    missing = [count for count in plan.forwards if not _tokens_path(place, count).is_file()]
    meter = CostMeter(bundle.device, state)
    learner = make_learner(plan, bundle, cases, state)
    if (
        learner.step * learner.forwards_per_step > missing[0]
    ):  # the checkpoint is past a newly requested count
        meter, learner = CostMeter(bundle.device), make_learner(plan, bundle, cases, None)
    saved = time.perf_counter()
    for count in missing:
        while (learner.step + 1) * learner.forwards_per_step <= count:
            learner.advance()
            if time.perf_counter() - saved > CHECKPOINT_EVERY_S:
                save_checkpoint(learner.state() | meter.state(), checkpoint, identity=plan_id)
                saved = time.perf_counter()
                done = learner.step * learner.forwards_per_step
                log(f"{place.name}: {done} of {plan.forwards[-1]} evaluations")
        spent = meter.state()
        losses = torch.tensor(learner.validation_losses(), dtype=torch.float64)
        found = {"tokens": learner.tokens(), "fixed_losses": losses} | spent
        save_checkpoint(learner.state() | spent, checkpoint, identity=plan_id)
        save_checkpoint(found, _tokens_path(place, count), identity=plan_id)


def make_learner(
    plan: Plan, bundle: Bundle, cases: Sequence[Learnable], state: dict[str, Tensor] | None
) -> BatchedLearner:
    """Create the searches of a plan, or restore them from their state."""
    if plan.method.rate is None:
        settings = [plan.case_settings(index) for index in range(len(cases))]
        learner = EvolutionLearner if plan.method.evolves else ForwardLearner
        return learner(bundle, cases, settings, state)
    return BackpropLearner(bundle, cases, plan.settings, plan.method.rate, state)


def _tokens_path(place: Path, count: int) -> Path:
    return place / f"tokens-{count}.safetensors"


def _read(place: Path, count: int, plan_id: str) -> Snapshot:
    state = load_checkpoint(_tokens_path(place, count), identity=plan_id)
    return Snapshot(
        count,
        state["tokens"],
        tuple(state["fixed_losses"].tolist()),
        float(state["seconds"]),
        float(state["peak_bytes"]) / 1e6,
    )
