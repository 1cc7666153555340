"""Which weights a base model has, told by their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zoodip_core.base_models.families import TEXT_ENCODERS, detect_family
from zoodip_core.base_models.weight_files import weight_files

_known: dict[tuple[str, int, int], str] = {}  # path, size, mtime → SHA-256 of the file


def fingerprint(folder: Path) -> str:
    """SHA-256, in hex, over the SHA-256s of the text encoders' and U-Net's weight files as stored.

    The hashes are joined as lines of hex in the order of the files' paths inside the folder.

    Raises:
        InvalidModelError: weights are missing, or not in safetensors form.
    """
    parts = (*TEXT_ENCODERS[detect_family(folder)], "unet")
    files = sorted(file for part in parts for file in weight_files(folder / part))
    lines = "".join(f"{file_hash(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hex, kept for as long as its size and time stay."""
    status = file.stat()
    key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _known:
        with file.open("rb") as stream:
            _known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known[key]
