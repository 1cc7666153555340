"""`stop="auto"` on the embedded model: it saves steps, and the pictures are as good as the seeds are apart."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from benchmarks.quality.cli import embedded_model, load_instruments
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from benchmarks.quality.stopping import measure


def test_auto_saves_steps_and_loses_no_quality_beyond_the_seeds_spread(tmp_path: Path) -> None:
    """Two held-out subjects, two search seeds each, drawn where the rule ends the search and at its last step."""
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
