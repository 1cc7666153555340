"""`python -m benchmarks.quality.dimensions`: how few directions of a token's change draw its subject (Fig. 3).

Searches a token and takes the principal directions of its trajectory. The token rebuilt from the k largest directions
draws the prompts with the same seeds as the complete token; so does a token from k random orthonormal directions.
Writes one grid for each method: two rows for each subject, one column for each k.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from benchmarks.quality.cases.protocols import TOKEN
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.cli import (
    describe,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_selection,
    print_or_exit,
)
from benchmarks.quality.learning.forward import begin_all, validation_loss
from benchmarks.quality.learning.methods import METHODS, Plan, check_methods, make_plans
from benchmarks.quality.learning.snapshots import plan_identity
from benchmarks.quality.learning.trajectories import Cut, cuts, record_trajectory
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.results import GridRowSpec, Results, write_grid
from benchmarks.quality.report.rows import parse_with_figures, row_id
from benchmarks.quality.report.tables import group_table
from benchmarks.quality.run import BenchmarkSetup
from benchmarks.quality.sources import Pictures, concept_vectors, draw
from zoodip_core.files import write_atomically
from zoodip_core.personalization.personalize import Personalization

HEAD = (
    *("directions", "k", "share kept"),
    *("attribute accuracy", "background accuracy", "CLIP-I", "validation loss"),
)


@dataclass(frozen=True)
class CutRow:
    """The figures of one cut of one token."""

    id: str
    method: str
    forwards: int
    seed: int
    subject: str
    directions: str
    kept: int
    share: float
    figures: Figures
    fixed_loss: float


class Dimensions:
    """The cuts of all tokens of one search. A cut that was measured before is not measured again."""

    def __init__(self, setup: BenchmarkSetup, method: str, *, forwards: int, seed: int) -> None:
        """Load the base model.

        Raises:
            BenchmarkError: the length is too short for one step, or the results file is damaged.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self._setup = setup
        self._bundle = setup.bundles.at(METHODS[method].precision)
        self._plan: Plan = make_plans(
            METHODS[method],
            setup.bundles.entry,
            self._bundle.family,
            seed=seed,
            forwards=(forwards,),
            changes=setup.selection.changes,
        )[0]
        self._identity = plan_identity(self._plan, self._bundle, setup.cases)
        parse = partial(parse_with_figures, CutRow, Figures)
        self._results = Results(setup.selection.out, "dimensions.jsonl", parse, setup.log)

    def rows(self) -> Iterator[CutRow]:
        """Yield the row of every cut of every case."""
        setup, folder = self._setup, self._setup.selection.out / "searches"
        points = record_trajectory(self._plan, self._bundle, setup.cases, folder, setup.log)
        for index, case in enumerate(setup.cases):
            for cut in cuts(points[:, index]):
                found, about = self._id(index, cut), f"{case.name}, {cut.directions}, k = {cut.kept}"
                yield self._results.row(found, about, partial(self._measure, found, index, cut))

    def write_grids(self, rows: Sequence[CutRow]) -> None:
        """Write two rows for each subject: the reference, then the first picture for each k.

        Raises:
            StorageError: the file could not be written.
        """
        found = [
            self._grid_row(
                case, [row for row in rows if row.subject == case.name and row.directions != other]
            )
            for case in self._setup.cases
            for other in ("random", "principal")
        ]
        chosen, name = self._setup.selection, self._plan.method.name
        write_grid(chosen.out / f"dimensions-{chosen.kind}-{name}.png", found)

    def _grid_row(self, case: Case, rows: Sequence[CutRow]) -> GridRowSpec:
        labels = [f"k = {row.kept}, {row.share:.2f} kept" for row in rows]
        title = f"{case.name}, {rows[1].directions}"
        return GridRowSpec(title, case, self._results.shown(rows, 1), labels)

    @cached_property
    def _begun(self) -> list[Personalization]:
        """Return personalizations of all cases, for their validation sets."""
        return begin_all(self._bundle, self._setup.cases, [self._plan.settings] * len(self._setup.cases))

    def _id(self, index: int, cut: Cut) -> str:
        facts = {
            "source": self._identity,
            "forwards": self._plan.forwards[0],
            "directions": cut.directions,
            "kept": cut.kept,
        }
        return row_id(facts | self._setup.facts(index))

    def _measure(self, found: str, index: int, cut: Cut) -> tuple[CutRow, Pictures]:
        setup, settings = self._setup, self._plan.settings
        with torch.no_grad():
            loss = validation_loss(self._bundle, self._begun[index], cut.token)
        texts = [prompt.with_noun(TOKEN) for prompt in setup.prompts[index]]
        concepts = concept_vectors(self._bundle, cut.token, settings.vectors)
        drawn = draw(self._bundle, setup.bundles.entry, texts, setup.selection.pictures, concepts)
        name, method = setup.cases[index].name, self._plan.method.name
        facts = (found, method, self._plan.forwards[0], settings.seed, name, cut.directions, cut.kept)
        return CutRow(*facts, cut.share, setup.figures(index, drawn), loss), drawn


def table(rows: Sequence[CutRow]) -> str:
    """Return one line for each k and kind of directions, in the rows' order."""
    groups: dict[tuple[str, ...], list[CutRow]] = {}
    for row in rows:
        groups.setdefault((row.directions, str(row.kept)), []).append(row)
    return group_table(
        HEAD,
        groups,
        [
            (lambda row: row.share, 3, False),
            (lambda row: row.figures.attribute_accuracy, 2, True),
            (lambda row: row.figures.background_accuracy, 2, False),
            (lambda row: row.figures.clip_i, 3, False),
            (lambda row: row.fixed_loss, 4, False),
        ],
    )


def run(given: argparse.Namespace) -> str:
    """Measure the missing rows, write the grid, and return the table."""
    (method,) = check_methods([given.method], METHODS, "method")
    chosen = parse_selection(given)
    entry = embedded_model(chosen.calibration)
    setup = BenchmarkSetup(entry, chosen, load_instruments(entry), log_progress)
    dimensions = Dimensions(setup, method, forwards=given.forwards, seed=given.seed)
    rows = list(dimensions.rows())
    dimensions.write_grids(rows)
    text = (
        f"{describe(chosen, len(setup.cases), entry)}; {method}, {given.forwards} evaluations, "
        f"search seed {given.seed}; means over {chosen.kind}, 95 % bootstrap intervals in brackets.\n\n"
        f"{table(rows)}\n"
    )
    write_atomically(chosen.out / f"dimensions-{chosen.kind}-{method}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser("benchmarks.quality.dimensions", __doc__, subjects=4, prompts=8, pictures=2)
    add = parser.add_argument
    add("--method", default="ti-0.04", help=f"method that learns the token: {', '.join(METHODS)}")
    add(
        "--forwards",
        type=int,
        default=5400,
        help="U-Net evaluations for each case; a backward pass counts as two",
    )
    add("--seed", type=int, default=0, help="seed of the search")
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(given))


if __name__ == "__main__":
    main()
