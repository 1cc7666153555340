"""`python -m benchmarks.quality.dimensions`: how few directions of a token's change still draw its subject (Fig. 3).

A token is searched, and the principal directions of its way are taken. Rebuilt from the k largest, it draws the
prompts with the same seeds as the whole token; beside it the same from k random orthonormal directions. One grid a
method: two rows a subject, a column a k.
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
    command,
    describe,
    embedded_model,
    instruments,
    print_or_exit,
    progress,
    selection,
)
from benchmarks.quality.learning.forward import begin_all, fixed_loss
from benchmarks.quality.learning.methods import METHODS, Plan, check_methods, plans
from benchmarks.quality.learning.snapshots import plan_identity
from benchmarks.quality.learning.trajectories import Cut, cuts, walk
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.grids import Shown, write_grid
from benchmarks.quality.report.results import Results
from benchmarks.quality.report.rows import row_id, with_figures
from benchmarks.quality.report.tables import group_table
from benchmarks.quality.run import Stage
from benchmarks.quality.sources import Pictures, concept, draw
from zoodip_core.files import write_atomically
from zoodip_core.personalization.personalize import Personalization

HEAD = ("directions", "k", "share kept", "all right", "ground", "CLIP-I", "fixed-set loss")


@dataclass(frozen=True)
class Row:
    """One cut of one token."""

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
    """The cuts of all tokens of one search; what was measured before is not measured again."""

    def __init__(self, stage: Stage, method: str, *, forwards: int, seed: int) -> None:
        """Load the base model.

        Raises:
            BenchmarkError: too few forwards for one step, or a damaged results file.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self._stage = stage
        self._bundle = stage.bundles.at(METHODS[method].precision)
        self._plan: Plan = plans(
            METHODS[method],
            stage.bundles.entry,
            self._bundle.family,
            seed=seed,
            forwards=(forwards,),
            changes=stage.selection.changes,
        )[0]
        self._own = plan_identity(self._plan, self._bundle, stage.cases)
        parse = partial(with_figures, Row, Figures)
        self._results = Results(stage.selection.out, "dimensions.jsonl", parse, stage.tell)

    def rows(self) -> Iterator[Row]:
        """Every cut of every case."""
        stage = self._stage
        points = walk(self._plan, self._bundle, stage.cases, stage.selection.out / "searches", stage.tell)
        for index, case in enumerate(stage.cases):
            for cut in cuts(points[:, index]):
                own, about = self._id(index, cut), f"{case.name}, {cut.directions}, k = {cut.kept}"
                yield self._results.row(own, about, partial(self._measure, own, index, cut))

    def write_grids(self, rows: Sequence[Row]) -> None:
        """Two rows a subject: the reference, then the first picture of the first prompt for each k.

        Raises:
            StorageError: the file could not be written.
        """
        found = [
            self._shown(case, [row for row in rows if row.subject == case.name and row.directions != other])
            for case in self._stage.cases
            for other in ("random", "principal")
        ]
        chosen, name = self._stage.selection, self._plan.method.name
        write_grid(chosen.out / f"dimensions-{chosen.kind}-{name}.png", found)

    def _shown(self, case: Case, rows: Sequence[Row]) -> Shown:
        labels = [f"k = {row.kept}, {row.share:.2f} kept" for row in rows]
        return Shown(f"{case.name}, {rows[1].directions}", case, self._results.shown(rows, 1), labels)

    @cached_property
    def _begun(self) -> list[Personalization]:
        """The fixed sets of all cases."""
        return begin_all(self._bundle, self._stage.cases, self._plan.settings)

    def _id(self, index: int, cut: Cut) -> str:
        facts = {
            "source": self._own,
            "forwards": self._plan.forwards[0],
            "directions": cut.directions,
            "kept": cut.kept,
        }
        return row_id(facts | self._stage.facts(index))

    def _measure(self, own: str, index: int, cut: Cut) -> tuple[Row, Pictures]:
        stage, settings = self._stage, self._plan.settings
        with torch.no_grad():
            loss = fixed_loss(self._bundle, self._begun[index], cut.token)
        texts = [prompt.with_noun(TOKEN) for prompt in stage.asked[index]]
        concepts = concept(self._bundle, cut.token, settings.vectors)
        drawn = draw(self._bundle, stage.bundles.entry, texts, stage.selection.pictures, concepts)
        name, method = stage.cases[index].name, self._plan.method.name
        facts = (own, method, self._plan.forwards[0], settings.seed, name, cut.directions, cut.kept)
        return Row(*facts, cut.share, stage.figures(index, drawn), loss), drawn


def table(rows: Sequence[Row]) -> str:
    """A line a k and kind of directions, in the rows' order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.directions, str(row.kept)), []).append(row)
    return group_table(
        HEAD,
        groups,
        [
            (lambda row: row.share, 3, False),
            (lambda row: row.figures.right, 2, True),
            (lambda row: row.figures.ground, 2, False),
            (lambda row: row.figures.clip_i, 3, False),
            (lambda row: row.fixed_loss, 4, False),
        ],
    )


def run(given: argparse.Namespace) -> str:
    """Measure what is missing, write the grid, and give the table."""
    (method,) = check_methods([given.method], METHODS, "method")
    entry, chosen = embedded_model(), selection(given)
    stage = Stage(entry, chosen, instruments(entry), progress)
    dimensions = Dimensions(stage, method, forwards=given.forwards, seed=given.seed)
    rows = list(dimensions.rows())
    dimensions.write_grids(rows)
    text = (
        f"{describe(chosen, len(stage.cases), entry)}; {method}, {given.forwards} forwards, "
        f"search seed {given.seed}; means over {chosen.kind}, 95 % bootstrap intervals in brackets.\n\n"
        f"{table(rows)}\n"
    )
    write_atomically(chosen.out / f"dimensions-{chosen.kind}-{method}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = command("benchmarks.quality.dimensions", __doc__, subjects=4, prompts=8, pictures=2)
    add = parser.add_argument
    add("--method", default="ti-0.04", help=f"how the token is learned: {', '.join(METHODS)}")
    add("--forwards", type=int, default=5400, help="of one case; a backward pass counts as two")
    add("--seed", type=int, default=0, help="of the search")
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(given))


if __name__ == "__main__":
    main()
