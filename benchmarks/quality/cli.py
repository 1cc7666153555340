"""The arguments that the tools of EmojiBooth share, and what they become."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from benchmarks.quality.cases.prompts import PROMPTS
from benchmarks.quality.cases.subjects import Half, Kind
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Instruments, read_instruments
from benchmarks.quality.run import Options, Selection
from models.emoji.errors import EmojiModelError
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.cli.options import parse_assignments
from zoodip_core.diffusion.loading import locate
from zoodip_core.errors import ZoodipError

OUT = Path("quality-output")


def command(
    name: str,
    about: str | None,
    *,
    subjects: int | None,
    prompts: int,
    pictures: int,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """A parser with the arguments of a selection; the numbers are their defaults."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    add = parser.add_argument
    add("--kind", default="subjects", help=f"what is learned: {', '.join(get_args(Kind))}")
    add("--half", default="report", choices=get_args(Half), help="tuning: to choose settings on")
    add("--subjects", type=int, default=subjects, help="how many; all of the half if left out")
    add("--prompts", type=int, default=prompts, help=f"prompts of a case, at most {PROMPTS}")
    add("--pictures", type=int, default=pictures, help="pictures of a prompt")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="of the zeroth-order methods")
    add("--device", help="cpu or cuda; CUDA where there is one")
    add("--out", type=Path, default=OUT, help="folder of results, searches, tables and grids")
    return parser


def selection(given: argparse.Namespace) -> Selection:
    """The selection of parsed arguments, with the number of pictures checked.

    Raises:
        BenchmarkError: no pictures.
        InvalidSettingsError: --set without NAME=VALUE.
    """
    return Selection(
        out=given.out,
        kind=given.kind,
        half=given.half,
        subjects=given.subjects,
        prompts=given.prompts,
        pictures=at_least(1, given.pictures, "pictures"),
        changes=parse_assignments(given.set),
        device=given.device,
    )


def add_methods(
    parser: argparse.ArgumentParser, *, methods: str, seeds: int, forwards: str, about: str
) -> None:
    """Add what a run of several methods is asked besides; the values are defaults."""
    parser.add_argument("--methods", default=methods, help=about)
    parser.add_argument("--seeds", type=int, default=seeds, help="search seeds")
    parser.add_argument(
        "--forwards", default=forwards, help="U-Net forwards of one case, with commas between"
    )


def options(given: argparse.Namespace) -> Options:
    """The options of a run of several methods, with every number checked.

    Raises:
        BenchmarkError: a number that is none, or too small.
        InvalidSettingsError: --set without NAME=VALUE.
    """
    return Options(
        selection(given),
        methods=given.methods.split(","),
        seeds=at_least(1, given.seeds, "seeds"),
        forwards=whole_numbers(given.forwards, "forwards"),
    )


def at_least(least: int, count: int, name: str) -> int:
    """The count.

    Raises:
        BenchmarkError: it is smaller than `least`.
    """
    if count < least:
        raise BenchmarkError(f"--{name} {count}: allowed: {least} or more", field=name)
    return count


def whole_numbers(text: str, name: str) -> tuple[int, ...]:
    """`"3000,9000"` → (3000, 9000).

    Raises:
        BenchmarkError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        message = f"--{name} {text}: allowed: whole numbers with commas between"
        raise BenchmarkError(message, field=name) from error


def embedded_model() -> BaseModelEntry:
    """The base model that EmojiBooth is made for."""
    return Catalog.load().get("emoji")


def instruments(entry: BaseModelEntry) -> Instruments:
    """What measures the pictures of the embedded model.

    Raises:
        CheckpointError: the judge's weights are missing or damaged.
        InvalidModelError: the CLIP pair is.
    """
    return read_instruments(locate(entry) / "scorer")


def describe(chosen: Selection, count: int, entry: BaseModelEntry) -> str:
    """What a table is made of: the start of a sentence above it."""
    changes = "".join(f", {name}={value}" for name, value in chosen.changes.items())
    weights = fingerprint(locate(entry))
    return (
        f"{count} held-out {chosen.kind} of the {chosen.half} half, {chosen.prompts} prompts × "
        f"{chosen.pictures} pictures{changes}; weights {weights[:12]}"
    )


def describe_run(asked: Options, count: int, entry: BaseModelEntry) -> str:
    """What a table of several methods is made of."""
    return (
        f"{describe(asked.selection, count, entry)}; {asked.seeds} search seeds; "
        f"means over {asked.selection.kind}, 95 % bootstrap intervals in brackets."
    )


def progress(line: str) -> None:
    """A line on stderr: stdout is for the table."""
    print(line, file=sys.stderr, flush=True)


def print_or_exit(made: Callable[[], str]) -> None:
    """Print the text that `made` gives; a project error ends the run with its message."""
    try:
        text = made()
    except (ZoodipError, EmojiModelError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(text)
