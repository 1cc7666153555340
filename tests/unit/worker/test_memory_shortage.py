"""A worker runs fewer personalizations after memory ran out, until one of them leaves."""

from __future__ import annotations

from worker.memory_shortage import PersonalizationLimit


def test_the_limit_is_lower_until_a_personalization_leaves() -> None:
    """A job that was requeued is not claimed into the same full batch."""
    limit = PersonalizationLimit(4)
    assert limit.allows_another(3)
    assert not limit.allows_another(4)
    limit.lower(2)
    assert limit.allows_another(1)
    assert not limit.allows_another(2)
    limit.reset()
    assert limit.allows_another(3)


def test_a_single_personalization_is_always_tried() -> None:
    """Otherwise a worker whose last personalization left at that moment would never start another one."""
    limit = PersonalizationLimit(4)
    limit.lower(0)
    assert limit.allows_another(0)
    assert not limit.allows_another(1)
