"""Counters and gauges of a worker, which the API exposes at /metrics."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_NEW_VALUE_WEIGHT = 0.1  # in an exponential moving average


class Stats:
    """Counters, moving averages and seconds by stage. One thread writes them, another reads them."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.stages: defaultdict[str, float] = defaultdict(float)
        self.rows_per_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] += time.perf_counter() - started

    def record_step(self, base_model: str, searches: int, rows: int, seconds: float) -> None:
        """Record one forward pass.

        Args:
            base_model: name of the base model.
            searches: number of searches in the batch.
            rows: number of U-Net evaluations.
            seconds: duration.
        """
        self.counters["steps"] += searches
        self.counters["forwards"] += 1
        self.counters["rows"] += rows
        self._update_average(self.gauges, "rows_per_forward", float(rows))
        self._update_average(self.gauges, "step_seconds", seconds)
        self._update_average(self.rows_per_s, base_model, rows / max(seconds, 1e-9))

    def record_iteration(
        self, base_model: str, searches: int, rows: int, seconds: float, cells: Mapping[str, int]
    ) -> None:
        """Record one iteration of the engine on a base model. Its stages share the duration by their latent cells.

        Args:
            base_model: name of the base model.
            searches: number of searches that took a step.
            rows: number of U-Net evaluations.
            seconds: duration.
            cells: latent cells by stage: `step`, `measure`, `preview`, `generate` and `decode`.
        """
        total = max(1, sum(cells.values()))
        for stage, count in cells.items():
            self.stages[stage] += seconds * count / total
        if rows:
            self.record_step(base_model, searches, rows, seconds * (1 - cells.get("decode", 0) / total))

    def snapshot(self) -> dict[str, Any]:
        """Return all values as plain JSON types."""
        return {
            "counters": dict(self.counters),
            "gauges": dict(self.gauges),
            "stages": {name: round(seconds, 3) for name, seconds in self.stages.copy().items()},
            "rows_per_s": dict(self.rows_per_s),
        }

    @staticmethod
    def _update_average(averages: dict[str, float], name: str, value: float) -> None:
        averages[name] = averages.get(name, value) * (1 - _NEW_VALUE_WEIGHT) + value * _NEW_VALUE_WEIGHT
