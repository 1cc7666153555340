"""Ids sort by time and are safe in paths and URLs."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from zoodip_core.service.ids import made_at, new_id

_TIMES = st.floats(0, 4e9, allow_nan=False)


@given(_TIMES, _TIMES)
def test_ids_sort_by_time(first: float, second: float) -> None:
    """An id made at least a millisecond earlier is the smaller one."""
    if second - first >= 0.002:
        assert new_id("per", first) < new_id("per", second)


def test_ids_are_distinct_and_plain() -> None:
    """A thousand in one millisecond differ, and hold letters and digits only."""
    ids = {new_id("gen", 1.7e9) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"gen_[0-9a-z]{24}", one) for one in ids)


@given(_TIMES)
def test_an_id_tells_when_it_was_made(seconds: float) -> None:
    """To the millisecond."""
    assert abs(made_at(new_id("per", seconds)) - seconds) < 0.0011
