"""Narrow safety checkers with random weights, in the layout of published pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file

from zoodip_core.diffusion.safety import SafetyChecker

FLAGS_ALL, FLAGS_NONE = -2.0, 2.0
"""Thresholds that no cosine similarity, and each one, stays below."""

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_PROCESSOR = {  # as published with SD1.5, which has sizes as numbers
    "feature_extractor_type": "CLIPFeatureExtractor",
    "crop_size": 32,
    "size": 32,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}


def add_safety_checker(folder: Path, threshold: float) -> Path:
    """Add a safety checker to a pipeline folder; return the folder.

    Args:
        folder: pipeline folder; its files are changed.
        threshold: cosine similarity above which an image is flagged.
    """
    shape = transformers.CLIPConfig(vision_config=_VISION, projection_dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = StableDiffusionSafetyChecker(shape)
        for embeds in (model.concept_embeds, model.special_care_embeds):
            embeds.copy_(torch.randn(embeds.shape))
    tensors = {
        name.replace("vision_model.", "vision_model.vision_model.", 1): tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }
    tensors["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    _write_json(
        folder / "safety_checker/config.json", shape.to_dict() | {"architectures": [type(model).__name__]}
    )
    save_file(tensors, folder / "safety_checker/model.safetensors", {"format": "pt"})
    _write_json(folder / "feature_extractor/preprocessor_config.json", _PROCESSOR)
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    _write_json(folder / "model_index.json", index)
    set_threshold(folder, threshold)
    return folder


def set_threshold(folder: Path, threshold: float) -> None:
    """Change the threshold of all concepts. Special care, which lowers the others by 0.01, never applies."""
    path = folder / "safety_checker/model.safetensors"
    tensors = load_file(path)
    tensors["concept_embeds_weights"] = torch.full((17,), threshold)
    tensors["special_care_embeds_weights"] = torch.full((3,), FLAGS_NONE)
    save_file(tensors, path, {"format": "pt"})


def similarity(checker: SafetyChecker, image: Image.Image) -> float:
    """Return the largest cosine similarity of an image and a concept, within 0.002; leaves another threshold behind.

    The image is flagged at each lower threshold.
    """
    low, high = -1.0, 1.0
    while high - low > 2e-3:
        middle = (low + high) / 2
        checker.model.concept_embeds_weights.fill_(middle)
        low, high = (middle, high) if checker.flags(image) else (low, middle)
    return low


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
