"""Differences between two methods on the same subjects."""

from __future__ import annotations

import pytest

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Figures
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import difference, paired_table, parse_pairs


def _row(method: str, subject: str, right: float, *, seed: int = 0, forwards: int = 90) -> Row:
    own = f"{method} {subject} {seed} {forwards}"
    figures = Figures(right / 2, 0.5, None, right, 1.0, None, None)
    return Row(own, method, "subjects", "test", subject, seed, forwards, figures)


ROWS = [
    _row("full", "bee", 0.8),
    _row("full", "bee", 0.6, seed=1),
    _row("full", "cow", 0.5),
    _row("full", "cow", 0.5, forwards=30),
    _row("paper", "bee", 0.5),
    _row("paper", "cow", 0.3),
    _row("paper", "owl", 0.9),
]


def test_differences_are_of_subjects_that_both_have() -> None:
    """Seeds are averaged first; a subject that only one method has does not count."""
    assert difference(ROWS, ("full", "paper"), 90, "attribute_accuracy") == pytest.approx([0.2, 0.2])


def test_one_line_for_each_shared_length() -> None:
    """Each line has means with intervals; an unknown figure is a dash."""
    assert paired_table(ROWS, [("full", "paper")]).splitlines()[2:] == [
        "| full − paper | 90 | 2 | +0.200 (+0.200 to +0.200) | – | +0.100 (+0.100 to +0.100) |"
    ]


def test_pairs_name_the_methods_of_the_run() -> None:
    """Text becomes pairs; an unknown name or half a pair is refused."""
    assert parse_pairs("", ["full"]) == []
    assert parse_pairs("a:b,b:c", ["a", "b", "c"]) == [("a", "b"), ("b", "c")]
    for text in ("full:real", "full"):
        with pytest.raises(
            BenchmarkError, match=rf"--pairs: got {text}; expected two of --methods .*\(full, paper\)"
        ):
            parse_pairs(text, ["full", "paper"])


def test_methods_without_a_shared_length_cannot_be_compared() -> None:
    """An anchor has no evaluations, so no length is shared."""
    with pytest.raises(BenchmarkError, match="--pairs: full:caption share no number of evaluations"):
        paired_table([*ROWS, _row("caption", "bee", 1.0, forwards=0)], [("full", "caption")])
