"""The timeline of a step records each pass of each network, and draws it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.speed import timeline
from benchmarks.speed.shapes import NARROW


@pytest.mark.slow
def test_a_step_has_the_passes_of_its_procedure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The published step runs the VAE once and the U-Net three times; ours runs three rows once and no VAE."""
    out = tmp_path / "step.svg"
    folder = str(tmp_path / "models")
    timeline.main(
        [
            "--model",
            NARROW,
            "--entries",
            "a",
            "b",
            "--steps",
            "1",
            "--models-folder",
            folder,
            "--out",
            str(out),
        ]
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("3 passes of 1 row through the U-Net")
    assert printed[1].endswith("1 pass of 3 rows through the U-Net")
    picture = out.read_text()
    assert all(line in picture for line in (*printed, *timeline.COLORS))


def test_the_passes_do_not_overlap_and_lie_within_the_step() -> None:
    """Spans follow each other, in the order of the calls, within the duration."""
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    recorder = timeline.Recorder({"U-Net": [first], "VAE": [second]}, lambda: None)

    def step() -> None:
        second(first(torch.zeros(3, 4)))

    found = recorder.record("", step)
    assert [(span.network, span.rows) for span in found.spans] == [("U-Net", 3), ("VAE", 3)]
    times = [0.0, *(time for span in found.spans for time in (span.start_s, span.end_s)), found.duration_s]
    assert times == sorted(times)
