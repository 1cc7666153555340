"""PNG files of generated images, with the metadata that reproduces them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

IMAGE_FIELDS = {"prompt", "seed", "n"}
"""Settings of a generation that have a chunk of their own, or do not change an image."""


@dataclass(frozen=True, kw_only=True)
class GenerationFacts:
    """Metadata of a generated PNG.

    Attributes:
        prompt: the prompt as it was drawn; every token has the spelling of its concept.
        seed: the seed of this image.
        base_model: name of the base model in the catalog.
        fingerprint: fingerprint of its weights.
        concepts: token → id of each concept that the prompts contain; the command line records None.
        settings: all other settings of the generation.
    """

    prompt: str
    seed: int
    base_model: str
    fingerprint: str
    concepts: Mapping[str, str | None]
    settings: Mapping[str, Any]


def encode_generated(image: Image.Image, facts: GenerationFacts) -> bytes:
    """Encode a generated image as PNG with its metadata in text chunks.

    Args:
        image: the image.
        facts: metadata; each field becomes the chunk of its name, `concepts` and `settings` are JSON.
    """
    info = PngInfo()
    info.add_itxt("prompt", facts.prompt)
    info.add_text("seed", str(facts.seed))
    info.add_text("concepts", json.dumps(dict(facts.concepts)))
    info.add_text("settings", json.dumps(dict(facts.settings)))
    info.add_text("base_model", facts.base_model)
    info.add_text("fingerprint", facts.fingerprint)
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
