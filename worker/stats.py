"""What a worker counts; the API's /metrics shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WEIGHT = 0.1  # of a new measurement in a running mean


class Stats:
    """Counters, running means and seconds by stage. Written by one thread, read by another."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.stages: Counter[str] = Counter()
        self.rows_per_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] += time.perf_counter() - started  # type: ignore[assignment]

    def stepped(self, base_model: str, searches: int, rows: int, seconds: float) -> None:
        """Note one forward of several searches."""
        self.counters["steps"] += searches
        self.counters["forwards"] += 1
        self.counters["rows"] += rows
        self._mean(self.gauges, "rows_per_forward", float(rows))
        self._mean(self.gauges, "step_seconds", seconds)
        self._mean(self.rows_per_s, base_model, rows / max(seconds, 1e-9))

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "counters": dict(self.counters),
            "gauges": dict(self.gauges),
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.copy().items()},
            "rows_per_s": dict(self.rows_per_s),
        }

    @staticmethod
    def _mean(means: dict[str, float], name: str, value: float) -> None:
        means[name] = means.get(name, value) * (1 - _WEIGHT) + value * _WEIGHT
