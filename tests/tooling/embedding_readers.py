"""How A1111, Forge, ComfyUI and InvokeAI read an embedding file and find it in a prompt, restated from their sources.

The programs themselves are not installed. Each function names the source that it restates (read in November 2026).
"""

from __future__ import annotations

import re
from pathlib import PurePath

import safetensors.torch
from torch import Tensor

INVOKEAI_FAMILIES = {768: "sd1", 1024: "sd2", 1280: "sdxl"}


def read_as_a1111(data: bytes) -> tuple[dict[str, Tensor], int, int]:
    """Return the tensors as [vectors, width], the width that is compared with the model, and the number of vectors.

    A dict with `clip_g` and `clip_l` is for SDXL, and its width is the sum of both. Any other file must have exactly
    one tensor, of any name; one axis counts as one vector. Forge has the same code.
    Source: AUTOMATIC1111/stable-diffusion-webui, modules/textual_inversion/textual_inversion.py;
    lllyasviel/stable-diffusion-webui-forge, backend/text_processing/textual_inversion.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    if {"clip_g", "clip_l"} <= tensors.keys():
        width = tensors["clip_g"].shape[-1] + tensors["clip_l"].shape[-1]
        return tensors, width, tensors["clip_g"].shape[0]
    ((_, found),) = tensors.items()
    vectors = found[None] if found.ndim == 1 else found
    return {"clip": vectors}, vectors.shape[-1], vectors.shape[0]


def read_as_comfyui(data: bytes, key: str) -> list[Tensor]:
    """Return the vectors that replace the embedding in the prompt of one text encoder.

    The tensor with the key of the encoder is used, else the first one; one axis is one vector. `key` is "clip_l" in
    the tokenizers of SD1 and SD2 (SD2 uses the default). SDXL has one tokenizer with "clip_l" and one with "clip_g".
    Source: Comfy-Org/ComfyUI, comfy/sd1_clip.py, sd2_clip.py and sdxl_clip.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    assert not any(name.startswith("bundle_emb.") for name in tensors)
    found = tensors[key] if key in tensors else next(iter(tensors.values()))
    return [found] if found.ndim == 1 else list(found)


def invokeai_width(data: bytes) -> int:
    """Return the width by which the model manager recognizes the base model: 768 SD1, 1024 SD2, 1280 SDXL.

    It is the last axis of `emb_params` or `clip_g`, but the first axis of a tensor of another name.
    Source: invoke-ai/InvokeAI, invokeai/backend/model_manager/configs/textual_inversion.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_token" not in tensors
    for name in ("emb_params", "clip_g"):
        if name in tensors:
            return tensors[name].shape[-1]
    return next(iter(tensors.values())).shape[0]


def read_as_invokeai(data: bytes, encoder_width: int) -> Tensor:
    """Return [vectors, width] for the text encoder of a width.

    `emb_params` is used as it is, so it needs two axes, as do `clip_g` and `clip_l`. Of a tensor of another name, one
    axis is one vector.
    Source: invoke-ai/InvokeAI, invokeai/backend/textual_inversion.py and model_patcher.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    if "emb_params" in tensors:
        return tensors["emb_params"]
    if {"clip_g", "clip_l"} <= tensors.keys():
        return tensors["clip_l" if tensors["clip_l"].shape[1] == encoder_width else "clip_g"]
    found = next(iter(tensors.values()))
    return found[None] if found.ndim == 1 else found


def a1111_word(file: str) -> str:
    """Return the word in prompts that selects a file: its name without the extension."""
    return PurePath(file).stem


def comfyui_name(word: str) -> str:
    """Return the name of the file, without extension, that ComfyUI looks up for `embedding:<name>` in a prompt."""
    (first, *_) = word.removeprefix("embedding:").split()
    return re.split(r"[<\[]", first)[0].strip(",")


def invokeai_names(prompt: str) -> list[str]:
    """Return the names of the embeddings that a prompt uses. A model is named after its file without the extension.

    Source: invoke-ai/InvokeAI, invokeai/app/util/ti_utils.py and invokeai/backend/model_manager/model_on_disk.py.
    """
    return re.findall(r"<([a-zA-Z0-9., _-]+)>", prompt)
