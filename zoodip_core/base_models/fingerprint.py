"""Which weights a base model has, told by their bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from zoodip_core.base_models.families import TEXT_ENCODERS, detect_family
from zoodip_core.errors import InvalidModelError

_VARIANTS = ("", ".fp16")  # as files are named on the hub; one set of weights is enough
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_REFUSED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")

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


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one model: one, or the shards that its index lists.

    Args:
        folder: of the one model, such as `unet/` inside a pipeline in diffusers' layout.

    Raises:
        InvalidModelError: there are none, or a shard is missing.
    """
    stem = _STEMS.get(folder.name, "model")
    for variant in _VARIANTS:
        single = folder / f"{stem}{variant}.safetensors"
        if single.is_file():
            return [single]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return _shards(index)
    others = sorted(file.name for file in folder.glob("*") if file.suffix in _REFUSED)
    found = f"holds {', '.join(others)}" if others else "holds no weights"
    raise InvalidModelError(f"base model: {folder} {found}; allowed: {stem}.safetensors (safetensors only)")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidModelError(f"base model: {index} is no index of shards: {error!r}") from error
    files = [index.parent / Path(name).name for name in names]
    for file in files:
        if not file.is_file() or file.suffix != ".safetensors":
            raise InvalidModelError(
                f"base model: {index} lists {file.name}, which is missing; safetensors only"
            )
    return files


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hex, kept for as long as its size and time stay."""
    status = file.stat()
    key = (str(file.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _known:
        with file.open("rb") as stream:
            _known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known[key]
