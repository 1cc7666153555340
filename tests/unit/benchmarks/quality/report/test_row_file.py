"""The ledger of measurements on a disk that is full: whole lines or none."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[5]

LIMITED = """
import resource, sys
from dataclasses import dataclass
from pathlib import Path
from benchmarks.quality.report.rows import Ledger, exactly
from zoodip_core.errors import StorageError

@dataclass(frozen=True)
class Row:
    id: str
    figure: float

path = Path(sys.argv[1])
ledger = Ledger(path, lambda values: exactly(Row, values))
ledger.add(Row("first", 1.0))
room = path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    ledger.add(Row("second", 2.0))
except StorageError as refused:
    print(refused, "second" in ledger)
"""


@pytest.mark.parametrize("room", [0, 10])
def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    """With room for none or for a part of a line, the run says so once, and the next run reads every whole line."""
    path = tmp_path / "rows.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(room)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert ran.stdout.startswith(f"{path} could not be written: ")
    assert ran.stdout.endswith(" False\n")
    assert path.read_text() == '{"id": "first", "figure": 1.0}\n'
