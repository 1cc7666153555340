"""The row file on a full disk: complete lines or none."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[5]

LIMITED = """
import resource, sys
from dataclasses import dataclass
from pathlib import Path
from benchmarks.quality.report.rows import RowFile, parse_fields
from zoodip_core.errors import StorageError

@dataclass(frozen=True)
class Row:
    id: str
    figure: float

path = Path(sys.argv[1])
rows = RowFile(path, lambda values: parse_fields(Row, values))
rows.add(Row("first", 1.0))
room = path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    rows.add(Row("second", 2.0))
except StorageError as refused:
    print(refused, "second" in rows)
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 10])
def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    """With room for part of a line at most, the error is reported and the file keeps its complete lines."""
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
