"""Installed command as a process: interruption, resume and `zoodip demo`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoodip_core.artifact import load_concept

ZOODIP = Path(sys.executable).with_name("zoodip")
DEMO = Path(__file__).parents[2] / "zoodip_core" / "assets" / "demo"
TIMEOUT_S = 240


def _personalize(folder: Path, out: str, *extra: str) -> list[str]:
    images = [str(path) for path in sorted(DEMO.glob("*.png"))]
    quick = ["--steps", "30", "--set", "n=1", "--set", "fixed_rows=2", "--set", "checkpoint_every=5"]
    subject = ["--token", "<x>", "--initializer", "turtle", "--out", str(folder / out)]
    return [str(ZOODIP), "personalize", *images, *subject, *quick, "--json", *extra]


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def _interrupt(folder: Path, number: signal.Signals) -> Path:
    """Run a search, send it a signal after its first checkpoint, and return the checkpoint that is left."""
    process = subprocess.Popen(
        _personalize(folder, "x.safetensors"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    checkpoint = folder / "x.checkpoint.safetensors"
    _wait_for(checkpoint)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "interrupted"
    assert "--resume" in err
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.name]
    return checkpoint


def test_a_terminated_search_leaves_a_checkpoint(tmp_path: Path) -> None:
    """SIGTERM, which service managers send, is an interruption as Ctrl-C is."""
    _interrupt(tmp_path, signal.SIGTERM)


@pytest.mark.long
def test_interrupted_search_resumes_bit_identically(tmp_path: Path) -> None:
    """An interrupted run saves a checkpoint, which only --resume continues, with the bits of an uninterrupted run."""
    checkpoint = _interrupt(tmp_path, signal.SIGINT)
    saved = checkpoint.read_bytes()
    refused = subprocess.run(
        _personalize(tmp_path, "x.safetensors"), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "--resume to continue that run, --replace to start over" in refused.stderr
    assert checkpoint.read_bytes() == saved
    resumed = subprocess.run(
        _personalize(tmp_path, "x.safetensors", "--resume"), capture_output=True, text=True, check=True
    )
    assert "resuming at step" in resumed.stderr
    subprocess.run(_personalize(tmp_path, "y.safetensors"), capture_output=True, check=True)
    x, y = (load_concept(tmp_path / f"{name}.safetensors").embeddings["clip"] for name in "xy")
    assert np.array_equal(x, y)


@pytest.fixture
def default_interrupt() -> Iterator[None]:
    """Let child processes react to SIGINT, also if these tests run in the background of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("default_interrupt")
def test_interrupted_drawing_says_so(tmp_path: Path) -> None:
    """Ctrl-C during `zoodip generate` prints one line, not a traceback, and leaves no file."""
    prompt = ["--prompt", "a turtle", "--steps", "1000", "--n", "4"]
    process = subprocess.Popen(
        [str(ZOODIP), "generate", *prompt], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = next(line for line in process.stderr if line.startswith("drawing: "))
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, first + err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_demo_learns_an_unseen_subject(tmp_path: Path) -> None:
    """CLIP-I rises by 0.03 and by half the distance to the description; files of an earlier demo are overwritten."""
    (tmp_path / "demo.safetensors").write_bytes(b"earlier")
    (tmp_path / "grid.png").write_bytes(b"earlier")
    finished = subprocess.run(
        [str(ZOODIP), "demo", "--out", str(tmp_path)], capture_output=True, text=True, check=True
    )
    figures = json.loads(finished.stdout.splitlines()[-1])
    before, after, description = (figures[f"clip_i_{key}"] for key in ("before", "after", "caption"))
    assert after - before >= 0.03
    assert after - before >= (description - before) / 2
    assert figures["fixed_loss_end"] < figures["fixed_loss_start"]
    assert load_concept(tmp_path / "demo.safetensors").token == "<demo>"
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 4 * 64
        assert "compositeSynthetic" in grid.text["XML:com.adobe.xmp"]
