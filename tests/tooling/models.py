"""Pipeline folders in the layout of diffusers with random weights.

Tests use `build_family(folder, "sd1")`. Benchmarks at full size use `build_sd15(folder)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from tests.tooling.families import FAMILIES, Family, sd15
from tests.tooling.streaming import write_random_weights
from tests.tooling.tokenizers import write_tokenizer

WORDS = (
    *("a", "an", "the", "of", "in", "on", "with", "and", "up", "close", "good", "object", "toy", "art"),
    *("photo", "picture", "painting", "style", "rendering", "beach", "snow", "grass", "night"),
    *("dog", "cat", "car", "house", "apple", "crab", "boat", "tree"),
    *("red", "green", "blue", "teal", "yellow", "striped", "spotted"),
)
SD15_PARTS = ("unet", "text_encoder", "vae")


def build_family(
    folder: Path,
    family: str,
    *,
    words: Sequence[str] = WORDS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
) -> Path:
    """Write a narrow pipeline for images of 64 px and latents of 8×8.

    Args:
        folder: Destination; created if it does not exist.
        family: "sd1", "sd2", "sd2_v" or "sdxl".
        words: Words that are one token each; other text is split into characters.
        seed: Random seed of all weights.
        dtype: Data type of the weights in the files.
        variant: Part of the file names of the weights, such as "fp16".

    Returns:
        The folder.
    """
    return write_pipeline(folder, FAMILIES[family], words=words, seed=seed, dtype=dtype, variant=variant)


def build_sd15(
    folder: Path, *, parts: Sequence[str] = SD15_PARTS, dtype: torch.dtype = torch.float16
) -> Path:
    """Write SD1.5 at full size (2.1 GB in fp16), one tensor at a time; return the folder.

    Args:
        folder: Destination; created if it does not exist.
        parts: Models whose weights are written; the others get only a configuration.
        dtype: Data type of the weights in the files.
    """
    return write_pipeline(folder, sd15(), words=WORDS, seed=0, dtype=dtype, variant=None, parts=parts)


def meta_model(name: str, config: dict[str, Any]) -> nn.Module:
    """Return the module of a configuration on the meta device, which allocates no memory."""
    with torch.device("meta"):
        if name.startswith("CLIP"):
            return getattr(transformers, name)(transformers.CLIPTextConfig(**config))  # type: ignore[no-any-return]
        return getattr(diffusers, name).from_config(config)  # type: ignore[no-any-return]


def published_name(name: str) -> str:
    """Return the key of a CLIP weight in published files, which is below `text_model`."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


def write_pipeline(
    folder: Path,
    family: Family,
    *,
    words: Sequence[str],
    seed: int,
    dtype: torch.dtype,
    variant: str | None,
    parts: Sequence[str] | None = None,
) -> Path:
    """Write model_index.json, scheduler, tokenizers, configurations and weights; return the folder.

    `parts` names the models whose weights are written; None writes all. `build_family` documents the other arguments.
    """
    suffix = f".{variant}.safetensors" if variant else ".safetensors"
    index: dict[str, Any] = {"_class_name": family.pipeline, "_diffusers_version": diffusers.__version__}
    index |= family.index | {"scheduler": ["diffusers", family.scheduler["_class_name"]]}
    _write_json(folder / "scheduler" / "scheduler_config.json", family.scheduler)
    models = [("unet", "UNet2DConditionModel", family.unet), ("vae", "AutoencoderKL", family.vae)]
    endings = ("", "_2")
    for ending, name, text, pad in zip(endings, family.text_classes, family.text, family.pads, strict=False):
        size = write_tokenizer(folder / f"tokenizer{ending}", words, pad_token=pad)
        index[f"tokenizer{ending}"] = ["transformers", "CLIPTokenizer"]
        models.append((f"text_encoder{ending}", name, with_tokens(text, size)))
    for number, (part, name, config) in enumerate(models):
        library, stem = ("transformers", "model") if name.startswith("CLIP") else ("diffusers", "")
        index[part] = [library, name]
        kind = {"_class_name": name} | ({"architectures": [name]} if stem else {})
        _write_json(folder / part / "config.json", kind | config)
        if parts is None or part in parts:
            path = folder / part / f"{stem or 'diffusion_pytorch_model'}{suffix}"
            rename = published_name if stem else str
            write_random_weights(
                meta_model(name, config), path, dtype=dtype, seed=seed + number, rename=rename
            )
    _write_json(folder / "model_index.json", index)
    return folder


def with_tokens(config: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    """Return the text configuration with the size of the vocabulary; an existing vocab_size is kept.

    The ids are those of the published configurations. They are wrong: the tokenizer ends a text with another id.
    """
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return {"model_type": "clip_text_model", "vocab_size": vocabulary} | config | ids


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))
