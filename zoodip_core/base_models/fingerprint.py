"""Fingerprints of a base model's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zoodip_core.base_models.families import TEXT_ENCODERS, detect_family
from zoodip_core.base_models.weight_files import weight_files

_hash_cache: dict[tuple[str, int, int], str] = {}  # path, size, mtime → SHA-256 of the file


def fingerprint(folder: Path) -> str:
    """Return the hex SHA-256 over the SHA-256s of the stored weight files of text encoders and U-Net.

    The hashes are joined as lines of hex, in the order of the files' paths inside the folder.

    Raises:
        InvalidModelError: weights are missing, or not safetensors.
    """
    parts = (*TEXT_ENCODERS[detect_family(folder)], "unet")
    files = sorted(file for part in parts for file in weight_files(folder / part))
    lines = "".join(f"{file_hash(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(file: Path) -> str:
    """Return the hex SHA-256 of a file, cached while its size and modification time are unchanged."""
    status = file.stat()
    key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _hash_cache:
        with file.open("rb") as stream:
            _hash_cache[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hash_cache[key]
