"""`make` finds a supported Python, or prints the names that it tried."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, and with a `bin` that has only the programs that it needs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("make", "sed", "sort", "expand", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    return tmp_path


def _python(folder: Path, name: str, script: str) -> None:
    program = folder / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_setup_uses_the_newest_python_that_runs(folder: Path) -> None:
    """A shim without an interpreter is skipped, and the newest version wins."""
    _python(folder, "python3.14", "exit 127")
    _python(folder, "python3.13", f'exec {sys.executable} "$@"')
    _python(folder, "python3.11", f'exec {sys.executable} "$@"')
    assert "python3.13 -m venv --clear .venv" in _make(folder, "-n", "setup").stdout
    assert "python3.11 -m venv" in _make(folder, "-n", "setup", "PYTHON=python3.11").stdout


@pytest.mark.parametrize("given", ["", "python2.7"])
def test_setup_without_a_supported_python_fails(folder: Path, given: str) -> None:
    """The error lists the supported versions, and nothing is installed."""
    _python(folder, "python2.7", "exit 1")
    done = _make(folder, "setup", *([f"PYTHON={given}"] if given else []))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"PYTHON: got '{given}'; expected one of python3.14 python3.13 python3.12 python3.11 on PATH, "
        "or make PYTHON=/path/to/one"
    )
    assert not (folder / ".venv").exists()


def test_help_lists_the_targets(folder: Path) -> None:
    """`make help` lists the main targets without any Python."""
    listed = _make(folder, "help").stdout
    for target in ("setup", "demo", "lint", "test", "test-fast", "docs", "clean"):
        assert f"\n{target} " in f"\n{listed}"
