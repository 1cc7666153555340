"""The speed benchmark: every entry is measured, stored and printed, and a second run measures nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.engine.spread import spread
from benchmarks.quality.errors import BenchmarkError
from benchmarks.speed import __main__ as command
from benchmarks.speed.entries import ENTRIES
from benchmarks.speed.process import EntryProcess
from benchmarks.speed.shapes import NARROW, SMALL_ENTRIES
from benchmarks.speed.table import SpeedRow, table_rows
from zoodip_core.base_models.catalog import BaseModelEntry


def _table(printed: str) -> dict[str, list[str]]:
    """Return the cells of each entry's line."""
    lines = [
        line.strip("| ").split(" | ") for line in printed.splitlines() if re.match(r"\| [a-e][^|]*:", line)
    ]
    return {cells[0].partition(":")[0]: cells[1:] for cells in lines}


@pytest.mark.slow
def test_all_kinds_of_entries_are_measured_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry has a row with speed, memory, kernels and a ratio. A second run prints the same."""
    command.main(["--small", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    file = tmp_path / "speed.jsonl"
    rows = {row["entry"]: row for row in map(json.loads, file.read_text().splitlines())}

    assert tuple(rows) == tuple(_table(printed)) == SMALL_ENTRIES
    for row in rows.values():
        assert row["model"] == NARROW
        assert row["kernels_per_forward"] > 300
        assert 0 < row["matrix_share"] < 1
        assert row["launches_per_s"] > 0
        assert row["it_per_s"] / row["reference_it_per_s"] > 0
        assert 0 < row["busy_share"] <= torch.get_num_threads() * 1.1
    assert rows["c2"]["rows_per_s"] == pytest.approx(3 * rows["c2"]["it_per_s"])
    assert rows["a"]["rows_per_s"] == pytest.approx(3 * rows["a"]["it_per_s"])
    assert rows["e"]["rows_per_s"] > 3 * rows["e"]["it_per_s"]

    stored = file.read_bytes()
    command.main(["--small", "--out", str(tmp_path)])
    assert capsys.readouterr().out == printed
    assert file.read_bytes() == stored


def test_ratios_are_those_of_one_round() -> None:
    """A cell has the median and the range of the ratios, not the ratio of the medians."""
    rows = [_row(it_per_s=own, reference=other) for own, other in ((4.0, 1.0), (2.0, 1.0), (9.0, 3.0))]
    (line,) = table_rows(rows)
    assert line[2] == "4 (2–9)"
    assert line[6] == "3 (2–4)"
    assert line[7] == "6 (4–8)"  # the reference had twice the share of the processor
    assert spread([1.0]) == "1 (1–1)"


def _row(*, it_per_s: float, reference: float) -> SpeedRow:
    return SpeedRow(
        "id", "emoji", "b", 0, "INT8", it_per_s, reference, 0.25, 0.5, 3.0, 0.1, 1e9, 10.0, 900.0, 1e4
    )


def test_a_changed_option_is_another_row() -> None:
    """Rows of other threads or rounds have other ids, so they are measured again."""
    first, second = (command._parse(["--small", "--threads", threads]) for threads in ("1", "2"))
    ids = {command._id(options, NARROW, "a", number) for options in (first, second) for number in (0, 1)}
    assert len(ids) == 4


@pytest.mark.slow
def test_an_entry_is_measured_in_a_separate_process(family_folder: dict[str, Path]) -> None:
    """The process gives its facts and readings back. If it ends, the error has its name and status."""
    model = BaseModelEntry(name=NARROW, path=family_folder["sd1"])
    with EntryProcess("b", model, "cpu", threads=1) as entry:
        assert entry.facts.kernels_per_forward > 300
        reading = entry.read(0.0)
        assert reading.rows_per_s == pytest.approx(3 * reading.it_per_s)
        entry._process.kill()
        entry._process.wait()
        with pytest.raises(BenchmarkError, match=r"b: the process ended with -9"):
            entry.read(0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: got '0'; expected a whole number, 1 or more"),
        (["--entries", "z"], "--entries: invalid choice: 'z'"),
        (["--seconds", "-1"], "--seconds: got '-1'; expected a number of seconds, 0 or more"),
    ],
)
def test_a_bad_option_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the option, the value and what is expected."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_entries_have_distinct_names() -> None:
    """The reference is the first line of each table."""
    assert next(iter(ENTRIES)) == "a"
