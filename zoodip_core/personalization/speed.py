"""Speed and remaining time of a running personalization."""

from __future__ import annotations

import time
from collections import deque

WINDOW_STEPS = 50


class Speedometer:
    """Measures steps per second over the last 50 steps."""

    def __init__(self) -> None:
        self._times: deque[float] = deque([time.perf_counter()], maxlen=WINDOW_STEPS + 1)

    def record_step(self) -> None:
        """Note that a step has just been completed."""
        self._times.append(time.perf_counter())

    @property
    def it_per_s(self) -> float | None:
        """Steps per second; None before the first step."""
        steps = len(self._times) - 1
        return steps / max(self._times[-1] - self._times[0], 1e-9) if steps else None

    def eta_s(self, remaining_steps: int) -> float | None:
        """Return the estimated seconds for the remaining steps; None before the first step."""
        it_per_s = self.it_per_s
        return None if it_per_s is None else remaining_steps / it_per_s
