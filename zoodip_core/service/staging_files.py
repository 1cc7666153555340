"""Staging files of the folder object store: `NAME#1` holds an object until its write is complete.

A process that is killed during a write leaves its staging file. The store neither lists nor deletes such files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_STAGING = re.compile(r"(.+)#\d+")


def staging_files_of(folder: Path, name: str) -> list[Path]:
    """Return the staging files of one object.

    Args:
        folder: Folder of the store.
        name: Name of the object.
    """
    path = folder / name
    return [file for file in _staging_files(path.parent) if object_name(folder, file) == name]


def staging_files_under(folder: Path, prefix: str) -> list[Path]:
    """Return the staging files of all objects under a prefix, such as `jobs/`."""
    return [file for parent, _, _ in os.walk(folder / prefix) for file in _staging_files(Path(parent))]


def object_name(folder: Path, file: Path) -> str:
    """Return the name of the object that a staging file belongs to."""
    return file.relative_to(folder).as_posix().rpartition("#")[0]


def delete_staging_files(folder: Path, files: Iterable[Path]) -> None:
    """Delete staging files, and folders that are empty then, as the store does with objects.

    Raises:
        OSError: A file cannot be deleted.
    """
    for file in files:
        file.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            for parent in file.relative_to(folder).parents[:-1]:
                (folder / parent).rmdir()


def _staging_files(parent: Path) -> list[Path]:
    try:
        return [parent / name for name in os.listdir(parent) if _STAGING.fullmatch(name)]  # noqa: PTH208 (names only)
    except (FileNotFoundError, NotADirectoryError):
        return []
