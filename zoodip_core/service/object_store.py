"""Bytes by name, in a folder or an S3 bucket: photos, previews, checkpoints, embeddings, images."""

from __future__ import annotations

from collections.abc import Iterable
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

if TYPE_CHECKING:
    from obstore.store import RetryConfig

_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


class ObjectStore:
    """An object store by URL: `file:///folder` or `s3://bucket/prefix` (AWS_* variables give the rest)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "file":
            folder = Path(url2pathname(parts.path))
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"the object store's folder cannot be made: {error.strerror}") from error
            # automatic_cleanup: a folder goes with its last object
            self._store: LocalStore | S3Store = LocalStore(folder, automatic_cleanup=True)
        elif parts.scheme == "s3":
            try:
                self._store = S3Store.from_url(
                    url, client_options={"allow_http": True, "timeout": "30s"}, retry_config=_RETRIES
                )
            except (BaseError, ValueError) as error:
                raise StorageError(f"{url} is no object store: {_reason(error)}") from error
        else:
            raise StorageError(f"an object store is file:///… or s3://…, not {parts.scheme}://")

    def put(self, name: str, content: bytes) -> None:
        """Store the whole object or nothing.

        Raises:
            StorageError: the disk is full, the store is away or refuses.
        """
        try:
            obstore.put(self._store, name, content)
        except (BaseError, OSError) as error:
            raise StorageError(f"{name} could not be stored: {_reason(error)}") from error

    def get(self, name: str) -> bytes:
        """The object's bytes.

        Raises:
            NotFoundError: there is no object of that name.
            StorageError: the store is away or refuses.
        """
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            raise NotFoundError(f"no object {name}") from error
        except (BaseError, OSError) as error:
            raise StorageError(f"{name} could not be read: {_reason(error)}") from error

    def names(self, prefix: str) -> list[str]:
        """The names of all objects under a prefix.

        Raises:
            StorageError: the store is away or refuses.
        """
        try:
            return [str(entry["path"]) for page in obstore.list(self._store, prefix) for entry in page]
        except (BaseError, OSError) as error:
            raise StorageError(f"{prefix} could not be listed: {_reason(error)}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete these objects; one that is not there is no error.

        Raises:
            StorageError: the store is away or refuses.
        """
        for name in names:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise StorageError(f"{name} could not be deleted: {_reason(error)}") from error

    def delete_all(self, prefix: str) -> None:
        """Delete every object under a prefix.

        Raises:
            StorageError: the store is away or refuses.
        """
        self.delete(self.names(prefix))


def reference_name(job_id: str, index: int) -> str:
    """A reference image of a personalization."""
    return f"jobs/{job_id}/references/{index:02d}.png"


def preview_name(job_id: str, step: int) -> str:
    """What the token drew after `step` steps."""
    return f"jobs/{job_id}/previews/{step}.png"


def checkpoint_name(job_id: str, step: int) -> str:
    """The search's whole state after `step` steps."""
    return f"jobs/{job_id}/checkpoints/{step}.safetensors"


def image_name(job_id: str, index: int) -> str:
    """An image of a generation."""
    return f"jobs/{job_id}/images/{index}.png"


def concept_name(concept_id: str) -> str:
    """A concept's embedding."""
    return f"concepts/{concept_id}.safetensors"


def job_prefix(job_id: str) -> str:
    """Everything of one job."""
    return f"jobs/{job_id}/"


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
