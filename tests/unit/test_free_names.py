"""Files under free names: nothing is overwritten, and a failure leaves no file."""

from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoodip_core.errors import InvalidInputError, StorageError
from zoodip_core.free_names import check_output_folder, write_under_free_name


def test_taken_names_get_a_number(tmp_path: Path) -> None:
    """The first file keeps its name; later ones are numbered from 2. No draft remains."""
    path = tmp_path / "new" / "7.png"
    written = [write_under_free_name(path, str(k).encode()) for k in range(3)]
    assert [file.name for file in written] == ["7.png", "7-2.png", "7-3.png"]
    assert [file.read_bytes() for file in written] == [b"0", b"1", b"2"]
    assert len(list(path.parent.iterdir())) == 3


def test_broken_links_are_taken_names(tmp_path: Path) -> None:
    """A symbolic link is never replaced, also if its target does not exist."""
    (tmp_path / "7.png").symlink_to("missing")
    assert write_under_free_name(tmp_path / "7.png", b"x").name == "7-2.png"


@pytest.mark.parametrize("hard_links", [True, False])
def test_writers_at_the_same_time_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    """Many writers of one name get different files, also on a file system without hard links."""

    def refuse(*_: object) -> None:
        raise PermissionError

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    contents = [str(k).encode() for k in range(40)]
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda data: write_under_free_name(tmp_path / "7.png", data), contents))
    assert [file.read_bytes() for file in written] == contents
    assert sorted(tmp_path.iterdir()) == sorted(written)


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    """Where no more bytes can be written, no empty or partial file remains."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(StorageError, match=r"7\.png could not be written: File too large"):
            write_under_free_name(tmp_path / "7.png", bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/deeper", "pipe", "broken", "/dev/null", "/dev/null/deeper"])
def test_output_is_a_folder(tmp_path: Path, name: str) -> None:
    """Files, devices, pipes and broken links are refused, also as a parent folder."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("missing")
    with pytest.raises(InvalidInputError, match="which is no folder; expected a folder") as error:
        check_output_folder(tmp_path / name)
    assert error.value.field == "out"


def test_links_to_folders_and_new_folders_are_allowed(tmp_path: Path) -> None:
    """A symbolic link to a folder is followed, and nothing is created yet."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link", "link/new/deep"):
        check_output_folder(tmp_path / name)
    assert list((tmp_path / "folder").iterdir()) == []
