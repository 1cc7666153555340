"""README's library and service sections, run as printed: the script; the server and its curl commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.support.postgresql import missing
from tests.integration.support.processes import accepts, free_port, stop, wait_until
from tests.integration.support.workers import ROOT

_ADDRESS = "127.0.0.1:8000"


def _commands() -> str:
    """The shell block that speaks to the server."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if _ADDRESS in block]
    return str(block)


def _script() -> str:
    """The block of Python."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(block)


@pytest.mark.slow
def test_the_library_example_learns_and_draws(tmp_path: Path) -> None:
    """In an empty folder that holds the photo by its printed path, the script writes a picture."""
    photo = Path("zoodip_core/assets/demo/reference-1.png")
    (tmp_path / photo.parent).mkdir(parents=True)
    shutil.copy(ROOT / photo, tmp_path / photo)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _script()],  # -P: the folder of the photo is no package
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    with Image.open(tmp_path / "turtle.png") as picture:
        assert picture.size == (64, 64)
        assert picture.getcolors(100) is None  # more than a hundred: not blank


@pytest.mark.slow
def test_the_five_curl_commands_learn_and_draw(tmp_path: Path) -> None:
    """A token is learned, its events end with success, it is listed, and a picture of it is fetched."""
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            missing(program)
    port, commands = free_port(), _commands()
    for name in ("job.json", "drawn.json", "turtle.png"):
        assert name in commands
        commands = commands.replace(name, str(tmp_path / name))
    environment = {**os.environ, "ZOODIP_DATA_DIR": str(tmp_path / "data")}
    serve = subprocess.Popen(
        [str(Path(sys.executable).with_name("zoodip")), "serve", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: accepts(port), "the API", 90)
        ran = subprocess.run(
            ["bash", "-euc", commands.replace(_ADDRESS, f"127.0.0.1:{port}")],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert '"succeeded"' in ran.stdout
        assert "<my-turtle>" in ran.stdout
        with Image.open(tmp_path / "turtle.png") as picture:
            assert picture.size == (64, 64)
    finally:
        stop(serve)
