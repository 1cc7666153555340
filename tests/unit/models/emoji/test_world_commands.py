"""The commands `compose`, `sprite_files` and `demo`: help, output and error messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.emoji import compose, demo, sprite_files

COMMANDS = [compose.main, demo.main, sprite_files.main]


@pytest.mark.parametrize("main", COMMANDS, ids=["compose", "demo", "sprite_files"])
def test_help_writes_nothing(
    main: Callable[[list[str]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--help` prints the usage with the command's name and writes no file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert f"usage: python -m {main.__module__}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_contact_sheets_are_reproducible(tmp_path: Path) -> None:
    """The same seeds give the same bytes, and a missing folder is created."""
    sheets = [tmp_path / "new" / "one.png", tmp_path / "new" / "two.png"]
    for sheet in sheets:
        compose.main([str(sheet), "--first", "7", "--count", "5"])
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    assert sorted((tmp_path / "new").iterdir()) == sheets


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_sheet_of_no_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: str
) -> None:
    """The message names the option, and no file is written."""
    with pytest.raises(SystemExit) as ended:
        compose.main([str(tmp_path / "sheet.png"), "--count", count])
    assert ended.value.code == 2
    assert "--count" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("main", [compose.main, demo.main], ids=["compose", "demo"])
def test_a_write_error_is_one_message(main: Callable[[list[str]], None], tmp_path: Path) -> None:
    """An output path below a file gives one message and leaves the file unchanged."""
    (tmp_path / "taken").write_text("a file")
    place = tmp_path / "taken" / "inside"
    options = [str(place), "--count", "1"] if main is compose.main else ["--out", str(place)]
    with pytest.raises(SystemExit, match=r"error: .*could not be written"):
        main(options)
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_missing_package_is_one_message(tmp_path: Path) -> None:
    """The message has the command that fetches the package, and no folder is created."""
    out = tmp_path / "sprites"
    with pytest.raises(SystemExit, match=r"error: .*: sprite package not found.*npm pack"):
        sprite_files.main([str(tmp_path / "no.tgz"), "--out", str(out)])
    assert not out.exists()
