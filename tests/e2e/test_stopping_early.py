"""`stop="auto"` on the embedded model saves steps without losing more quality than the spread between seeds."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from benchmarks.quality.arguments import embedded_model, instruments
from benchmarks.quality.booth import Booth, Options
from benchmarks.quality.stage import Selection
from benchmarks.quality.stopping import measure


def test_auto_saves_steps_within_the_quality_spread_of_seeds(tmp_path: Path) -> None:
    """Two unseen subjects with two seeds each are drawn at the early stopping point and at the last step."""
    entry = embedded_model()
    changes = {"steps": 480, "measure_every": 48}
    chosen = Selection(
        tmp_path, half="tuning", subjects=2, prompts=4, pictures=2, changes=changes, device="cpu"
    )
    booth = Booth(entry, Options(chosen, ()), instruments(entry), lambda _: None)
    pairs = measure(booth, seeds=2)
    assert any(pair.auto.forwards < pair.steps.forwards for pair in pairs)
    whole = [
        [pair.steps.figures.clip_i for pair in pairs if pair.steps.subject == case.name]
        for case in booth.stage.cases
    ]
    spread = mean(max(seeds) - min(seeds) for seeds in whole)
    assert mean(pair.gain for pair in pairs) > -spread
