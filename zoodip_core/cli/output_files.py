"""Output paths of commands: validation, protection of existing files, and a lock against a second process."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from zoodip_core.errors import InvalidCheckpointError, InvalidInputError
from zoodip_core.personalization.run_checkpoint import SavedRun

if os.name == "posix":
    import fcntl

_FIELD = "out"
_SUFFIX = ".safetensors"
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class RunFiles:
    """Files of one personalization.

    Attributes:
        concept: concept file.
        checkpoint: checkpoint in the same folder; if the concept file is a symlink, in the folder of its target.
    """

    concept: Path
    checkpoint: Path

    @classmethod
    def of(cls, out: Path) -> Self:
        """Return the files for a value of `--out`."""
        target = Path(os.path.realpath(out)) if out.is_symlink() else out
        return cls(out, target.with_name(f"{target.stem}.checkpoint{_SUFFIX}"))

    def check_unused(self) -> None:
        """Validate that a new run overwrites neither a concept nor the checkpoint of an unfinished run.

        Raises:
            InvalidInputError: it would; the message names the options that continue or overwrite.
            InvalidCheckpointError: the checkpoint cannot be read.
        """
        saved = self._saved_run()
        if saved is not None and not saved.finished:
            raise InvalidInputError.mismatch(
                _FIELD,
                got=f"{self.concept} with the checkpoint of an unfinished run ({saved.progress})",
                expected="--resume to continue that run, --replace to start over, or another file",
            )
        if self.concept.exists():
            extend = "" if saved is None else ", --resume with a larger --steps to extend its search"
            raise InvalidInputError.mismatch(
                _FIELD,
                got=f"the existing file {self.concept}",
                expected=f"another file{extend}, or --replace to overwrite it",
            )

    def _saved_run(self) -> SavedRun | None:
        if not self.checkpoint.exists():
            return None
        try:
            return SavedRun.read(self.checkpoint)
        except InvalidCheckpointError as error:
            raise InvalidCheckpointError(f"{error.message}; expected --replace to start over") from error


@contextlib.contextmanager
def reserved(out: Path, *, resume: bool, replace: bool) -> Iterator[RunFiles]:
    """Validate the output path of a run and keep other processes from using it until the run ends.

    Args:
        out: path of the concept file.
        resume: whether the run continues from the checkpoint.
        replace: whether the run may overwrite existing files.

    Raises:
        InvalidInputError: the path cannot be written, is in use, holds a file that must not be overwritten, or has
            another suffix than `.safetensors`.
        InvalidCheckpointError: a checkpoint that would be overwritten cannot be read.
    """
    check_writable(out)
    if out.suffix != _SUFFIX:
        raise InvalidInputError.mismatch(
            _FIELD, got=repr(str(out)), expected=f"the name of a safetensors file, such as concept{_SUFFIX}"
        )
    files = RunFiles.of(out)
    check_writable(files.checkpoint)
    with _locked(files):
        if not (resume or replace):
            files.check_unused()
        yield files


def make_output_folder(folder: Path) -> None:
    """Create a folder and its parents if they are missing.

    Raises:
        InvalidInputError: the path is something else, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError.mismatch(
            _FIELD, got=f"{folder} ({error.strerror})", expected="a folder that exists or can be created"
        ) from error


def check_writable(path: Path) -> None:
    """Validate that a file can be written to `path`: a new or regular file in a writable folder.

    Raises:
        InvalidInputError: the path is a folder, device, named pipe or socket, or its folder is not writable.
    """
    try:
        mode = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise InvalidInputError.mismatch(
            _FIELD, got=f"{error.strerror}: {path}", expected="a new or regular file"
        ) from error
    if mode != stat.S_IFREG:
        raise InvalidInputError.mismatch(
            _FIELD, got=f"the {_KINDS.get(mode, 'special file')} {path}", expected="a new or regular file"
        )
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidInputError.mismatch(
            _FIELD,
            got=f"{path}, whose folder is missing or not writable",
            expected="a file in an existing, writable folder",
        )


@contextlib.contextmanager
def _locked(files: RunFiles) -> Iterator[None]:
    """Hold an exclusive lock on the files of a run. The kernel releases it when the process ends.

    Raises:
        InvalidInputError: another process holds the lock, or the folder does not allow one.
    """
    if os.name != "posix":
        yield
        return
    lock = files.checkpoint.with_name(f".{files.checkpoint.name}.lock")
    try:
        descriptor = _acquire(lock)
    except BlockingIOError as error:
        raise InvalidInputError.mismatch(
            _FIELD, got=f"{files.concept}, which another process is learning", expected="another file"
        ) from error
    except OSError as error:
        raise InvalidInputError.mismatch(
            _FIELD, got=f"{error.strerror}: {lock}", expected="a file in an existing, writable folder"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _acquire(lock: Path) -> int:
    """Return the descriptor of the locked file. If its last holder deleted it in the meantime, repeat.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file cannot be created.
    """
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _flock(descriptor)
            if lock.exists() and os.path.samestat(lock.stat(), os.fstat(descriptor)):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int) -> None:
    """Lock an open file without waiting; a file system that has no locks leaves it unlocked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
