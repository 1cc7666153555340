"""Steps of a generation after which partial images are stored."""

from __future__ import annotations

import pytest

from worker.generation_job import partial_steps


@pytest.mark.parametrize(
    ("total_steps", "count", "steps"),
    [
        (20, 0, []),
        (20, 1, [10]),
        (20, 3, [5, 10, 15]),
        (3, 2, [1, 2]),
        (3, 3, [1, 2]),
        (2, 3, [1]),
        (1, 3, []),
    ],
)
def test_partial_images_are_evenly_spaced(total_steps: int, count: int, steps: list[int]) -> None:
    """They are after different steps between the first and the last one, which gives the final image."""
    assert partial_steps(total_steps, count) == steps
