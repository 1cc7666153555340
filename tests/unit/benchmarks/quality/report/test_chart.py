"""The chart of attribute accuracy: drawn from rows alone, with deterministic bytes and clear errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.rows import Row, RowFile, parse_row

pytest.importorskip("matplotlib")
from benchmarks.quality.report import chart

FIGURES = Figures(0.5, 0.25, None, 0.75, 1.0, 0.5, 0.25)
ROW = Row("a", "paper", "subjects", "test", "red fish", 0, 3000, FIGURES)
ROWS = [
    replace(ROW, id=f"{method} {subject} {forwards}", method=method, subject=subject, forwards=forwards)
    for method, forwards in (("initializer", 0), ("full", 3000), ("paper", 3000), ("paper", 9000))
    for subject in ("red fish", "blue car")
]


def _write(path: Path, rows: list[Row]) -> Path:
    file = RowFile(path, parse_row)
    for row in rows:
        file.add(row)
    return path


def test_the_same_rows_give_the_same_chart(tmp_path: Path) -> None:
    """A few rows give an SVG with the labels of their methods, twice with the same bytes."""
    rows = _write(tmp_path / "rows.jsonl", ROWS)
    for name in ("one.svg", "two.svg"):
        chart.main(["--rows", str(rows), "--out", str(tmp_path / name)])
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert all(label in text for label in ("full space", "paper: SG and PUTS", "initializer, before"))
    assert "Textual Inversion" not in text


def test_points_need_every_subject() -> None:
    """A number of evaluations that only some subjects have gives no point."""
    found = chart.points([*ROWS, replace(ROW, forwards=300)])
    assert [point.forwards for point in found["paper"]] == [3000, 9000]
    assert found["paper"][0].mean == 0.75


@pytest.mark.parametrize(
    "rows", [[], [replace(ROW, split="validation"), replace(ROW, id="b", kind="shapes")]]
)
def test_a_file_without_rows_is_refused(rows: list[Row], tmp_path: Path) -> None:
    """Without rows of test subjects the command ends with one message and writes nothing."""
    path = _write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(SystemExit, match="error: --rows: got no matching row; expected measured rows"):
        chart.main(["--rows", str(path), "--out", str(tmp_path / "chart.svg")])
    assert not (tmp_path / "chart.svg").exists()


def test_two_measurements_of_one_point_are_refused() -> None:
    """Rows of two protocols are ambiguous, so they are refused."""
    with pytest.raises(BenchmarkError, match="--rows: got two rows of paper, red fish, seed 0, 3000"):
        chart.select_rows([ROW, replace(ROW, id="b")])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """The suffix of --out selects the format."""
    with pytest.raises(SystemExit, match=r"error: --out: got .*chart\.gif; expected a name"):
        chart.main(["--rows", "rows.jsonl", "--out", str(tmp_path / "chart.gif")])
