"""Each row of the tables about faults and hostile input names tests that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_PAGE = (ROOT / "docs/explanation/reliability.md").read_text()
ROWS = re.findall(r"^\| (?!fault |input |case )(.+) \| .+ \| (.+) \|$", _PAGE, re.MULTILINE)


def _functions(path: str) -> list[str]:
    return re.findall(r"^def (test_\w+)", (ROOT / "tests" / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("tests", [pytest.param(tests, id=name) for name, tests in ROWS])
def test_the_tests_of_a_row_exist(tests: str) -> None:
    """A file without a folder is in that of the one before; each word of `-k` selects a test."""
    folder = Path()
    commands = re.findall(r"`([^`]+)`", tests)
    assert commands
    for command in commands:
        path, *options = shlex.split(command)
        folder = Path(path).parent if "/" in path else folder
        functions = _functions(str(folder / Path(path).name))
        assert functions
        for word in options[1].split(" or ") if options else ():
            assert any(word in function for function in functions), word


def test_all_rows_are_read() -> None:
    """The pattern matches every row of every table."""
    lines = [line for line in _PAGE.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 3
