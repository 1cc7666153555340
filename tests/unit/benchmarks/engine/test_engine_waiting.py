"""The benchmark of waiting threads: its policies, its cells and its arguments."""

from __future__ import annotations

import pytest

from benchmarks.engine import waiting


def test_every_policy_sets_one_variable() -> None:
    """Each policy sets a single variable of the process."""
    for policy, environment in waiting.POLICIES.items():
        assert set(environment) in ({"GOMP_SPINCOUNT"}, {"OMP_NUM_THREADS"}), policy


def test_a_cell_has_the_median_the_range_and_the_ratio_to_the_packages() -> None:
    """Cells show milliseconds; a ratio below 1 is faster."""
    readings = {waiting.OURS: [0.05, 0.04, 0.02], "one thread": [0.02, 0.03, 0.02]}
    assert waiting.cells(readings, waiting.OURS) == ("40 (20–50)", "1.00")
    assert waiting.cells(readings, "one thread") == ("20 (20–30)", "0.50")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--busy", "-1"], "--busy: got '-1'; expected a whole number, 0 or more"),
        (["--repeats", "0"], "--repeats: got '0'; expected a whole number, 1 or more"),
        (["--steps", "many"], "--steps: got 'many'; expected a whole number, 1 or more"),
    ],
)
def test_a_bad_number_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the option, the value and what is expected."""
    with pytest.raises(SystemExit) as ended:
        waiting.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
