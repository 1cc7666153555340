"""Narrow CLIP and DINOv2 models with random weights, in the folder layout of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from tests.tooling.tokenizers import write_tokenizer

SIDE_PX = 28
SHORT_PX = 32
_COMMON: dict[str, Any] = {
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
    "crop_size": {"height": SIDE_PX, "width": SIDE_PX},
}
_CLIP: dict[str, Any] = _COMMON | {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": SIDE_PX},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_DINO: dict[str, Any] = _COMMON | {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": SHORT_PX},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def build_clip(folder: Path, words: Sequence[str]) -> Path:
    """Write a CLIP model for images of 28 px and texts of 77 tokens; return the folder.

    Args:
        folder: Destination.
        words: Words that are one token each.
    """
    size = write_tokenizer(folder, words)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=tower | ids | {"vocab_size": size},
            vision_config=tower | {"image_size": SIDE_PX, "patch_size": 7},
            projection_dim=16,
        )
    )
    return _write(model, folder, _CLIP)


def build_dino(folder: Path) -> Path:
    """Write a DINOv2 encoder; return the folder.

    It was trained on 42 px and gets images of 28 px, as the published encoders get smaller images than in training.
    """
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 7}
    return _write(Dinov2Model(Dinov2Config(**shape, image_size=42)), folder, _DINO)


def _write(model: Any, folder: Path, preprocessing: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))
    return folder
