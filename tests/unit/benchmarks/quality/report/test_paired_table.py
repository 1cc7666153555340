"""Two methods on the same subjects: the difference of each, and what has none."""

from __future__ import annotations

import pytest

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import difference, paired_table, parse_pairs


def _row(method: str, subject: str, right: float, *, seed: int = 0, forwards: int = 90) -> Row:
    own = f"{method} {subject} {seed} {forwards}"
    figures = Figures(right / 2, 0.5, None, right, 1.0, None, None)
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


def test_a_line_for_each_count_that_both_have() -> None:
    """Means with their intervals; a figure that nobody has is a dash."""
    assert paired_table(ROWS, [("default", "paper")]).splitlines()[2:] == [
        "| default − paper | 90 | 2 | +0.200 (+0.200 to +0.200) | – | +0.100 (+0.100 to +0.100) |"
    ]


def test_pairs_are_of_the_methods_at_hand() -> None:
    """A text becomes pairs; a name that was not asked for, or half a pair, is said before anything is measured."""
    assert parse_pairs("", ["default"]) == []
    assert parse_pairs("a:b,b:c", ["a", "b", "c"]) == [("a", "b"), ("b", "c")]
    for text in ("default:real", "default"):
        with pytest.raises(
            BenchmarkError, match=rf"--pairs {text}: allowed: two of --methods .*\(default, paper\)"
        ):
            parse_pairs(text, ["default", "paper"])


def test_methods_that_share_no_count_cannot_be_compared() -> None:
    """An anchor has no forwards, so there is nothing to set beside it."""
    with pytest.raises(BenchmarkError, match="default:caption: no count of forwards has both"):
        paired_table([*ROWS, _row("caption", "bee", 1.0, forwards=0)], [("default", "caption")])
