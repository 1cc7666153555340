"""The loop of one personalization: steps, progress, checkpoints and early stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from zoodip_core.engine import Engine
from zoodip_core.personalization.cadence import checkpoint_due, last_measured_step, measurement_due
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.speed import Speedometer


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        step: completed steps.
        total_steps: steps of the whole search.
        it_per_s: steps per second over the last steps.
        eta_s: estimated seconds to the last step.
        fixed_loss: last measured validation loss.
    """

    step: int
    total_steps: int
    it_per_s: float
    eta_s: float
    fixed_loss: float


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    `finished` is false if the run was interrupted; `stopped_early` is true if `stop="auto"` ended it. `forwards`
    counts U-Net evaluations, `seconds` the time of this run.
    """

    steps: int
    forwards: int
    seconds: float
    it_per_s: float
    fixed_loss_start: float
    fixed_loss_end: float
    finished: bool
    stopped_early: bool


def run_search(
    personalization: Personalization,
    *,
    on_progress: Callable[[Progress], None],
    save: Callable[[Personalization], None],
    should_stop: Callable[[], bool],
) -> Outcome:
    """Run the search until it ends or `should_stop` returns true.

    Args:
        personalization: the search; advanced in place.
        on_progress: called after every step.
        save: called every `checkpoint_every` steps, and once more when interrupted.
        should_stop: called between steps.

    Raises:
        LossNotFiniteError: the search diverged; the last checkpoint is kept.
        OutOfMemoryError: not even one row fits in memory.
    """
    engine = Engine(personalization.bundle)
    settings = personalization.settings
    _measure_if_missing(personalization)
    first_step, started = personalization.step, time.perf_counter()
    speedometer = Speedometer()
    while not personalization.done and not should_stop():
        engine.advance([personalization])
        step = personalization.step
        if measurement_due(settings, step) and not personalization.done:
            personalization.record_validation_loss()
        if checkpoint_due(settings, step) and not personalization.done:
            save(personalization)
        speedometer.record_step()
        on_progress(_progress(personalization, speedometer))
    if not personalization.done:
        save(personalization)
    return _outcome(personalization, first_step, started)


def _measure_if_missing(personalization: Personalization) -> None:
    """Record a validation loss that is due at this step: the last step of a shorter search did not record it."""
    settings, step = personalization.settings, personalization.step
    recorded_at = last_measured_step(settings, len(personalization.fixed_losses))
    if measurement_due(settings, step) and recorded_at < step and not personalization.done:
        personalization.record_validation_loss()


def _outcome(personalization: Personalization, first_step: int, started: float) -> Outcome:
    """Measure the last validation loss and return the result of the run."""
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


def _progress(personalization: Personalization, speedometer: Speedometer) -> Progress:
    step, total = personalization.step, personalization.settings.steps
    it_per_s, eta_s = speedometer.it_per_s, speedometer.eta_s(total - step)
    assert it_per_s is not None, "progress is reported after a step"
    assert eta_s is not None, "progress is reported after a step"
    return Progress(step, total, it_per_s, eta_s, personalization.fixed_losses[-1])
