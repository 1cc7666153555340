"""When a search draws previews, and how many its estimate counts."""

import pytest

from zoodip_core.config import PersonalizationSettings
from zoodip_core.personalization.cadence import count_previews, preview_due


@pytest.mark.parametrize(
    ("steps", "checkpoint_every", "every", "expected"),
    [
        (136, 34, 500, [34, 68, 102]),
        (133, 100, 500, [34, 68, 100, 102]),
        (30_000, 100, 500, [100, *range(500, 30_000, 500)]),
        (100, 100, 500, [25, 50, 75]),
        (99, 100, 500, []),
        (20, 100, 8, [8, 16]),
    ],
)
def test_a_search_draws_a_preview_after_each_quarter(
    steps: int, checkpoint_every: int, every: int, expected: list[int]
) -> None:
    """At least every `every` steps, and after the first checkpoint; one more at the end."""
    settings = PersonalizationSettings(steps=steps, checkpoint_every=checkpoint_every)
    assert [step for step in range(1, steps) if preview_due(settings, step, every)] == expected
    assert count_previews(settings, every) == len(expected) + 1
