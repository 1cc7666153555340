"""The sweep: each row is the method with one setting changed, and says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import sweep
from benchmarks.quality.booth import Options
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.stage import Selection
from benchmarks.quality.sweep import VARIATIONS, Sweep, label


def test_every_variation_is_allowed_and_changes_something(tmp_path: Path) -> None:
    """Two variations give two rows with other fixed-set losses, named by what was changed, and their difference."""
    chosen = Selection(tmp_path, half="tuning", subjects=1, prompts=1, pictures=1)
    text = sweep.run(Sweep("paper", Options(chosen, ["paper"], 1, (6,)), ({}, {"learning_rate": 0.5})))
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith(("| paper", "| learning"))]
    assert [line[0] for line in lines] == ["| paper", "| learning_rate=0.5", "| learning_rate=0.5 − paper"]
    assert lines[0][8] != lines[1][8]
    assert (tmp_path / "sweep-paper.md").read_text() == text


def test_labels_name_what_is_changed() -> None:
    """Each variation has a label of its own."""
    labels = [label("paper", variation) for variation in VARIATIONS]
    assert labels[:2] == ["paper", "t_low=0, t_high=500"]
    assert len(set(labels)) == len(VARIATIONS)


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    """The message lists the methods that there are."""
    with pytest.raises(BenchmarkError, match=r"--methods papyrus: allowed: .*paper"):
        sweep.run(Sweep("papyrus", Options(Selection(tmp_path), ["papyrus"])))
