"""Recognizes what a safetensors file holds by the keys and shapes in its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import Header, TensorInfo
from zoodip_core.errors import InvalidModelError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT: dict[Family, tuple[str, ...]] = {
    "sd1": ("cond_stage_model.transformer.",),
    "sd2": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}
"""Family → prefix of each text encoder."""

ACCEPTED = "a Stable Diffusion 1.x, 2.x or XL checkpoint for text to image with U-Net, text encoder and VAE"

_OTHER_KINDS = (  # pattern of one key → what the file is; the first match counts
    (
        r"lora_(up|down|A|B|unet_|te\d?_|linear_)|_lora\.(up|down)|[._](hada|lokr)_w1|dora_scale|\.lora\.",
        "a LoRA",
    ),
    (r"control_model\.|controlnet_|(^|\.)zero_convs\.|input_hint_block\.", "a ControlNet"),
    (r"joint_blocks\.", "Stable Diffusion 3"),
    (r"double_blocks\.|single_transformer_blocks\.", "FLUX"),
    (r"motion_modules\.", "a motion module of AnimateDiff"),
    (r"^(image_proj|ip_adapter)\.", "an IP-Adapter"),
    (r"^(noise_augmentor|embedder)\.", "an image-variation model (unCLIP)"),
    (r"(^|\.)adaln_single\.|^t_block\.1\.", "PixArt"),
    (r"time_stack\.|temporal_transformer", "Stable Video Diffusion"),
    (
        r"^(emb_params|string_to_param|string_to_token|clip_[lg])(\.|$)|^<[^<>]+>$",
        "a textual inversion embedding",
    ),
    (r"^edm_(mean|std)$|^edm_vpred", "a checkpoint with the EDM noise process"),
    (r"^(unet\.)?(down_blocks|mid_block|conv_in)\.", "a U-Net in diffusers' layout"),
    (
        r"cond_stage_model\.transformer\.encoder\.block\.|^text_encoders\.",
        "a model with another text encoder",
    ),
)
_CHANNELS = {9: "an inpainting model", 8: "an image-editing model", 7: "an upscaler", 5: "a depth model"}
_ENCODER_KEYS = re.compile(r"^(text_model|transformer)\.|token_embedding")
_VAE_KEYS = re.compile(r"^(encoder|decoder|quant_conv|post_quant_conv)\.")


def recognize(path: Path, header: Header) -> Family:
    """Return the family of a checkpoint in one file.

    Raises:
        InvalidModelError: the file holds something else, or a part is missing; the message names what it is.
    """
    tensors = header.tensors
    for pattern, name in _OTHER_KINDS:
        if any(re.search(pattern, key) for key in tensors):
            raise _fault(path, name)
    if f"{UNET}input_blocks.0.0.weight" not in tensors:
        raise _fault(path, _kind_without_unet(tensors))
    _check_unet(path, tensors)
    found = next((family for family, prefixes in TEXT.items() if _has_all(tensors, prefixes)), None)
    if found is None:
        only_second = _has_all(tensors, ("conditioner.embedders.0.model.",))
        raise _fault(path, "the refiner of SDXL" if only_second else "a checkpoint without its text encoder")
    if not _has_all(tensors, (f"{VAE}decoder.", f"{VAE}encoder.")):
        raise _fault(path, "a checkpoint without its VAE")
    return found


def _kind_without_unet(tensors: Mapping[str, TensorInfo]) -> str:
    """Return what a file without the U-Net of a checkpoint is."""
    if not tensors:
        return "a file without tensors"
    if "input_blocks.0.0.weight" in tensors:
        return "a U-Net alone"
    if any(key.startswith(UNET) for key in tensors):
        return "a diffusion model of another architecture"
    if all(_VAE_KEYS.match(key.removeprefix(VAE)) for key in tensors):
        return "a VAE alone"
    if any(_ENCODER_KEYS.search(key) for key in tensors):
        return "a text encoder alone"
    if len(tensors) <= 2 and all(len(info.shape) <= 2 for info in tensors.values()):
        return "a textual inversion embedding"
    return f"a file of {len(tensors):,} tensors, such as {next(iter(tensors))}"


def _check_unet(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    """Validate that the U-Net takes and predicts latents, and nothing else."""
    into, out = tensors[f"{UNET}input_blocks.0.0.weight"], tensors.get(f"{UNET}out.2.weight")
    if len(into.shape) != 4 or out is None or len(out.shape) != 4:
        raise _fault(path, "a diffusion model of another architecture")
    inputs, outputs = into.shape[1], out.shape[0]
    if inputs != outputs:
        kind = _CHANNELS.get(inputs, "a model with extra inputs")
        raise _fault(path, f"{kind} (a U-Net with {inputs} input and {outputs} output channels)")


def _has_all(tensors: Mapping[str, TensorInfo], prefixes: tuple[str, ...]) -> bool:
    return all(any(key.startswith(prefix) for key in tensors) for prefix in prefixes)


def _fault(path: Path, kind: str) -> InvalidModelError:
    return InvalidModelError.mismatch("base_model", got=f"{path}, which is {kind}", expected=ACCEPTED)
