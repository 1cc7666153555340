"""Fingerprints of a base model: of its files, and of its weights whatever file and precision they are in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from zoodip_core.base_models.families import TEXT_ENCODERS, detect_family
from zoodip_core.base_models.tensor_files import StoredTensor, data_file, stored_tensors
from zoodip_core.base_models.tensor_values import read_values
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.errors import InvalidModelError

_SAMPLE = 1024  # values of each tensor in the weights fingerprint
_file_hashes: dict[tuple[str, int, int], str] = {}  # path, size, mtime → SHA-256 of the file
_weights_fingerprints: dict[tuple[tuple[str, int, int], ...], str] = {}  # of all files → fingerprint


def fingerprint(folder: Path) -> str:
    """Return the hex SHA-256 over the SHA-256s of the stored weight files of text encoders and U-Net.

    The hashes are joined as lines of hex, in the order of the files' paths inside the folder.

    Raises:
        InvalidModelError: weights are missing, or not safetensors.
    """
    lines = "".join(f"{file_hash(file)}\n" for file in sorted(_files(folder)))
    return hashlib.sha256(lines.encode()).hexdigest()


def weights_fingerprint(folder: Path) -> str:
    """Return the hex SHA-256 over samples of the weights of text encoders and U-Net, rounded to fp16.

    The same weights have the same fingerprint in fp16 and fp32, in shards, in a folder and in one file. For each
    tensor, in the order of their names, it covers name, shape and the first 1,024 values.

    Raises:
        InvalidModelError: weights are missing, damaged, or not floating-point numbers.
    """
    files = _files(folder)
    key = tuple(_identity(path) for file in files for path in (file, data_file(file)))
    if key not in _weights_fingerprints:
        tensors = {_canonical_name(file, one): one for file in files for one in stored_tensors(file)}
        digest = hashlib.sha256()
        for name in sorted(name for name in tensors if not name.endswith("position_ids")):
            digest.update(f"{name} {list(tensors[name].shape)}\n".encode())
            digest.update(_sample(tensors[name]))
        _weights_fingerprints[key] = digest.hexdigest()
    return _weights_fingerprints[key]


def file_hash(file: Path) -> str:
    """Return the hex SHA-256 of a weight file, cached while its size and modification time are unchanged.

    The hash of a map covers the checkpoint and which of its tensors the network uses.

    Raises:
        InvalidModelError: the file, or the checkpoint of a map, is missing.
    """
    path = data_file(file)
    key = _identity(path)
    if key not in _file_hashes:
        with path.open("rb") as stream:
            _file_hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    if path == file:
        return _file_hashes[key]
    used = sorted(f"{one.name} {one.place.key} {one.place.view}" for one in stored_tensors(file))
    return hashlib.sha256("\n".join([_file_hashes[key], *used]).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    parts = (*TEXT_ENCODERS[detect_family(folder)], "unet")
    return [file for part in parts for file in weight_files(folder / part)]


def _identity(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidModelError(f"base_model: {path} cannot be read ({error.strerror})") from error
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _canonical_name(file: Path, tensor: StoredTensor) -> str:
    """Return part and name of a tensor; transformers 5 dropped `text_model.` from the names in text encoders."""
    return f"{file.parent.name}/{tensor.name.removeprefix('text_model.')}"


def _sample(tensor: StoredTensor) -> bytes:
    with np.errstate(over="ignore"):
        return read_values(tensor, _SAMPLE).astype("<f2").tobytes()
