"""The benchmark of waiting threads: its ways, its cells and its numbers."""

from __future__ import annotations

import pytest

from benchmarks.engine import waiting


def test_every_way_says_how_its_threads_wait() -> None:
    """The package's own count is in the environment that a process inherits, and stands over a policy."""
    for way, environment in waiting.WAYS.items():
        assert set(environment) in ({"GOMP_SPINCOUNT"}, {"OMP_NUM_THREADS"}), way


def test_a_cell_has_the_median_the_range_and_the_ratio_to_the_packages() -> None:
    """Milliseconds; below 1 is quicker."""
    readings = {waiting.OURS: [0.05, 0.04, 0.02], "one thread": [0.02, 0.03, 0.02]}
    assert waiting.cells(readings, waiting.OURS) == ("40 (20–50)", "1.00")
    assert waiting.cells(readings, "one thread") == ("20 (20–30)", "0.50")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beside", "-1"], "--beside: '-1'; allowed: whole numbers from 0 on"),
        (["--repeats", "0"], "--repeats: '0'; allowed: whole numbers from 1 on"),
        (["--steps", "many"], "--steps: 'many'; allowed: whole numbers from 1 on"),
    ],
)
def test_a_number_that_is_none_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message that names the option, what came and what is allowed."""
    with pytest.raises(SystemExit) as ended:
        waiting.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
