"""How the command speaks: progress on stderr, one JSON object as the last line of stdout, one clear message."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from zoodip_core.errors import InvalidInputError, ZoodipError

EXIT_INVALID_INPUT = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_WIDE = 1000  # of a line that no terminal breaks

_stderr = Console(stderr=True)


def say(message: str) -> None:
    """A line for a person."""
    _stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """One object on one line of stdout, never wrapped."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout: what a row is called by stays on one line, and all of a row in a pipe or a file."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")  # what is cut off is of no use
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def report(error: ZoodipError, *, as_json: bool) -> int:
    """Tell the error, once; returns the exit code."""
    say(f"error: {error.message}")
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "field": error.field}})
    return EXIT_INVALID_INPUT if isinstance(error, InvalidInputError) else EXIT_FAILED


class SearchProgress:
    """A bar with it/s, time left and the loss on the fixed set; silent where stderr is no terminal."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def update(self, step: int, *, it_per_s: float, eta_s: float, fixed_loss: float) -> None:
        """Move the bar."""
        self._bar.update(
            self._task, completed=step, speed=f"{it_per_s:.1f}", eta=f"{eta_s:.0f}", loss=f"{fixed_loss:.4f}"
        )


@contextmanager
def search_progress(total_steps: int) -> Iterator[SearchProgress]:
    """Show a progress bar while the search runs."""
    columns = (
        TextColumn("learning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]} it/s · {task.fields[eta]} s left · loss {task.fields[loss]}"),
    )
    with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
        yield SearchProgress(bar, bar.add_task("", total=total_steps, speed="–", eta="–", loss="–"))


class Interruption:
    """Whether the user pressed Ctrl-C; a second press ends the process at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        """Whether to stop after this step."""
        return self.requested

    def request(self, _signal: int, _frame: FrameType | None) -> None:
        """Note the first signal."""
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Turn Ctrl-C and SIGTERM into a question that the loop asks between steps."""
    flag = Interruption()
    before = {number: signal.signal(number, flag.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
