"""`zoodip generate` with a safety checker, which its option or the environment enables."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tooling.safety_checkers import FLAGS_ALL, FLAGS_NONE, add_safety_checker, set_threshold, similarity
from zoodip_core.cli.main import run
from zoodip_core.diffusion.safety import SafetyChecker

Draw = Callable[..., tuple[int, dict[str, Any], str]]

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path, family_folder: dict[str, Path]) -> Path:
    """Return the folder of `x` in `models.toml`, whose safety checker flags nothing."""
    shutil.copytree(family_folder["sd1"], tmp_path / "x")
    (tmp_path / "models.toml").write_text(
        '[[base_models]]\nname = "x"\npath = "x"\nprecision = "fp32"\ndefault = true\n'
    )
    return add_safety_checker(tmp_path / "x", FLAGS_NONE)


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Draw:
    """Return a function that draws two images; it returns the exit code, the JSON and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*options: str) -> tuple[int, dict[str, Any], str]:
        command = ["zoodip", "generate", "--catalog", "models.toml", "--prompt", "a dog", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [*command, "--n", "2", "--steps", "2", "--json", *options])
        try:
            run()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, json.loads(captured.out.splitlines()[-1]), captured.err

    return call


@pytest.mark.slow
def test_a_flagged_image_is_not_written(draw: Draw, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other image is written. ZOODIP_SAFETY_CHECKER enables the checker, as in the service."""
    _, plain, _ = draw("--out", "plain")
    checker = SafetyChecker(model, torch.device("cpu"))
    scores = [similarity(checker, Image.open(path)) for path in plain["images"]]
    set_threshold(model, sum(scores) / 2)
    flagged = scores.index(max(scores))
    monkeypatch.setenv("ZOODIP_SAFETY_CHECKER", "on")
    code, drawn, err = draw("--out", "checked")
    assert code == 0, err
    assert (drawn["withheld"], drawn["seeds"]) == ([flagged], [1 - flagged])
    assert f"withheld: the image of seed {flagged}" in err
    assert [path.name for path in Path("checked").iterdir()] == [f"{1 - flagged}.png"]
    assert len(draw("--no-safety-checker", "--out", "both")[1]["images"]) == 2


def test_if_all_are_flagged_nothing_is_written(draw: Draw, model: Path) -> None:
    """The command ends with the code `content_filtered` and exit status 1."""
    set_threshold(model, FLAGS_ALL)
    code, answer, err = draw("--safety-checker", "--out", "none")
    assert (code, answer["error"]["code"]) == (1, "content_filtered")
    assert "error: The safety checker of the base model flagged the image" in err
    assert not Path("none").exists()


def test_a_model_without_a_checker_draws_with_a_warning(
    draw: Draw, model: Path, family_folder: dict[str, Path]
) -> None:
    """The images are not checked, and the command says so."""
    shutil.rmtree(model)
    shutil.copytree(family_folder["sd1"], model)
    code, drawn, err = draw("--safety-checker")
    assert (code, len(drawn["images"]), drawn["withheld"]) == (0, 2, [])
    assert "warning: x ships no safety checker, so its images are not checked" in err
