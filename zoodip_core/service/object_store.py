"""Object store in a folder or an S3 bucket: reference images, previews, checkpoints, embeddings, images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from zoodip_core.errors import StorageError
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.staging_files import (
    delete_staging_files,
    object_name,
    staging_files_of,
    staging_files_under,
)

if TYPE_CHECKING:
    from obstore.store import RetryConfig

FILE_LIFETIME_S = 86_400.0
"""Time for which a file that was uploaded for later jobs is stored, in seconds."""

_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


class ObjectStore:
    """Reads, writes, lists and deletes objects by name.

    Args:
        url: `file:///folder` or `s3://bucket/prefix`. AWS_* environment variables configure S3.

    Raises:
        StorageError: The folder cannot be created, or the URL is not valid.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder: Path | None = None
        if parts.scheme == "file":
            folder = self._folder = Path(url2pathname(parts.path))
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"object store: cannot create {folder}: {error.strerror}") from error
            # automatic_cleanup deletes a folder with its last object
            self._store: LocalStore | S3Store = LocalStore(folder, automatic_cleanup=True)
        elif parts.scheme == "s3":
            try:
                self._store = S3Store.from_url(
                    url, client_options={"allow_http": True, "timeout": "30s"}, retry_config=_RETRIES
                )
            except (BaseError, ValueError) as error:
                raise StorageError(f"object store: cannot use {url}: {_reason(error)}") from error
        else:
            raise StorageError.mismatch(
                "object store", got=f"{parts.scheme}://", expected="file:///… or s3://…"
            )

    def put(self, name: str, content: bytes) -> None:
        """Store an object atomically.

        Raises:
            StorageError: The disk is full, or the store is unreachable or rejects the request.
        """
        try:
            # The parts of an interrupted multipart upload would stay in the bucket, where no listing shows them.
            obstore.put(self._store, name, content, use_multipart=False)
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot store {name}: {_reason(error)}") from error

    def get(self, name: str) -> bytes:
        """Return the content of an object.

        Raises:
            NotFoundError: The object does not exist.
            StorageError: The store is unreachable or rejects the request.
        """
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            raise NotFoundError(f"object {name} does not exist") from error
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot read {name}: {_reason(error)}") from error

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix.

        Raises:
            StorageError: The store is unreachable or rejects the request.
        """
        return list(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each object under a prefix, by name.

        Raises:
            StorageError: The store is unreachable or rejects the request.
        """
        try:
            entries = [entry for page in obstore.list(self._store, prefix) for entry in page]
            return {str(entry["path"]): int(entry["size"]) for entry in entries}
        except (BaseError, OSError) as error:
            raise StorageError(f"cannot list {prefix}: {_reason(error)}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects with what interrupted writes of them have left; ignore those that do not exist.

        Raises:
            StorageError: The store is unreachable or rejects the request.
        """
        for name in names:
            try:
                if self._folder is not None:
                    delete_staging_files(self._folder, staging_files_of(self._folder, name))
                obstore.delete(self._store, name)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise StorageError(f"cannot delete {name}: {_reason(error)}") from error

    def delete_all(self, prefix: str) -> None:
        """Delete every object under a prefix, with what interrupted writes have left there.

        Raises:
            StorageError: The store is unreachable or rejects the request.
        """
        self.delete(self.names(prefix))
        self.delete_interrupted(prefix)

    def delete_interrupted(
        self, prefix: str, *, before: float = math.inf, accepts: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Delete what interrupted writes have left under a prefix.

        Args:
            prefix: Prefix of the object names.
            before: Only writes that began before this time, in seconds since 1970.
            accepts: Only writes of objects whose name meets this condition.

        Raises:
            StorageError: The store is unreachable or rejects the request.
        """
        if self._folder is None:  # S3 stores nothing of an interrupted write
            return
        try:
            files = [
                file
                for file in staging_files_under(self._folder, prefix)
                if accepts(object_name(self._folder, file)) and _modified_at(file) < before
            ]
            delete_staging_files(self._folder, files)
        except OSError as error:
            raise StorageError(f"cannot delete unfinished writes of {prefix}: {_reason(error)}") from error


def reference_name(job_id: str, index: int) -> str:
    """Return the object name of a reference image of a personalization."""
    return f"jobs/{job_id}/references/{index:02d}.png"


def preview_name(job_id: str, step: int) -> str:
    """Return the object name of the preview after `step` steps."""
    return f"jobs/{job_id}/previews/{step}.png"


def checkpoint_name(job_id: str, step: int) -> str:
    """Return the object name of the checkpoint after `step` steps."""
    return f"jobs/{job_id}/checkpoints/{step}.safetensors"


def image_name(job_id: str, index: int) -> str:
    """Return the object name of an image of a generation."""
    return f"jobs/{job_id}/images/{index}.png"


def partial_name(job_id: str, index: int) -> str:
    """Return the object name of a partial image of a generation."""
    return f"jobs/{job_id}/partials/{index}.png"


def concept_name(concept_id: str) -> str:
    """Return the object name of a concept's embedding."""
    return f"concepts/{concept_id}.safetensors"


def resource_id(name: str) -> str:
    """Return the id of the job or concept that an object belongs to."""
    return name.split("/")[1].removesuffix(".safetensors")


def owner_folder(owner: str) -> str:
    """Return the name of an owner in object names: a digest, because an owner can have any characters."""
    return hashlib.sha256(owner.encode()).hexdigest()


def file_prefix(owner: str) -> str:
    """Return the prefix of the files that an owner has uploaded for later jobs."""
    return f"files/{owner_folder(owner)}/"


def file_name(owner: str, file_id: str, kind: str) -> str:
    """Return the object name of a part of an uploaded file; `kind` is the suffix."""
    return f"{file_prefix(owner)}{file_id}.{kind}"


def job_prefix(job_id: str) -> str:
    """Return the prefix of all objects of a job."""
    return f"jobs/{job_id}/"


def _modified_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # the write has ended
        return math.inf


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
