"""The curl commands of the documentation send what they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMAND = re.compile(r"curl (?:[^\n]*\\\n)*[^\n]*")
READS_A_FILE = re.compile(r"""-F\s+['"]?[\w\[\]]+=<""")


def test_no_token_is_read_as_a_file_name() -> None:
    """`-F 'token=<my-dog>'` makes curl open the file `my-dog>`; only `--form-string` sends the text."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    commands = [command for page in pages for command in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert any("--form-string" in command for command in commands)
    assert [command for command in commands if READS_A_FILE.search(command)] == []
