"""Command-line arguments that the tools of EmojiBooth share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from benchmarks.quality.cases.prompts import PROMPTS
from benchmarks.quality.cases.subjects import CaseKind, Split
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Instruments, read_instruments
from benchmarks.quality.run import RunOptions, Selection
from models.emoji.errors import EmojiModelError
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.cli.options import parse_assignments
from zoodip_core.errors import ZoodipError

OUT = Path("quality-output")


def make_parser(
    name: str,
    about: str | None,
    *,
    subjects: int | None,
    prompts: int,
    pictures: int,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Return a parser with the arguments of a selection; the numbers are their defaults."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    add = parser.add_argument
    add("--kind", default="subjects", help=f"kind of cases to learn: {', '.join(get_args(CaseKind))}")
    add("--split", default="test", choices=get_args(Split), help="validation: for choosing settings")
    add("--subjects", type=int, default=subjects, help="number of cases; all of the split by default")
    add("--prompts", type=int, default=prompts, help=f"prompts for each case, at most {PROMPTS}")
    add("--pictures", type=int, default=pictures, help="pictures for each prompt")
    add("--color-captions", type=int, default=0, help="captions of each subject that name its color, 0 to 4")
    add(
        "--templates", action="store_true", help="learn with templates instead of captions of the backgrounds"
    )
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of forward-pass methods")
    add(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a file of `zoodip calibrate` instead of the shipped one",
    )
    add("--device", help="cpu or cuda; CUDA by default if available")
    add("--out", type=Path, default=OUT, help="folder of results, searches, tables and grids")
    return parser


def parse_selection(given: argparse.Namespace) -> Selection:
    """Return the selection of parsed arguments.

    Raises:
        BenchmarkError: the number of pictures is too small.
        InvalidSettingsError: --set is not NAME=VALUE.
    """
    return Selection(
        out=given.out,
        kind=given.kind,
        split=given.split,
        subjects=given.subjects,
        prompts=given.prompts,
        pictures=at_least(1, given.pictures, "pictures"),
        changes=parse_assignments(given.set),
        device=given.device,
        color_captions=given.color_captions,
        templates=given.templates,
        calibration=given.calibration,
    )


def add_methods(
    parser: argparse.ArgumentParser, *, methods: str, seeds: int, forwards: str, about: str
) -> None:
    """Add the arguments of a run of several methods; the values are their defaults."""
    parser.add_argument("--methods", default=methods, help=about)
    parser.add_argument("--seeds", type=int, default=seeds, help="number of search seeds")
    parser.add_argument(
        "--forwards", default=forwards, help="U-Net evaluations for each case, separated by commas"
    )
    add_seed_per_case(parser)


def add_seed_per_case(parser: argparse.ArgumentParser) -> None:
    """Add the option for independent searches."""
    about = "different random numbers for each case; without it, cases share those of a search seed"
    parser.add_argument("--seed-per-case", action="store_true", help=about)


def parse_options(given: argparse.Namespace) -> RunOptions:
    """Return the options of a run of several methods.

    Raises:
        BenchmarkError: a number is malformed or too small.
        InvalidSettingsError: --set is not NAME=VALUE.
    """
    return RunOptions(
        parse_selection(given),
        methods=given.methods.split(","),
        seeds=at_least(1, given.seeds, "seeds"),
        forwards=whole_numbers(given.forwards, "forwards"),
        seed_per_case=given.seed_per_case,
    )


def at_least(least: int, count: int, name: str) -> int:
    """Return the count.

    Raises:
        BenchmarkError: it is smaller than `least`.
    """
    if count < least:
        raise BenchmarkError.mismatch(f"--{name}", got=count, expected=f"{least} or more")
    return count


def whole_numbers(text: str, name: str) -> tuple[int, ...]:
    """Convert `"3000,9000"` to (3000, 9000).

    Raises:
        BenchmarkError: a part is not a whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        expected = "whole numbers separated by commas"
        raise BenchmarkError.mismatch(f"--{name}", got=text, expected=expected) from error


def embedded_model(calibration: Path | None = None) -> BaseModelEntry:
    """Return the base model that EmojiBooth is made for.

    Args:
        calibration: its calibration; None for the shipped one.

    Raises:
        BenchmarkError: the file does not exist.
    """
    entry = Catalog.load().get("emoji")
    if calibration is None:
        return entry
    if not calibration.is_file():
        expected = "a file that `zoodip calibrate` wrote for emoji"
        raise BenchmarkError.mismatch("--calibration", got=calibration, expected=expected)
    return entry.model_copy(update={"calibration": calibration})


def load_instruments(entry: BaseModelEntry) -> Instruments:
    """Load the judge and the CLIP pair of the embedded model.

    Raises:
        CheckpointError: the judge's weights are missing or damaged.
        InvalidModelError: the CLIP pair's weights are missing or damaged.
    """
    return read_instruments(find_model_folder(entry) / "scorer")


def describe(chosen: Selection, count: int, entry: BaseModelEntry) -> str:
    """Return the start of the sentence above a table: cases, prompts, pictures, changes and weights."""
    changes = "".join(f", {name}={value}" for name, value in chosen.changes.items())
    if chosen.color_captions:
        changes += f", {chosen.color_captions} captions with the color"
    if chosen.templates:
        changes += ", templates instead of captions"
    if chosen.calibration:
        changes += f", calibration {chosen.calibration.name}"
    weights = fingerprint(find_model_folder(entry))
    return (
        f"{count} held-out {chosen.kind} of the {chosen.split} split, {chosen.prompts} prompts × "
        f"{chosen.pictures} pictures{changes}; weights {weights[:12]}"
    )


def describe_seeds(options: RunOptions) -> str:
    """Return the number of search seeds, and whether each case has its own."""
    return f"{options.seeds} search seeds{' for each case' if options.seed_per_case else ''}"


def describe_run(options: RunOptions, count: int, entry: BaseModelEntry) -> str:
    """Return the sentence above a table of several methods."""
    return (
        f"{describe(options.selection, count, entry)}; {describe_seeds(options)}; "
        f"means over {options.selection.kind}, 95 % bootstrap intervals in brackets."
    )


def log_progress(line: str) -> None:
    """Print a line on stderr; stdout is for the table."""
    print(line, file=sys.stderr, flush=True)


def print_or_exit(make_text: Callable[[], str]) -> None:
    """Print the text that `make_text` returns; exit with one line on a project error."""
    try:
        text = make_text()
    except (ZoodipError, EmojiModelError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(text)
