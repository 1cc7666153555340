"""`zoodip generate --prompts`: bad files and options, and the files that a set writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from zoodip_core.cli.main import run
from zoodip_core.cli.prompt_file import requested_prompts
from zoodip_core.errors import InvalidInputError


@pytest.mark.parametrize(
    ("content", "prompt", "message"),
    [
        (None, None, "prompt: got nothing; expected one of --prompt and --prompts"),
        (b"a fox", "a dog", "prompt: got both --prompt and --prompts; expected one of"),
        (b"\n \n", None, "prompts: got 0 prompts; expected 1 to 64"),
        (b"a \xff fox", None, "which is not UTF-8; expected a text file with one prompt a line"),
        (b"x" * 1_000_001, None, "a larger file; expected at most 1 MB"),
    ],
)
def test_bad_prompt_files_have_one_clear_error(
    tmp_path: Path, content: bytes | None, prompt: str | None, message: str
) -> None:
    """The error names the option and what is allowed."""
    file = None
    if content is not None:
        file = tmp_path / "prompts.txt"
        file.write_bytes(content)
    with pytest.raises(InvalidInputError) as raised:
        requested_prompts(prompt, file, [])
    assert message in raised.value.message


def test_a_folder_is_no_prompt_file(tmp_path: Path) -> None:
    """A path that cannot be read is named with the reason."""
    with pytest.raises(InvalidInputError, match="Is a directory"):
        requested_prompts(None, tmp_path, [])


@pytest.mark.slow
def test_a_set_writes_named_images_and_a_contact_sheet(
    tmp_path: Path,
    family_folder: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,  # the command reads sys.argv
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each image has the number of its prompt and its own metadata; the JSON says which belong together."""
    (tmp_path / "models.toml").write_text(
        f'[[base_models]]\nname = "x"\npath = "{family_folder["sd1"]}"\nprecision = "fp32"\ndefault = true\n'
    )
    (tmp_path / "prompts.txt").write_text("a dog\n\n a fox \n")
    monkeypatch.chdir(tmp_path)
    options = ["--catalog", "models.toml", "--device", "cpu", "--steps", "2", "--n", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["zoodip", "generate", "--prompts", "prompts.txt", *options])
    with pytest.raises(SystemExit, match=r"^0$"):
        run()
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = ["01-0.png", "01-1.png", "02-0.png", "02-1.png"]
    assert [Path(file).name for file in shown["images"]] == names
    assert [(one["prompt"], one["images"]) for one in shown["groups"]] == [
        ("a dog", [0, 1]),
        ("a fox", [2, 3]),
    ]
    with Image.open(shown["images"][3]) as last:
        assert (last.info["prompt"], last.info["seed"]) == ("a fox", "1")
    assert Path(shown["contact_sheet"]).name == "contact-sheet.png"
