"""Ids: order by creation time, uniqueness, characters."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from zoodip_core.service.ids import creation_time, new_id

_TIMES = st.floats(0, 4e9, allow_nan=False)


@given(_TIMES, _TIMES)
def test_ids_sort_by_time(first: float, second: float) -> None:
    """An id created at least two milliseconds earlier sorts first."""
    if second - first >= 0.002:
        assert new_id("per", first) < new_id("per", second)


def test_ids_are_unique_and_alphanumeric() -> None:
    """1,000 ids of one millisecond differ and contain only lowercase letters and digits."""
    ids = {new_id("gen", 1.7e9) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"gen_[0-9a-z]{24}", one) for one in ids)


@given(_TIMES)
def test_id_gives_its_creation_time(seconds: float) -> None:
    """The creation time is exact to the millisecond."""
    assert abs(creation_time(new_id("per", seconds)) - seconds) < 0.0011
