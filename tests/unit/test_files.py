"""Atomic writes: symlinks are followed, special files are refused, and no draft remains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoodip_core.errors import StorageError
from zoodip_core.files import write_atomically


def _listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_symlink_stays_and_its_target_is_written(tmp_path: Path) -> None:
    """This also holds for a chain of links and for a target that does not exist yet."""
    (tmp_path / "real").mkdir()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("real/c")
    for data in (b"first", b"second"):
        write_atomically(tmp_path / "a", data)
        assert (tmp_path / "real" / "c").read_bytes() == data
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").is_symlink()
    assert _listing(tmp_path) == ["a", "b", "real"]
    assert _listing(tmp_path / "real") == ["c"]


def test_special_files_are_not_replaced(tmp_path: Path) -> None:
    """A pipe, a folder, a link to a device and a loop of links raise an error and stay as they are."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "folder", "device", "loop"):
        with pytest.raises(StorageError, match=f"{name} could not be written"):
            write_atomically(tmp_path / name, b"data")
    assert _listing(tmp_path) == ["device", "folder", "loop", "pipe"]
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "device").is_char_device()


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    """The name of the draft is no longer than that of the file."""
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"data")
    assert path.read_bytes() == b"data"
