"""Choice of the files of a hub repository that a base model needs."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import PurePosixPath

from zoodip_core.base_models.safety_checker import PART as SAFETY_CHECKER
from zoodip_core.base_models.safety_checker import PROCESSOR
from zoodip_core.errors import InvalidModelError

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_SMALL_FILES = (
    "model_index.json",
    "LICENSE*",
    *(f"{part}/*config.json" for part in (*_PARTS, "scheduler")),
    *(f"tokenizer{suffix}/*.{kind}" for suffix in ("", "_2") for kind in ("json", "txt")),
)
_SMALL_SAFETY_FILES = (f"{SAFETY_CHECKER}/config.json", f"{PROCESSOR}/preprocessor_config.json")
_OTHER_COPIES = ("*non_ema*", "*flax*", "*openvino*", "*onnx*", "*/*/*")
_HALF = "fp16"


def choose_files(
    hub_id: str, files: Mapping[str, int], variant: str | None, *, safety_checker: bool = False
) -> list[str]:
    """Return the names of the files to download.

    Args:
        hub_id: the repository, for messages.
        files: names of all its files.
        variant: "fp16" for the files in half precision; None prefers full precision, part by part.
        safety_checker: whether to include the safety checker, in half precision if there is such a file.

    Raises:
        InvalidModelError: the repository has no pipeline in diffusers' layout, or no safetensors weights.
    """
    if "model_index.json" not in files:
        checkpoints = [name for name in files if name.endswith((".safetensors", ".ckpt"))][:3]
        hint = f" but {', '.join(checkpoints)}: download one and add the file" if checkpoints else ""
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{hub_id} without model_index.json{hint}",
            expected="a pipeline in diffusers' folder layout",
        )
    small = (*_SMALL_FILES, *_SMALL_SAFETY_FILES) if safety_checker else _SMALL_FILES
    chosen = [name for name in files if any(fnmatch(name, pattern) for pattern in small)]
    for part in (*_PARTS, SAFETY_CHECKER) if safety_checker else _PARTS:
        weights = [
            name
            for name in files
            if fnmatch(name, f"{part}/*.safetensors*") and not any(fnmatch(name, o) for o in _OTHER_COPIES)
        ]
        if not weights and f"{part}/config.json" in files:
            raise InvalidModelError.mismatch(
                "base_model",
                got=f"{hub_id} without safetensors weights in {part}/",
                expected="safetensors weights of each part (pickle files are not read)",
            )
        lacks_half = part == SAFETY_CHECKER and not _halves(weights)
        chosen += _of_variant(hub_id, weights, None if lacks_half else variant)
    return chosen


def _halves(weights: list[str]) -> list[str]:
    """Return the names of the files in half precision."""
    return [name for name in weights if f".{_HALF}" in PurePosixPath(name).name]


def _of_variant(hub_id: str, weights: list[str], variant: str | None) -> list[str]:
    """Return the files of one copy of a network's weights: the variant, else full precision, else fp16."""
    half = _halves(weights)
    full = [name for name in weights if name not in half]
    if variant == _HALF and weights and not half:
        raise InvalidModelError.mismatch(
            "variant", got=f"{_HALF}, but {hub_id} has only {', '.join(full)}", expected="no variant"
        )
    return half if variant == _HALF or not full else full


def is_weights(name: str) -> bool:
    """Return whether a file holds weights, or is the index of their shards."""
    return ".safetensors" in PurePosixPath(name).name
