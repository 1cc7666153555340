"""The benchmark of threads prints a row for each forward pass."""

from __future__ import annotations

import pytest
import torch

from benchmarks.engine import threads


@pytest.mark.slow
def test_each_pass_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded U-Net and a narrow one of SD1.5's kind run with one thread, with all threads and in groups."""
    before = torch.get_num_threads()
    threads.main(
        ["--embedded-rows", "2", "--narrow-rows", "1", "--widths", "32", "--repeats", "1", "--threads", "2"]
    )
    assert torch.get_num_threads() == before
    head, _, *rows = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line)
    assert [row[:3] for row in rows] == [
        ["embedded, 6.4 M parameters", "2", "1"],
        ["32 channels, 10.4 M parameters", "1", "11"],
    ]
    assert all(len(row) == len(head) and all(float(cell) > 0 for cell in row[3:6]) for row in rows)
