"""Files that a client uploads before it creates a job. They are in the object store for one day."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from api.auth import Caller
from api.requests.uploaded_files import Upload
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import ImageArchive
from zoodip_core.service.errors import NotFoundError, QuotaExceededError
from zoodip_core.service.ids import creation_time, is_id, new_id
from zoodip_core.service.object_store import FILE_LIFETIME_S, file_name, file_prefix

PURPOSE = "fine-tune"
"""OpenAI's name for what training files are for."""

MAX_BYTES = 50_000_000
"""Size of a training file."""

MAX_FILES = 20
"""Files that one owner can have at a time."""

_FACTS, _CONTENT = "json", "zip"


@dataclass(frozen=True)
class StoredFile:
    """Facts about a file. `created_at` and `expires_at` are in seconds since 1970."""

    id: str
    name: str
    purpose: str
    size_bytes: int

    @property
    def created_at(self) -> float:
        """When the file was uploaded."""
        return creation_time(self.id)

    @property
    def expires_at(self) -> float:
        """When the file is deleted."""
        return self.created_at + FILE_LIFETIME_S


def store_file(caller: Caller, upload: Upload, *, field: str) -> StoredFile:
    """Store an uploaded training file and return its facts. Only its list of entries is read.

    Args:
        caller: who uploads.
        upload: upload with at most one file.
        field: field of the file in messages.

    Raises:
        InvalidInputError: There is no file, or it is no ZIP file of images.
        QuotaExceededError: The owner has too many files.
        StorageError: The object store failed.
    """
    if not upload.files:
        raise InvalidInputError.mismatch(field, got="no file", expected="one ZIP file")
    (uploaded,) = upload.files
    with uploaded.open() as archive:
        ImageArchive(archive, uploaded.name, caller.service.settings.image_limits, field).check()
    if len(_ids(caller)) >= MAX_FILES:
        raise QuotaExceededError(f"You have {MAX_FILES} files; delete one, or wait until one expires.")
    content = uploaded.read()
    file = StoredFile(new_id("file"), uploaded.name, PURPOSE, len(content))
    objects = caller.service.objects
    objects.put(file_name(caller.owner, file.id, _CONTENT), content)
    objects.put(
        file_name(caller.owner, file.id, _FACTS), json.dumps(asdict(file)).encode()
    )  # last: it is complete
    return file


def find_file(caller: Caller, file_id: str) -> StoredFile:
    """Return the facts about a file of the caller.

    Raises:
        NotFoundError: The caller has no such file, or it has expired.
        StorageError: The object store failed.
    """
    if not is_id(file_id) or _is_expired(file_id):
        raise NotFoundError(f"file {file_id!r} does not exist")
    try:
        return StoredFile(**json.loads(caller.service.objects.get(file_name(caller.owner, file_id, _FACTS))))
    except NotFoundError as error:
        raise NotFoundError(f"file {file_id!r} does not exist") from error


def read_file(caller: Caller, file_id: str) -> bytes:
    """Return the content of a file.

    Raises:
        NotFoundError, StorageError: As `find_file`.
    """
    file = find_file(caller, file_id)
    return caller.service.objects.get(file_name(caller.owner, file.id, _CONTENT))


def list_files(caller: Caller) -> list[StoredFile]:
    """Return the files of the caller, newest first."""
    return [find_file(caller, file_id) for file_id in _ids(caller)]


def delete_file(caller: Caller, file_id: str) -> None:
    """Delete a file.

    Raises:
        NotFoundError, StorageError: As `find_file`.
    """
    file = find_file(caller, file_id)
    caller.service.objects.delete(file_name(caller.owner, file.id, kind) for kind in (_FACTS, _CONTENT))


def _ids(caller: Caller) -> list[str]:
    names = caller.service.objects.names(file_prefix(caller.owner))
    found = [name.rpartition("/")[2].removesuffix(f".{_FACTS}") for name in names if name.endswith(_FACTS)]
    return sorted((file_id for file_id in found if not _is_expired(file_id)), reverse=True)


def _is_expired(file_id: str) -> bool:
    return creation_time(file_id) + FILE_LIFETIME_S < time.time()
