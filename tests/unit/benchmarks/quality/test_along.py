"""Arms along one search: cells by arm, subject and NFE; means of the table; one grid for each subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.quality import along
from benchmarks.quality.along import measure_cells, table, write_case_grid
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.learning import snapshots
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import BenchmarkRun
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.grid import GAP_PX, TILE_PX

ARMS = ("paper", "paper-neither")


@pytest.mark.slow
def test_one_search_gives_every_count(
    benchmark: Callable[..., BenchmarkRun],
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each arm searches once for all lengths; rows that EmojiBooth has measured are reused."""
    measured = benchmark(("paper",), (6,)).run()
    searched: list[str] = []
    whole = snapshots._run

    def counted(plan: Any, *rest: Any) -> None:
        searched.append(plan.method.name)
        whole(plan, *rest)

    monkeypatch.setattr(snapshots, "_run", counted)
    made = benchmark(ARMS, (3, 6))
    cells = measure_cells(made, ARMS)
    assert searched == ["paper", "paper-neither"]
    names = [case.name for case in few_cases]
    assert set(cells) == {(arm, name, count) for arm in ARMS for name in names for count in (0, 3, 6)}
    assert [cells["paper", name, 6] for name in names] == measured
    assert cells["paper", names[0], 0] == cells["paper-neither", names[0], 0]
    write_case_grid(made, few_cases[0], ARMS, cells)
    with Image.open(tmp_path / f"along-subjects-{names[0].replace(' ', '-')}.png") as grid:
        assert grid.width == GAP_PX + 4 * (TILE_PX + GAP_PX)


@pytest.mark.slow
def test_missing_pictures_leave_the_grid_unchanged(
    benchmark: Callable[..., BenchmarkRun],
    few_cases: list[Case],
    tmp_path: Path,
    lose_pictures: LosePictures,
) -> None:
    """Rows whose pictures are missing leave an existing grid unchanged."""
    made = benchmark(ARMS, (3,))
    cells = measure_cells(made, ARMS)

    def grids() -> dict[Path, bytes]:
        for case in few_cases:
            write_case_grid(made, case, ARMS, cells)
        return {path: path.read_bytes() for path in tmp_path.glob("along-*.png")}

    whole = grids()
    assert len(whole) == len(few_cases)
    for _ in lose_pictures(tmp_path):
        assert grids() == whole
    for path in whole:
        path.unlink()
    assert not grids()


def test_the_table_shows_each_subject_and_the_mean() -> None:
    """One line for each subject and arm, then the mean of the subjects; an unknown loss is a dash."""

    def row(subject: str, right: float | None, loss: float | None) -> Row:
        figures = Figures(0.5, 0.5, None, right, 1.0, None, None)
        return Row("a", "paper", "subjects", "test", subject, 0, 3, figures, loss)

    cells = {("paper", "bee", 3): row("bee", 0.5, 0.25), ("paper", "cow", 3): row("cow", 1.0, 0.75)}
    assert table(cells).splitlines()[2:] == [
        "| bee | paper | 0.50 · 0.2500 |",
        "| cow | paper | 1.00 · 0.7500 |",
        "| mean | paper | 0.75 · 0.5000 |",
    ]
    alone = {("paper", "bee", 3): row("bee", None, None)}
    assert table(alone).splitlines()[2:] == ["| bee | paper | – · – |"]


def test_an_anchor_is_no_arm() -> None:
    """An anchor is refused before a model is loaded; the message lists the expected methods."""
    with pytest.raises(SystemExit, match=r"error: --arms: got real; expected calibrated, full, gf-ti, paper"):
        along.main(["--arms", "paper,real"])
