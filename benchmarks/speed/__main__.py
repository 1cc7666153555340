"""`python -m benchmarks.speed`: speed and memory of the published procedure, of backpropagation and of this engine.

All entries run the same base model with two directions on one machine. Each entry has a separate process. In every
round, a reading of the published procedure (a) precedes the reading of the entry, and the ratio is that of these two.
The ratio of (a) to itself is that of two processes and shows the noise. Cells have the median and the range.

Rows are appended to `speed.jsonl` in --out. The same command continues after an interruption; changed source code is
measured again. optimum-quanto quantizes (a) and (d) if it is installed (`pip install optimum-quanto==0.2.7`).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.engine.waiting import at_least
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.report.rows import RowFile, parse_fields, row_id
from benchmarks.quantization.__main__ import print_table
from benchmarks.speed.entries import ENTRIES, REFERENCE
from benchmarks.speed.process import EntryProcess
from benchmarks.speed.reading import Facts, Measured, Reading
from benchmarks.speed.shapes import (
    COMPILED_ENTRIES,
    DEFAULT_ENTRIES,
    MODELS,
    NARROW,
    SMALL_ENTRIES,
    prepare_model,
)
from benchmarks.speed.table import HEAD, SpeedRow, make_row, table_rows
from zoodip_core.base_models.catalog import BaseModelEntry

ROOT = Path(__file__).parents[2]


class Readable(Protocol):
    """An entry that is loaded and warm."""

    facts: Facts

    def read(self, seconds: float) -> Reading:
        """Run steps for at least this time."""


Start = Callable[[str, BaseModelEntry], AbstractContextManager[Readable]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the missing rows and print the tables."""
    options = _parse(arguments)
    file = RowFile(options.out / "speed.jsonl", partial(parse_fields, SpeedRow))
    for model, entries in options.chosen.items():
        ids = {(name, k): _id(options, model, name, k) for name in entries for k in range(options.rounds)}
        _measure(options, model, ids, file)
        rows = [file[one] for one in ids.values()]
        rate = statistics.median(row.matrix_flops_per_s for row in rows) / 1e9
        print(f"{model}; matrix products of {rate:,.0f} GFLOP/s\n")
        print_table(HEAD, table_rows(rows))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options, with `chosen`: the entries of each model."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, one_or_more = parser.add_argument, at_least(1)
    add(
        "--models", choices=MODELS, nargs="+", help="default: emoji and sd15-256; on CUDA sd15, sd21 and sdxl"
    )
    add("--entries", choices=ENTRIES, nargs="+", help="default: all that take minutes and not hours")
    add("--compiled", action="store_true", help="also measure the compiled entries")
    add("--rounds", type=one_or_more, default=5)
    add("--seconds", type=_duration, default=3.0, help="least duration of a reading, at least one step")
    add(
        "--threads",
        type=one_or_more,
        default=1,
        help="CPU threads of torch in each process; the engine chooses how to use them",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--out", type=Path, default=Path("speed-output"), help="folder of rows and random weights")
    add("--small", action="store_true", help="one short round of a narrow model in this process, as a test")
    options = parser.parse_args(arguments)
    if options.small:
        options.rounds, options.seconds = 1, 0.0
    defaults = {NARROW: SMALL_ENTRIES} if options.small else _defaults(options)
    options.chosen = {
        model: (*(options.entries or names), *(COMPILED_ENTRIES if options.compiled else ()))
        for model, names in defaults.items()
    }
    return options


def _duration(text: str) -> float:
    """Return a number of seconds; an argparse type."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected a number of seconds, 0 or more")
    return seconds


def _defaults(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    kind = torch.device(options.device).type
    known = DEFAULT_ENTRIES["cuda" if kind == "cuda" else "cpu"]
    all_entries = next(iter(known.values()))
    return {model: known.get(model, all_entries) for model in options.models or known}


def _id(options: argparse.Namespace, model: str, entry: str, number: int) -> str:
    """Return the id of a row: a hash of options, machine and source code."""
    cuda = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability()
    return row_id(
        {
            "model": model,
            "entry": entry,
            "round": number,
            "seconds": options.seconds,
            "threads": options.threads,
            "machine": machine,
            "torch": torch.__version__,
            "source": source_digest(),
        }
    )


def source_digest() -> str:
    """Return a hash of the source code of the core and of this benchmark."""
    digest = hashlib.sha256()
    for folder in ("zoodip_core", "benchmarks/speed"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _measure(
    options: argparse.Namespace, model: str, ids: dict[tuple[str, int], str], file: RowFile[SpeedRow]
) -> None:
    """Measure the rows that are missing, entry by entry."""
    missing = {key: one for key, one in ids.items() if one not in file}
    if not missing:
        return
    chosen = prepare_model(model, options.out / "models")
    start = _in_process(options) if options.small else _apart(options)
    with start(REFERENCE, chosen) as reference:
        for entry in dict.fromkeys(name for name, _ in missing):
            with start(entry, chosen) as measured:
                for number in (k for name, k in missing if name == entry):
                    before, own = reference.read(options.seconds), measured.read(options.seconds)
                    row = make_row(ids[entry, number], model, entry, number, measured.facts, own, before)
                    file.add(row)
            print(f"{model}, {entry}: measured", file=sys.stderr, flush=True)


def _apart(options: argparse.Namespace) -> Start:
    return lambda name, model: EntryProcess(name, model, options.device, options.threads)


def _in_process(options: argparse.Namespace) -> Start:
    return lambda name, model: nullcontext(Measured(ENTRIES[name], model, options.device))


def run() -> None:
    """Run the command; print an error of the benchmark in one line."""
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    run()
