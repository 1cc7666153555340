"""`python -m benchmarks.engine.waiting`: how threads that wait for each other slow a search on a busy machine.

One search of the embedded model, on a CPU, under several ways in which libgomp's threads wait (Linux), alone and
beside processes that never rest. All ways take turns in one run, each in a process of its own; the ratio is to the
package's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch

from benchmarks.engine.process import measure_apart
from benchmarks.quantization.__main__ import print_table
from zoodip_core import SPIN_TURNS
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog

OURS = f"{SPIN_TURNS} turns (the package's)"
WAYS = {
    "300000 turns (libgomp's)": {"GOMP_SPINCOUNT": "300000"},
    "20000 turns": {"GOMP_SPINCOUNT": "20000"},
    OURS: {"GOMP_SPINCOUNT": SPIN_TURNS},
    "1000 turns": {"GOMP_SPINCOUNT": "1000"},
    "no turn": {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine.waiting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, _at_least(1)
    add("--beside", type=_at_least(0), nargs="+", default=[0, 1, 3], help="counts of busy processes")
    add("--steps", type=one_or_more, default=15, help="timed steps of a reading")
    add("--repeats", type=one_or_more, default=3, help="readings of each way, in turns")
    add("--threads", type=one_or_more, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    columns = [_seconds(count, options) for count in options.beside]
    heads = [(f"beside {count}, ms a step", "ratio") for count in options.beside]
    rows = [[way, *chain(*(cells(column, way) for column in columns))] for way in WAYS]
    print_table(("waiting", *chain(*heads)), rows)


def _at_least(least: int) -> Callable[[str], int]:
    """A whole number from `least` on, as argparse asks for it."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from {least} on")
        return int(text)

    return number


def _seconds(beside: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Of each way, the median step of each reading; the ways take turns."""
    entry, found = Catalog.load().get("emoji"), {way: list[float]() for way in WAYS}
    with _busy(beside):
        for _ in range(options.repeats):
            for way, readings in found.items():
                readings.append(_reading(entry, way, options))
    return found


def _reading(entry: BaseModelEntry, way: str, options: argparse.Namespace) -> float:
    figures = measure_apart(
        entry, n=4, steps=options.steps, device="cpu", threads=options.threads, environment=WAYS[way]
    )
    return 1 / figures.it_per_s


def cells(column: dict[str, list[float]], way: str) -> tuple[str, str]:
    """Median and range in milliseconds, and how many times the package's own median that is."""
    readings, ours = column[way], statistics.median(column[OURS])
    middle = statistics.median(readings)
    spread = f"{middle * 1e3:.0f} ({min(readings) * 1e3:.0f}–{max(readings) * 1e3:.0f})"
    return spread, f"{middle / ours:.2f}"


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that never rest, for the while of the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
