"""Worker stats: counters, moving averages and stage durations."""

from __future__ import annotations

import pytest

from worker.stats import Stats


def test_stats_are_plain_values() -> None:
    """A snapshot holds counters, moving averages and seconds by stage."""
    stats = Stats()
    for _ in range(3):
        stats.record_step("emoji", searches=2, rows=6, seconds=0.5)
    with stats.stage("begin"):
        pass
    snapshot = stats.snapshot()
    assert snapshot["counters"] == {"steps": 6, "forwards": 3, "rows": 18}
    assert snapshot["gauges"]["rows_per_forward"] == pytest.approx(6)
    assert snapshot["rows_per_s"]["emoji"] == pytest.approx(12)
    assert set(snapshot["stages"]) == {"begin"}
