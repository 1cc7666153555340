"""Console output: messages and progress on stderr, tables and one final JSON object on stdout."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

from zoodip_core.errors import InvalidCheckpointError, InvalidInputError, ZoodipError
from zoodip_core.input_warnings import InputWarning

EXIT_INVALID_INPUT = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_FILE_WIDTH = 1000  # characters; wide enough that a table row in a pipe or file is never wrapped


class _StderrConsole(Console):
    def on_broken_pipe(self) -> None:
        """Drop further messages: the reader of the pipe has ended, but the command continues."""
        self.quiet = True


STDERR = _StderrConsole(stderr=True, emoji=False)


def is_animated() -> bool:
    """Return whether stderr is a terminal that can redraw a progress bar."""
    return sys.stderr.isatty() and STDERR.is_terminal and not STDERR.is_dumb_terminal


def say(message: str) -> None:
    """Print a message on stderr."""
    STDERR.print(message, markup=False, highlight=False, soft_wrap=True)


def say_warnings(warnings: Iterable[InputWarning]) -> None:
    """Print warnings on stderr, one line each."""
    for warning in warnings:
        say(f"warning: {warning.field}: {warning.message}")


def print_json(value: dict[str, Any]) -> None:
    """Print one object as one line on stdout."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout. The first column is never wrapped; in a pipe or file no column is."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")  # wrap, do not truncate
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(width=width, markup=False, emoji=False).print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print a table with a row for each field on stdout; nested fields are named `group.field`."""
    print_table(["field", "value"], list(_field_rows(fields)))


def _field_rows(fields: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _field_rows(value, f"{prefix}{name}.")
        else:
            yield [f"{prefix}{name}", "" if value is None else str(value)]


def report(error: ZoodipError, *, as_json: bool) -> int:
    """Print an error and return the exit code: 2 for invalid input, else 1."""
    say(f"error: {error.message}")
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "field": error.field}})
    is_invalid_input = isinstance(error, InvalidInputError | InvalidCheckpointError)
    return EXIT_INVALID_INPUT if is_invalid_input else EXIT_FAILED


class Interruption:
    """Flag that the first Ctrl-C or SIGTERM sets; a second Ctrl-C ends the process immediately."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        """Return whether to stop after this step."""
        return self.requested

    def request(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the first signal."""
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Turn Ctrl-C and SIGTERM into a flag that the loop checks between steps."""
    flag = Interruption()
    previous = {number: signal.signal(number, flag.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
