"""Diversity: many pictures of one prompt, reused rows, and a grid of the pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.quality import anchors, diversity, sources
from benchmarks.quality.cases.protocols import PromptTemplate
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.diversity import table, write_case_grid
from benchmarks.quality.metrics import Figures, Instruments
from benchmarks.quality.report.results import SHOWN, column_labels
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.grid import GAP_PX, TILE_PX

PICTURES = 10
METHODS = ("initializer", "paper")


@pytest.fixture
def of_one_prompt(entry: BaseModelEntry, tools: Instruments, tmp_path: Path) -> Callable[[], BenchmarkRun]:
    """Return a function that creates a run with ten pictures of one prompt."""
    chosen = Selection(tmp_path, prompts=1, pictures=PICTURES, changes={"fixed_rows": 2}, device="cpu")
    return lambda: BenchmarkRun(
        entry, RunOptions(chosen, METHODS, seeds=1, forwards=(6,)), tools, lambda _: None
    )


@pytest.mark.slow
def test_the_first_pictures_of_the_prompt_are_shown(
    of_one_prompt: Callable[[], BenchmarkRun],
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each method has a grid row with the reference and eight pictures; a second run draws nothing."""
    benchmark = of_one_prompt()
    rows = [row for method in benchmark.methods for row in benchmark.rows(method)]
    assert [(row.method, row.subject) for row in rows] == [
        (method, case.name) for method in METHODS for case in few_cases
    ]
    assert all(row.figures.intra_prompt_similarity is not None for row in rows)
    kept = {path.read_bytes() for path in (tmp_path / "pictures" / rows[0].id).iterdir()}
    assert len(kept) == SHOWN
    write_case_grid(benchmark, 1, rows)
    name = few_cases[1].name.replace(" ", "-")
    with Image.open(tmp_path / f"diversity-subjects-{name}.png") as grid:
        assert grid.width == GAP_PX + (1 + SHOWN) * (TILE_PX + GAP_PX)

    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(anchors, "draw", forbidden)
    monkeypatch.setattr(sources, "draw", forbidden)
    again = of_one_prompt()
    assert [row for method in again.methods for row in again.rows(method)] == rows


@pytest.mark.slow
def test_missing_pictures_leave_the_grid_unchanged(
    of_one_prompt: Callable[[], BenchmarkRun],
    few_cases: list[Case],
    tmp_path: Path,
    lose_pictures: LosePictures,
) -> None:
    """Rows whose pictures are missing are returned and leave an existing grid unchanged."""

    def run() -> list[Row]:
        benchmark = of_one_prompt()
        rows = [row for method in benchmark.methods for row in benchmark.rows(method)]
        for index in range(len(few_cases)):
            write_case_grid(benchmark, index, rows)
        return rows

    def grids() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.glob("diversity-*.png")}

    rows, whole = run(), grids()
    assert len(whole) == len(few_cases)
    for _ in lose_pictures(tmp_path):
        assert run() == rows
        assert grids() == whole
    for path in whole:
        path.unlink()
    assert run() == rows
    assert not grids()


def test_the_table_shows_similarity_and_accuracy() -> None:
    """Seeds of one subject are averaged before subjects; an empty column is left out."""
    row = Row("a", "paper", "subjects", "test", "bee", 0, 6, Figures(0.5, 0.5, 0.25, None, 1.0, None, None))
    other = replace(row, seed=1, figures=replace(row.figures, intra_prompt_similarity=0.75))
    assert table([row, other]).splitlines()[2:] == ["| paper | 6 | 0.500 | 1.00 | 0.500 |"]


def test_columns_are_prompts_or_numbered_pictures() -> None:
    """Several prompts label their columns; pictures of a single prompt are numbered."""
    snow, grass = (
        PromptTemplate("a photo of a {} in the snow"),
        PromptTemplate("a photo of a {} on the grass"),
    )
    assert column_labels([snow, grass], 2) == ["… in the snow", "… on the grass"]
    assert column_labels([snow], 2) == ["… in the snow, 1", "… in the snow, 2"]


def test_one_picture_is_refused() -> None:
    """A single picture has no similarity; the message has the minimum."""
    with pytest.raises(SystemExit, match=r"error: --pictures: got 1; expected 2 or more"):
        diversity.main(["--pictures", "1"])
