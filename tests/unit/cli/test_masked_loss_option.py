"""`zoodip personalize --masked-loss`: provenance, resume with another value, warnings and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tooling.pictures import file_of, halves
from zoodip_core.artifact import load_concept
from zoodip_core.cli.main import run

Learn = Callable[..., tuple[int, dict[str, Any]]]

pytestmark = pytest.mark.slow


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Learn:
    """Return a function that learns from an image in an empty folder; it returns the exit code and the JSON."""
    monkeypatch.chdir(tmp_path)

    def call(image: Image.Image, *options: str) -> tuple[int, dict[str, Any]]:
        Path("photo.png").write_bytes(file_of(image))
        command = "zoodip personalize photo.png --token <x> --initializer turtle --steps 2 --set n=1 --json"
        monkeypatch.setattr(sys, "argv", [*command.split(), "--set", "fixed_rows=2", *options])
        try:
            run()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


def _cutout(level: int = 255) -> Image.Image:
    image = halves(64, 64).convert("RGBA")
    opacity = Image.new("L", image.size, 0)
    opacity.paste(level, (16, 16, 48, 48))
    image.putalpha(opacity)
    return image


def _codes(report: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in report["warnings"]]


def test_the_option_changes_the_search_and_is_recorded(learn: Learn) -> None:
    """The concept's provenance has the setting; a resume without the option is refused and changes no file."""
    code, plain = learn(_cutout(), "--out", "plain.safetensors")
    assert (code, _codes(plain)) == (0, ["image_transparent"])
    code, masked = learn(_cutout(), "--masked-loss", "--out", "x.safetensors")
    assert (code, _codes(masked)) == (0, [])
    assert masked["fixed_loss_start"] != plain["fixed_loss_start"]
    origin = load_concept(Path("x.safetensors")).provenance
    assert origin is not None
    assert origin.settings["masked_loss"] is True
    before = Path("x.safetensors").read_bytes()
    code, refused = learn(_cutout(), "--resume", "--out", "x.safetensors")
    assert code == 2
    assert "masked_loss: got False; the checkpoint has True" in refused["error"]["message"]
    assert Path("x.safetensors").read_bytes() == before
    assert learn(_cutout(), "--masked-loss", "--resume", "--out", "x.safetensors")[0] == 0


def test_an_image_without_a_subject_is_refused(learn: Learn) -> None:
    """A fully transparent image is an error that leaves no file; an opaque one causes a warning."""
    code, refused = learn(_cutout(0), "--masked-loss")
    assert code == 2
    assert refused["error"]["message"].startswith("images: got 'image 1' (fully transparent in the part")
    assert [path.name for path in Path().iterdir()] == ["photo.png"]
    assert _codes(learn(halves(64, 64), "--masked-loss")[1]) == ["no_mask"]
