"""Progress on stderr without a terminal: lines at tenths of the work and at intervals; a closed pipe is ignored."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zoodip_core.cli.progress import ProgressLines, drawing_progress, show_progress, speed_and_eta


class _Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def _steps(err: str) -> list[int]:
    """Return the step of each line."""
    return [int(line.partition("step ")[2].partition(" of")[0]) for line in err.splitlines()]


def test_a_fast_loop_prints_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A line follows each tenth of the steps; nothing goes to stdout."""
    with show_progress("learning", 400) as show:
        for step in range(1, 401):
            show(step, "3.2 it/s")
    captured = capsys.readouterr()
    assert _steps(captured.err) == [40, 80, 120, 160, 200, 240, 280, 320, 360, 400]
    assert captured.err.splitlines()[0] == "learning: step 40 of 400, 3.2 it/s"
    assert captured.out == ""


def test_a_slow_loop_prints_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 4 s give a line after every third one, and another at the tenth."""
    clock = _Clock()
    lines = ProgressLines("learning", 100, clock)
    for step in range(1, 13):
        clock.now += 4.0
        lines(step, "0.25 it/s")
    assert _steps(capsys.readouterr().err) == [3, 6, 9, 10]


@pytest.mark.parametrize(
    ("total", "first", "expected"), [(400, 301, [320, 360, 400]), (3, 1, [1, 2, 3]), (1, 1, [1])]
)
def test_resumed_and_short_loops(
    capsys: pytest.CaptureFixture[str], total: int, first: int, expected: list[int]
) -> None:
    """A resumed loop prints no line for the past; a loop of fewer than ten steps prints a line for each."""
    lines = ProgressLines("learning", total, _Clock())
    for step in range(first, total + 1):
        lines(step, "")
    assert _steps(capsys.readouterr().err) == expected


def test_a_drawing_reports_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Several units of work can belong to one step; only its end is reported."""
    with drawing_progress(3) as update:
        update(0)
        assert capsys.readouterr().err == ""
        for step in (1, 1, 2, 3, 3):
            update(step)
    assert _steps(capsys.readouterr().err) == [1, 2, 3]


def test_a_drawing_that_fails_does_not_report_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception leaves the progress at the last completed step."""
    with pytest.raises(ValueError, match="prompt"), drawing_progress(3):
        raise ValueError("prompt")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("it_per_s", "eta_s", "text"),
    [(35.24, 18.2, "35.2 it/s, 0:00:18 left"), (0.0213, 7_325, "0.021 it/s, 2:02:05 left")],
)
def test_slow_speeds_keep_two_digits(it_per_s: float, eta_s: float, text: str) -> None:
    """A speed below 1 is not rounded to 0.0."""
    assert speed_and_eta(it_per_s, eta_s) == text


_WRITE_AND_GO_ON = """
from zoodip_core.cli.console import print_json, say
for _ in range(20_000):
    say("a line of progress")
print_json({"done": True})
"""


def test_a_closed_pipe_does_not_end_the_command() -> None:
    """If the reader of stderr ends, as in `2>&1 | head`, the command continues and stdout is complete."""
    command = [sys.executable, "-c", _WRITE_AND_GO_ON]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.stdout.read() == '{"done": true}\n'
    assert process.returncode == 0
