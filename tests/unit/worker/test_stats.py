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


def test_stages_share_an_iteration_by_their_cells() -> None:
    """A quarter of the cells is a quarter of the time; the speed of rows leaves out the decoding of images."""
    stats = Stats()
    cells = {"step": 100, "generate": 200, "decode": 100}
    stats.record_iteration("emoji", searches=1, rows=3, seconds=4.0, cells=cells)
    stats.record_iteration("emoji", searches=0, rows=0, seconds=1.0, cells={"decode": 100})
    snapshot = stats.snapshot()
    assert snapshot["stages"] == {"step": 1.0, "generate": 2.0, "decode": 2.0}
    assert snapshot["counters"] == {"steps": 1, "forwards": 1, "rows": 3}
    assert snapshot["rows_per_s"]["emoji"] == pytest.approx(1)
