"""The weight files of one network: a safetensors file, the shards that an index lists, or a map of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from zoodip_core.base_models.tensor_files import MAP_NAME
from zoodip_core.errors import InvalidModelError

_VARIANTS = ("", ".fp16")  # file names on the hub; one variant is enough
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_REFUSED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")


def weight_files(folder: Path, part: str | None = None) -> list[Path]:
    """Return the weight files of one network, for `stored_tensors`.

    Args:
        folder: folder of the network, such as `unet/` of a pipeline in diffusers' layout.
        part: which network it is; None takes the name of the folder.

    Raises:
        InvalidModelError: the folder holds no safetensors weights, or an index names a missing file.
    """
    if (folder / MAP_NAME).is_file():
        return [folder / MAP_NAME]
    stem = _STEMS.get(part or folder.name, "model")
    for variant in _VARIANTS:
        single = folder / f"{stem}{variant}.safetensors"
        if single.is_file():
            return [single]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return read_shard_index(index)
    others = sorted(file.name for file in folder.glob("*") if file.suffix in _REFUSED)
    found = ", ".join(others) or "no weights"
    raise InvalidModelError.mismatch(
        "base_model", got=f"{found} in {folder}", expected=f"{stem}.safetensors (safetensors only)"
    )


def read_shard_index(index: Path) -> list[Path]:
    """Return the shards that an index lists, sorted by name.

    Raises:
        InvalidModelError: the file is not an index, or a shard is missing, outside the folder or not a
            safetensors file.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidModelError(
            f"base_model: {index} is not an index of safetensors files: {error!r}"
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidModelError.mismatch(
                "base_model", got=f"{name!r} in {index}", expected="names of .safetensors files in its folder"
            )
        if not (index.parent / name).is_file():
            raise InvalidModelError(f"base_model: {index} lists {name}, which is missing")
    return [index.parent / name for name in names]
