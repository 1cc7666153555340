"""The loop of one personalization: steps, progress, checkpoints, and an orderly stop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from zoodip_core.engine import Engine
from zoodip_core.personalization.cadence import checkpoint_due, measurement_due
from zoodip_core.personalization.personalize import Personalization

SPEED_WINDOW_STEPS = 50


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int
    total_steps: int
    it_per_s: float
    eta_s: float
    fixed_loss: float


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    steps: int
    forwards: int
    seconds: float
    it_per_s: float
    fixed_loss_start: float
    fixed_loss_end: float
    finished: bool
    stopped_early: bool  # finished by `stop="auto"` before the last step


def run_search(
    personalization: Personalization,
    *,
    on_progress: Callable[[Progress], None],
    save: Callable[[Personalization], None],
    should_stop: Callable[[], bool],
) -> Outcome:
    """Step until done or told to stop.

    Args:
        personalization: advanced in place.
        on_progress: called after every step.
        save: called every `checkpoint_every` steps, and once more when stopped early.
        should_stop: asked between steps.

    Raises:
        LossNotFiniteError: the search diverged; the last checkpoint stays.
        OutOfMemoryError: not even one row fits.
    """
    engine = Engine(personalization.bundle)
    settings = personalization.settings
    first_step, started = personalization.step, time.perf_counter()
    ticks: deque[float] = deque([started], maxlen=SPEED_WINDOW_STEPS + 1)
    while not personalization.done and not should_stop():
        (error,) = engine.step([personalization])
        if error is not None:
            raise error
        step = personalization.step
        if measurement_due(settings, step) and not personalization.done:
            personalization.record_validation_loss()
        if checkpoint_due(settings, step) and not personalization.done:
            save(personalization)
        ticks.append(time.perf_counter())
        on_progress(_progress(personalization, ticks))
    if not personalization.done:
        save(personalization)
    return _outcome(personalization, first_step, started)


def _outcome(personalization: Personalization, first_step: int, started: float) -> Outcome:
    """The figures of a run that ended; the last loss is measured here."""
    fixed_loss_end = personalization.measure_validation_loss()
    seconds = time.perf_counter() - started
    return Outcome(
        steps=personalization.step,
        forwards=personalization.forwards,
        seconds=seconds,
        it_per_s=(personalization.step - first_step) / seconds,
        fixed_loss_start=personalization.fixed_loss_start,
        fixed_loss_end=fixed_loss_end,
        finished=personalization.done,
        stopped_early=personalization.done and not personalization.search.done,
    )


def _progress(personalization: Personalization, ticks: deque[float]) -> Progress:
    elapsed = max(ticks[-1] - ticks[0], 1e-9)
    it_per_s = (len(ticks) - 1) / elapsed
    total, fixed_loss = personalization.settings.steps, personalization.fixed_losses[-1]
    left = total - personalization.step
    eta_s = left / it_per_s
    return Progress(personalization.step, total, it_per_s, eta_s, fixed_loss)
