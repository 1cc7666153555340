"""The table of pictures per second and waiting times."""

from __future__ import annotations

import pytest

from benchmarks.speed import service


def test_cells_have_the_rate_the_median_and_the_95th_percentile() -> None:
    """A hundred pictures in 50 s are two a second. Percentiles are those of the waiting times."""
    load = service.Load([float(number) for number in range(101)], 50.5)
    assert load.cells() == ["2.00", "50.0", "95.0"]


def test_one_picture_has_percentiles() -> None:
    """All percentiles of one time are this time."""
    assert service.Load([1.5], 3.0).cells() == ["0.33", "1.5", "1.5"]


def test_a_bad_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the option, the value and what is expected."""
    with pytest.raises(SystemExit):
        service.main(["--clients", "0"])
    assert "--clients: got '0'; expected a whole number, 1 or more" in capsys.readouterr().err
