"""The language check reports prose that breaks a rule and ignores code and data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.check_language import check_file, main


def _messages(folder: Path, name: str, text: str) -> list[str]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return [finding.removeprefix(f"{path}:") for finding in check_file(path)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Threads beside the engine."""', "1: 'beside': use next to, or compared with"),
        ('"""Threads of its\nown."""', "1: 'of its own': use separate, or own"),
        ("x = 1\ny = 2  # built anew", "2: 'anew': use again"),
        ('"""Return the optimiser."""', "1: 'optimiser': use 'optimizer'"),
        ('"""Return the neighbouring colour."""', "1: 'colour': use 'color'"),
        ('"""Raise the bar to .95."""', "1: '.95': write '0.95'"),
        ('"""What the job says."""', "1: docstring starts with 'What'"),
        ('def f():\n    """Nothing, if all is well."""', "2: docstring starts with 'Nothing, if'"),
        ('def check_size():\n    """Size is right."""', "2: docstring of a check function"),
        (
            r'raise E(f"size: {x!r} came\x3b allowed: 1")',
            "1: 'allowed' after a semicolon: write '<field>: got",
        ),
        ('raise SizeError(f"{n} came")', "1: 'came': write '<field>: got <value>; expected"),
        ('raise SizeError("nobody told us")', "1: 'told': use say"),
        ('log.info("worker told")', "1: 'told': use"),
        ('option(help="Whoever asks.")', "1: 'Whoever': use the client that"),
    ],
)
def test_violations_in_python_prose_are_reported(tmp_path: Path, source: str, found: str) -> None:
    """Docstrings, comments, errors, log events and help texts are checked; a finding has the line of the word."""
    messages = _messages(tmp_path, "a.py", source)
    assert any(message.startswith(found) for message in messages), messages


@pytest.mark.parametrize(
    "source",
    [
        '"""Return `colour` from `ask` and `tell`, the ask-and-tell interface."""',
        'prompt = "a dog beside a grey cat"',
        "colour = grey = tell = 0.5",
        'def check_size():\n    """Validate the size; 0.95 and arXiv:2503.14868 are fine."""',
        'raise SizeError(f"size: got {n}; expected 1 to 3")',
    ],
)
def test_code_and_data_are_ignored(tmp_path: Path, source: str) -> None:
    """Identifiers, code in backticks and strings that are not messages have no findings."""
    assert _messages(tmp_path, "a.py", source) == []


def test_markdown_is_checked_outside_code(tmp_path: Path) -> None:
    """Fences, code spans, link targets and numbers in tables are ignored; prose is checked."""
    text = "See [it](colour.md) `.95`.\n\n```sh\necho told\n```\n\n| .95 |\n\nIt is .95, as told.\n"
    assert _messages(tmp_path, "a.md", text) == [
        "9: '.95': write '0.95'",
        "9: 'told': use say, show or report",
    ]


def test_long_changelog_entries_are_reported(tmp_path: Path) -> None:
    """An entry has at most 25 words, including continuation lines."""
    text = "# Changelog\n\n- " + "word " * 20 + "\n  " + "word " * 6 + "\n- " + "word " * 25 + "\n"
    assert _messages(tmp_path, "CHANGELOG.md", text) == ["3: entry of 26 words; write at most 25"]
    assert _messages(tmp_path, "README.md", text) == []


def test_comments_in_configuration_files_are_checked(tmp_path: Path) -> None:
    """Only text after a hash sign is prose."""
    assert _messages(tmp_path, "a.toml", 'word = "told"  # as told\n') == [
        "1: 'told': use say, show or report"
    ]


def test_the_command_lists_findings_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status is 1 with findings in files that git would track, and 0 without."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    Path("good.md").write_text("Plain words.\n")
    Path("bad.md").write_text("Built anew.\n")
    assert main(["good.md"]) == 0
    assert main([]) == 1
    assert capsys.readouterr().out == "bad.md:1: 'anew': use again\n"
