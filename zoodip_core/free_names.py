"""Files under names that are still free: nothing is overwritten, also not by two processes at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from zoodip_core.errors import InvalidInputError, StorageError


def write_under_free_name(path: Path, data: bytes) -> Path:
    """Write a new file atomically, and return its path. Missing folders are created.

    If `path` exists, the file gets the first free name of `0-2.png`, `0-3.png`, … for `0.png`.

    Raises:
        StorageError: the file could not be written. No part of it remains.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return next(name for name in _names(path) if _claim(draft, name))
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def check_output_folder(folder: Path) -> None:
    """Validate that an output folder exists or can be created. Creates nothing.

    Raises:
        InvalidInputError: the path, or one of its parents, is a file, a device or another thing that is no folder.
    """
    expected = "a folder that exists or can be created"
    for place in (folder, *folder.parents):
        if place.is_dir():
            if os.access(place, os.W_OK):
                return
            raise InvalidInputError.mismatch("out", got=f"{place}, which is not writable", expected=expected)
        if place.exists() or place.is_symlink():
            raise InvalidInputError.mismatch("out", got=f"{place}, which is no folder", expected=expected)


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _claim(draft: Path, name: Path) -> bool:
    """Give the draft a name that no file has. Return False if the name is taken."""
    try:
        os.link(draft, name)  # fails if the name exists, and shows the complete file at once
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            name.open("xb").close()
        except FileExistsError:
            return False
        draft.replace(name)
    return True
