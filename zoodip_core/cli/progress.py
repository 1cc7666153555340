"""Progress of long commands on stderr: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from zoodip_core.cli.console import STDERR, is_animated, say
from zoodip_core.personalization.speed import Speedometer

ShowProgress = Callable[[int, str], None]
"""Shows the number of completed steps, and figures such as "3.2 it/s, 0:01:05 left"."""

_INTERVAL_S = 10.0


@contextmanager
def show_progress(task: str, total_steps: int) -> Iterator[ShowProgress]:
    """Yield a function that shows the progress of a loop; call it after every step.

    Args:
        task: what runs, such as "learning".
        total_steps: steps of the whole loop.
    """
    if not is_animated():
        yield ProgressLines(task, total_steps)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=STDERR, transient=True) as bar:
        row = bar.add_task(task, total=total_steps, figures="")
        yield lambda step, figures: bar.update(row, completed=step, figures=figures)


@contextmanager
def drawing_progress(total_steps: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of a generation; yield the function to call with the number of completed steps."""
    speedometer = Speedometer()
    shown = 0

    def update(step: int) -> None:
        nonlocal shown
        for _ in range(step - shown):
            speedometer.record_step()
        if step > shown:
            shown = step
            show(step, figures(speedometer, total_steps - step))

    with show_progress("drawing", total_steps) as show:
        yield update


def figures(speedometer: Speedometer, remaining_steps: int) -> str:
    """Return speed and remaining time, such as "3.2 it/s, 0:01:05 left"; there must be a completed step."""
    it_per_s, eta_s = speedometer.it_per_s, speedometer.eta_s(remaining_steps)
    assert it_per_s is not None, "progress is shown after a step"
    assert eta_s is not None, "progress is shown after a step"
    return speed_and_eta(it_per_s, eta_s)


def speed_and_eta(it_per_s: float, eta_s: float) -> str:
    """Return the text for a speed in steps per second and a remaining time in seconds."""
    speed = f"{it_per_s:.1f}" if it_per_s >= 1 else f"{it_per_s:.2g}"
    return f"{speed} it/s, {timedelta(seconds=round(eta_s))} left"


class ProgressLines:
    """Prints a line after each tenth of the steps, and 10 seconds after the last line.

    Args:
        task: what runs.
        total_steps: steps of the whole loop.
        clock: returns the seconds since a fixed point.
    """

    def __init__(self, task: str, total_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._task = task
        self._total_steps = total_steps
        self._clock = clock
        self._printed_at = clock()
        self._printed_tenths: int | None = None

    def __call__(self, step: int, figures: str) -> None:
        """Print the progress after a step, if a line is due."""
        now, tenths = self._clock(), 10 * step // self._total_steps
        if self._printed_tenths is None:  # a resumed run does not start at step 0
            self._printed_tenths = 10 * (step - 1) // self._total_steps
        if tenths == self._printed_tenths and now - self._printed_at < _INTERVAL_S:
            return
        self._printed_at, self._printed_tenths = now, tenths
        say(f"{self._task}: step {step} of {self._total_steps}, {figures}")
