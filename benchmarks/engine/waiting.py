"""`python -m benchmarks.engine.waiting`: how waiting threads slow a search on a busy machine.

Times one search of the embedded model on a CPU, with several wait policies of libgomp's threads (Linux), alone and
next to busy processes. The policies are interleaved in one run, each in a separate process. The ratio is relative to
the package's policy.
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
POLICIES = {
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
    add, one_or_more = parser.add_argument, at_least(1)
    add("--busy", type=at_least(0), nargs="+", default=[0, 1, 3], help="numbers of busy processes")
    add("--steps", type=one_or_more, default=15, help="timed steps of one measurement")
    add("--repeats", type=one_or_more, default=3, help="measurements of each policy, interleaved")
    add("--threads", type=one_or_more, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    columns = [_seconds(count, options) for count in options.busy]
    heads = [(f"{count} busy, ms/step", "ratio") for count in options.busy]
    rows = [[policy, *chain(*(cells(column, policy) for column in columns))] for policy in POLICIES]
    print_table(("waiting", *chain(*heads)), rows)


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers that are at least `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"got {text!r}; expected a whole number, {least} or more")
        return int(text)

    return number


def _seconds(busy: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the median step time of each measurement of each policy. Policies are interleaved."""
    entry, found = Catalog.load().get("emoji"), {policy: list[float]() for policy in POLICIES}
    with busy_processes(busy):
        for _ in range(options.repeats):
            for policy, readings in found.items():
                readings.append(_reading(entry, policy, options))
    return found


def _reading(entry: BaseModelEntry, policy: str, options: argparse.Namespace) -> float:
    figures = measure_apart(
        entry, n=4, steps=options.steps, device="cpu", threads=options.threads, environment=POLICIES[policy]
    )
    return 1 / figures.it_per_s


def cells(column: dict[str, list[float]], policy: str) -> tuple[str, str]:
    """Return median and range in milliseconds, and the ratio to the median of the package's policy."""
    readings, ours = column[policy], statistics.median(column[OURS])
    middle = statistics.median(readings)
    spread = f"{middle * 1e3:.0f} ({min(readings) * 1e3:.0f}–{max(readings) * 1e3:.0f})"
    return spread, f"{middle / ours:.2f}"


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run busy processes for the duration of the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
