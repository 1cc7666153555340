"""Checkpoints and weights: atomic writes and validation."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.emoji.errors import CheckpointError
from models.emoji.train.checkpoint import (
    read_checkpoint,
    read_weights,
    replace_file,
    write_checkpoint,
    write_weights,
)

ROOT = Path(__file__).parents[5]


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message for a truncated checkpoint names the cause."""
    path = tmp_path / "tiny.pt"
    write_checkpoint(path, {"part": "tiny", "weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(path, "tiny")


def test_another_parts_checkpoint_is_refused(tmp_path: Path) -> None:
    """The checkpoint of another part is refused, and a missing file returns None."""
    write_checkpoint(tmp_path / "a.pt", {"part": "clip"})
    with pytest.raises(CheckpointError, match="got a checkpoint of 'clip'; expected 'judge'"):
        read_checkpoint(tmp_path / "a.pt", "judge")
    assert read_checkpoint(tmp_path / "none.pt", "judge") is None


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    """The message for truncated or missing weights has their path."""
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"a": torch.ones(100)})
    assert torch.equal(read_weights(path)["a"], torch.ones(100))
    path.write_bytes(path.read_bytes()[:120])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        read_weights(path)
    with pytest.raises(CheckpointError, match="missing"):
        read_weights(tmp_path / "none.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A failed write keeps the old file and leaves no temporary file."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(CheckpointError, match=r"file: cannot write: disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"file/inner: cannot write: .*exists"):
        replace_file(path / "inner", lambda temporary: temporary.write_text("new"))


FULL = """
import resource, sys
from pathlib import Path
import torch
from models.emoji.errors import CheckpointError
from models.emoji.train.checkpoint import write_checkpoint, write_weights

folder, many = Path(sys.argv[1]), {"w": torch.ones(100_000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write, name in ((write_checkpoint, "a.pt"), (write_weights, "a.safetensors")):
    try:
        write(folder / name, many)
    except CheckpointError as refused:
        print(refused)
"""


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    """The message for a checkpoint or weights without disk space has the path, and no temporary file remains."""
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    messages = ran.stdout.splitlines()
    expected = [f"{tmp_path / name}: cannot write" for name in ("a.pt", "a.safetensors")]
    assert [": ".join(line.split(": ")[:2]) for line in messages] == expected
    assert list(tmp_path.iterdir()) == []
