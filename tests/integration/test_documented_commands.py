"""The commands of README and the tutorials run as printed, in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.support.postgresql import missing
from tests.integration.support.processes import free_port
from tests.integration.support.workers import ROOT

PRINTED_PORT = "8000"
PAGES = ("README.md", *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/tutorials/*.md")))
SERVE = f"""
zoodip serve > serve.log 2>&1 &
trap 'kill $!; wait' EXIT
curl -s --retry 90 --retry-delay 1 --retry-all-errors --fail -o ready.json http://127.0.0.1:{PRINTED_PORT}/readyz
"""


def _files() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def _script(page: str) -> str:
    """Join the shell blocks of a page; the server starts in the background and stops with the script."""
    blocks = [SERVE if block.strip() == "zoodip serve" else block for block in _blocks(page, "sh")]
    return re.sub(r"^make .*\n", "", "".join(blocks), flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the repository's files."""
    for name in _files():
        target = tmp_path / "zoodip" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return tmp_path / "zoodip"


def _environment(folder: Path, port: int) -> dict[str, str]:
    """Return an environment without settings of this machine, with the commands of this Python first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOODIP_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "ZOODIP_DATA_DIR": str(folder / "data"), "ZOODIP_PORT": str(port)}


def _new_pictures(folder: Path) -> list[Path]:
    known = {folder / name for name in _files()}
    return [path for path in folder.rglob("*.png") if path not in known]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "sh")])
def test_the_shell_blocks_of_a_page_run_in_order(folder: Path, page: str) -> None:
    """All blocks in one shell that stops at the first failure; every picture that they write can be opened."""
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            missing(program)
    port = free_port()
    script = _script(page).replace(f":{PRINTED_PORT}", f":{port}")
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=_environment(folder, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = shell.communicate(timeout=500)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, output
    pictures = _new_pictures(folder)
    assert pictures
    for picture in pictures:
        with Image.open(picture) as opened:
            opened.load()


@pytest.mark.slow
def test_the_library_example_draws_a_picture(folder: Path) -> None:
    """README's Python block learns a token and saves a picture that is not blank."""
    (block,) = _blocks("README.md", "python")
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    (picture,) = _new_pictures(folder)
    with Image.open(picture) as opened:
        assert opened.size == (64, 64)
        assert opened.getcolors(100) is None  # more than a hundred colors


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES[1:]])
def test_every_make_target_that_is_named_exists(page: str) -> None:
    """`make` lines are not run, but their targets are in the Makefile."""
    if not (ROOT / page).exists():
        pytest.skip(f"no {page}")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    blocks = "".join(_blocks(page, "sh") + _blocks(page, "console"))
    named = re.findall(r"^(?:\$ )?make ([a-z-]+)", blocks, re.MULTILINE)
    assert set(named) <= targets
