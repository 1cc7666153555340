"""Two methods on the same subjects: the difference of each, and what has none."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.quality import paired
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Figures
from benchmarks.quality.paired import difference, table
from benchmarks.quality.records import Row


def _row(method: str, subject: str, right: float, *, seed: int = 0, forwards: int = 90) -> Row:
    own = f"{method} {subject} {seed} {forwards}"
    figures = Figures(right / 2, 0.5, None, right, 1.0, None)
    return Row(own, method, "subjects", "report", subject, seed, forwards, figures)


ROWS = [
    _row("default", "bee", 0.8),
    _row("default", "bee", 0.6, seed=1),
    _row("default", "cow", 0.5),
    _row("default", "cow", 0.5, forwards=30),
    _row("paper", "bee", 0.5),
    _row("paper", "cow", 0.3),
    _row("paper", "owl", 0.9),
]


def test_differences_are_of_subjects_that_both_have() -> None:
    """Seeds are averaged first; a subject of one method alone does not count."""
    assert difference(ROWS, ("default", "paper"), 90, "right") == pytest.approx([0.2, 0.2])


def test_rows_of_different_settings_are_not_averaged() -> None:
    """A sweep writes rows of one name: they are no seeds of one method."""
    with pytest.raises(BenchmarkError, match="default, bee: rows of different settings"):
        difference([*ROWS, replace(ROWS[0], id="other")], ("default", "paper"), 90, "right")


def test_a_line_for_each_count_that_both_have() -> None:
    """Means with their intervals; a figure that nobody has is a dash."""
    assert table(ROWS, [("default", "paper")]).splitlines()[2:] == [
        "| default − paper | 90 | 2 | +0.200 (+0.200 to +0.200) | – | +0.100 (+0.100 to +0.100) |"
    ]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("default:real", "error: default:real: no subject and count of forwards has both"),
        ("default", "error: default: allowed: two methods with a colon between, such as default:paper"),
    ],
)
def test_what_is_no_pair_is_said(
    pair: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the pair."""
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in ROWS)
    (tmp_path / "results.jsonl").write_text(lines)
    monkeypatch.setattr("sys.argv", ["paired", pair, "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=message):
        paired.main()


def test_the_command_reads_one_kind_and_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of the other half are not mixed in."""
    other = asdict(_row("paper", "owl", 0.1, seed=5)) | {"half": "tuning"}
    lines = "".join(json.dumps(values) + "\n" for values in [*map(asdict, ROWS), other])
    (tmp_path / "results.jsonl").write_text(lines)
    monkeypatch.setattr("sys.argv", ["paired", "paper:paper", "--out", str(tmp_path)])
    paired.main()
    assert "| paper − paper | 90 | 3 | +0.000 (+0.000 to +0.000) |" in capsys.readouterr().out
