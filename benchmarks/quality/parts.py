"""`python -m benchmarks.quality.parts`: the calibrated search with one part switched off or replaced.

Each part has a folder in --out, so the same command continues after an interruption. The last column compares each
part with the complete search, on the same subjects and seeds.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.quality.cli import (
    at_least,
    describe,
    describe_seeds,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_selection,
    print_or_exit,
    whole_numbers,
)
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning import snapshots
from benchmarks.quality.learning.other_steps import AdamSteps, MomentumSteps, with_rate
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import Column, method_table
from benchmarks.quality.run import BenchmarkRun, RunOptions
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.fingerprint import weights_fingerprint
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.calibration_file import Calibration
from zoodip_core.files import write_atomically
from zoodip_core.personalization.search_spaces import SEARCHES
from zoodip_core.zeroth_order.gauss_newton import CONSTANTS, GaussNewtonSearch

COMPLETE = "complete"
ENDLESS = 1e12
DIMENSIONS, STATISTICS = 192, 32  # of the embedded model: length of a token, statistics of the latents
ACCURACY, LOSS = attrgetter("figures.attribute_accuracy"), attrgetter("fixed_loss")


@dataclass(frozen=True)
class Part:
    """Replacement of one part of the calibrated search."""

    changes: Mapping[str, Any] = field(default_factory=dict)  # to its settings
    constants: Mapping[str, float] = field(default_factory=dict)  # by module and name
    calibration: Callable[[Calibration], Calibration] | None = None
    search: type[GaussNewtonSearch] = GaussNewtonSearch


def _with_flat_curvature(found: Calibration) -> Calibration:
    return replace(found, curvature=torch.eye(len(found.scales)) / len(found.scales))


PARTS = {
    COMPLETE: Part(),
    "adam-0.1": Part(search=with_rate(AdamSteps, 0.1)),
    "momentum-0.3": Part(search=with_rate(MomentumSteps, 0.3)),
    "no-predicted-start": Part(calibration=lambda found: replace(found, displacement_map=None)),
    "no-adaptation": Part(constants={"gauss_newton.ADAPTATION": 0.0}),
    "no-average": Part(constants={"gauss_newton.AVERAGING": ENDLESS}),
    "no-remainder": Part(
        constants={"search_space.REMAINDER": 1e-6, "search_space.REMAINDER_CURVATURE": 1e-7}
    ),
    "flat-curvature": Part(calibration=_with_flat_curvature),
    "own-curvature": Part(calibration=_with_flat_curvature, constants={"gauss_newton.ADAPTATION": 0.15}),
    "no-start-comparison": Part(constants={"start_comparison.SAMPLES": 0}),
    "adam-0.3": Part(search=with_rate(AdamSteps, 0.3)),
    "momentum-0.1": Part(search=with_rate(MomentumSteps, 0.1)),
    "adam-0.03": Part(search=with_rate(AdamSteps, 0.03)),
    "no-drift": Part(constants={"gauss_newton.DRIFT": 0.0}),
    "constant-drift": Part(constants={"gauss_newton.DRIFT_HALVES_AFTER": ENDLESS}),
    "uniform-timesteps": Part({"timesteps": "partial_uniform"}),
    "gaussian-directions": Part({"directions": "gaussian"}),
    "images-with-replacement": Part({"image_sampling": "with_replacement"}),
}


@contextmanager
def replaced(part: Part) -> Iterator[None]:
    """Search without the part inside of the context."""
    # Patches are right here: the product has no switches for its parts, and only this table needs them.
    # The identity of a search includes the patches, so no row outlives a change in PARTS.
    facts = (*CONSTANTS, part.search.__name__, *part.constants.items())
    with ExitStack() as stack:
        for name, value in part.constants.items():
            stack.enter_context(patch(f"zoodip_core.zeroth_order.{name}", value))
        stack.enter_context(patch.dict(SEARCHES, calibrated=part.search))
        stack.enter_context(patch.object(snapshots, "CONSTANTS", facts))
        yield


def part_entry(part: Part, entry: BaseModelEntry, folder: Path) -> BaseModelEntry:
    """Return the base model with the part's calibration, a file in the folder.

    A file that exists stays: its header has a random order, and the identity of a search covers its bytes.
    """
    if part.calibration is None or entry.calibration is None:
        return entry
    fingerprint = weights_fingerprint(find_model_folder(entry))
    found = Calibration.load(
        entry.calibration, weights_fingerprint=fingerprint, dimensions=DIMENSIONS, statistics=STATISTICS
    )
    changed = part.calibration(found)
    tensors = (changed.basis, changed.scales, changed.curvature)
    has_map = str(changed.displacement_map is not None)
    content = b"".join([*(one.numpy().tobytes() for one in tensors), has_map.encode()])
    file = folder / f"{hashlib.sha256(content).hexdigest()[:12]}.calibration.safetensors"
    if not file.is_file():
        changed.save(file)
    return entry.model_copy(update={"calibration": file})


def run(options: RunOptions, names: Sequence[str]) -> str:
    """Measure the missing rows; return the table and write it to the folder.

    Raises:
        BenchmarkError: a part is unknown, or a number is out of range.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    for name in names:
        if name not in PARTS:
            raise BenchmarkError.mismatch("--parts", got=name, expected=", ".join(PARTS))
    chosen, rows = options.selection, list[Row]()
    entry = embedded_model(chosen.calibration)
    tools = load_instruments(entry)
    for name in names:
        part, out = PARTS[name], chosen.out / name
        changed = replace(chosen, out=out, changes=chosen.changes | dict(part.changes))
        varied = replace(options, selection=changed)
        log_progress(f"part: {name}")
        with replaced(part):
            found = BenchmarkRun(part_entry(part, entry, out), varied, tools, log_progress).run()
        rows += [replace(row, method=name) for row in found]
    head = f"{describe(chosen, len({row.subject for row in rows}), entry)}; {describe_seeds(options)}"
    text = f"{head}; each row replaces one part.\n\n{_table(rows, options.seeds)}\n"
    write_atomically(chosen.out / "parts.md", text.encode())
    return text


