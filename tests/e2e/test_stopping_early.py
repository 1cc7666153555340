"""`stop="auto"` on the embedded model saves steps without losing more quality than the spread between seeds."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from benchmarks.quality.cli import embedded_model, load_instruments
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from benchmarks.quality.stopping import measure


@pytest.mark.long
def test_auto_saves_steps_within_the_quality_spread_of_seeds(tmp_path: Path) -> None:
    """Two unseen subjects with two seeds each are drawn at the early stopping point and at the last step."""
    entry = embedded_model()
    changes = {"steps": 480, "measure_every": 48}
    chosen = Selection(
        tmp_path, split="validation", subjects=2, prompts=4, pictures=2, changes=changes, device="cpu"
    )
    benchmark = BenchmarkRun(entry, RunOptions(chosen, ()), load_instruments(entry), lambda _: None)
    pairs = measure(benchmark, seeds=2)
    assert any(pair.auto.forwards < pair.steps.forwards for pair in pairs)
    whole = [
        [pair.steps.figures.clip_i for pair in pairs if pair.steps.subject == case.name]
        for case in benchmark.setup.cases
    ]
    spread = mean(max(seeds) - min(seeds) for seeds in whole)
    assert mean(pair.gain for pair in pairs) > -spread
