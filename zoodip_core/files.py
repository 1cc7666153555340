"""Atomic file writes."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from zoodip_core.errors import StorageError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically and durably: `path` has the old or the new content, and no other file remains.

    A symlink is followed: its target is written, and the link stays.

    Raises:
        StorageError: the file could not be written, or `path` is no regular file; a retry may succeed.
    """
    target = Path(os.path.realpath(path))
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        _check_regular(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _check_regular(target: Path) -> None:
    """Validate that `target` is a regular file or missing. A rename would replace a device or a pipe by a file.

    Raises:
        OSError: it is something else, or a loop of symlinks.
    """
    if target.is_symlink():  # the end of a resolved path is a link only in a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too. Only POSIX allows opening a folder for that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