def _table(rows: Sequence[Row], seeds: int) -> str:
    """Return the table: accuracy and validation loss, also of each seed, and the loss above the complete search."""
    complete = {
        (row.subject, row.seed, row.forwards): row.fixed_loss for row in rows if row.method == COMPLETE
    }

    def above(row: Row) -> float | None:
        other = complete.get((row.subject, row.seed, row.forwards))
        if row.method == COMPLETE or other is None or row.fixed_loss is None:
            return None
        return row.fixed_loss - other

    columns: dict[str, Column[Row]] = {
        "attribute accuracy": (ACCURACY, 2, True),
        "validation loss": (LOSS, 4, False),
        **{f"accuracy, seed {seed}": (_of_seed(seed, ACCURACY), 2, False) for seed in range(seeds)},
        **{f"loss, seed {seed}": (_of_seed(seed, LOSS), 4, False) for seed in range(seeds)},
        "loss − complete": (above, 4, True),
    }
    return method_table(("part", "NFE", *columns), rows, list(columns.values()))


def _of_seed(seed: int, read: Callable[[Row], float | None]) -> Callable[[Row], float | None]:
    return lambda row: read(row) if row.seed == seed else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)
    print_or_exit(lambda: run(_options(given), list(dict.fromkeys(given.parts.split(",")))))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.quality.parts", __doc__, subjects=8, prompts=9, pictures=1)
    parser.set_defaults(split="validation")
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="parts to replace, separated by commas; default: all")
    add("--seeds", type=int, default=2, help="number of search seeds, different for each case")
    add("--forwards", default="1000", help="U-Net evaluations for each case, separated by commas")
    return parser


def _options(given: argparse.Namespace) -> RunOptions:
    """Return the options of parsed arguments.

    Raises:
        BenchmarkError: a number is too small.
        InvalidSettingsError: --set is not NAME=VALUE.
    """
    seeds, forwards = at_least(1, given.seeds, "seeds"), whole_numbers(given.forwards, "forwards")
    return RunOptions(parse_selection(given), ["calibrated"], seeds, forwards, seed_per_case=True)


if __name__ == "__main__":
    main()
