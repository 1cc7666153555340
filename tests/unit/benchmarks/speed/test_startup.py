"""The benchmark of start-up prints a row for each command."""

from __future__ import annotations

import pytest

from benchmarks.speed import startup


@pytest.mark.slow
def test_each_command_has_a_row(capfd: pytest.CaptureFixture[str]) -> None:
    """The service answers before it is ready, and ends with the benchmark."""
    startup.main(["--repeats", "1"])
    _, _, *rows = (
        line.strip("| ").split(" | ") for line in capfd.readouterr().out.splitlines() if "|" in line
    )
    assert [name for name, _ in rows] == [
        "zoodip --help",
        "zoodip models",
        "zoodip serve: the API answers",
        "zoodip serve: ready",
    ]
    answered, ready = (float(cell.split()[0]) for _, cell in rows[2:])
    assert 0 < answered < ready
